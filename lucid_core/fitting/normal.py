"""The normal equations of a convolution: all that its best weights take from the samples, whatever their number.

For each group, with f the terms (C/g, K_D, K_H, K_W) that a sample reads and y its targets: how many samples there are,
the means of f and y, and the sums of products about the means. Kept about the means, they lose no digits to an offset
of the data (Chan, Golub and LeVeque 1983), whether a bias is wanted later or not. Two sets of samples add up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ShapeError
from lucid_core.problem import ConvProblem

Array = npt.NDArray[np.float64]


@dataclass
class NormalEquations:
    """What is left of samples. Arrays are float64; g groups, P = C/g * K_D * K_H * K_W terms, O output channels."""

    count: int
    """Samples: output voxels that count, of all tiles."""
    left_out: int
    """Output voxels that count, but are no samples as something they depend on is not finite."""
    mean: Array
    """(g, P): the mean of each term."""
    target_mean: Array
    """(g, O/g): the mean of each target."""
    gram: Array
    """(g, P, P): sums of products of terms about their means."""
    moments: Array
    """(g, P, O/g): sums of products of terms and targets about their means."""
    powers: Array
    """(g, O/g): sums of squares of targets about their means."""

    @classmethod
    def of_none(cls, problem: ConvProblem) -> "NormalEquations":
        """Return the equations of no samples at all."""
        groups, terms, made = problem.groups, problem.terms, problem.out_channels // problem.groups
        shapes = ((groups, terms), (groups, made), (groups, terms, terms), (groups, terms, made), (groups, made))
        return cls(0, 0, *(np.zeros(shape) for shape in shapes))

    @property
    def outputs(self) -> int:
        """Output channels O."""
        return self.powers.size

    @property
    def values(self) -> int:
        """Target values among the samples: what a mean squared error is the mean over."""
        return self.count * self.outputs

    def __add__(self, other: "NormalEquations") -> "NormalEquations":
        """Return the equations of both sets of samples. Sums are rounded: a + b + c has the bits of no other order."""
        copies = (getattr(self, field.name) for field in fields(self))
        total = NormalEquations(*(one.copy() if isinstance(one, np.ndarray) else one for one in copies))
        total += other
        return total

    def __iadd__(self, other: "NormalEquations") -> "NormalEquations":
        """Add other samples in place. Raises `ShapeError` for those of another layer."""
        if self.moments.shape != other.moments.shape:
            raise ShapeError(
                f"normal equations of different layers do not add up: (groups, terms, outputs of a group) are "
                f"{self.moments.shape} and {other.moments.shape}"
            )
        total = self.count + other.count
        share = other.count / total if total else 0.0
        step, target_step = other.mean - self.mean, other.target_mean - self.target_mean
        weighted = self.count * share * step
        self.gram += other.gram
        self.gram += weighted[:, :, np.newaxis] * step[:, np.newaxis, :]
        self.moments += other.moments + weighted[:, :, np.newaxis] * target_step[:, np.newaxis, :]
        self.powers += other.powers + self.count * share * target_step**2
        self.mean += share * step
        self.target_mean += share * target_step
        self.count, self.left_out = total, self.left_out + other.left_out
        return self

    def squares(self, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None) -> Array:
        """Return (O,) the sums of squared errors over the samples that these weights leave.

        `weight` (O, C/g, K_D, K_H, K_W), `bias` (O,) or None for 0. A sum is a difference of numbers as large as
        `powers`: below about 1e-14 of these it is rounding, and never negative.
        """
        filters = self.grouped(weight)
        means = np.einsum("gop,gp->go", filters, self.mean) - self.target_mean
        if bias is not None:
            means += np.asarray(bias, np.float64).reshape(means.shape)
        fitted = np.einsum("gop,gpo->go", filters, self.moments)
        own = np.einsum("gop,gop->go", filters @ self.gram, filters)
        left = np.maximum(self.powers - 2 * fitted + own, 0.0) + self.count * means**2
        return left.ravel()

    def loss(self, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None) -> float:
        """Return the mean squared error of these weights over all target values, NaN without samples."""
        return float(self.squares(weight, bias).sum() / self.values) if self.values else float("nan")

    def grouped(self, weight: npt.NDArray[Any]) -> Array:
        """Return a weight (O, C/g, K_D, K_H, K_W) as (g, O/g, P) float64."""
        groups, terms, made = self.moments.shape
        if weight.size != groups * terms * made or weight.shape[0] != groups * made:
            raise ShapeError(
                f"a weight of shape {weight.shape} does not fit these normal equations, of {groups * made} filters with "
                f"{terms} terms each"
            )
        return weight.reshape(groups, made, terms).astype(np.float64, copy=False)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all of it by name, as `numpy.savez` takes it."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "NormalEquations":
        """Return what `to_arrays` gave, as copies. Raises `ShapeError` where something is missing or does not fit."""
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in arrays]:
            raise ShapeError(f"these are no normal equations: {', '.join(missing)} is missing; legal: {', '.join(names)}")
        given = {name: np.array(arrays[name], np.float64) for name in names[2:]}
        if given["moments"].ndim != 3 or any(given[name].shape != shape for name, shape in _shapes(given).items()):
            found = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            raise ShapeError(f"these are no normal equations: the shapes do not fit one another: {found}")
        return cls(int(arrays["count"]), int(arrays["left_out"]), **given)


def _shapes(given: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that follow from that of the moments."""
    groups, terms, made = given["moments"].shape
    return {
        "mean": (groups, terms),
        "target_mean": (groups, made),
        "gram": (groups, terms, terms),
        "powers": (groups, made),
    }


def equations_bytes(problem: ConvProblem) -> int:
    """Return the memory of normal equations of a layer."""
    made = problem.out_channels // problem.groups
    return 8 * problem.groups * (problem.terms * (problem.terms + made + 1) + 2 * made)
