"""One tile by F(2,3) along H and W: strips of transformed voxels, sixteen products, transformed back (by Numba).

For one axis (Lavin and Gray, CVPR 2016), with d four voxels, g three taps and y two outputs:

    voxels   d0 - d2,  d1 + d2,  d2 - d1,  d1 - d3
    taps     g0,  (g0 + g1 + g2) / 2,  (g0 - g1 + g2) / 2,  g2
    outputs  m0 + m1 + m2,  m1 - m2 - m3
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from lucid_core.compiled.convolve import places
from lucid_core.compiled.emitter import BYTES, INT, Emitter
from lucid_core.compiled.jit import compiled, inner
from lucid_core.compiled.microkernel import sweep
from lucid_core.compiled.packing import address, copy, itemsize_of, line, pack_plane


@compiled
def largest(integers: Any, voxels: Any, steps: Any, shape: Any, mask: Any) -> Any:
    """Return the bits of the largest magnitude of a box (C, d, h, w); those of Inf and NaN are above all others."""
    found = integers
    for channel in range(shape[0]):
        for d in range(shape[1]):
            for h in range(shape[2]):
                row = line(integers, voxels + channel * steps[0] + d * steps[1] + h * steps[2], shape[3])
                for at in range(shape[3]):
                    found = max(found, row[at] & mask)
    return found


@intrinsic  # type: ignore[untyped-decorator]
def _along_rows(_: Any, number: Any, row: Any, target: Any, step: Any, count: Any) -> Any:
    """Transform a row of voxels along W into four rows of `count` tiles, `step` bytes apart."""

    def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        _, row, target, step, count = arguments
        emit = Emitter(builder, number)

        def transform(at: Any) -> None:
            first = builder.inttoptr(builder.add(row, builder.mul(at, INT(2 * emit.itemsize))), BYTES)
            pairs = [(emit.at(first, INT(shift)), emit.at(first, INT(shift + emit.lanes))) for shift in (0, 2)]
            voxels = [emit.alternate(*pair, odd) for pair in pairs for odd in (0, 1)]
            place = builder.add(target, builder.mul(at, INT(emit.itemsize)))
            for part, value in enumerate(_voxels(emit, *voxels)):
                emit.store(value, builder.add(place, builder.mul(step, INT(part))))

        emit.vectors(count, transform)
        return context.get_dummy_value()

    return types.void(number, row, target, step, count), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _along_columns(_: Any, number: Any, rows: Any, row_step: Any, target: Any, step: Any, count: Any) -> Any:
    """Transform four rows of `count` numbers along H into four, `step` bytes apart."""

    def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        _, rows, row_step, target, step, count = arguments
        emit = Emitter(builder, number)
        sources = [builder.inttoptr(builder.add(rows, builder.mul(row_step, INT(row))), BYTES) for row in range(4)]

        def transform(at: Any) -> None:
            place = builder.add(target, builder.mul(at, INT(emit.itemsize)))
            for part, value in enumerate(_voxels(emit, *(emit.at(source, at) for source in sources))):
                emit.store(value, builder.add(place, builder.mul(step, INT(part))))

        emit.vectors(count, transform)
        return context.get_dummy_value()

    return types.void(number, rows, row_step, target, step, count), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _back(_: Any, number: Any, products: Any, step: Any, out: Any, row_step: Any, bias: Any, count: Any) -> Any:
    """Transform sixteen rows of `count` products, `step` bytes apart, into two rows of outputs, and add the bias."""

    def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        _, products, step, out, row_step, bias, count = arguments
        emit = Emitter(builder, number)
        sources = [builder.inttoptr(builder.add(products, builder.mul(step, INT(part))), BYTES) for part in range(16)]
        offset = emit.spread(bias)

        def transform(at: Any) -> None:
            parts = [emit.at(source, at) for source in sources]
            columns = [_outputs(emit, *parts[across::4]) for across in range(4)]
            for down in range(2):
                even, odd = _outputs(emit, *(column[down] for column in columns))
                place = builder.add(out, builder.mul(row_step, INT(down)))
                place = builder.add(place, builder.mul(at, INT(2 * emit.itemsize)))
                for half, value in enumerate(emit.interleave(emit.add(even, offset), emit.add(odd, offset))):
                    emit.store(value, builder.add(place, INT(half * emit.lanes * emit.itemsize)))

        emit.vectors(count, transform)
        return context.get_dummy_value()

    return types.void(number, products, step, out, row_step, bias, count), codegen


def _voxels(emit: Emitter, d0: Any, d1: Any, d2: Any, d3: Any) -> tuple[Any, Any, Any, Any]:
    """Transform four voxels."""
    return emit.subtract(d0, d2), emit.add(d1, d2), emit.subtract(d2, d1), emit.subtract(d1, d3)


def _outputs(emit: Emitter, m0: Any, m1: Any, m2: Any, m3: Any) -> tuple[Any, Any]:
    """Transform four products into two outputs."""
    return emit.add(emit.add(m0, m1), m2), emit.subtract(emit.subtract(m1, m2), m3)


@inner
def _transform(number: Any, packed: Any, along: Any, strip: Any, channel: Any, plane: Any) -> None:
    """Transform a padded plane `packed` (rows, width) into the strip, by way of `along` (rows, 4, tiles)."""
    tiles_h, tiles_w = strip.shape[3:]
    for row in range(2 * tiles_h + 2):
        _along_rows(number, address(packed[row]), address(along[row]), along.strides[1], tiles_w)
    for across in range(4):
        for tile in range(tiles_h):
            target = address(strip[across, channel, plane, tile])
            _along_columns(
                number, address(along[2 * tile, across]), along.strides[0], target, 4 * strip.strides[0], tiles_w
            )


@compiled
def winograd(
    number: Any,
    channels: Any,
    columns: Any,
    voxels: Any,
    voxel_steps: Any,
    positions: Any,
    inside: Any,
    packed: Any,
    along: Any,
    strip: Any,
    products: Any,
    edge: Any,
    tile: Any,
    strip_out: Any,
    spacing: Any,
    out: Any,
    out_steps: Any,
    starts: Any,
    offsets: Any,
    weights: Any,
    bias: Any,
    firsts: Any,
) -> None:
    """Compute the output voxels of a tile, in strips of `strip_out` (H, W), both even.

    Shapes: packed (rows, width) one padded plane of a channel; along (rows, 4, tiles); strip (16, channels, planes,
    tile rows, tiles), at least a vector of tiles; products (16, M, vectors); weights, an address, (groups, blocks, 16,
    terms, M); offsets (planes, terms); the rest as in `convolve`. A strip that reaches out of the tile is computed into
    `edge`, of its size, and copied.
    """
    itemsize = itemsize_of(number)
    _, share, planes, tiles_h, tiles_w = strip.shape
    terms = offsets.shape[1]
    groups, blocks, made = bias.shape
    places_d = np.empty((1, planes - 1 + tile[0]), np.int64)
    places_h = np.empty((1, packed.shape[0]), np.int64)
    phase, nothing = np.zeros(1, np.int64), np.zeros(made, strip.dtype)
    size = terms * made * itemsize
    for h in range(0, tile[1], strip_out[0]):
        places(positions[1], h, 1, phase, places_h)
        for w in range(0, tile[2], strip_out[1]):
            whole = h + strip_out[0] <= tile[1] and w + strip_out[1] <= tile[2]
            for group in range(groups):
                for residue in range(min(spacing, tile[0])):
                    places(positions[0], residue, spacing, phase, places_d)
                    for step, d in enumerate(range(residue, tile[0], spacing)):
                        for plane in range(step + planes - 1 if step else 0, step + planes):
                            for channel in range(share):
                                pack_plane(
                                    number,
                                    voxels
                                    + (group * share + channel) * voxel_steps[0]
                                    + places_d[0, plane] * voxel_steps[1],
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
                                    (1, 1, 1, packed.shape[0], packed.shape[1]),
                                    spacing * voxel_steps[1] if d + spacing < tile[0] else 0,
                                )
                                _transform(number, packed, along, strip, channel, plane % planes)
                        for block in range(blocks):
                            channel = group * firsts[-1] + firsts[block]
                            target = out + channel * out_steps[0] + d * out_steps[1] + h * out_steps[2] + w * itemsize
                            for part in range(16):
                                sweep(
                                    number,
                                    channels,
                                    (0,),
                                    columns,
                                    address(strip[part]),
                                    address(starts),
                                    len(starts),
                                    address(products[part]),
                                    address(starts),
                                    (products.strides[1], 0),
                                    False,
                                    address(offsets[step % planes]),
                                    (1, 0, 1, 0, terms, 1, 1),
                                    0,
                                    weights + ((group * blocks + block) * 16 + part) * size,
                                    address(nothing),
                                    True,
                                )
                            for one in range(made):
                                placed = target + one * out_steps[0] if whole else address(edge)
                                row_step = out_steps[2] if whole else edge.strides[0]
                                for row in range(tiles_h):
                                    _back(
                                        number,
                                        address(products[0, one, row * tiles_w :]),
                                        products.strides[0],
                                        placed + 2 * row * row_step,
                                        row_step,
                                        address(bias[group, block, one:]),
                                        tiles_w,
                                    )
                                if not whole:
                                    for row in range(min(strip_out[0], tile[1] - h)):
                                        copy(
                                            number,
                                            address(edge[row]),
                                            target + one * out_steps[0] + row * out_steps[2],
                                            min(strip_out[1], tile[2] - w),
                                        )
