"""Mean of a box of `size`, sum 1."""

import math

import numpy as np

from lucid_core.errors import ArgumentError
from lucid_core.kernels import NamedKernel, Taps, bounded
from lucid_core.regions import Triple


def make(size: Triple | None = None) -> Taps:
    """Return equal taps that sum to 1 over `size` voxels along D, H, W."""
    if size is None:
        raise ArgumentError("the kernel 'box' needs its size, such as --size 3vox or --size 6mm")
    return np.full(bounded(size), 1 / math.prod(size))


KERNEL = NamedKernel("box", ("size",), make)
