"""Difference of two Gaussians: that of `sigma` less that of `sigma2`, 1.6 sigma unless said; sum 0.

The ratio 1.6 comes nearest to the Laplacian of a Gaussian (Marr and Hildreth, 1980, Theory of edge detection).
"""

from lucid_core.kernels import NamedKernel, Taps, alike
from lucid_core.kernels.gaussian import TRUNCATE, Vector, smooth, widths

RATIO = 1.6


def make(
    sigma: Vector | None = None,
    fwhm: Vector | None = None,
    sigma2: Vector | None = None,
    truncate: float = TRUNCATE,
) -> Taps:
    """Return the narrow less the wide Gaussian, widths in voxels along D, H, W."""
    narrow = widths("dog", sigma, fwhm)
    d, h, w = (RATIO * width for width in narrow)
    first, second = alike(*(smooth(width, truncate) for width in (narrow, sigma2 or (d, h, w))))
    taps: Taps = first - second
    return taps


KERNEL = NamedKernel("dog", ("sigma", "fwhm", "sigma2", "truncate"), make)
