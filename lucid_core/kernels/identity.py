"""Identity: every voxel stays as it is."""

import numpy as np

from lucid_core.kernels import NamedKernel, Taps, bounded
from lucid_core.regions import Triple


def make(size: Triple = (1, 1, 1)) -> Taps:
    """Return zeros with a one at the centre; along an even size, at the voxel just below it."""
    taps = np.zeros(bounded(size))
    taps[tuple((count - 1) // 2 for count in size)] = 1
    return taps


KERNEL = NamedKernel("identity", ("size",), make)
