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
def copy_rows(number: Any, buffer: Any, pitch: Any, shape: Any, out: Any, out_steps: Any) -> None:
    """Copy rows of outputs from the buffer (channels, vectors), rows `pitch` bytes apart, to the output."""
    for channel in range(buffer.shape[0]):
        for h in range(shape[0]):
            target = out + channel * out_steps[0] + h * out_steps[2]
            copy(number, address(buffer) + channel * buffer.strides[0] + h * pitch, target, shape[1])


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
    in bytes.
    """
    itemsize = itemsize_of(number)
    share, phases_d, planes, phases_h, phases_w, height, width = strip.shape
    places_d = np.empty((phases_d, planes - 1 + tile[0]), np.int64)
    places_h = np.empty((phases_h, height), np.int64)
    groups, blocks, made = bias.shape
    plane_size = phases_h * phases_w * height * width * itemsize
    block_size = kernel[0] * made * itemsize
    buffered = buffer.size > 0
    streamed = streamed and not buffered
    steps = (buffer.strides[0] if buffered else out_steps[0], out_steps[2])
    for h in range(0, tile[1], strip_out[0]):
        h = min(h, tile[1] - strip_out[0])
        places(positions[1], h * strides[1], strides[1], phases[1], places_h)
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
                        for block in range(blocks):
                            channel = group * firsts[-1] + firsts[block]
                            target = out + channel * out_steps[0] + d * out_steps[1] + h * out_steps[2] + w * itemsize
                            sweep(
                                number,
                                channels,
                                rows,
                                columns,
                                address(strip),
                                address(starts),
                                len(starts),
                                address(buffer) if buffered else target,
                                address(targets),
                                steps,
                                streamed and (target | steps[0] | steps[1]) % 64 == 0,
                                address(offsets[step % planes]),
                                kernel,
                                width * itemsize,
                                weights + (group * blocks + block) * block_size,
                                address(bias[group, block]),
                            )
                            if buffered:
                                copy_rows(number, buffer, width * itemsize, strip_out, target, out_steps)
