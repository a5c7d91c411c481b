"""One tile of a separable filter: a pass along W, then H, then D, plane by plane (compiled by Numba)."""

from typing import Any

import numpy as np

from lucid_core.compiled.convolve import copy_rows, places
from lucid_core.compiled.jit import compiled, inner
from lucid_core.compiled.microkernel import sweep
from lucid_core.compiled.packing import address, itemsize_of, pack_plane


@compiled
def passes(
    number: Any,
    columns: Any,
    voxels: Any,
    voxel_steps: Any,
    positions: Any,
    inside: Any,
    rows: Any,
    packed: Any,
    smooth: Any,
    ring: Any,
    shape: Any,
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

    A plane of `rows` padded rows is `packed`, summed along W into `smooth`, along H into a plane of the `ring`
    (planes, values), which has the `shape` (rows, width), and the planes of the ring are summed along D.

    `vectors` are the byte offsets of the vectors of a plane of padded rows, and of one of output rows; `starts` those
    of the outputs, `targets` where they are stored, in `buffer` unless that is empty. `offsets` (W, H, and D for each
    place of the first plane in the ring) are those of the taps; `factors` (channels, taps along D, H, W); `share` is
    the output channels that read the same input channel.
    """
    itemsize = itemsize_of(number)
    planes, plane_size = len(ring), ring.strides[0]
    width = shape[1]
    taps_h, taps_d = len(offsets[1]), offsets[2].shape[1]
    places_d = np.empty((1, planes - 1 + tile[0]), np.int64)
    places_h = np.empty((1, rows), np.int64)
    phase, nothing = np.zeros(1, np.int64), np.zeros(1, ring.dtype)
    buffered = buffer.size > 0
    for h in range(0, tile[1], strip_out[0]):
        h = min(h, tile[1] - strip_out[0])
        places(positions[1], h, 1, phase, places_h)
        for w in range(0, tile[2], strip_out[1]):
            w = min(w, tile[2] - strip_out[1])
            for channel in range(len(factors)):
                taps = address(factors[channel])
                for residue in range(min(spacing, tile[0])):
                    places(positions[0], residue, spacing, phase, places_d)
                    for step, d in enumerate(range(residue, tile[0], spacing)):
                        for plane in range(step + planes - 1 if step else 0, step + planes):
                            pack_plane(
                                number,
                                voxels + channel // share * voxel_steps[0] + places_d[0, plane] * voxel_steps[1],
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
                                spacing * voxel_steps[1] if d + spacing < tile[0] else 0,
                            )
                            _pass(
                                number,
                                columns,
                                address(packed),
                                address(smooth),
                                vectors[0],
                                offsets[0],
                                taps + (taps_d + taps_h) * itemsize,
                                nothing,
                            )
                            _pass(
                                number,
                                columns,
                                address(smooth),
                                address(ring) + plane % planes * plane_size,
                                vectors[1],
                                offsets[1],
                                taps + taps_d * itemsize,
                                nothing,
                            )
                        target = out + channel * out_steps[0] + d * out_steps[1] + h * out_steps[2] + w * itemsize
                        sweep(
                            number,
                            (0,),
                            (0,),
                            columns,
                            address(ring),
                            address(starts),
                            len(starts),
                            address(buffer) if buffered else target,
                            address(targets),
                            (0, 0),
                            streamed and not buffered and (target | out_steps[2]) % 64 == 0,
                            address(offsets[2][step % planes]),
                            (1, 0, 1, 0, taps_d, 1, 1),
                            0,
                            taps,
                            address(bias) + channel * itemsize,
                            True,
                        )
                        if buffered:
                            copy_rows(number, buffer, width * itemsize, strip_out, target, out_steps)


@inner
def _pass(
    number: Any,
    columns: Any,
    source: Any,
    target: Any,
    vectors: Any,
    offsets: Any,
    taps: Any,
    nothing: Any,
) -> None:
    """Correlate the vectors of a plane with a 1-D kernel, its taps at `offsets`."""
    sweep(
        number,
        (0,),
        (0,),
        columns,
        source,
        address(vectors),
        len(vectors),
        target,
        address(vectors),
        (0, 0),
        False,
        address(offsets),
        (1, 0, 1, 0, len(offsets), 1, 1),
        0,
        taps,
        address(nothing),
        True,
    )
