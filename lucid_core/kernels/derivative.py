"""Derivative of a Gaussian of any `order` along D, H, W, per voxel: as `scipy.ndimage.gaussian_filter`."""

from lucid_core.errors import ArgumentError
from lucid_core.kernels import NamedKernel, Taps
from lucid_core.kernels.gaussian import TRUNCATE, Vector, smooth, widths

MOST_ORDER = 20
"""Derivatives beyond this order are noise in any arithmetic here."""


def make(
    sigma: Vector | None = None,
    fwhm: Vector | None = None,
    truncate: float = TRUNCATE,
    order: tuple[int, int, int] | None = None,
) -> Taps:
    """Return the derivative of these orders along D, H, W of a Gaussian of `sigma` or `fwhm` voxels."""
    if order is None:
        raise ArgumentError("the kernel 'derivative' needs its order along D, H, W, such as --order 0,0,1")
    if max(order) > MOST_ORDER:
        raise ArgumentError(f"the kernel 'derivative' has no order {max(order)}; legal: at most {MOST_ORDER}")
    return smooth(widths("derivative", sigma, fwhm), truncate, order)


KERNEL = NamedKernel("derivative", ("sigma", "fwhm", "truncate", "order"), make)
