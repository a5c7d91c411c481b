"""One thread for the matrix products of NumPy.

The engine spreads tiles over its own threads, and a BLAS that splits a product over threads changes the order
of its sums. NumPy offers no switch, so this asks the OpenBLAS or MKL that NumPy is linked to by its C interface.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

_CONTROLS = (
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)
_lock = threading.Lock()
_users = 0
_before = 1


@cache
def controls() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Return functions that get and set the threads of NumPy's BLAS, or None where it has no such switch."""
    try:
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    except (OSError, AttributeError):
        return None
    for getter, setter in _CONTROLS:
        if hasattr(library, getter) and hasattr(library, setter):
            return getattr(library, getter), getattr(library, setter)
    return None


@contextmanager
def single_threaded() -> Iterator[None]:
    """Hold NumPy's BLAS at one thread; when the last holder leaves, it has the threads it had before."""
    global _users, _before
    switch = controls()
    if switch is None:
        yield
        return
    getter, setter = switch
    with _lock:
        if _users == 0:
            _before = getter()
            setter(1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                setter(_before)
