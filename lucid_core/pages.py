"""Memory of results, used again: fresh pages cost as much as the arithmetic done in them.

Where a result is no longer referred to, its memory is kept for the next one, up to `KEPT_BYTES` in all.
"""

import math
import mmap
import os
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vector."""
KEPT_BYTES = 512 << 20
"""Most memory kept for results to come."""
LEAST_KEPT_BYTES = 1 << 20
"""Smaller results are not worth keeping memory for."""
SPARE_SHARE = 0.25
"""Share of a kept piece of memory that may stay unused."""

_lock = threading.RLock()
_kept: list[npt.NDArray[np.uint8]] = []


def _renew_lock() -> None:
    """Take a new lock in a forked process: a thread that is not there may have held the old one."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class _Owner:
    """Lends memory to the arrays that view it; when the last of them is gone, so is this."""

    def __init__(self, memory: npt.NDArray[np.uint8]) -> None:
        self.__array_interface__ = memory.__array_interface__
        weakref.finalize(self, _keep, memory).atexit = False


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return a C-contiguous array that begins at a multiple of `ALIGNMENT` bytes; what it holds is undefined."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = _taken(size)
    lent = np.asarray(_Owner(memory)) if memory.nbytes >= LEAST_KEPT_BYTES else memory
    return _begun(lent, size).view(dtype).reshape(shape)


def fresh(size: int) -> npt.NDArray[np.uint8]:
    """Return `size` bytes that begin at a multiple of `ALIGNMENT` and go back to the C library after use."""
    return _begun(np.empty(size + ALIGNMENT, np.uint8), size)


def mapped(size: int) -> npt.NDArray[np.uint8]:
    """Return `size` bytes as `fresh` does, but in pages that go back to the system, which the C library may not give.

    They cost more to have, so this is for buffers that grow.
    """
    if size < LEAST_KEPT_BYTES:
        return fresh(size)
    try:
        return np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    except OSError as error:
        raise MemoryError(f"{size} bytes cannot be had: {error}") from error


def _begun(memory: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Return the `size` bytes of a piece of memory that begin at a multiple of `ALIGNMENT`."""
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def release() -> None:
    """Give all memory that is kept back to the system."""
    with _lock:
        _kept.clear()


def _taken(size: int) -> npt.NDArray[np.uint8]:
    """Return memory for `size` bytes at any alignment: the smallest that was kept, or fresh."""
    with _lock:
        fitting = [one for one in _kept if size + ALIGNMENT <= one.nbytes <= (size + ALIGNMENT) / (1 - SPARE_SHARE)]
        if fitting:
            found = min(fitting, key=lambda one: one.nbytes)
            _kept[:] = [one for one in _kept if one is not found]
            return found
    try:
        return np.empty(size + ALIGNMENT, np.uint8)
    except MemoryError:
        release()
        return np.empty(size + ALIGNMENT, np.uint8)


def _keep(memory: npt.NDArray[np.uint8]) -> None:
    """Keep memory that is no longer viewed, and drop what was kept longest where it becomes too much."""
    with _lock:
        if memory.nbytes <= KEPT_BYTES:
            _kept.append(memory)
        while sum(one.nbytes for one in _kept) > KEPT_BYTES:
            _kept.pop(0)
