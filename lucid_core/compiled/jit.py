"""How the kernels are compiled: without the GIL, and kept on disk where there is a folder to keep them in."""

import hashlib
import itertools
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

from lucid_core.machine import vectors
from lucid_core.registry import members


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache, which a folder that is gone, read-only or full, or a damaged file, only makes useless.

    Numba knows the file of a function; a kernel is made of all files of this folder, for the vectors of a processor.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _stamp()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a compiled kernel, or None where none can be read.

        Numba would first load all it can compile (and SciPy, where that is installed), half a second that a kernel
        taken from the cache has no use for. Processes that compile at once may give their kernels the same name, so
        what a kernel takes is compared.
        """
        try:
            rtsys.initialize(target_context)
            found = self._load_overload(sig, target_context)
        except Exception:  # a damaged file can raise anything; the kernel is then compiled again, and kept anew
            with suppress(Exception):
                self.flush()
            return None
        return found if found is not None and found.signature.args == getattr(sig, "args", sig) else None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel where possible."""
        with suppress(Exception):  # the index is read before it is written, and may be damaged
            super().save_overload(sig, data)

    def kept(self) -> int:
        """Return how many kernels are kept for these sources and this processor."""
        try:
            return len(self._cache_file._load_index())
        except Exception:  # as damaged as any file
            return 0


def kept() -> tuple[str | None, int]:
    """Return the folder where compiled kernels are kept, None where none can be written, and how many are there."""
    modules = members(__name__.rpartition(".")[0]).values()
    caches = {
        id(one): one for one in map(_cache_of, itertools.chain(*(vars(module).values() for module in modules))) if one
    }
    return next((one.cache_path for one in caches.values()), None), sum(one.kept() for one in caches.values())


def _cache_of(member: Any) -> _Cache | None:
    found = getattr(member, "_cache", None)
    return found if isinstance(found, _Cache) else None


@cache
def _stamp() -> tuple[str, Any]:
    """Return what compiled kernels follow from: the sources of this folder, and the vectors of the processor."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    found = vectors()
    return digest.hexdigest(), found and (found.bytes, found.count)


def inner(function: Callable[..., Any]) -> Any:
    """Compile a function that is called by compiled ones only."""
    return njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function by Numba when first called with new types, or load it from the cache."""
    dispatcher = njit(nogil=True, error_model="numpy")(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError:  # no folder can be written
        return dispatcher
    return dispatcher
