"""The convolution as a function of arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.arguments import LayerArguments, Size, integer, layer_arguments
from lucid_core.compute import Filters
from lucid_core.errors import ArgumentTypeError, LimitError, ShapeError
from lucid_core.execute import execute
from lucid_core.masked import MaskedReader
from lucid_core.normalization import Normalization, checked_outside
from lucid_core.pages import aligned
from lucid_core.planner import plan
from lucid_core.registry import choose
from lucid_core.volume import ArrayReader, ArrayWriter, VolumeReader, arithmetic_dtype, promoted

Array = npt.NDArray[Any]


def zeros(*shape: Any, dtype: npt.DTypeLike = np.float32) -> Array:
    """Return an array of zeros, float32 unless said.

    >>> zeros(2, 1, 4, 4, 4).shape
    (2, 1, 4, 4, 4)
    """
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return np.zeros(sizes, dtype)


def conv3d(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    *,
    algorithm: str = "auto",
    engine: str = "auto",
    accuracy: str = "componentwise",
    device: str = "cpu",
    threads: int | None = None,
    mask: npt.ArrayLike | None = None,
    nan: str = "propagate",
    outside: float = 0.0,
) -> Array:
    """Cross-correlate volumes with filters (never flipped), as `torch.nn.functional.conv3d` does.

    Parameters: x (N, C, D, H, W) or one volume (C, D, H, W); weight (O, C/groups, K_D, K_H, K_W); bias (O,).
    A size is an int or three (D, H, W); padding also "same" (stride 1; an odd total goes above) or "valid".

    Returns a new array (N, O, D', H', W') with D' = floor((D + 2p - d(k-1) - 1) / s + 1), in x's dtype; integers
    become float32, those over 16 bits float64; float16 is computed in float32. At every voxel the error is at most
    gamma(K + 2) * (sum |x||w| + |b|), K the number of products summed (`lucid_core.algorithms.ErrorBound`).

    On a `device` other than "cpu" (cuda, cuda:1, metal) torch computes, as with engine="torch"; arrays stay NumPy's.

    With a `mask` (D, H, W), inside where it is neither 0 nor NaN, and with nan="renormalize", the convolution is
    normalised: conv(M x) / conv(M) + bias, M being 1 for what is inside the mask and not NaN. Outputs whose centre lies
    outside the mask are `outside`. padding_mode="renormalize" does it for what lies inside the volume. Each needs
    filters whose sum is not 0; see `lucid_core.normalization`.

    Raises `ValueError` for arguments that do not fit, `TypeError` for a wrong type, before any work.

    >>> x = np.arange(27.0).reshape(1, 1, 3, 3, 3)
    >>> conv3d(x, np.ones((1, 1, 2, 2, 2)), stride=2).item()
    52.0
    """
    volumes, filters = _array("x", x), _array("weight", weight)
    offsets = None if bias is None else _array("bias", bias)
    dtype = arithmetic_dtype(volumes.dtype)
    batch = as_batch(volumes)
    check_dtypes(volumes, filters, offsets)
    layer = layer_of(filters, offsets, stride, padding, dilation, groups, padding_mode)
    filters = filters.astype(dtype, copy=False)
    reader, normalization = _normalized(ArrayReader(batch), mask, nan, outside, dtype)
    both = Filters(filters, None if offsets is None else offsets.astype(dtype))
    problem = both.problem(_shape5(batch), layer, normalization)
    out = empty(problem.out_shape, dtype)
    chosen = plan(problem, algorithm=algorithm, engine=engine, accuracy=accuracy, device=device, threads=threads)
    execute(chosen, [both], reader, ArrayWriter(out))
    with np.errstate(over="ignore"):
        result = out.astype(promoted(volumes.dtype), copy=False)
    return result if volumes.ndim == 5 else result[0]


def _normalized(
    reader: VolumeReader, mask: npt.ArrayLike | None, nan: str, outside: float, dtype: np.dtype[Any]
) -> tuple[VolumeReader, Normalization | None]:
    """Return the reader of what a convolution needs, and how it is normalised."""
    choose("nan", nan, ("propagate", "renormalize"))
    if mask is None and nan == "propagate":
        return reader, None
    normalization = Normalization(mask is not None, nan == "renormalize", checked_outside(outside, dtype))
    if mask is None:
        return MaskedReader(reader, normalization, None), normalization
    voxels = _array("mask", mask)
    if voxels.shape != reader.shape[2:] or voxels.dtype.kind not in "fiub":
        raise ShapeError(
            f"mask must hold numbers of shape {reader.shape[2:]} (D, H, W), as x does, not {voxels.dtype} of shape "
            f"{voxels.shape}"
        )
    inside = (voxels != 0) & (voxels == voxels) if voxels.dtype.kind == "f" else voxels
    return MaskedReader(reader, normalization, ArrayReader(inside[np.newaxis, np.newaxis])), normalization


def _array(name: str, values: npt.ArrayLike) -> Array:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ArgumentTypeError(f"{name} is no array of numbers: {error}") from error


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return memory for a result, or raise `LimitError`."""
    try:
        return aligned(shape, dtype)
    except (ValueError, MemoryError) as error:
        raise LimitError(f"the output of shape {shape} does not fit into memory: {error}") from error


def as_batch(volumes: Array) -> Array:
    """Return volumes as (N, C, D, H, W), or raise `ShapeError`."""
    if volumes.ndim not in (4, 5):
        raise ShapeError(
            f"x must have 5 axes (N, C, D, H, W), or 4 (C, D, H, W) for one volume, not {volumes.ndim}: "
            f"its shape is {volumes.shape}"
        )
    return volumes if volumes.ndim == 5 else volumes[None]


def _shape5(batch: Array) -> tuple[int, int, int, int, int]:
    n, c, d, h, w = batch.shape
    return n, c, d, h, w


def check_dtypes(volumes: Array, filters: Array, offsets: Array | None) -> None:
    """Weight and bias have the dtype of x, or the one it is promoted to: mixing is refused, as in torch."""
    legal = {volumes.dtype.newbyteorder("="), promoted(volumes.dtype), arithmetic_dtype(volumes.dtype)}
    for name, array in (("weight", filters), ("bias", offsets)):
        if array is not None and array.dtype.newbyteorder("=") not in legal:
            raise ArgumentTypeError(
                f"{name} has dtype {array.dtype} and x has dtype {volumes.dtype}; "
                f"legal for {name}: {', '.join(sorted(one.name for one in legal))}; convert it with .astype"
            )


def layer_of(
    filters: Array,
    offsets: Array | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
    padding_mode: str,
) -> LayerArguments:
    """Return the checked arguments of a layer with these weights; `ShapeError` where weight and bias do not fit."""
    if filters.ndim != 5:
        raise ShapeError(
            f"weight must have 5 axes (out_channels, in_channels / groups, K_D, K_H, K_W), not {filters.ndim}: "
            f"its shape is {filters.shape}"
        )
    out_channels, share, *kernel_size = filters.shape
    layer = layer_arguments(
        share * integer("groups", groups, 1),
        out_channels,
        kernel_size,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
    )
    if offsets is not None and offsets.shape != (out_channels,):
        raise ShapeError(f"bias must have shape ({out_channels},), one value an output channel, not {offsets.shape}")
    return layer
