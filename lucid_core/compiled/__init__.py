"""Kernels compiled by Numba for the vectors of this processor; all else is plain Python and NumPy.

`strips` cuts a tile into strips that fit the cache (pure shapes, no Numba). `packing` gathers a strip from the
volume, borders included. `microkernel` multiplies a strip by packed weights with its sums held in registers.
Each output voxel begins at its bias and adds one fused product after another in the order (channel, K_D, K_H, K_W):
a full vector always does so, at the end of a row too, where it computes again what the vector before it had.
So the bits depend on nothing but the problem. `products` sums the weight's gradient, panel by panel of outputs.

This module, `strips`, `blocking` and `prices` do without Numba, so that a plan loads none; the others import it.
"""

import importlib
import importlib.util
import os
import sys
from functools import cache

from lucid_core.errors import ArgumentError, ExtraError
from lucid_core.machine import vectors

EXTRA = "fast"
"""The extra of this distribution that brings Numba."""
_broken: list[str] = []


def refusal() -> str | None:
    """Return why compiled kernels cannot run here, or None. Costs no import of Numba."""
    if not installed():
        return f"Numba is not installed (pip install 'lucid-conv3d[{EXTRA}]')"
    if _broken:
        return f"Numba cannot be imported: {_broken[0]}"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set"
    return None if vectors() else "this processor has no fused multiply-add"


def importable() -> bool:
    """Import Numba and say whether that can be done; if not, `refusal` says why from now on."""
    try:
        importlib.import_module("numba")
    except ImportError as error:
        _broken[:] = [str(error)]
    return not _broken


def require() -> None:
    """Raise `ExtraError` where Numba is missing, `ArgumentError` where this machine cannot run compiled kernels."""
    reason = refusal()
    if not reason and not importable():
        reason = refusal()
    if not installed() or _broken:
        raise ExtraError(f"engine 'numba' cannot run: {reason}")
    if reason:
        raise ArgumentError(f"engine 'numba' cannot run: {reason}; use engine 'numpy'")


def loaded() -> bool:
    """Say whether kernels were compiled or loaded in this process, so that their memory is already taken."""
    return f"{__name__}.jit" in sys.modules


@cache
def installed() -> bool:
    """Say whether Numba can be imported."""
    return importlib.util.find_spec("numba") is not None
