"""How the output is cut into tiles, so that the memory of a run stays under its limit.

No result depends on the cut, so it may follow from the limit and the threads.
"""

import math
from collections.abc import Iterator
from itertools import chain, dropwhile

import numpy as np

from lucid_core.algorithms import Algorithm
from lucid_core.errors import LimitError
from lucid_core.plan import Ends, Memory
from lucid_core.regions import Triple
from lucid_core.room import Room
from lucid_core.stack import Problem, Stack
from lucid_core.tensors.devices import CPU, Device
from lucid_core.tensors.lane import pinned_bytes
from lucid_core.units import format_bytes

Ways = tuple[Algorithm, ...]
"""The algorithm of each convolution of a problem."""
SLOT_BYTES = 64 << 20
"""Memory of one tile in work that is aimed below."""
JOINING = 3
"""Channels that joining channels takes."""
BOX_BYTES = 1 << 30
"""Memory that is aimed below for a tile of a cluster: smaller ones read their halo's chunks too often, and below 128^3
voxels the scheduler cannot keep up with many workers; larger ones gain little more (`tests.benchmarks.schedule`)."""
WHOLE_ROWS = 2
"""Times that memory which a tile may take before its rows are cut: files are read and written row by row then."""
WORTH_CUTTING = 0.75
"""Share of its memory that a tile cut in half may still take, or it is not cut."""
MORE_READ = 1.1
"""Growth of the voxels read for each output voxel that a cut is worth, below twice the memory aimed at."""
TILES_PER_THREAD = 4
DEVICE_VOXELS = 4 << 20
"""Output voxels of a tile, all channels, below which a device other than the CPU waits for what it is to do."""
LEAST_EXTENTS = 4
"""Planes of a tile, in extents of the kernel, that are not cut further for the threads."""
SPARE_BYTES = 1 << 20
"""By how much what a process takes differs from one start to the next."""
FACTORING_BYTES = 24
"""Memory a tap while `factors` compares the product of 1-D kernels with it."""


def choose_tile(
    problem: Problem,
    ways: Ways,
    threads: int,
    grain: Triple = (1, 1, 1),
    device: Device = CPU,
    within: Triple | None = None,
) -> Triple:
    """Cut whole planes into slabs along D, as many for each thread; then H, then W, until a tile is small.

    What is cut is the output, or a box of it `within` which tiles lie.

    Tiles not much larger than the kernel read and compute more halo than voxels, so twice the memory is better than a
    cut that makes them read more; and cutting stops where it no longer saves memory.
    """
    depth, height, width = within or problem.out_size
    extent = problem.block_shape((1, 1, 1))[0] - 1
    rounds = problem.batch * depth // max(LEAST_EXTENTS * extent * threads, 1)
    tiles = threads * min(max(rounds, 1), TILES_PER_THREAD)
    if not device.is_cpu:
        tiles = min(tiles, max(1, math.prod(problem.out_shape) // DEVICE_VOXELS))
    pieces = -(-tiles // max(problem.batch, 1))
    tile = _aligned((max(1, -(-depth // pieces)), height, width), problem, grain)
    least = (1, 1, 1) if grain[1:] == (1, 1) else grain
    for axis in range(3):
        aim = SLOT_BYTES * (WHOLE_ROWS if axis == 2 else 1)
        while tile[axis] > least[axis] and (size := tile_bytes(problem, ways, tile, device)) > aim:
            smaller = _halved(tile, axis, problem, grain)
            more = _work_share(problem, smaller) / _work_share(problem, tile)
            if tile_bytes(problem, ways, smaller, device) > WORTH_CUTTING * size or (
                more > MORE_READ and size <= 2 * SLOT_BYTES
            ):
                break
            tile = smaller
    return tile


def choose_box(problem: Problem, ways: Ways, threads: int, grain: Triple) -> Triple:
    """Cut the output into boxes of whole grains, as each is read by itself, with all the grains its halo touches.

    The axis is halved that adds the least to what is read, until a box takes no more than `BOX_BYTES` and there are
    enough for each thread.
    """
    tile = problem.out_size
    for tile in _boxes(problem, grain):
        enough = tile_count(problem, tile) >= threads * TILES_PER_THREAD
        if enough and tile_bytes(problem, ways, tile) <= BOX_BYTES:
            break
    return tile


def _boxes(problem: Problem, grain: Triple) -> Iterator[Triple]:
    """Yield the whole output, then ever smaller boxes of whole grains."""
    tile = problem.out_size
    while True:
        yield tile
        halves = [one for axis in range(3) if (one := _halved(tile, axis, problem, grain)) != tile]
        whole = [one for one in halves if _aligned(one, problem, grain) == one]
        if not whole:
            return
        tile = min(whole, key=lambda one: _read_share(problem, one, grain))


def _read_share(problem: Problem, tile: Triple, grain: Triple) -> float:
    """Return the voxels that are read for an output voxel of a tile, whole grains of the input."""
    steps = (step * stride for step, stride in zip(grain, problem.stride, strict=True))
    reach = (low + high for low, high in problem.halo)
    sizes = zip(tile, problem.stride, steps, reach, problem.size, strict=True)
    read = (min(size, count * stride + -(-halo // (2 * step)) * 2 * step) for count, stride, step, halo, size in sizes)
    return math.prod(read) / math.prod(tile)


def fit(
    problem: Problem,
    ways: Ways,
    threads: int,
    ends: Ends,
    limit_bytes: int | None,
    asked: Triple | None,
    room: Room | None = None,
) -> tuple[Triple, int, Memory]:
    """Return the tile, the threads and the memory of a run that keeps the limit, and has room on its device.

    Where all threads with the tile that suits them would pass it, tiles become thinner, then fewer are in work,
    then they are cut along H and W. A tile that was asked for stays.

    Raises `LimitError`, naming the least that would do and its largest part.
    """
    room = room or Room()
    if ends.workers is None:
        tile = asked or choose_tile(problem, ways, threads, ends.grain, room.device)
    else:
        tile = asked or choose_box(problem, ways, threads * ends.workers, ends.grain)
    tried, smaller = [], tile
    ways_down = _ever_smaller(tile, threads, problem, ends.grain, fixed=asked is not None)
    if ends.workers is not None and asked is None:  # what is no whole grain is sent to be written by one process
        boxes = dropwhile(lambda one: one != tile, _boxes(problem, ends.grain))
        ways_down = chain(((one, threads) for one in boxes), ways_down)
    for smaller, fewer in ways_down:
        memory = memory_of(problem, ways, smaller, fewer, ends, room.device)
        keeps = limit_bytes is None or memory.peak_bytes <= limit_bytes
        if keeps and room.keeps(problem, ways, smaller, _in_work(problem, smaller, fewer)):
            return smaller, fewer, memory
        tried.append(memory)
    least = min(tried, key=lambda one: one.peak_bytes)
    if limit_bytes is None or least.peak_bytes <= limit_bytes:
        raise room.refusal(problem, ways, smaller, asked)
    raise _refusal(least, limit_bytes, asked)


def _refusal(least: Memory, limit_bytes: int, asked: Triple | None) -> LimitError:
    """Return the error that names the least memory that would do, and a little for what the process takes meanwhile."""
    part, size = max(vars(least).items(), key=lambda item: item[1])
    hint = f"; a tile smaller than {'x'.join(map(str, asked))} takes less" if asked else ""
    return LimitError(
        f"this needs at least {format_bytes(least.peak_bytes)} of memory ({part}: {format_bytes(size)}), but "
        f"{format_bytes(limit_bytes)} may be taken; the least that would do: --max-memory "
        f"{(least.peak_bytes + SPARE_BYTES) // (1 << 20) + 1}MiB{hint}",
        least.peak_bytes,
    )


def _in_work(problem: Problem, tile: Triple, threads: int) -> int:
    """Return how many tiles are in work at once."""
    return max(1, min(threads, tile_count(problem, tile)))


def memory_of(problem: Problem, ways: Ways, tile: Triple, threads: int, ends: Ends, device: Device = CPU) -> Memory:
    """Predict the memory of a run with this tile and so many threads, part by part; that on a device is its own."""
    count = _in_work(problem, tile, threads)
    block, workspace, output = _tile_parts(problem, ways, tile)
    if not device.is_cpu:
        block, workspace, output = _staged(problem, block), 0, _staged(problem, output)
    weights = 2 * problem.parameters * np.dtype(problem.dtype).itemsize + FACTORING_BYTES * problem.taps
    held = window_planes(problem, tile[0]) + 2 * (ends.planes_at_once - 1) if ends.plane else 0
    unaligned = tile[0] < problem.out_size[0] and tile[0] % ends.block != 0
    return Memory(
        process=ends.process
        + ends.compiler * any(way.engine == "numba" for way in ways)
        + ends.torch * any(way.engine == "torch" for way in ways),
        weights=weights,
        blocks=count * block,
        workspace=count * workspace,
        outputs=count * output,
        reader=ends.reader + ends.plane * min(held, problem.size[0]),
        writer=ends.writer + int(ends.copies * count * output) + ends.waiting * unaligned,
    )


def _staged(problem: Problem, size: int) -> int:
    """Return what buffers of so many bytes in all take in pinned memory; a stack has several, each rounded up."""
    return 2 * size if isinstance(problem, Stack) else pinned_bytes(size)


def tile_count(problem: Problem, tile: Triple) -> int:
    """Return how many tiles the output is cut into."""
    return problem.batch * math.prod(-(-n // t) for n, t in zip(problem.out_size, tile, strict=True))


def tile_bytes(problem: Problem, ways: Ways, tile: Triple, device: Device = CPU) -> int:
    """Return the memory of one tile in work, but that on a device of its own."""
    block, workspace, output = _tile_parts(problem, ways, tile)
    return block + output + (workspace if device.is_cpu else 0)


def _tile_parts(problem: Problem, ways: Ways, tile: Triple) -> tuple[int, int, int]:
    """Return the bytes of the padded blocks, of the workspace and of the outputs of one tile."""
    if isinstance(problem, Stack):
        return _stack_parts(problem, ways, tile)
    itemsize, (way,), of_mask = np.dtype(problem.dtype).itemsize, ways, problem.of_mask
    block = problem.block_channels * math.prod(problem.block_shape(tile)) * itemsize
    workspace = max(way.workspace(one, tile) for one in (problem, of_mask) if one)
    outputs = problem.out_channels + (of_mask.out_channels if of_mask else 0)
    return block, workspace, outputs * math.prod(tile) * itemsize


def _stack_parts(stack: Stack, ways: Ways, tile: Triple) -> tuple[int, int, int]:
    """Return the parts of a tile of a stack, whose layers keep their padded blocks and results at the same time."""
    source, *outs = stack.boxes(tile)
    block, output = stack.in_channels * math.prod(source), stack.out_channels * math.prod(tile)
    workspaces: dict[tuple[str, str], int] = {}
    for number, (stage, way, out) in enumerate(zip(stack.stages, ways, outs, strict=True)):
        if number or way.engine == "numpy":
            block += stage.problem.in_channels * math.prod(stage.problem.block_shape(out))
        if any(operation.joins_channels for operation in stage.operations):
            output += (stage.problem.out_channels + JOINING) * math.prod(out)
        kind = (way.name, way.engine)
        workspaces[kind] = max(workspaces.get(kind, 0), way.workspace(stage.problem, out))
    output += JOINING * math.prod(source) * any(operation.joins_channels for operation in stack.first)
    itemsize = np.dtype(stack.dtype).itemsize
    return block * itemsize, sum(workspaces.values()), output * itemsize


def _work_share(problem: Problem, tile: Triple) -> float:
    """Return the work of a tile, by its output voxels."""
    return problem.work(tile) / math.prod(tile)


def _aligned(tile: Triple, problem: Problem, grain: Triple) -> Triple:
    """Round the sizes of a tile up to whole grains, along axes that have more than one."""
    d, h, w = (
        min(-(-count // step) * step, size) if size > step else count
        for count, step, size in zip(tile, grain, problem.out_size, strict=True)
    )
    return d, h, w


def _halved(tile: Triple, axis: int, problem: Problem, grain: Triple) -> Triple:
    """Halve a tile along an axis, in whole grains as long as it has several."""
    d, h, w = (-(-count // 2) if one == axis else count for one, count in enumerate(tile))
    whole = _aligned((d, h, w), problem, grain)
    return whole if whole[axis] < tile[axis] else (d, h, w)


def _ever_smaller(
    tile: Triple, threads: int, problem: Problem, grain: Triple, *, fixed: bool
) -> Iterator[tuple[Triple, int]]:
    """Yield tiles and threads that take less and less memory, what costs least time first."""
    for axis in range(3):
        tiles = [tile]
        while not fixed and tiles[-1][axis] > 1:
            tiles.append(_halved(tiles[-1], axis, problem, grain))
        fewer = threads
        while fewer:
            yield from ((one, fewer) for one in tiles)
            fewer //= 2
        tile = tiles[-1]


def cuts(size: int, step: int) -> list[tuple[int, int]]:
    """Return first and one past the last voxel of each piece of an axis of `size` voxels."""
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def slabs(problem: Problem, depth: int) -> list[tuple[int, int]]:
    """Return, for tiles `depth` deep, the lowest plane that each and those after it read, and the end of its own."""
    found, keep = [], problem.size[0]
    for start, stop in reversed(cuts(problem.out_size[0], depth)):
        first, end = problem.planes_read(start, stop)
        keep = min(keep, first) if end else keep
        found.append((keep, end))
    return found[::-1]


def window_planes(problem: Problem, depth: int) -> int:
    """Return the most D planes of a volume that a reader without random access holds, for tiles `depth` deep."""
    most = top = 0
    for keep, end in slabs(problem, depth):
        top = max(top, end)
        most = max(most, top - keep)
    return most
