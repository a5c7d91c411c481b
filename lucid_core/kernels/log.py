"""Laplacian of a Gaussian, in voxels: the taps of `scipy.ndimage.gaussian_laplace`."""

from lucid_core.kernels import NamedKernel, Taps
from lucid_core.kernels.gaussian import TRUNCATE, Vector, smooth, widths


def make(sigma: Vector | None = None, fwhm: Vector | None = None, truncate: float = TRUNCATE) -> Taps:
    """Return the sum of the second derivatives along D, H and W of a Gaussian of `sigma` or `fwhm` voxels."""
    width = widths("log", sigma, fwhm)
    second = [smooth(width, truncate, orders) for orders in ((2, 0, 0), (0, 2, 0), (0, 0, 2))]
    return second[0] + second[1] + second[2]


KERNEL = NamedKernel("log", ("sigma", "fwhm", "truncate"), make)
