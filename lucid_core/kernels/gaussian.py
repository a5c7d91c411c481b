"""Gaussian: sampled at voxel centres to radius int(truncate sigma + 0.5) per axis, normalised to sum 1.

The same taps as `scipy.ndimage.gaussian_filter`, derivatives included; `truncate` is 4 unless said.
"""

import math

import numpy as np

from lucid_core.errors import ArgumentError
from lucid_core.kernels import MOST_TAPS, NamedKernel, Taps, bounded, outer

TRUNCATE = 4.0
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))

Vector = tuple[float, float, float]


def make(sigma: Vector | None = None, fwhm: Vector | None = None, truncate: float = TRUNCATE) -> Taps:
    """Return the taps for a standard deviation, or a full width at half maximum, in voxels along D, H, W."""
    return smooth(widths("gaussian", sigma, fwhm), truncate)


def widths(name: str, sigma: Vector | None, fwhm: Vector | None) -> Vector:
    """Return the standard deviation in voxels, of a kernel that takes either `sigma` or `fwhm`."""
    if sigma is not None and fwhm is not None:
        raise ArgumentError(f"the kernel {name!r} takes either sigma or fwhm: both are given; leave one")
    if sigma is None and fwhm is None:
        raise ArgumentError(f"the kernel {name!r} needs its width: give either sigma or fwhm, such as --sigma 1.5mm")
    if sigma is not None:
        return sigma
    d, h, w = (width / FWHM_PER_SIGMA for width in fwhm or ())
    return d, h, w


def smooth(sigma: Vector, truncate: float, orders: tuple[int, int, int] = (0, 0, 0)) -> Taps:
    """Return the Gaussian of `sigma` voxels, or its derivative of some order along D, H and W, per voxel.

    The derivative of order n of a Gaussian g is (-1 / sigma)^n He_n(t / sigma) g(t), He the Hermite polynomials; a
    cross-correlation with it mirrored differentiates. Raises `ArgumentError` where it is truncated to nothing.
    """
    radii = [int(min(truncate * width + 0.5, MOST_TAPS)) for width in sigma]
    bounded(tuple(2 * radius + 1 for radius in radii))
    for width, radius, order in zip(sigma, radii, orders, strict=True):
        if 2 * radius < order:
            raise ArgumentError(
                f"a derivative of order {order} needs {order + 1} voxels or more, and a Gaussian of sigma {width:g} "
                f"voxels, truncated at {truncate:g} sigma, has {2 * radius + 1}; use a larger sigma or truncate"
            )
    return outer(*(_axis(*axis) for axis in zip(sigma, radii, orders, strict=True)))


def _axis(sigma: float, radius: int, order: int) -> Taps:
    places = np.arange(-radius, radius + 1) / sigma
    values = np.exp(-0.5 * places**2)
    taps: Taps = values / values.sum()
    if order:
        from numpy.polynomial.hermite_e import HermiteE

        taps = taps * HermiteE.basis(order)(places) / sigma**order
    return taps


KERNEL = NamedKernel("gaussian", ("sigma", "fwhm", "truncate"), make)
