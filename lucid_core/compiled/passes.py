"""One tile of a separable filter: a pass along W, then H, then D, plane by plane (compiled by Numba)."""

from typing import Any

import numpy as np

from lucid_core.compiled.convolve import copy_rows, places
from lucid_core.compiled.jit import compiled, inner
from lucid_core.compiled.microkernel import sweep
from lucid_core.compiled.packing import address, copy, itemsize_of, pack_plane


@compiled
def passes(
    number: Any,
    along_w: Any,
    along_h: Any,
    along_d: Any,
    voxels: Any,
    voxel_steps: Any,
    positions: Any,
    inside: Any,
    rows: Any,
    packed: Any,
    smooth: Any,
    stack: Any,
    width: Any,
    tile: Any,
    strip_out: Any,
    spacing: Any,
    out: Any,
    out_steps: Any,
    vectors: Any,
    starts: Any,
    targets: Any,
    buffer: Any,
    streamed: Any,
    offsets: Any,
    factors: Any,
    share: Any,
    bias: Any,
) -> None:
    """Filter the channels of a tile of shape `tile`, in strips of `strip_out` (H, W); the last ones overlap.

    A plane of `rows` padded rows of `width` values is `packed`, summed along W into `smooth`, along H into the next
    plane of the `stack` (planes, values), and planes of the stack are summed along D, several output planes at once.
    When the stack is full, the planes that are still read move to its beginning.

    `along_w`, `along_h` and `along_d` are the R and V of a pass, as two tuples of that length. `vectors` are the byte
    offsets of the vectors of a plane for the passes along W and H; `starts` those of the outputs, `targets` where
    they are stored, in `buffer` (R, values) unless that is empty. `offsets` (W, H, D) are those of the taps; `factors`
    (channels, taps along D, H, W); `share` is the output channels that read the same input channel.
    """
    itemsize = itemsize_of(number)
    plane_size = stack.strides[0]
    taps_h, taps_d = len(offsets[1]), len(offsets[2])
    together = len(along_d[0])
    kept = taps_d + together - 2
    places_d = np.empty((1, taps_d - 1 + tile[0]), np.int64)
    places_h = np.empty((1, rows), np.int64)
    phase, nothing = np.zeros(1, np.int64), np.zeros(1, stack.dtype)
    buffered = buffer.size > 0
    steps = (spacing * out_steps[1], 0, out_steps[2])
    row_step = buffer.strides[0] if buffered else steps[0]
    for h in range(0, tile[1], strip_out[0]):
        h = min(h, tile[1] - strip_out[0])
        places(positions[1], h, 1, phase, places_h)
        for w in range(0, tile[2], strip_out[1]):
            w = min(w, tile[2] - strip_out[1])
            for channel in range(len(factors)):
                taps = address(factors[channel])
                source = voxels + channel // share * voxel_steps[0]
                for residue in range(min(spacing, tile[0])):
                    places(positions[0], residue, spacing, phase, places_d)
                    count = (tile[0] - residue + spacing - 1) // spacing + taps_d - 1
                    base = done = 0
                    for plane in range(count):
                        if plane - base == len(stack):
                            copy(number, address(stack[len(stack) - kept]), address(stack), kept * stack.shape[1])
                            base = plane - kept
                        pack_plane(
                            number,
                            source + places_d[0, plane] * voxel_steps[1],
                            voxel_steps,
                            places_d[0, plane] < 0,
                            places_h,
                            positions[2],
                            w,
                            inside,
                            1,
                            phase,
                            address(packed),
                            0,
                            (1, 1, 1, rows, width),
                            spacing * voxel_steps[1] if plane + 1 < count else 0,
                        )
                        _pass(
                            number,
                            along_w,
                            address(packed),
                            vectors[0],
                            address(smooth),
                            vectors[0],
                            0,
                            False,
                            offsets[0],
                            0,
                            taps + (taps_d + taps_h) * itemsize,
                            address(nothing),
                        )
                        _pass(
                            number,
                            along_h,
                            address(smooth),
                            vectors[1],
                            address(stack) + (plane - base) * plane_size,
                            vectors[1],
                            width * itemsize,
                            False,
                            offsets[1],
                            width * itemsize,
                            taps + taps_d * itemsize,
                            address(nothing),
                        )
                        ready = plane + 2 - taps_d
                        if ready - done < together and (plane + 1 < count or ready <= done):
                            continue
                        done = ready
                        first = ready - together
                        d = residue + first * spacing
                        target = out + channel * out_steps[0] + d * out_steps[1] + h * out_steps[2] + w * itemsize
                        _pass(
                            number,
                            along_d,
                            address(stack) + (first - base) * plane_size,
                            starts,
                            address(buffer) if buffered else target,
                            targets,
                            row_step,
                            streamed and not buffered and (target | row_step | out_steps[2]) % 64 == 0,
                            offsets[2],
                            plane_size,
                            taps,
                            address(bias) + channel * itemsize,
                        )
                        if buffered:
                            copy_rows(number, buffer, width * itemsize, strip_out, target, steps)


@inner
def _pass(
    number: Any,
    along: Any,
    source: Any,
    starts: Any,
    target: Any,
    targets: Any,
    row_step: Any,
    streamed: Any,
    offsets: Any,
    pitch: Any,
    taps: Any,
    bias: Any,
) -> None:
    """Correlate vectors with a 1-D kernel, its taps at `offsets`, which are `pitch` apart where R is more than 1."""
    sweep(
        number,
        (0,),
        along[0],
        along[1],
        source,
        address(starts),
        len(starts),
        target,
        address(targets),
        (0, row_step),
        streamed,
        address(offsets),
        (1, 0, 1, 0, len(offsets), len(offsets), 1),
        pitch,
        taps,
        bias,
        True,
    )
