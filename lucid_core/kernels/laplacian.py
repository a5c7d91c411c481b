"""Laplacian of the 6, 18 or 26 nearest `neighbours` (6 unless said), in voxels; 6 as `scipy.ndimage.laplace`.

Every stencil is exact for quadratic functions. 18: (2 a face, 1 an edge) / 6; 26: (6 a face, 3 an edge, 2 a corner)
/ 26 (O'Reilly and Beck, 2006, A family of large-stencil discrete Laplacian approximations in three dimensions).
"""

import numpy as np

from lucid_core.errors import ArgumentError
from lucid_core.kernels import NamedKernel, Taps

WEIGHTS = {6: (1.0, 0.0, 0.0), 18: (2 / 6, 1 / 6, 0.0), 26: (6 / 26, 3 / 26, 2 / 26)}
"""For each number of neighbours, the weight of one across a face, an edge and a corner."""


def make(neighbours: int = 6) -> Taps:
    """Return a weight for each neighbour, and at the centre what makes the sum 0."""
    if neighbours not in WEIGHTS:
        raise ArgumentError(
            f"the kernel 'laplacian' has no {neighbours} neighbours; legal: {', '.join(map(str, WEIGHTS))}"
        )
    steps = np.abs(np.indices((3, 3, 3)) - 1).sum(axis=0)
    taps: Taps = np.array([0.0, *WEIGHTS[neighbours]])[steps]
    taps[1, 1, 1] = -taps.sum()
    return taps


KERNEL = NamedKernel("laplacian", ("neighbours",), make)
