"""Mean of a ball of some `radius`: every voxel whose centre lies in it (an ellipsoid of voxels), sum 1."""

import numpy as np

from lucid_core.errors import ArgumentError
from lucid_core.kernels import NamedKernel, Taps, bounded

EDGE = 1 + 1e-9
"""A voxel on the surface counts, roundings apart."""


def make(radius: tuple[float, float, float] | None = None) -> Taps:
    """Return equal weights within `radius` voxels along D, H, W."""
    if radius is None:
        raise ArgumentError("the kernel 'sphere' needs its radius, such as --radius 5mm")
    reach = [int(one * EDGE) for one in radius]
    bounded(tuple(2 * one + 1 for one in reach))
    axes = [np.arange(-far, far + 1) / one for far, one in zip(reach, radius, strict=True)]
    z, y, x = np.ix_(*axes)
    inside = (z**2 + y**2 + x**2 <= EDGE).astype(np.float64)
    taps: Taps = inside / inside.sum()
    return taps


KERNEL = NamedKernel("sphere", ("radius",), make)
