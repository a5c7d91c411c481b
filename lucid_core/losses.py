"""Losses: what an output lacks of its target, and the gradient of it.

Each is loss(output, target, weight, count): `output` (N, C, D, H, W) or (C, D, H, W) floats, `target` numbers of its
shape, `weight` True for the voxels that count, of shape (D, H, W), the same for all N and C, or of the output's shape;
without one all do. What output and target hold elsewhere, NaN for example, is never looked at. The value is the sum
over what counts, divided by `count`, which is the number of values that count (`counted`) unless said.

Over many tiles, the mean of all is the sum of each tile's value, and the gradient each tile's, with `count` the
number that counts in all tiles; with count=1 the value is the sum.

>>> output, target = np.array([[[[1.0, 2.0, 5.0]]]]), np.array([[[[1.0, 4.0, np.nan]]]])
>>> weight = np.array([[[True, True, False]]])
>>> value, gradient = mse(output, target, weight)
>>> value, gradient.tolist()
(2.0, [[[[0.0, -2.0, 0.0]]]])
>>> left, right = (mse(output[..., part], target[..., part], weight[..., part], 2) for part in np.s_[:1, 1:])
>>> left.value + right.value
2.0

Raises `ShapeError` for shapes that do not fit, `ArgumentTypeError` for dtypes, `ArgumentError` where nothing counts.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lucid_core.arguments import integer
from lucid_core.arrays import as_array
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError

Array = npt.NDArray[Any]
BLOCK = 1 << 14
"""Values that are computed at a time, in float64, so that they stay in a cache."""


class Loss(NamedTuple):
    """A value, and its gradient in the shape and dtype of the output."""

    value: float
    gradient: Array


def mse(
    output: npt.ArrayLike, target: npt.ArrayLike, weight: npt.ArrayLike | None = None, count: int | None = None
) -> Loss:
    """Mean of the squared differences: `torch.nn.functional.mse_loss`."""
    return _loss(output, target, weight, count, np.square, lambda difference: 2 * difference)


def l1(
    output: npt.ArrayLike, target: npt.ArrayLike, weight: npt.ArrayLike | None = None, count: int | None = None
) -> Loss:
    """Mean of the absolute differences: `torch.nn.functional.l1_loss`; the gradient at 0 is 0."""
    return _loss(output, target, weight, count, np.abs, _sign)


def huber(
    output: npt.ArrayLike,
    target: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    count: int | None = None,
    *,
    delta: float = 1.0,
) -> Loss:
    """Mean of d**2 / 2 where a difference d is at most delta, else of delta (|d| - delta / 2).

    It is `torch.nn.functional.huber_loss`. Raises `ArgumentError` where delta is not above 0.
    """
    if not 0 < delta < np.inf:
        raise ArgumentError(f"delta must be a number above 0, not {delta!r}")
    return _loss(
        output, target, weight, count, partial(_huber, delta), lambda difference: np.clip(difference, -delta, delta)
    )


def counted(output: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> int:
    """Return how many values of an output count."""
    values = as_array("output", output)
    if weight is None:
        return values.size
    inside = _inside(weight, values.shape)
    return int(np.count_nonzero(inside)) * (values.size // inside.size if inside.size else 0)


def _loss(
    output: npt.ArrayLike,
    target: npt.ArrayLike,
    weight: npt.ArrayLike | None,
    count: int | None,
    term: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
) -> Loss:
    """Return the sum of the terms of the differences that count, divided by `count`, and its gradient."""
    values, wanted = _checked(output, target)
    divisor = counted(values, weight) if count is None else integer("count", count, 1)
    if not divisor:
        raise ArgumentError("no voxel counts, and the mean of none is no number: give a weight that is somewhere True")
    inside = np.True_ if weight is None else _inside(weight, values.shape)
    gradient, sums = np.empty(values.shape, values.dtype.newbyteorder("=")), []
    blocks = np.nditer(
        [values, wanted, inside, gradient],
        ["external_loop", "buffered", "zerosize_ok"],
        [["readonly"], ["readonly"], ["readonly"], ["writeonly"]],
        [np.float64, np.float64, np.bool_, np.float64],
        casting="same_kind",
        buffersize=BLOCK,
    )
    with blocks, np.errstate(all="ignore"):
        for one, other, counts, result in blocks:
            difference = np.subtract(one, other, out=np.zeros_like(one), where=counts)
            sums.append(term(difference).sum())
            result[...] = derivative(difference) / divisor
        return Loss(float(np.sum(sums)) / divisor, gradient)


def _checked(output: npt.ArrayLike, target: npt.ArrayLike) -> tuple[Array, Array]:
    """Return output and target as arrays, or raise `ArgumentError`."""
    values, wanted = as_array("output", output), as_array("target", target)
    if values.ndim not in (4, 5):
        raise ShapeError(f"output must have 5 axes (N, C, D, H, W), or 4 (C, D, H, W), not {values.ndim}")
    if wanted.shape != values.shape:
        raise ShapeError(f"target must have the shape {values.shape} of output, not {wanted.shape}")
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise ArgumentTypeError(f"output has dtype {values.dtype}; legal: float16, float32, float64")
    if wanted.dtype.kind not in "fiub":
        raise ArgumentTypeError(f"target has dtype {wanted.dtype}; legal: real numbers")
    return values, wanted


def _inside(weight: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return the voxels that count, or raise `ArgumentError`."""
    inside = as_array("weight", weight)
    if inside.dtype != np.bool_:
        raise ArgumentTypeError(f"weight must be True or False at each voxel, not {inside.dtype}: give weight != 0")
    if inside.shape not in (shape, shape[-3:]):
        raise ShapeError(f"weight must have shape {shape[-3:]} (D, H, W), or {shape} as output, not {inside.shape}")
    return inside


def _sign(difference: Array) -> Array:
    """Return 1, -1, or 0, of NaN too, as torch does."""
    sign: Array = np.subtract(difference > 0, difference < 0, dtype=np.float64)
    return sign


def _huber(delta: float, difference: Array) -> Array:
    size = np.abs(difference)
    return np.where(size <= delta, size * size / 2, delta * (size - delta / 2))
