"""Second derivatives of a Gaussian, a bank of 6: DD, DH, DW, HH, HW, WW (zz, zy, zx, yy, yx, xx), per voxel squared."""

from itertools import combinations_with_replacement

import numpy as np

from lucid_core.kernels import NamedKernel, Taps
from lucid_core.kernels.gaussian import TRUNCATE, Vector, smooth, widths


def make(sigma: Vector | None = None, fwhm: Vector | None = None, truncate: float = TRUNCATE) -> Taps:
    """Return the bank (6, K_D, K_H, K_W) for a Gaussian of `sigma` or `fwhm` voxels along D, H, W."""
    width = widths("hessian", sigma, fwhm)
    pairs = combinations_with_replacement(range(3), 2)
    return np.stack([smooth(width, truncate, _orders(*pair)) for pair in pairs])


def _orders(first: int, second: int) -> tuple[int, int, int]:
    d, h, w = ((axis == first) + (axis == second) for axis in range(3))
    return d, h, w


KERNEL = NamedKernel("hessian", ("sigma", "fwhm", "truncate"), make)
