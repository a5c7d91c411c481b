"""Shift of what the volume shows by `offset`, linear between voxels: as `scipy.ndimage.shift` of order 1."""

import math

import numpy as np

from lucid_core.errors import ArgumentError
from lucid_core.kernels import NamedKernel, Taps, bounded, outer


def make(offset: tuple[float, float, float] | None = None) -> Taps:
    """Return one or two weights an axis, at -offset voxels from the centre; the grid stays where it is."""
    if offset is None:
        raise ArgumentError("the kernel 'shift' needs its offset, such as --offset 1,0,-2vox")
    bounded(tuple(2 * math.ceil(abs(one)) + 1 for one in offset))
    return outer(*map(_axis, offset))


def _axis(offset: float) -> Taps:
    radius = math.ceil(abs(offset))
    taps = np.zeros(2 * radius + 1)
    below = math.floor(-offset)
    between = -offset - below
    taps[radius + below] = 1 - between
    if between:
        taps[radius + below + 1] = between
    return taps


KERNEL = NamedKernel("shift", ("offset",), make)
