"""Sobel derivative along `axis` (W unless said; all: a bank of 3): (-1, 0, 1), and (1, 2, 1) across, as SciPy."""

from lucid_core.kernels import NamedKernel, Taps, differences


def make(axis: str = "W") -> Taps:
    """Return the derivative along an axis: D, H or W, also called z, y and x; or the three of `all`."""
    return differences(axis, (-1, 0, 1), (1, 2, 1))


KERNEL = NamedKernel("sobel", ("axis",), make)
