"""The engine of lucid-conv3d: 3-D cross-correlation on NumPy arrays and on anything read by regions.

Data goes one way: a *problem* (shapes and geometry, no data), a *planner* that weighs *algorithms*, a *plan* that
prints itself, and an *execute* that obeys it tile by tile. This package knows no file format and no command line.
A module imports from its own floor or a lower one (`tests/core/test_floors.py` keeps that):

    0  errors registry optional units padding           words
       regions pages scratch
       blas machine                                     the computer
    1  arguments boundary normalization elementwise     nouns
       problem stack geometry volume masked intensity
       arrays
    2  lattice factors weighted kernels/ algorithms/    one kernel, one way to convolve a module
       correlations/                                    one way to sum the weight's gradient a module
       compiled/                                        what Numba compiles; imported when it is run
       tensors/                                         what torch computes, on a device; imported when it is run
    3  plan room cutting planner                        choice
    4  tiling normalized compute                        one tile
       pieces                                           one chunk of a dask array
       events stopwatch execute                         all tiles
       turns adjoint parameter_gradients                gradients
    5  lazy functional gradients nn/                    conv3d(...), its gradients, and the layers
       losses optim/                                    how they learn
    6  fitting/                                         weights that are learned

Example::

    >>> import lucid_core as lucid
    >>> import lucid_core.nn as nn
    >>> conv3 = nn.Conv3d(in_channels=1, out_channels=16, kernel_size=3, padding=1)
    >>> x = lucid.zeros(2, 1, 16, 32, 32)        # (N, C, D, H, W), float32 ndarray
    >>> conv3(x).shape                           # (2, 16, 16, 32, 32)
    (2, 16, 16, 32, 32)
    >>> lucid.conv3d(x, conv3.weight, conv3.bias, stride=1, padding=0, dilation=1, groups=1,
    ...              padding_mode="zeros", algorithm="auto", engine="auto", accuracy="componentwise",
    ...              threads=None).shape
    (2, 16, 14, 30, 30)
"""

__version__ = "0.1.0"

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lucid_core import losses, nn, optim
    from lucid_core.errors import LucidError
    from lucid_core.functional import conv3d, zeros
    from lucid_core.gradients import Gradients, conv3d_backward
    from lucid_core.nn.init import manual_seed

__all__ = [
    "Gradients",
    "LucidError",
    "__version__",
    "conv3d",
    "conv3d_backward",
    "losses",
    "manual_seed",
    "nn",
    "optim",
    "zeros",
]

_HOMES = {
    "LucidError": "lucid_core.errors",
    "Gradients": "lucid_core.gradients",
    "conv3d": "lucid_core.functional",
    "conv3d_backward": "lucid_core.gradients",
    "zeros": "lucid_core.functional",
    "manual_seed": "lucid_core.nn.init",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for, so that the words of the engine cost no NumPy (PEP 562)."""
    if name in ("losses", "nn", "optim"):
        return importlib.import_module(f"lucid_core.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
