"""The Gaussian, sampled at voxel centres to radius int(4 sigma + 0.5) per axis and normalised to sum 1.

The same taps as `scipy.ndimage.gaussian_filter` with its default `truncate`.
"""

import math
from functools import reduce

import numpy as np

from lucid_core.errors import ArgumentError
from lucid_core.kernels import NamedKernel, Taps

TRUNCATE = 4.0
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))

Vector = tuple[float, float, float]


def make(sigma: Vector | None = None, fwhm: Vector | None = None) -> Taps:
    """Return the taps for a standard deviation, or a full width at half maximum, in voxels along D, H, W."""
    if (sigma is None) == (fwhm is None):
        raise ArgumentError("the kernel 'gaussian' needs its width: give either sigma or fwhm, such as --sigma 1.5mm")
    widths = sigma if sigma is not None else tuple(width / FWHM_PER_SIGMA for width in fwhm or ())
    return reduce(np.multiply.outer, [_axis(width) for width in widths])


def _axis(sigma: float) -> Taps:
    radius = int(TRUNCATE * sigma + 0.5)
    values = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
    taps: Taps = values / values.sum()
    return taps


KERNEL = NamedKernel("gaussian", ("sigma", "fwhm"), make)
