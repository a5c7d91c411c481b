"""The convolution as a function of arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core import lazy
from lucid_core.arguments import LayerArguments, Size, integer, layer_arguments
from lucid_core.arrays import as_array, empty, is_dask
from lucid_core.compute import Filters
from lucid_core.errors import ArgumentTypeError, ShapeError
from lucid_core.execute import execute
from lucid_core.masked import MaskedReader
from lucid_core.normalization import Normalization, checked_outside
from lucid_core.planner import plan
from lucid_core.registry import choose
from lucid_core.volume import ArrayReader, ArrayWriter, Shape5, VolumeReader, arithmetic_dtype, promoted

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
    Arrays may be of NumPy or of whatever makes one (`__array__`) or shows its memory on the CPU (`__dlpack__`), such
    as tensors of PyTorch and datasets of HDF5 and Zarr; the result is one of NumPy.

    Returns a new array (N, O, D', H', W') with D' = floor((D + 2p - d(k-1) - 1) / s + 1), in x's dtype; integers
    become float32, those over 16 bits float64; float16 is computed in float32. At every voxel the error is at most
    gamma(K + 2) * (sum |x||w| + |b|), K the number of products summed (`lucid_core.algorithms.ErrorBound`).

    On a `device` other than "cpu" (cuda, cuda:1, metal) torch computes, as with engine="torch"; arrays stay NumPy's.

    With a `mask` (D, H, W), inside where it is neither 0 nor NaN, and with nan="renormalize", the convolution is
    normalised: conv(M x) / conv(M) + bias, M being 1 for what is inside the mask and not NaN. Outputs whose centre lies
    outside the mask are `outside`. padding_mode="renormalize" does it for what lies inside the volume. Each needs
    filters whose sum is not 0; see `lucid_core.normalization`.

    For x of `dask.array` the result is one too, and nothing is computed before that: each chunk from the voxels it
    reads, on one thread. It has the bits of the same call in memory in every chunking (with accuracy "componentwise").
    Chunks along D, H, W follow those of x; a mask may be of dask as well, and a weight of dask is computed at once.

    Raises `ValueError` for arguments that do not fit, `TypeError` for a wrong type, before any work.

    >>> x = np.arange(27.0).reshape(1, 1, 3, 3, 3)
    >>> conv3d(x, np.ones((1, 1, 2, 2, 2)), stride=2).item()
    52.0
    """
    lazily = is_dask(x)
    volumes, filters = lazy.checked("x", x) if lazily else as_array("x", x), as_array("weight", weight)
    offsets = None if bias is None else as_array("bias", bias)
    dtype, shape = arithmetic_dtype(volumes.dtype), as_shape(volumes)
    check_dtypes(volumes.dtype, filters, offsets)
    layer = layer_of(filters, offsets, stride, padding, dilation, groups, padding_mode)
    both = Filters(filters.astype(dtype, copy=False), None if offsets is None else offsets.astype(dtype))
    inside = None if mask is None else _inside(mask, shape, lazily)
    problem = both.problem(shape, layer, _normalization(inside is not None, nan, outside, dtype))
    if lazily:
        lazy.check_call(threads, engine, device)
        chosen = plan(problem, algorithm=algorithm, engine=engine, accuracy=accuracy, threads=1)
        return lazy.convolved(volumes, chosen, [both], inside)
    out = empty(problem.out_shape, dtype)
    chosen = plan(problem, algorithm=algorithm, engine=engine, accuracy=accuracy, device=device, threads=threads)
    execute(chosen, [both], _reader(volumes, problem.normalization, inside), ArrayWriter(out))
    with np.errstate(over="ignore"):
        result = out.astype(promoted(volumes.dtype), copy=False)
    return result if volumes.ndim == 5 else result[0]


def _normalization(masked: bool, nan: str, outside: float, dtype: np.dtype[Any]) -> Normalization | None:
    """Return how a convolution is normalised, None for a plain one."""
    choose("nan", nan, ("propagate", "renormalize"))
    if not masked and nan == "propagate":
        return None
    return Normalization(masked, nan == "renormalize", checked_outside(outside, dtype))


def _inside(mask: Any, shape: Shape5, lazily: bool) -> Any:
    """Return what is inside a mask where it is not 0: an array of NumPy, or of dask where the mask is and x too."""
    voxels = lazy.checked("mask", mask) if lazily and is_dask(mask) else as_array("mask", mask)
    if voxels.shape != shape[2:] or voxels.dtype.kind not in "fiub":
        raise ShapeError(
            f"mask must hold numbers of shape {shape[2:]} (D, H, W), as x does, not {voxels.dtype} of shape "
            f"{voxels.shape}"
        )
    return (voxels != 0) & (voxels == voxels) if voxels.dtype.kind == "f" else voxels


def _reader(volumes: Array, normalization: Normalization | None, inside: Array | None) -> VolumeReader:
    """Return the reader of what a convolution of volumes in memory needs."""
    reader = ArrayReader(as_batch(volumes))
    if normalization is None or not normalization.of_voxels:
        return reader
    mask = None if inside is None else ArrayReader(inside[np.newaxis, np.newaxis])
    return MaskedReader(reader, normalization, mask)


def as_shape(volumes: Any) -> Shape5:
    """Return the shape of volumes as (N, C, D, H, W), or raise `ShapeError`."""
    if volumes.ndim not in (4, 5):
        raise ShapeError(
            f"x must have 5 axes (N, C, D, H, W), or 4 (C, D, H, W) for one volume, not {volumes.ndim}: "
            f"its shape is {volumes.shape}"
        )
    n, c, d, h, w = volumes.shape if volumes.ndim == 5 else (1, *volumes.shape)
    return n, c, d, h, w


def as_batch(volumes: Array) -> Array:
    """Return volumes as (N, C, D, H, W)."""
    return volumes if volumes.ndim == 5 else volumes[np.newaxis]


def check_dtypes(given: np.dtype[Any], filters: Array, offsets: Array | None) -> None:
    """Weight and bias have the dtype of x, or the one it is promoted to: mixing is refused, as in torch."""
    legal = {given.newbyteorder("="), promoted(given), arithmetic_dtype(given)}
    for name, array in (("weight", filters), ("bias", offsets)):
        if array is not None and array.dtype.newbyteorder("=") not in legal:
            raise ArgumentTypeError(
                f"{name} has dtype {array.dtype} and x has dtype {given}; "
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
