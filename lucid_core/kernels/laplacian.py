"""The Laplacian of the six nearest neighbours, in voxels: the taps of `scipy.ndimage.laplace`."""

import numpy as np

from lucid_core.kernels import NamedKernel, Taps


def make() -> Taps:
    """Return the sum of the second differences (1, -2, 1) along D, H and W."""
    taps = np.zeros((3, 3, 3))
    for axis in range(3):
        np.moveaxis(taps, axis, 0)[:, 1, 1] += (1, -2, 1)
    return taps


KERNEL = NamedKernel("laplacian", (), make)
