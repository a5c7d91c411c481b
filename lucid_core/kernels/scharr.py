"""Scharr derivative along `axis` (W unless said; all: a bank of 3): (-1, 0, 1), and (3, 10, 3) across."""

from lucid_core.kernels import NamedKernel, Taps, differences


def make(axis: str = "W") -> Taps:
    """Return the derivative along an axis: D, H or W, also called z, y and x; or the three of `all`."""
    return differences(axis, (-1, 0, 1), (3, 10, 3))


KERNEL = NamedKernel("scharr", ("axis",), make)
