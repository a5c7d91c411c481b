"""The Sobel derivative: (-1, 0, 1) along one axis, (1, 2, 1) along the others: the taps of `scipy.ndimage.sobel`."""

from functools import reduce

import numpy as np

from lucid_core.kernels import NamedKernel, Taps
from lucid_core.registry import choose

AXES = {"D": 0, "H": 1, "W": 2, "z": 0, "y": 1, "x": 2}


def make(axis: str = "W") -> Taps:
    """Return the derivative along an axis: D, H or W, also called z, y and x."""
    along = AXES[choose("axis", axis, AXES)]
    return reduce(np.multiply.outer, [np.array([-1.0, 0, 1] if one == along else [1.0, 2, 1]) for one in range(3)])


KERNEL = NamedKernel("sobel", ("axis",), make)
