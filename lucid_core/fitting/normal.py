"""The normal equations of a convolution: all that its best weights take from the samples, whatever their number.

For each group, with f the terms (C/g, K_D, K_H, K_W) that a sample reads and y its targets: how many samples there are,
the means of f and y, and the sums of products about the means. Kept about the means, they lose no digits to an offset
of the data (Chan, Golub and LeVeque 1983), whether a bias is wanted later or not. Two sets of samples add up.
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ShapeError
from lucid_core.problem import ConvProblem

Array = npt.NDArray[np.float64]
STILL = 64 * 2.0**-52
"""Size of the changes of a term, by the values of its channel, that are rounding of its mean."""
ROUNDED = 1e-13
"""Share of a channel's sum of squares that is rounding where a tile's mean is taken off."""


@dataclass
class NormalEquations:
    """What is left of samples. Arrays are float64; g groups, P = C/g * K_D * K_H * K_W terms, O output channels."""

    shape: tuple[int, int, int, int, int]
    """That of the weight: (O, C/g, K_D, K_H, K_W)."""
    count: int
    """Samples: output voxels that count, of all tiles."""
    left_out: int
    """Output voxels that count, but are no samples as something they depend on is not finite."""
    mean: Array
    """(g, P): the mean of each term."""
    target_mean: Array
    """(g, O/g): the mean of each target."""
    gram: Array
    """(g, P, P): sums of products of terms about their means; (g, P), its diagonal alone, for `conjugate`."""
    moments: Array
    """(g, P, O/g): sums of products of terms and targets about their means."""
    powers: Array
    """(g, O/g): sums of squares of targets about their means."""

    @classmethod
    def of_none(cls, problem: ConvProblem, *, diagonal: bool = False) -> "NormalEquations":
        """Return the equations of no samples at all; with `diagonal`, of the gram matrix that alone."""
        shape = weight_shape(problem)
        arrays = {name: np.zeros(size) for name, size in _sizes(shape, problem.groups, diagonal).items()}
        return cls(shape, 0, 0, **arrays)

    @property
    def diagonal(self) -> bool:
        """Whether of the gram matrix there is the diagonal alone."""
        return self.gram.ndim == 2

    @property
    def outputs(self) -> int:
        """Output channels O."""
        return self.shape[0]

    @property
    def values(self) -> int:
        """Target values among the samples: what a mean squared error is the mean over."""
        return self.count * self.outputs

    def __add__(self, other: "NormalEquations") -> "NormalEquations":
        """Return the equations of both sets of samples. Sums are rounded: a + b + c has the bits of no other order."""
        total = deepcopy(self)
        total += other
        return total

    def __iadd__(self, other: "NormalEquations") -> "NormalEquations":
        """Add other samples in place. Raises `ShapeError` for those of another layer."""
        if (self.shape, self.gram.shape) != (other.shape, other.gram.shape):
            raise ShapeError(
                f"normal equations of different layers do not add up: weights of shape {self.shape} in "
                f"{len(self.gram)} groups, and {other.shape} in {len(other.gram)}"
            )
        total = self.count + other.count
        share = other.count / total if total else 0.0
        step, target_step = other.mean - self.mean, other.target_mean - self.target_mean
        self.mean += share * step
        self.target_mean += share * target_step
        step *= math.sqrt(self.count * share)
        target_step *= math.sqrt(self.count * share)
        self.gram += other.gram
        self.gram += step**2 if self.diagonal else step[:, :, np.newaxis] * step[:, np.newaxis, :]
        self.moments += other.moments + step[:, :, np.newaxis] * target_step[:, np.newaxis, :]
        self.powers += other.powers + target_step**2
        self.count, self.left_out = total, self.left_out + other.left_out
        return self

    def squares(self, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None) -> Array:
        """Return (O,) the sums of squared errors over the samples that these weights leave.

        `weight` (O, C/g, K_D, K_H, K_W), `bias` (O,) or None for 0. A sum is a difference of numbers as large as
        `powers`: below about 1e-14 of these it is rounding, and never negative.
        """
        self.check_whole()
        filters = self.grouped(weight)
        means = np.einsum("gop,gp->go", filters, self.mean) - self.target_mean
        if bias is not None:
            means += np.asarray(bias, np.float64).reshape(means.shape)
        fitted = np.einsum("gop,gpo->go", filters, self.moments)
        own = np.einsum("gop,gop->go", filters @ self.gram, filters)
        left = np.maximum(self.powers - 2 * fitted + own, 0.0) + self.count * means**2
        squares: Array = left.ravel()
        return squares

    def loss(self, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None) -> float:
        """Return the mean squared error of these weights over all target values, NaN without samples."""
        return float(self.squares(weight, bias).sum() / self.values) if self.values else float("nan")

    def offset(self, weight: npt.NDArray[Any]) -> Array:
        """Return the best bias (O,) for a weight (O, C/g, K_D, K_H, K_W)."""
        best: Array = (self.target_mean - np.einsum("gop,gp->go", self.grouped(weight), self.mean)).ravel()
        return best

    def still(self, *, bias: bool) -> npt.NDArray[np.bool_]:
        """Return (g, P) whether a term is all the same in every sample, with a bias, or all 0, but for rounding."""
        own = self.gram if self.diagonal else np.einsum("gpp->gp", self.gram)
        squares = own + self.count * self.mean**2
        flat: npt.NDArray[np.bool_] = (own if bias else squares) <= STILL**2 * most_of_channel(squares, self.shape)
        return flat

    def check_whole(self) -> None:
        """Raise `ShapeError` where of the gram matrix there is the diagonal alone."""
        if self.diagonal:
            raise ShapeError("these normal equations have the diagonal of the gram matrix alone; make them whole")

    def check_diagonal(self) -> None:
        """Raise `ShapeError` where there is all of the gram matrix."""
        if not self.diagonal:
            raise ShapeError("these normal equations have all of the gram matrix; solve them")

    def grouped(self, weight: npt.NDArray[Any]) -> Array:
        """Return a weight (O, C/g, K_D, K_H, K_W) as (g, O/g, P) float64."""
        if weight.shape != self.shape:
            raise ShapeError(f"the weight has shape {weight.shape}, and these normal equations are of {self.shape}")
        groups, terms, made = self.moments.shape
        return weight.reshape(groups, made, terms).astype(np.float64, copy=False)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all of it by name, as `numpy.savez` takes it."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "NormalEquations":
        """Return what `to_arrays` gave, as copies. Raises `ShapeError` where something is missing or does not fit."""
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in arrays]:
            raise ShapeError(
                f"these are no normal equations: {', '.join(missing)} is missing; legal: {', '.join(names)}"
            )
        given = {name: np.array(arrays[name], np.float64) for name in names[3:]}
        shape, gram = tuple(map(int, arrays["shape"])), given["gram"]
        legal = (
            _sizes(shape, len(gram), gram.ndim == 2) if len(shape) == 5 and gram.ndim in (2, 3) and len(gram) else {}
        )
        if {name: array.shape for name, array in given.items()} != legal:
            found = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            raise ShapeError(f"these are no normal equations of a weight of shape {shape}: {found}")
        made, share, depth, height, width = shape
        return cls((made, share, depth, height, width), int(arrays["count"]), int(arrays["left_out"]), **given)


def most_of_channel(squares: Array, shape: tuple[int, ...]) -> Array:
    """Return, in place of the sum of squares of each term (g, P), the largest of its channel."""
    most = squares.reshape(len(squares), shape[1], -1).max(2)
    return np.repeat(most, squares.shape[1] // shape[1], axis=1)


def rounded(own: Array, squares: Array, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return (g, P) whether what is left of the squares of a tile's terms about their means is rounding.

    So it is for a tap that reads nothing but the zeros of the padding, which are far from the mean of a channel.
    """
    flat: npt.NDArray[np.bool_] = own <= ROUNDED * most_of_channel(squares, shape)
    return flat


def weight_shape(problem: ConvProblem) -> tuple[int, int, int, int, int]:
    """Return the shape (O, C/g, K_D, K_H, K_W) of the weight of a problem."""
    return (problem.out_channels, problem.in_channels // problem.groups, *problem.kernel_size)


def _sizes(shape: tuple[int, ...], groups: int, diagonal: bool = False) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of normal equations."""
    made, terms = shape[0] // groups, math.prod(shape[1:])
    return {
        "mean": (groups, terms),
        "target_mean": (groups, made),
        "gram": (groups, terms) if diagonal else (groups, terms, terms),
        "moments": (groups, terms, made),
        "powers": (groups, made),
    }


def equations_bytes(problem: ConvProblem, *, diagonal: bool = False) -> int:
    """Return the memory of the normal equations of a problem."""
    return 8 * sum(map(math.prod, _sizes(weight_shape(problem), problem.groups, diagonal).values()))
