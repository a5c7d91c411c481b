"""Unsharp mask: the volume and `amount` times (1 unless said) what a Gaussian takes away from it; sum 1."""

from lucid_core.kernels import NamedKernel, Taps
from lucid_core.kernels.gaussian import TRUNCATE, Vector, smooth, widths


def make(
    sigma: Vector | None = None, fwhm: Vector | None = None, truncate: float = TRUNCATE, amount: float = 1.0
) -> Taps:
    """Return (1 + amount) at the centre less `amount` times a Gaussian of `sigma` or `fwhm` voxels."""
    taps = -amount * smooth(widths("unsharp", sigma, fwhm), truncate)
    d, h, w = (size // 2 for size in taps.shape)
    taps[d, h, w] += 1 + amount
    return taps


KERNEL = NamedKernel("unsharp", ("sigma", "fwhm", "truncate", "amount"), make)
