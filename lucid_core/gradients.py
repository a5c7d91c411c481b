"""The gradients of the convolution as a function of arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lucid_core import machine
from lucid_core.adjoint import input_gradient
from lucid_core.arguments import LayerArguments, Size, integer
from lucid_core.arrays import as_array
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from lucid_core.functional import as_batch, as_shape, check_dtypes, layer_of
from lucid_core.padding import RENORMALIZE
from lucid_core.planner import CPU_ENGINES
from lucid_core.problem import ConvProblem, conv_problem
from lucid_core.registry import choose
from lucid_core.volume import arithmetic_dtype, promoted
from lucid_core.weight_gradient import bias_gradient, weight_gradient

Array = npt.NDArray[Any]
WANTED = ("x", "weight", "bias")
"""What a gradient may be asked for."""


class Gradients(NamedTuple):
    """The gradients for what a convolution is made of; None for what was not asked for."""

    x: Array | None = None
    """Of x's shape."""
    weight: Array | None = None
    """Of the weight's shape, (O, C/groups, K_D, K_H, K_W)."""
    bias: Array | None = None
    """(O,)."""


def conv3d_backward(
    grad: npt.ArrayLike,
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    wanted: Sequence[str] = WANTED,
    engine: str = "auto",
    threads: int | None = None,
) -> Gradients:
    """Return the gradients of a loss for x, weight and bias of a `conv3d`, from `grad`, that for its result.

    Parameters: those of `lucid_core.conv3d` before it, x (N, C, D, H, W) or one volume (C, D, H, W); grad of the
    result's shape (N, O, D', H', W') or (O, D', H', W'), in the dtype of x or the one it is promoted to. `wanted` names
    what is computed. No array is modified, and no volume is padded as a whole, but where a border of voxels
    (padding_mode other than "zeros") is to be added back to the gradient for x.

    Returns `Gradients`: those for x in the dtype of x, those for weight and bias in that of the weight, integers
    as in `conv3d`; float16 is computed in float32. Each number is off by at most gamma(n) times the sum of the absolute
    values of its products, gamma(n) = n u / (1 - n u) with u the unit roundoff of the arithmetic: for x, n is the
    number of products, plus the border positions that a voxel stands at, plus 2; for the weight
    `lucid_core.correlations.RUN` + 2, whatever the size of the volumes; the bias is summed in float64 and rounded once.
    The bits depend neither on `threads` nor on the run.

    Raises `ValueError` for arguments that do not fit, `TypeError` for a wrong type, before any work.

    >>> x = np.arange(27.0).reshape(1, 1, 3, 3, 3)
    >>> found = conv3d_backward(np.ones((1, 1, 2, 2, 2)), x, np.ones((1, 1, 2, 2, 2)))
    >>> found.x.max().item(), found.weight[0, 0, 0, 0], found.bias
    (8.0, array([52., 60.]), array([8.]))
    """
    names = _checked(wanted)
    choose("engine", engine, ("auto", *CPU_ENGINES))
    threads = integer("threads", 0 if threads is None else threads, 0) or machine.cores()
    volumes, filters, grads = as_array("x", x), as_array("weight", weight), as_array("grad", grad)
    check_dtypes(volumes.dtype, filters, None)
    layer = layer_of(filters, None, stride, padding, dilation, groups, padding_mode)
    problem = _problem(volumes, layer)
    _check_grad(grads, volumes, problem)
    grads = as_batch(grads)
    found: dict[str, Array] = {}
    if "x" in names:
        arithmetic = filters.astype(problem.dtype, copy=False)
        of_x = input_gradient(problem, grads, arithmetic, engine, threads)
        found["x"] = _cast(of_x.reshape(volumes.shape), volumes)
    if "weight" in names:
        found["weight"] = _cast(weight_gradient(problem, as_batch(volumes), grads, engine, threads), filters)
    if "bias" in names:
        found["bias"] = _cast(bias_gradient(problem, grads, engine, threads), filters)
    return Gradients(**found)


def _problem(volumes: Array, layer: LayerArguments) -> ConvProblem:
    if layer.padding_mode == RENORMALIZE:
        raise ArgumentError(
            "padding_mode='renormalize' has no gradient here: the result is divided by the weights that lie inside; "
            "legal: 'zeros', 'reflect', 'replicate', 'circular', 'symmetric'"
        )
    return conv_problem(as_shape(volumes), layer, dtype=arithmetic_dtype(volumes.dtype).name)


def _checked(wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the gradients that are wanted, or raise `ArgumentError`."""
    if isinstance(wanted, str) or not isinstance(wanted, Sequence):
        raise ArgumentTypeError(f"wanted must be several names, such as ('x', 'weight'), not {wanted!r}")
    if not wanted:
        raise ArgumentError(f"wanted names no gradient; legal: some of {', '.join(WANTED)}")
    return tuple(choose("wanted", name, WANTED) for name in wanted)


def _check_grad(grads: Array, volumes: Array, problem: ConvProblem) -> None:
    """Raise where the gradient is not one of the result of `conv3d`."""
    expected = problem.out_shape if volumes.ndim == 5 else problem.out_shape[1:]
    if grads.shape != expected:
        raise ShapeError(
            f"grad must have the shape of the convolution's result, {expected}, not {grads.shape}; "
            f"x has {volumes.shape}"
        )
    legal = {volumes.dtype.newbyteorder("="), promoted(volumes.dtype), arithmetic_dtype(volumes.dtype)}
    if grads.dtype.newbyteorder("=") not in legal:
        raise ArgumentTypeError(
            f"grad has dtype {grads.dtype} and x has dtype {volumes.dtype}; "
            f"legal for grad: {', '.join(sorted(one.name for one in legal))}; convert it with .astype"
        )


def _cast(values: Array, like: Array) -> Array:
    """Return a gradient in the dtype that a result for this array has."""
    with np.errstate(over="ignore"):
        return values.astype(promoted(like.dtype), copy=False)
