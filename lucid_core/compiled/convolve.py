"""One tile, strip by strip and plane by plane: pack, multiply, store (compiled by Numba)."""

from typing import Any

import numpy as np

from lucid_core.compiled.jit import compiled, inner
from lucid_core.compiled.microkernel import sweep
from lucid_core.compiled.packing import address, copy, itemsize_of, pack_plane


@inner
def places(positions: Any, first: Any, stride: Any, phases: Any, found: Any) -> None:
    """Find the voxel at each step of each phase, `found` (phases, steps), from position `first` on; -1 for zeros."""
    for phase in range(found.shape[0]):
        for step in range(found.shape[1]):
            at = first + phases[phase] + stride * step
            found[phase, step] = positions[at] if at < len(positions) else -1


@inner
def reading(places: Any, taps: Any, first: Any, last: Any) -> Any:
    """Return the first and one past the last of the taps that read a voxel from the outputs `first` to `last`.

    `places` (phases, steps) as `places` finds them, `taps` (K, 2) the step and phase of each tap. Never none.
    """
    low, high = 0, len(taps)
    while low < high - 1 and _in_border(places, taps[low], first, last):
        low += 1
    while low < high - 1 and _in_border(places, taps[high - 1], first, last):
        high -= 1
    return low, high


@inner
def _in_border(places: Any, tap: Any, first: Any, last: Any) -> Any:
    """Say whether a tap reads zeros of the border only."""
    zeros = True
    for out in range(first, last + 1):
        zeros = zeros and places[tap[1], out + tap[0]] < 0
    return zeros


@inner
def part(starts: Any, together: Any, pitch: Any, last: Any, places_h: Any, taps: Any, runs: Any) -> Any:
    """Part groups of vectors into `runs` (first, end, low, high) of the same taps along H; return their number.

    `starts` are the bytes where the vectors begin, rows `pitch` apart, `last` being the last row. A tap is left out
    only where no vector of the group reads a voxel by it; vectors are taken for the widest there are.
    """
    count = 0
    for first in range(0, len(starts), together):
        end = first + together
        row = min(starts[first] // pitch, last)
        low, high = reading(places_h, taps, row, min((starts[end - 1] + 63) // pitch, last))
        if count == 0 or runs[count - 1, 2] != low or runs[count - 1, 3] != high:
            runs[count] = first, end, low, high
            count += 1
        runs[count - 1, 1] = end
    return count


@inner
def copy_rows(number: Any, buffer: Any, pitch: Any, shape: Any, out: Any, out_steps: Any) -> None:
    """Copy rows of outputs from the buffer (channels, vectors), rows `pitch` bytes apart, to the output."""
    for channel in range(buffer.shape[0]):
        for h in range(shape[0]):
            target = out + channel * out_steps[0] + h * out_steps[2]
            copy(number, address(buffer) + channel * buffer.strides[0] + h * pitch, target, shape[1])


@inner
def _extents(rows: Any, channels: Any, along_d: Any, along_h: Any, kernel: Any) -> Any:
    """Return which terms (channel, K_D, K_H, K_W) to sum, as `sweep` wants them: as few loops as do."""
    planes, plane_terms = along_d[1] - along_d[0], kernel[1] * kernel[2]
    terms, channel_terms = (along_h[1] - along_h[0]) * kernel[2], kernel[0] * plane_terms
    if rows > 1:
        planes *= channels
    elif terms == plane_terms:
        planes, terms = 1, terms * planes
        if terms == channel_terms:
            channels, terms = 1, terms * channels
    return channels, channel_terms, planes, plane_terms, terms, kernel[1], kernel[2]


@compiled
def convolve(
    number: Any,
    channels: Any,
    rows: Any,
    columns: Any,
    voxels: Any,
    voxel_steps: Any,
    positions: Any,
    inside: Any,
    strides: Any,
    phases: Any,
    strip: Any,
    tile: Any,
    strip_out: Any,
    spacing: Any,
    out: Any,
    out_steps: Any,
    starts: Any,
    targets: Any,
    buffer: Any,
    streamed: Any,
    offsets: Any,
    kernel: Any,
    taps: Any,
    skipping: Any,
    weights: Any,
    bias: Any,
    firsts: Any,
) -> None:
    """Compute the output voxels of a tile of shape `tile`, in strips of `strip_out` (H, W); the last ones overlap.

    A strip (channels, phases D, planes, phases H, phases W, rows, width) goes along D, over output planes that are
    `spacing` apart; each packs the planes that the one before it had not, over those no longer read.

    Shapes: offsets (planes, terms), a row for each place of the first plane among those of the strip; weights, an
    address, (groups, blocks, terms, M) and bias (groups, blocks, M) for M = len(channels); firsts (blocks + 1,) the
    first channel of a block in its group, and last the channels of a group; buffer (M, vectors), empty where vectors
    are stored at once; `streamed`, whether they may be stored past the caches. Steps, starts, targets and offsets are
    in bytes. `kernel` is (K_D, K_H, K_W); `taps`, those along D and H (K, 2), step and phase. With `skipping`, R
    being 1, taps that read zeros of the border only are left out.
    """
    itemsize = itemsize_of(number)
    share, phases_d, planes, phases_h, phases_w, height, width = strip.shape
    places_d = np.empty((phases_d, planes - 1 + tile[0]), np.int64)
    places_h = np.empty((phases_h, height), np.int64)
    groups, blocks, made = bias.shape
    plane_size = phases_h * phases_w * height * width * itemsize
    plane_terms = kernel[1] * kernel[2]
    channel_terms = kernel[0] * plane_terms
    block_size = share * channel_terms * made * itemsize
    runs = np.empty((len(starts), 4), np.int64)
    runs[0] = 0, len(starts), 0, kernel[1]
    parts = 1
    buffered = buffer.size > 0
    streamed = streamed and not buffered
    steps = (buffer.strides[0] if buffered else out_steps[0], out_steps[2])
    for h in range(0, tile[1], strip_out[0]):
        h = min(h, tile[1] - strip_out[0])
        places(positions[1], h * strides[1], strides[1], phases[1], places_h)
        if skipping:
            parts = part(starts, len(columns), width * itemsize, strip_out[0] - 1, places_h, taps[1], runs)
        for w in range(0, tile[2], strip_out[1]):
            w = min(w, tile[2] - strip_out[1])
            for group in range(groups):
                for residue in range(min(spacing, tile[0])):
                    places(positions[0], residue * strides[0], spacing * strides[0], phases[0], places_d)
                    for step, d in enumerate(range(residue, tile[0], spacing)):
                        for plane in range(step + planes - 1 if step else 0, step + planes):
                            for phase in range(phases_d):
                                pack_plane(
                                    number,
                                    voxels + group * share * voxel_steps[0] + places_d[phase, plane] * voxel_steps[1],
                                    voxel_steps,
                                    places_d[phase, plane] < 0,
                                    places_h,
                                    positions[2],
                                    w * strides[2],
                                    inside,
                                    strides[2],
                                    phases[2],
                                    address(strip) + (phase * planes + plane % planes) * plane_size,
                                    phases_d * planes * plane_size,
                                    (share, phases_h, phases_w, height, width),
                                    strides[0] * spacing * voxel_steps[1] if d + spacing < tile[0] else 0,
                                )
                        low, high = reading(places_d, taps[0], step, step) if skipping else (0, kernel[0])
                        for block in range(blocks):
                            channel = group * firsts[-1] + firsts[block]
                            target = out + channel * out_steps[0] + d * out_steps[1] + h * out_steps[2] + w * itemsize
                            for first, end, top, bottom in runs[:parts]:
                                term = low * plane_terms + top * kernel[2]
                                sweep(
                                    number,
                                    channels,
                                    rows,
                                    columns,
                                    address(strip),
                                    address(starts) + 8 * first,
                                    end - first,
                                    address(buffer) if buffered else target,
                                    address(targets) + 8 * first,
                                    steps,
                                    streamed and (target | steps[0] | steps[1]) % 64 == 0,
                                    address(offsets[step % planes]) + 8 * term,
                                    _extents(len(rows), share, (low, high), (top, bottom), kernel),
                                    width * itemsize,
                                    weights + (group * blocks + block) * block_size + term * made * itemsize,
                                    address(bias[group, block]),
                                    not skipping,
                                )
                            if buffered:
                                copy_rows(number, buffer, width * itemsize, strip_out, target, out_steps)
