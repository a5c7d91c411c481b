"""The best weights without a gram matrix: conjugate gradients on the normal equations, for very many unknowns.

The matrix is only ever multiplied by weights: each tile is convolved with them, and what comes out is correlated with
what went in, which is the gradient of the convolution for its weights (Hestenes and Stiefel 1952, section 10). So one
step is one pass over all tiles, and no output is kept. (CGLS keeps the residual of every sample, and would be a digit
or two nearer where the samples hardly determine the weights; there are more samples than memory here.)

A first pass makes normal equations with the diagonal of their matrix alone (`tile_diagonal`), which also scales the
unknowns. Symmetry and sums are kept by projecting every direction.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ArgumentError
from lucid_core.fitting.constraints import checked, project
from lucid_core.fitting.normal import NormalEquations, most_of_channel, rounded
from lucid_core.fitting.samples import Samples, samples_bytes
from lucid_core.functional import conv3d
from lucid_core.gradients import conv3d_backward
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple

Array = npt.NDArray[np.float64]
KERNEL_BYTES = 8 << 20
"""What the engines take for the panels of one tile, at most."""


@dataclass(frozen=True)
class Iterated:
    """The weights that conjugate gradients came to."""

    weight: Array
    """(O, C/g, K_D, K_H, K_W), float64."""
    bias: Array | None
    """(O,), None without."""
    iterations: int
    """Passes over the tiles, besides the first."""
    residual: float
    """What is left of the gradient of the loss, relative to that of the first weights, in the worst filter."""
    converged: bool
    """Whether that is within the tolerance."""
    loss: float
    """Mean squared error over the samples, without the penalty."""


def tile_diagonal(problem: ConvProblem, found: Samples) -> NormalEquations:
    """Return the normal equations of the samples of a tile, with the diagonal of the gram matrix alone."""
    total = NormalEquations.of_none(problem, diagonal=True)
    total.count, total.left_out = found.count, found.left_out
    count, share = max(1, found.count), problem.in_channels // problem.groups
    made = problem.out_channels // problem.groups
    for group in range(problem.groups):
        channels, outputs = slice(group * share, (group + 1) * share), slice(group * made, (group + 1) * made)
        values, targets = found.values[channels], found.targets[1:][outputs]
        sums = _correlated(problem, values, np.concatenate([found.targets[:1], targets]))
        squares = _correlated(problem, values**2, found.targets[:1])[0]
        target_sums = targets.sum((1, 2, 3))
        total.mean[group] = np.repeat(found.centre[channels], problem.taps) + sums[0] / count
        total.target_mean[group] = found.target_centre[outputs] + target_sums / count
        own = squares - sums[0] ** 2 / count
        (still,) = rounded(own[np.newaxis], squares[np.newaxis], total.shape)
        total.gram[group] = np.where(still, 0.0, own)
        total.moments[group] = (sums[1:] - np.outer(target_sums, sums[0] / count)).T
        total.moments[group][still] = 0.0
        total.powers[group] = np.maximum((targets**2).sum((1, 2, 3)) - target_sums**2 / count, 0.0)
    return total


def workspace(problem: ConvProblem, out: Triple) -> int:
    """Return the bytes that `samples` and then one of the two functions take for a tile of shape `out`."""
    read, made = math.prod(problem.block_shape(out)), math.prod(out)
    passing = 8 * (problem.in_channels * read + 2 * (problem.out_channels + 1) * made + 4 * problem.parameters)
    return samples_bytes(problem, out) + passing + KERNEL_BYTES


def centre_of(equations: NormalEquations, *, bias: bool) -> Array:
    """Return (g, P) what terms are taken about: their means where there is a bias, else 0."""
    return equations.mean if bias else np.zeros_like(equations.mean)


def tile_product(problem: ConvProblem, found: Samples, centre: Array, weight: Array) -> Array:
    """Return the share of a tile in the product of the gram matrix with a weight (O, C/g, K_D, K_H, K_W).

    `centre` (g, P) is what terms are taken about, the same for all tiles.
    """
    share = problem.in_channels // problem.groups
    offset = centre - np.repeat(found.centre.reshape(problem.groups, share), problem.taps, axis=1)
    filters = weight.reshape(problem.groups, -1, problem.terms)
    about = np.einsum("gop,gp->go", filters, offset).ravel()
    outputs = conv3d(found.values, weight, -about, problem.stride, 0, problem.dilation, problem.groups, threads=1)
    outputs *= found.kept
    product = conv3d_backward(
        outputs, found.values, weight, problem.stride, 0, problem.dilation, problem.groups, wanted=["weight"], threads=1
    ).weight
    sums = outputs.sum((1, 2, 3)).reshape(problem.groups, -1)
    moved: Array = np.asarray(product) - np.einsum("go,gp->gop", sums, offset).reshape(weight.shape)
    return moved


def _correlated(problem: ConvProblem, values: Array, targets: Array) -> Array:
    """Return the sums of products (T, P) of targets (T, d', h', w') and the terms of values (C/g, d, h, w)."""
    like = np.empty((len(targets), len(values), *problem.kernel_size))
    found = conv3d_backward(
        targets, values, like, problem.stride, 0, problem.dilation, wanted=["weight"], threads=1
    ).weight
    return np.asarray(found).reshape(len(targets), -1)


def conjugate_gradients(
    equations: NormalEquations,
    product: Callable[[Array], Array],
    l2: float = 0.0,
    constraints: Iterable[str] = (),
    *,
    bias: bool = True,
    tolerance: float = 1e-10,
    iterations: int = 1000,
    report: Callable[[int, float], None] | None = None,
    keep: Callable[[dict[str, npt.NDArray[Any]]], None] | None = None,
    kept_before: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Iterated:
    """Return the weights that minimise the mean squared error + l2 * the sum of squared weights, as `solve` does.

    `equations` are those of all tiles, by `tile_diagonal`, and `product` takes a weight (O, C/g, K_D, K_H, K_W) to
    the sum of `tile_product` over all tiles, about `centre_of(equations, bias=bias)`. It ends when the gradient of
    each filter, in the norm of the scaled unknowns, is `tolerance` times that of the first weights, or after so many
    `iterations`; `report` is told both after each. `keep` is given all that going on from there takes, and
    `kept_before` is what it was given in another run of the same, which then goes on with the same bits.

    Raises `ArgumentError` for illegal arguments, without samples, and for the constraint "nonnegative", which no
    direction can be projected on.
    """
    held = checked(constraints)
    equations.check_diagonal()
    if "nonnegative" in held:
        raise ArgumentError(
            "conjugate gradients do not keep weights nonnegative; use a kernel with fewer weights, which is solved "
            "exactly, or Adam"
        )
    if not (math.isfinite(l2) and l2 >= 0):
        raise ArgumentError(f"l2 must be a finite number from 0 up, not {l2}")
    if not equations.count:
        raise ArgumentError("no voxel counts, so that there is nothing to learn from")
    state = _State(equations, l2 * equations.values, held, bias)
    if kept_before is not None:
        state.load(kept_before)
    else:
        if state.weight.any():
            state.residual -= product(state.weight) + state.penalty * state.weight
        state.start()
    while (left := state.left()) > tolerance and state.done < iterations:
        state.step(product(state.direction))
        if report is not None:
            report(state.done, state.left())
        if keep is not None:
            keep(state.to_arrays())
    offset = state.offset() if bias else None
    return Iterated(state.weight, offset, state.done, left, left <= tolerance, state.loss())


class _State:
    """Weights, residual and direction of all filters at once: each has its own step."""

    def __init__(self, equations: NormalEquations, penalty: float, kept: frozenset[str], bias: bool) -> None:
        about = 0.0 if bias else float(equations.count)
        moments = equations.moments + about * equations.mean[..., np.newaxis] * equations.target_mean[:, np.newaxis]
        diagonal = equations.gram + about * equations.mean**2 + penalty
        diagonal = np.where(equations.still(bias=bias), most_of_channel(diagonal, equations.shape), diagonal)
        self.equations, self.penalty = equations, penalty
        self.moments: Array = np.moveaxis(moments, 1, 2).reshape(equations.shape)
        self.powers = float(equations.powers.sum() + about * (equations.target_mean**2).sum())
        made = equations.powers.shape[1]
        self._scale = np.repeat(1 / np.where(diagonal > 0, diagonal, 1.0), made, axis=0).reshape(equations.shape)
        self._directions = (kept - {"sum1"}) | ({"zero-sum"} if "sum1" in kept else set())
        self.weight: Array = project(np.zeros(equations.shape), kept)
        self.residual: Array = self.moments.copy()
        self.done = 0

    def start(self) -> None:
        """Take the first direction."""
        self.direction, self._power = self._downhill()
        self._first = self._power

    def _downhill(self) -> tuple[Array, Array]:
        """Return the scaled direction of steepest descent that keeps the constraints, and its power (O,)."""
        legal = project(self.residual, self._directions)
        scaled = project(self._scale * legal, self._directions)
        return scaled, _dot(legal, scaled)

    def step(self, product: Array) -> None:
        """Go along the direction, whose product with the gram matrix is given, and take the next."""
        product = product + self.penalty * self.direction
        bend = _dot(self.direction, product)
        length = _ratio(self._power, bend)
        self.weight += length * self.direction
        self.residual -= length * product
        downhill, power = self._downhill()
        self.direction = downhill + _ratio(power, self._power) * self.direction
        self._power = power
        self.done += 1

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what `load` goes on from."""
        names = ("weight", "residual", "direction", "_power", "_first", "done")
        return {name.strip("_"): np.array(getattr(self, name)) for name in names}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what `to_arrays` gave."""
        self.weight, self.residual, self.direction = (arrays[name] for name in ("weight", "residual", "direction"))
        self._power, self._first, self.done = arrays["power"], arrays["first"], int(arrays["done"])

    def left(self) -> float:
        """Return the norm of the gradient, relative to the first one, in the worst filter."""
        shares = np.divide(self._power, self._first, out=np.zeros_like(self._power), where=self._first > 0)
        return float(np.sqrt(shares.max()))

    def loss(self) -> float:
        """Return the mean squared error, from the residual of the normal equations."""
        fitted = np.vdot(self.weight, self.moments + self.residual) + self.penalty * np.vdot(self.weight, self.weight)
        return max(0.0, self.powers - float(fitted)) / self.equations.values

    def offset(self) -> Array:
        """Return the bias (O,) that goes with the weights."""
        return self.equations.offset(self.weight)


def _dot(first: Array, second: Array) -> Array:
    dots: Array = np.einsum("ocdhw,ocdhw->o", first, second)
    return dots


def _ratio(above: Array, below: Array) -> Array:
    """Return above / below (O,) to multiply weights with, 0 for a filter that is done."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)[:, None, None, None, None]
