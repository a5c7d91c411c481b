"""Packing: a strip gathered from the volume, with its border and the phases of its stride (compiled by Numba)."""

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from lucid_core.compiled.emitter import BYTES, INT, Emitter
from lucid_core.compiled.jit import inner
from lucid_core.compiled.strips import lanes


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_: Any, number: Any, address: Any) -> Any:
    """Turn an address into a pointer to numbers."""
    pointer = types.CPointer(number)

    def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[1], context.get_value_type(pointer))

    return pointer(number, address), codegen


@intrinsic  # type: ignore[untyped-decorator]
def itemsize_of(_: Any, number: Any) -> Any:
    """Return the bytes of a number, a constant."""

    def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return context.get_constant(types.int64, number.bitwidth // 8)

    return types.int64(number), codegen


@inner
def address(array: Any) -> Any:
    """Return where an array begins."""
    return np.int64(array.ctypes.data)


@inner
def line(number: Any, address: Any, count: Any) -> Any:
    """View `count` numbers at an address."""
    return numba.carray(_pointer(number, address), (count,))


@intrinsic  # type: ignore[untyped-decorator]
def _copy_vectors(_: Any, number: Any, source: Any, target: Any, count: Any) -> Any:
    """Copy `count` numbers, at least one vector, from one address to another; the last vector overlaps."""

    def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        _, source, target, count = arguments
        emit = Emitter(builder, number)

        def move(at: Any) -> None:
            values = emit.at(builder.inttoptr(source, BYTES), at)
            emit.store(values, builder.add(target, builder.mul(at, INT(emit.itemsize))))

        emit.vectors(count, move)
        return context.get_dummy_value()

    return types.void(number, source, target, count), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _prefetch(_: Any, address: Any, lines: Any) -> Any:
    """Ask for cache lines that are read soon."""

    def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        address, lines = arguments
        emit = Emitter(builder, types.float32)

        def step(index: Any, _: list[Any]) -> list[Any]:
            emit.prefetch(builder.add(address, builder.mul(index, INT(64))))
            return []

        emit.loop(lines, [], step)
        return context.get_dummy_value()

    return types.void(address, lines), codegen


@intrinsic  # type: ignore[untyped-decorator]
def lanes_of(_: Any, number: Any) -> Any:
    """Return how many numbers a vector holds, a constant."""

    def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return context.get_constant(types.int64, lanes(number.bitwidth // 8))

    return types.int64(number), codegen


@inner
def copy(number: Any, source: Any, target: Any, count: Any) -> None:
    """Copy `count` numbers from one address to another."""
    if count >= lanes_of(number):
        _copy_vectors(number, source, target, count)
    else:
        values, copies = line(number, source, count), line(number, target, count)
        for at in range(count):
            copies[at] = values[at]


@inner
def _voxel(number: Any, source: Any, positions: Any, at: Any) -> Any:
    """Return the voxel of a row that stands at a position; zero for none, and past the end, where none is used."""
    position = positions[at] if at < len(positions) else -1
    return line(number, source, position + 1)[position] if position >= 0 else number


@inner
def _gather(number: Any, source: Any, positions: Any, first: Any, count: Any, inside: Any, target: Any) -> None:
    """Copy the voxels of a row that stand at `count` positions from `first`; those `inside` follow one another."""
    low = min(max(inside[0] - first, 0), count)
    high = min(max(inside[1] - first, low), count)
    if high > low:
        itemsize = itemsize_of(number)
        copy(number, source + positions[first + low] * itemsize, target + low * itemsize, high - low)
    copies = line(number, target, count)
    for at in range(low):
        copies[at] = _voxel(number, source, positions, first + at)
    for at in range(high, count):
        copies[at] = _voxel(number, source, positions, first + at)


@intrinsic  # type: ignore[untyped-decorator]
def _halve(_: Any, number: Any, row: Any, even: Any, odd: Any, count: Any) -> Any:
    """Part a row into the numbers of even and of odd place: `count` of each, at least a vector; the last overlaps."""

    def codegen(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        _, row, even, odd, count = arguments
        emit = Emitter(builder, number)

        def move(at: Any) -> None:
            first = builder.inttoptr(builder.add(row, builder.mul(at, INT(2 * emit.itemsize))), BYTES)
            pair = emit.at(first, INT(0)), emit.at(first, INT(emit.lanes))
            for place, target in enumerate((even, odd)):
                emit.store(emit.alternate(*pair, place), builder.add(target, builder.mul(at, INT(emit.itemsize))))

        emit.vectors(count, move)
        return context.get_dummy_value()

    return types.void(number, row, even, odd, count), codegen


@inner
def _gather_halves(
    number: Any, source: Any, positions: Any, first: Any, width: Any, inside: Any, even: Any, odd: Any
) -> None:
    """Gather `width` pairs of voxels that stand at positions from `first` into two rows, firsts and seconds."""
    low = min(max((inside[0] - first + 1) // 2, 0), width)
    high = min(max((inside[1] - first) // 2, low), width)
    if high - low < lanes_of(number):
        high = low
    else:
        size = itemsize_of(number)
        voxel = positions[first + 2 * low]
        _halve(number, source + voxel * size, even + low * size, odd + low * size, high - low)
    firsts, seconds = line(number, even, width), line(number, odd, width)
    for at in range(low):
        firsts[at] = _voxel(number, source, positions, first + 2 * at)
        seconds[at] = _voxel(number, source, positions, first + 2 * at + 1)
    for at in range(high, width):
        firsts[at] = _voxel(number, source, positions, first + 2 * at)
        seconds[at] = _voxel(number, source, positions, first + 2 * at + 1)


@inner
def _gather_phase(number: Any, source: Any, positions: Any, first: Any, stride: Any, target: Any, count: Any) -> None:
    """Copy the voxels of a row that stand at every `stride`-th position from `first`, `count` of them."""
    copies = line(number, target, count)
    for at in range(count):
        copies[at] = _voxel(number, source, positions, first + stride * at)


@inner
def pack_plane(
    number: Any,
    voxels: Any,
    voxel_steps: Any,
    empty: Any,
    rows: Any,
    positions: Any,
    first: Any,
    inside: Any,
    stride: Any,
    phases: Any,
    plane: Any,
    plane_step: Any,
    shape: Any,
    ahead: Any,
) -> None:
    """Fill one `plane` of all channels of a strip, `shape` (channels, phases H, phases W, rows, width).

    `voxels` is the address of the plane's first voxel, `voxel_steps` the bytes to the next channel, plane and row;
    `empty` says that it lies in a border of zeros. `rows` (phases H, rows) holds the voxel along H that stands there,
    -1 for zeros; `positions` those along W, of which the strip begins at `first`, and `inside` their range without
    the border. `phases` are those along W. `plane` is an address, `plane_step` the bytes from the plane of a channel to
    that of the next, and `ahead` those to the voxels that are packed next, 0 for none.
    """
    channels, phases_h, phases_w, height, width = shape
    itemsize = itemsize_of(number)
    pitch = height * width * itemsize
    for channel in range(channels):
        for phase_h in range(phases_h):
            for h in range(height):
                target = plane + channel * plane_step + (phase_h * phases_w * height + h) * width * itemsize
                source = voxels + channel * voxel_steps[0] + rows[phase_h, h] * voxel_steps[2]
                if ahead:
                    _prefetch(source + ahead, (stride * width * itemsize + 63) // 64)
                if empty or rows[phase_h, h] < 0:
                    for phase in range(phases_w):
                        line(number, target + phase * pitch, width)[:] = 0
                elif stride == 1:
                    _gather(number, source, positions, first, width, inside, target)
                elif stride == 2 and phases_w == 2:
                    _gather_halves(number, source, positions, first, width, inside, target, target + pitch)
                else:
                    for phase in range(phases_w):
                        begin = first + phases[phase]
                        _gather_phase(number, source, positions, begin, stride, target + phase * pitch, width)
