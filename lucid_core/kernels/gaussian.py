"""The Gaussian, sampled at voxel centres to radius int(4 sigma + 0.5) per axis and normalised to sum 1.

The same taps as `scipy.ndimage.gaussian_filter` with its default `truncate`.
"""

import math
from functools import reduce

import numpy as np

from lucid_core.errors import ArgumentError
from lucid_core.kernels import NamedKernel, Taps, bounded

TRUNCATE = 4.0
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))

Vector = tuple[float, float, float]


def make(sigma: Vector | None = None, fwhm: Vector | None = None) -> Taps:
    """Return the taps for a standard deviation, or a full width at half maximum, in voxels along D, H, W."""
    if (sigma is None) == (fwhm is None):
        raise ArgumentError("the kernel 'gaussian' needs its width: give either sigma or fwhm, such as --sigma 1.5mm")
    widths = sigma if sigma is not None else tuple(width / FWHM_PER_SIGMA for width in fwhm or ())
    radii = [int(TRUNCATE * width + 0.5) for width in widths]
    bounded(tuple(2 * radius + 1 for radius in radii))
    return reduce(np.multiply.outer, [_axis(*axis) for axis in zip(widths, radii, strict=True)])


def _axis(sigma: float, radius: int) -> Taps:
    values = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps: Taps = values / values.sum()
    return taps


KERNEL = NamedKernel("gaussian", ("sigma", "fwhm"), make)
