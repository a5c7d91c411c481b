"""The samples of a tile: which output voxels count, and the values that they are computed from, in float64.

An output voxel is a sample where it counts, and every voxel of its receptive field (in all channels) and its targets
are finite. Values are taken about the mean of their channel in the tile: sums of squares of what is far from zero lose
the digits that tell voxels apart.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.boundary import Window
from lucid_core.errors import ArgumentError, ShapeError
from lucid_core.padding import PADDING_MODES
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Samples:
    """The samples of one tile."""

    values: Array
    """What is read, (C, d, h, w) about `centre`; 0 where no sample reads."""
    centre: Array
    """(C,): the mean of each channel over the voxels that samples read."""
    targets: Array
    """(1 + O, d', h', w'): 1 at samples, then their targets about `target_centre`; 0 elsewhere."""
    target_centre: Array
    """(O,): the mean of each target over the samples."""
    kept: Flags
    """(d', h', w'): the output voxels that are samples."""
    left_out: int
    """Output voxels that count and are no samples, since something is not finite."""

    @property
    def count(self) -> int:
        """How many samples there are."""
        return int(np.count_nonzero(self.kept))


Box = tuple[slice, slice, slice]


def box_of(problem: ConvProblem, kept: Flags) -> tuple[Box, Box]:
    """Return the smallest box (d', h', w') that holds all samples, one voxel for none, and what it reads (d, h, w)."""
    ends = [_ends(np.asarray(kept.any(axis=others))) for others in ((1, 2), (0, 2), (0, 1))]
    region = Region((ends[0][0], ends[1][0], ends[2][0]), (ends[0][1], ends[1][1], ends[2][1]))
    extent = problem.block_shape(region.shape)
    first = [start * stride for start, stride in zip(region.start, problem.stride, strict=True)]
    d, h, w = (slice(low, low + size) for low, size in zip(first, extent, strict=True))
    return region.slices, (d, h, w)


def _ends(flags: Flags) -> tuple[int, int]:
    """Return the first flagged place and one past the last; the first place for none."""
    at = np.flatnonzero(flags)
    return (int(at[0]), int(at[-1]) + 1) if at.size else (0, 1)


def samples(
    problem: ConvProblem, window: Window, target: npt.NDArray[Any], counted: Flags | None, scratch: Scratch
) -> Samples:
    """Return the samples of a tile.

    `window` is of the padded input that the tile reads, `target` (O, d', h', w') what the tile is to be, and `counted`
    (d', h', w') says which of its voxels count, None for all. Raises `ShapeError` where the shapes do not fit, and
    `ArgumentError` for a normalised convolution, whose result is no linear function of its weights.
    """
    if problem.normalization is not None:
        raise ArgumentError(
            "a normalised convolution is divided by its weights, so that they follow from no linear system; legal "
            f"padding modes: {', '.join(PADDING_MODES)}"
        )
    _check_shapes(problem, window, target, counted)
    block = window.block(scratch)
    finite = np.isfinite(block).all(axis=0)
    wanted = np.ones(target.shape[1:], np.bool_) if counted is None else counted
    kept = wanted & np.isfinite(target).all(axis=0) & _all_read(problem, finite, wanted.shape)
    read = _read_by(problem, kept, finite.shape)
    values, centre = _about_mean(block, read)
    outputs, target_centre = _about_mean(target, kept)
    left_out = int(np.count_nonzero(wanted)) - int(np.count_nonzero(kept))
    targets = np.concatenate([kept[np.newaxis].astype(np.float64), outputs])
    return Samples(values, centre, targets, target_centre, kept, left_out)


def samples_bytes(problem: ConvProblem, out: Triple) -> int:
    """Return the bytes `samples` takes for a tile of shape `out`, what it returns included."""
    read, made = math.prod(problem.block_shape(out)), math.prod(out)
    return 16 * (problem.in_channels * read + (problem.out_channels + 1) * made) + 4 * (read + made)


def _check_shapes(problem: ConvProblem, window: Window, target: npt.NDArray[Any], counted: Flags | None) -> None:
    if target.ndim != 4 or target.shape[0] != problem.out_channels:
        raise ShapeError(
            f"the target of a tile has shape {target.shape}; legal: ({problem.out_channels}, d, h, w), one channel for "
            f"each output channel"
        )
    out: Triple = target.shape[1], target.shape[2], target.shape[3]
    wanted = (problem.in_channels, *problem.block_shape(out))
    if (window.voxels.shape[0], *window.region.shape) != wanted:
        raise ShapeError(
            f"a target of {out} voxels is computed from an input of shape {wanted} (C, d, h, w) with its pads, not "
            f"{(window.voxels.shape[0], *window.region.shape)}"
        )
    if counted is not None and (counted.shape != out or counted.dtype != np.bool_):
        raise ShapeError(
            f"what counts of a target of {out} voxels must be bool of that shape, not {counted.dtype} of shape "
            f"{counted.shape}"
        )


def _about_mean(block: npt.NDArray[Any], used: Flags) -> tuple[Array, Array]:
    """Return a block (C, d, h, w) in float64 about the mean of each channel where it is used, 0 elsewhere."""
    values = np.where(used, block, 0.0).astype(np.float64, copy=False)
    count = max(1, int(np.count_nonzero(used)))
    centre = np.array([channel.sum() / count for channel in values], np.float64)
    for channel, mean in zip(values, centre, strict=True):
        np.subtract(channel, mean, out=channel, where=used)
    return values, centre


def _all_read(problem: ConvProblem, flags: Flags, out: tuple[int, ...]) -> Flags:
    """Return (d', h', w') whether all that an output voxel reads of a block is flagged, axis by axis."""
    if flags.all():
        return np.ones(out, np.bool_)
    for axis, count in enumerate(out):
        along = np.moveaxis(flags, axis, 0)
        taps = _taps(problem, axis, count)
        flags = np.moveaxis(np.logical_and.reduce([along[tap] for tap in taps]), 0, axis)
    return flags


def _read_by(problem: ConvProblem, outputs: Flags, block: tuple[int, ...]) -> Flags:
    """Return (d, h, w) whether a voxel of a block is read by a flagged output voxel, axis by axis."""
    flags = outputs
    for axis, size in enumerate(block):
        along = np.moveaxis(flags, axis, 0)
        spread = np.zeros((size, *along.shape[1:]), np.bool_)
        for tap in _taps(problem, axis, along.shape[0]):
            spread[tap] |= along
        flags = np.moveaxis(spread, 0, axis)
    return flags


def _taps(problem: ConvProblem, axis: int, count: int) -> list[slice]:
    """Return, for each tap of an axis, the voxels of a block that it reads for `count` outputs."""
    stride, dilation = problem.stride[axis], problem.dilation[axis]
    firsts = [tap * dilation for tap in range(problem.kernel_size[axis])]
    return [slice(first, first + (count - 1) * stride + 1, stride) for first in firsts]
