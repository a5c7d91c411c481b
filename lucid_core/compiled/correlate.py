"""The weight's gradient of one box of outputs, panel by panel (compiled by Numba)."""

from typing import Any

from lucid_core.compiled.jit import compiled, inner
from lucid_core.compiled.packing import address, itemsize_of, lanes_of, line
from lucid_core.compiled.products import along_channels, along_voxels, total

AT_ONCE = 16
"""Outputs whose channels are packed together: their lines stay in the first cache."""


@compiled
def correlate_voxels(
    number: Any,
    made: Any,
    terms: Any,
    grad: Any,
    grad_steps: Any,
    voxels: Any,
    voxel_steps: Any,
    box: Any,
    rows: Any,
    firsts: Any,
    offsets: Any,
    sums: Any,
) -> None:
    """Sum with vectors along rows of outputs.

    Addresses: `grad`, with the steps in bytes to the next channel, plane and row; `voxels`, of what the first output
    reads by an offset of 0, with the steps to the next group, to the next output along D and H, and from vector to
    vector. `box` is the outputs along D, H, W, `rows` those of a panel; `firsts` (blocks + 1,) the first channel of a
    block of M = len(made) in its group, and last the channels of a group; `offsets` (parts, T) in bytes; `sums`
    (groups, blocks, parts, whole vectors of T M) of float64.
    """
    groups, blocks, parts, _ = sums.shape
    for group in range(groups):
        for d in range(box[0]):
            for h in range(0, box[1], rows):
                source = voxels + group * voxel_steps[0] + d * voxel_steps[1] + h * voxel_steps[2]
                for block in range(blocks):
                    channel = group * firsts[-1] + firsts[block]
                    values = grad + channel * grad_steps[0] + d * grad_steps[1] + h * grad_steps[2]
                    for part in range(parts):
                        along_voxels(
                            number,
                            made,
                            terms,
                            values,
                            grad_steps[0],
                            grad_steps[2],
                            source,
                            voxel_steps[2],
                            voxel_steps[3],
                            min(rows, box[1] - h),
                            box[2],
                            address(offsets[part]),
                            address(sums[group, block, part]),
                        )


@inner
def _pack(number: Any, grad: Any, steps: Any, channels: Any, shape: Any, packed: Any, lanes: Any) -> None:
    """Put `channels` channels of rows of outputs, `shape` (rows, width), side by side, `lanes` an output."""
    itemsize = itemsize_of(number)
    for row in range(shape[0]):
        for first in range(0, shape[1], AT_ONCE):
            count = min(AT_ONCE, shape[1] - first)
            target = line(number, packed + (row * shape[1] + first) * lanes * itemsize, count * lanes)
            for channel in range(channels):
                source = grad + channel * steps[0] + row * steps[2] + first * itemsize
                values = line(number, source, count)
                for at in range(count):
                    target[at * lanes + channel] = values[at]


@compiled
def correlate_channels(
    number: Any,
    made: Any,
    terms: Any,
    grad: Any,
    grad_steps: Any,
    voxels: Any,
    voxel_steps: Any,
    box: Any,
    rows: Any,
    firsts: Any,
    offsets: Any,
    sums: Any,
    packed: Any,
) -> None:
    """Sum with vectors along output channels.

    As `correlate_voxels`, with M vectors of channels a block, of which the last one may have fewer channels; the last
    of `voxel_steps` is to the next output along W, and `sums` is (groups, blocks, parts, T * M vectors). `packed`, for
    the channels of a block at all outputs of a panel, holds zeros.
    """
    groups, blocks, parts, _ = sums.shape
    lanes = packed.shape[1]
    pitch = box[2] * lanes * itemsize_of(number)
    for group in range(groups):
        for d in range(box[0]):
            for h in range(0, box[1], rows):
                source = voxels + group * voxel_steps[0] + d * voxel_steps[1] + h * voxel_steps[2]
                height = min(rows, box[1] - h)
                for block in range(blocks):
                    channel = group * firsts[-1] + firsts[block]
                    values = grad + channel * grad_steps[0] + d * grad_steps[1] + h * grad_steps[2]
                    count = firsts[block + 1] - firsts[block]
                    _pack(number, values, grad_steps, count, (height, box[2]), address(packed), lanes)
                    for part in range(parts):
                        along_channels(
                            number,
                            made,
                            terms,
                            address(packed),
                            0,
                            pitch,
                            source,
                            voxel_steps[2],
                            voxel_steps[3],
                            height,
                            box[2],
                            address(offsets[part]),
                            address(sums[group, block, part]),
                        )


@compiled
def channel_totals(number: Any, grad: Any, steps: Any, shape: Any, totals: Any) -> None:
    """Add to `totals` (O,), float64, the sum of each channel of `shape` (planes, rows, width).

    `grad` is an address, `steps` the bytes to the next channel, plane and row.
    """
    lanes = lanes_of(number)
    whole = shape[2] // lanes
    for channel in range(len(totals)):
        for d in range(shape[0]):
            for h in range(shape[1]):
                row = grad + channel * steps[0] + d * steps[1] + h * steps[2]
                if whole:
                    totals[channel] += total(number, row, whole)
                values = line(number, row, shape[2])
                for at in range(whole * lanes, shape[2]):
                    totals[channel] += values[at]
