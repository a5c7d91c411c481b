"""What a filter may be held to: a table of names, and the nearest weights that keep them.

* nonnegative: no weight of a filter is below 0;
* sum1: the weights of a filter, of all its channels, sum to 1;
* zero-sum: they sum to 0;
* symmetric: w[o, c, t] = w[o, c, -t], mirrored in the centre through all three axes.

`Unknowns` are the coordinates of the filters that keep what is linear: symmetry by a basis, a sum by what stands
orthogonal to it, so that every choice of coordinates is a legal filter and distances stay what they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ArgumentError
from lucid_core.registry import choose

Array = npt.NDArray[np.float64]
CONSTRAINTS = ("nonnegative", "sum1", "zero-sum", "symmetric")


def checked(constraints: Iterable[str]) -> frozenset[str]:
    """Return constraints as a set, or raise `ArgumentError` for unknown ones and those that leave no filter."""
    found = frozenset(choose("constraint", name, CONSTRAINTS) for name in constraints)
    if {"sum1", "zero-sum"} <= found:
        raise ArgumentError("a filter cannot sum to 1 and to 0: give one of the constraints 'sum1' and 'zero-sum'")
    if {"nonnegative", "zero-sum"} <= found:
        raise ArgumentError(
            "weights from 0 up that sum to 0 are all 0: give one of the constraints 'nonnegative' and 'zero-sum'"
        )
    return found


def project(weight: npt.NDArray[Any], constraints: Iterable[str]) -> npt.NDArray[Any]:
    """Return the nearest weight (O, C/g, K_D, K_H, K_W), by Euclidean distance, that keeps the constraints.

    It is computed in float64 and has the dtype of `weight`. Raises `ArgumentError` for illegal constraints.
    """
    kept = checked(constraints)
    nearest = weight.astype(np.float64)
    if "symmetric" in kept:
        nearest = (nearest + nearest[:, :, ::-1, ::-1, ::-1]) / 2
    filters = nearest.reshape(weight.shape[0], -1)
    if {"nonnegative", "sum1"} <= kept:
        filters = np.array([_onto_simplex(one) for one in filters])
    elif "nonnegative" in kept:
        filters = np.maximum(filters, 0.0)
    elif kept & {"sum1", "zero-sum"}:
        filters = filters + (("sum1" in kept) - filters.sum(1, keepdims=True)) / filters.shape[1]
    return filters.reshape(weight.shape).astype(weight.dtype)


def _onto_simplex(point: Array) -> Array:
    """Return the nearest point with coordinates from 0 that sum to 1 (Held, Wolfe and Crowder 1974).

    It is max(point - shift, 0), so that it has the symmetries that the point has. What is not finite gives NaN.
    """
    below = point - point.max()
    falling = np.sort(below)[::-1]
    shifts = (np.cumsum(falling) - 1) / np.arange(1, point.size + 1)
    nearest: Array = np.maximum(below - shifts[np.count_nonzero(falling > shifts) - 1], 0.0)
    return nearest


@dataclass(frozen=True)
class Unknowns:
    """Filters as `basis` @ u: of P weights each, with Q <= P coordinates u at the same distances."""

    basis: Array
    """(P, Q), its columns orthonormal and, without a sum, none below 0."""
    total: Array | None
    """(Q,): total . u is the sum of a filter; None where the sum is free."""
    sum: float
    """What the sum has to be."""
    nonnegative: bool
    """Whether no coordinate may be below 0: then no weight is."""


def unknowns(share: int, kernel_size: tuple[int, int, int], constraints: Iterable[str]) -> Unknowns:
    """Return the unknowns of a filter (C/g, K_D, K_H, K_W) under constraints."""
    kept = checked(constraints)
    terms = share * int(np.prod(kernel_size))
    basis = _symmetric_basis(share, kernel_size) if "symmetric" in kept else np.eye(terms)
    total = basis.sum(0) if kept & {"sum1", "zero-sum"} else None
    return Unknowns(basis, total, float("sum1" in kept), "nonnegative" in kept)


def _symmetric_basis(share: int, kernel_size: tuple[int, int, int]) -> Array:
    """Return a column for each pair of taps that mirror each other, and for each tap that is its own mirror."""
    places = np.arange(share * int(np.prod(kernel_size))).reshape(share, *kernel_size)
    mirrors = places[:, ::-1, ::-1, ::-1].ravel()
    firsts = np.flatnonzero(places.ravel() <= mirrors)
    basis = np.zeros((places.size, firsts.size))
    basis[firsts, np.arange(firsts.size)] = 1.0
    basis[mirrors[firsts], np.arange(firsts.size)] = 1.0
    unit: Array = basis / np.sqrt(basis.sum(0))
    return unit


def orthogonal_to(direction: Array) -> Array:
    """Return (Q, Q - 1) orthonormal columns that are orthogonal to a direction (Q,): all of a reflection but one."""
    unit = direction / np.linalg.norm(direction)
    mirror = unit.copy()
    mirror[0] += 1.0 if unit[0] >= 0 else -1.0
    reflection = np.eye(unit.size) - np.outer(mirror, mirror) * (2 / (mirror @ mirror))
    return reflection[:, 1:]
