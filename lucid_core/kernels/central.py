"""Central difference (-1, 0, 1) / 2 along `axis` (W unless said; all: a bank of 3): `numpy.gradient` inside."""

from lucid_core.kernels import NamedKernel, Taps, differences


def make(axis: str = "W") -> Taps:
    """Return the derivative along an axis: D, H or W, also called z, y and x; or the three of `all`."""
    return differences(axis, (-0.5, 0, 0.5), (1,))


KERNEL = NamedKernel("central", ("axis",), make)
