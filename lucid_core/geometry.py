"""Where voxels lie in the world.

An affine is the 4x4 matrix from voxel indices (x, y, z), that is (W, H, D), to millimetres, as in NIfTI. After a
convolution with stride s, output voxel o is centred on input index s*o + b, so the new affine is A @ T.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.regions import Triple
from lucid_core.stack import Problem
from lucid_core.units import Spacing

Affine = npt.NDArray[np.float64]


def grid_transform(problem: Problem) -> Affine:
    """Return T (4, 4): output voxel (x, y, z) to the input voxel index it is centred on."""
    transform = np.eye(4)
    transform[:3, :3] = np.diag(problem.stride[::-1])
    transform[:3, 3] = problem.centre_shift[::-1]
    return transform


def spacing_of(affine: npt.NDArray[Any]) -> Spacing:
    """Return the lengths in mm of the steps along D, H, W that an affine makes."""
    x, y, z = (float(step) for step in np.sqrt((np.asarray(affine, np.float64)[:3, :3] ** 2).sum(axis=0)))
    return z, y, x


def affine_of(spacing: Spacing) -> Affine:
    """Return the affine of a volume known by its spacing along D, H, W only: no rotation, first voxel at 0."""
    return np.diag([*spacing[::-1], 1.0])


def rescale(affine: npt.NDArray[Any], spacing: Spacing) -> Affine:
    """Return `affine` with its steps along D, H, W made as long as `spacing`, directions and origin kept."""
    factors = [new / old if old else 1.0 for new, old in zip(spacing, spacing_of(affine), strict=True)]
    return np.asarray(affine, np.float64) @ np.diag([*factors[::-1], 1.0])


def scaled(spacing: Spacing, problem: Problem) -> Spacing:
    """Return the spacing of the output: the input's times the stride."""
    d, h, w = (step * stride for step, stride in zip(spacing, problem.stride, strict=True))
    return d, h, w


def is_usable(affine: npt.NDArray[Any]) -> bool:
    """Say whether an affine is finite and can be inverted: only such a one places voxels."""
    matrix = np.asarray(affine, np.float64)
    if not np.isfinite(matrix).all():
        return False
    with np.errstate(all="ignore"):
        steps = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
        return bool(steps.all() and abs(np.linalg.det(matrix[:3, :3] / steps)) > 1e-6)


def corner_distance(first: Affine, second: Affine, size: Triple) -> float:
    """Return the most mm that the corners of two grids of (D, H, W) voxels lie apart."""
    ends = np.array([[x, y, z, 1] for x in (0, size[2] - 1) for y in (0, size[1] - 1) for z in (0, size[0] - 1)])
    with np.errstate(all="ignore"):  # affines may be as large as numbers are
        return float(np.linalg.norm((ends @ (first - second).T)[:, :3], axis=1).max())


def lps(affine: npt.NDArray[Any]) -> Affine:
    """Return an affine whose world points to left, back and up as one that points to right, front and up; and back.

    DICOM, ITK and NRRD have the first (LPS), NIfTI and this project the second (RAS).
    """
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, np.float64) + 0.0
