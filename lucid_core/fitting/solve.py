"""The best weights of a convolution, from its normal equations: ridge, constraints, and what the samples leave open.

A symmetric positive semidefinite system is scaled to a unit diagonal, so that the units of the channels do not matter,
and solved by its eigenvectors. Directions whose eigenvalue is rounding, below 4 max(Q, 64) u of the largest for Q
unknowns and u = 2**-52, are not determined; of all weights that fit alike the smallest are taken.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lucid_core.blas import single_threaded
from lucid_core.errors import ArgumentError, RunError
from lucid_core.fitting.active import EPS, Quadratic, nonnegative
from lucid_core.fitting.constraints import Unknowns, orthogonal_to, unknowns
from lucid_core.fitting.normal import NormalEquations
from lucid_core.problem import ConvProblem

Array = npt.NDArray[np.float64]
SLIGHT = 1e-12
"""Penalty on what the samples leave open, by the sum of the eigenvalues."""


@dataclass(frozen=True)
class Solution:
    """The best weights, in float64, and how well the samples determine them."""

    weight: Array
    """(O, C/g, K_D, K_H, K_W)."""
    bias: Array | None
    """(O,), None without."""
    unknowns: int
    """Numbers of one filter that constraints leave free, its bias not among them."""
    rank: int
    """How many of these the samples determine, in the group where that is least."""
    condition: float
    """Largest eigenvalue by the smallest that counts, of the scaled system, in the group where that is most."""
    loss: float
    """Mean squared error over the samples, without the penalty."""


@dataclass(frozen=True)
class _Determined:
    """The solution (Q, n) of a system with n right sides."""

    values: Array
    rank: int
    condition: float


def solve(
    equations: NormalEquations, l2: float = 0.0, constraints: Iterable[str] = (), *, bias: bool = True
) -> Solution:
    """Return the weights that minimise the mean squared error + l2 * the sum of squared weights.

    The mean is over all target values (samples times output channels), so that `l2` does not depend on their number;
    the bias is not penalised. `constraints` are names of `lucid_core.fitting.constraints`.

    Raises `ArgumentError` for an l2 below 0, illegal constraints and without samples; `RunError` where sums have
    overflowed, or the nonnegative weights do not settle.
    """
    if not (math.isfinite(l2) and l2 >= 0):
        raise ArgumentError(f"l2 must be a finite number from 0 up, not {l2}")
    equations.check_whole()
    open_ = unknowns(equations.shape[1], equations.shape[2:], constraints)
    if not equations.count:
        raise ArgumentError("no voxel counts, so that there is nothing to learn from")
    if not np.isfinite(equations.gram).all() or not np.isfinite(equations.powers).all():
        raise RunError("sums of squares of the input or the target pass the largest float64: scale them down")
    with single_threaded():
        parts = [_solve_group(equations, group, l2, open_, bias) for group in range(len(equations.gram))]
    weight = np.concatenate([one.values.T for one in parts]).reshape(equations.shape)
    offset = equations.offset(weight) if bias else None
    free = open_.basis.shape[1] - (open_.total is not None)
    rank, condition = min(one.rank for one in parts), max(one.condition for one in parts)
    return Solution(weight, offset, free, rank, condition, equations.loss(weight, offset))


def workspace(problem: ConvProblem) -> int:
    """Return the bytes `solve` takes for the equations of a problem: matrices of one group, and those of LAPACK."""
    made = problem.out_channels // problem.groups
    return 8 * problem.terms * (9 * problem.terms + 6 * made) + 16 * problem.parameters


def _solve_group(equations: NormalEquations, group: int, l2: float, open_: Unknowns, bias: bool) -> _Determined:
    """Return the filters (P, O/g) of a group."""
    gram, moments = _system(equations, group, bias)
    if open_.basis.shape[0] > open_.basis.shape[1]:
        gram, moments = open_.basis.T @ gram @ open_.basis, open_.basis.T @ moments
    gram[np.diag_indices_from(gram)] += l2 * equations.values
    found = _with_sum(gram, moments, open_)
    if open_.nonnegative:
        found = _Determined(_above_zero(gram, moments, open_, found), found.rank, found.condition)
    return _Determined(open_.basis @ found.values, found.rank, found.condition)


def _system(equations: NormalEquations, group: int, bias: bool) -> tuple[Array, Array]:
    """Return the gram matrix (P, P) and moments (P, O/g), about the means where there is a bias, as copies."""
    gram, moments, mean = equations.gram[group].copy(), equations.moments[group].copy(), equations.mean[group]
    if not bias:
        gram += equations.count * np.outer(mean, mean)
        moments += equations.count * np.outer(mean, equations.target_mean[group])
    still = equations.still(bias=bias)[group]
    gram[still], gram[:, still], moments[still] = 0.0, 0.0, 0.0
    return gram, moments


def _with_sum(gram: Array, moments: Array, open_: Unknowns) -> _Determined:
    """Solve for coordinates (Q, n) whose sum is as it has to be."""
    if open_.total is None:
        return positive_solve(gram, moments)
    start = open_.total[:, np.newaxis] * (open_.sum / (open_.total @ open_.total))
    across = orthogonal_to(open_.total)
    found = positive_solve(across.T @ gram @ across, across.T @ (moments - gram @ start))
    return _Determined(start + across @ found.values, found.rank, found.condition)


def _above_zero(gram: Array, moments: Array, open_: Unknowns, found: _Determined) -> Array:
    """Return the best coordinates (Q, n) from 0 up, with a unit diagonal of the system.

    Where the samples leave something open, a penalty far below what they tell decides for what is small.
    """
    scale = _scale(gram)
    scaled, total = gram / np.outer(scale, scale), None if open_.total is None else open_.total / scale
    whole = found.rank == open_.basis.shape[1] - (total is not None)
    if not whole or found.condition > 1 / SLIGHT:
        scaled[np.diag_indices_from(scaled)] += SLIGHT * len(scaled)
    columns = [nonnegative(Quadratic(scaled, moment / scale, total, open_.sum)) / scale for moment in moments.T]
    return np.stack(columns, axis=1)


def _scale(gram: Array) -> Array:
    """Return the root of the diagonal, 1 for 0."""
    diagonal = np.diag(gram)
    return np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


def positive_solve(gram: Array, moments: Array) -> _Determined:
    """Solve a symmetric positive semidefinite system (Q, Q) for right sides (Q, n): the smallest solution of each."""
    if not gram.size:
        return _Determined(np.zeros(moments.shape), 0, 1.0)
    scale = _scale(gram)
    sizes, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    counts = sizes > 4 * max(len(sizes), 64) * EPS * max(sizes[-1], 0.0)
    if not counts.any():
        return _Determined(np.zeros(moments.shape), 0, 1.0)
    kept = vectors[:, counts]
    values = kept @ ((kept.T @ (moments / scale[:, np.newaxis])) / sizes[counts, np.newaxis]) / scale[:, np.newaxis]
    if not counts.all():
        open_ = np.linalg.qr(vectors[:, ~counts] / scale[:, np.newaxis])[0]
        values -= open_ @ (open_.T @ values)
    return _Determined(values, int(np.count_nonzero(counts)), float(sizes[-1] / sizes[counts][0]))
