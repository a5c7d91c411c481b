"""The planner: weighs the algorithms for a problem and cuts the output into tiles.

The algorithm follows from the problem, the engine and the rates of the machine. The tile follows from these and
the threads too, which is allowed, because no result depends on it.
"""

import math
from dataclasses import replace

import numpy as np

from lucid_core import compiled, machine
from lucid_core.algorithms import Algorithm, algorithms, member
from lucid_core.errors import ArgumentError, LimitError
from lucid_core.plan import Candidate, Memory, Plan
from lucid_core.problem import ConvProblem, integer, triple
from lucid_core.regions import Triple
from lucid_core.registry import choose
from lucid_core.units import format_bytes

ENGINES = ("numpy", "numba")
"""What runs the arithmetic."""
START_SECONDS = 0.008
"""What compiled kernels must save on one volume, on one core, to be worth loading."""
ACCURACIES = ("componentwise", "normwise")
"""The error bounds an algorithm may state, the strictest first; each admits those before it."""
DEVICES = ("cpu",)

SLOT_BYTES = 64 << 20
"""Memory of one tile in work that the planner aims below."""
WORTH_CUTTING = 0.75
"""Share of its memory that a tile cut in half may still take, or it is not cut."""
MORE_READ = 1.1
"""Growth of the voxels read for each output voxel that a cut is worth, below twice the memory aimed at."""
TILES_PER_THREAD = 4
LEAST_EXTENTS = 4
"""Planes of a tile, in extents of the kernel, that are not cut further for the threads."""
FACTORING_BYTES = 24
"""Memory a tap while `factors` compares the product of 1-D kernels with it."""
PROCESS_BYTES = 100 << 20
"""Resident memory of the interpreter with NumPy, nibabel and h5py."""
COMPILER_BYTES = 176 << 20
"""Resident memory of Numba after it compiled a kernel."""


def plan(
    problem: ConvProblem,
    *,
    algorithm: str = "auto",
    engine: str = "auto",
    accuracy: str = "componentwise",
    threads: int | None = None,
    tile: Triple | None = None,
    batch_size: int | None = None,
    start_seconds: float = START_SECONDS,
) -> Plan:
    """Choose the algorithm and the tiles for a problem. Pure: from shapes alone, no data.

    `threads` None or 0 means all cores; `tile` (D, H, W) and `batch_size`, the volumes in work at once, are chosen
    where None. With engine "auto", compiled kernels must save `start_seconds` on one volume over NumPy.

    Raises `ArgumentError` for an unknown name, or where the algorithm asked for refuses the problem.
    """
    choose("engine", engine, ("auto", *ENGINES))
    choose("accuracy", accuracy, ACCURACIES)
    choose("algorithm", algorithm, ("auto", *sorted({one.name for one in algorithms().values()})))
    if engine == "numba":
        compiled.require()
    threads = integer("threads", 0 if threads is None else threads, 0) or machine.cores()
    batch_size = None if batch_size is None else integer("batch_size", batch_size, 1)
    candidates = _candidates(problem, engine, accuracy)
    start_seconds *= max(problem.batch, 1)
    chosen = _chosen(candidates, algorithm, start_seconds)
    if chosen.engine == "numba" and not compiled.importable():
        candidates = _candidates(problem, engine, accuracy)
        chosen = _chosen(candidates, algorithm, start_seconds)
    way = member(chosen.algorithm, chosen.engine)
    tile = _choose_tile(problem, way, threads) if tile is None else _asked_tile(problem, tile)
    count = problem.batch * math.prod(-(-n // t) for n, t in zip(problem.out_size, tile, strict=True))
    memory = _memory(problem, way, tile, max(1, min(threads, count)))
    return Plan(
        problem, chosen.algorithm, chosen.engine, "cpu", threads, tile, count, memory, None, candidates, batch_size
    )


def limit(chosen: Plan, limit_bytes: int | None, *, reader: int = 0, writer: int = 0) -> Plan:
    """Return the plan with the memory of its reader and writer added and the limit it has to keep.

    Raises `LimitError`, naming the largest part, where the predicted peak passes the limit.
    """
    memory = replace(chosen.memory, reader=reader, writer=writer)
    if limit_bytes is not None and memory.peak_bytes > limit_bytes:
        part, size = max(vars(memory).items(), key=lambda item: item[1])
        raise LimitError(
            f"this would take {format_bytes(memory.peak_bytes)} of memory ({part}: {format_bytes(size)}), "
            f"but {format_bytes(limit_bytes)} are available; use smaller tiles (--tile), fewer threads "
            "or fewer output channels"
        )
    return replace(chosen, memory=memory, limit_bytes=limit_bytes)


def _candidates(problem: ConvProblem, engine: str, accuracy: str) -> tuple[Candidate, ...]:
    admitted = ACCURACIES[: ACCURACIES.index(accuracy) + 1]
    rates = machine.RATES[problem.dtype]
    candidates = []
    for way in algorithms().values():
        bound = way.error_bound(problem)
        refused = way.refuses(problem)
        if engine not in ("auto", way.engine):
            refused = f"it belongs to engine {way.engine!r}"
        elif bound.accuracy not in admitted:
            refused = f"its error is bounded {bound.accuracy} only; ask for accuracy={bound.accuracy!r}"
        seconds = None if refused else way.cost(problem, rates)
        candidates.append(Candidate(way.name, way.engine, seconds, refused, bound.accuracy, bound.gamma(problem.dtype)))
    return tuple(candidates)


def _chosen(candidates: tuple[Candidate, ...], algorithm: str, start_seconds: float) -> Candidate:
    """Return the cheapest candidate, among those of the algorithm asked for."""
    named = [one for one in candidates if algorithm in ("auto", one.algorithm)]
    able = [one for one in named if one.seconds is not None]
    if not able:
        reasons = "; ".join(dict.fromkeys(str(one.refused) for one in named))
        raise ArgumentError(f"algorithm {algorithm!r} cannot compute this: {reasons}; use 'auto'")
    return min(able, key=lambda one: (one.seconds or 0.0) + start_seconds * (one.engine != "numpy"))


def _choose_tile(problem: ConvProblem, way: Algorithm, threads: int) -> Triple:
    """Cut whole planes into slabs along D, as many for each thread; then H, then W, until a tile fits its memory.

    Tiles not much larger than the kernel read and compute more halo than voxels, so twice the memory is better than a
    cut that makes them read more; and cutting stops where it no longer saves memory.
    """
    depth, height, width = problem.out_size
    extent = problem.dilation[0] * (problem.kernel_size[0] - 1)
    rounds = problem.batch * depth // max(LEAST_EXTENTS * extent * threads, 1)
    tiles = threads * min(max(rounds, 1), TILES_PER_THREAD)
    pieces = -(-tiles // max(problem.batch, 1))
    tile = (max(1, -(-depth // pieces)), height, width)
    for axis in range(3):
        while tile[axis] > 1 and (size := _tile_bytes(problem, way, tile)) > SLOT_BYTES:
            d, h, w = (-(-count // 2) if one == axis else count for one, count in enumerate(tile))
            smaller = (d, h, w)
            more = _halo_share(problem, smaller) / _halo_share(problem, tile)
            if _tile_bytes(problem, way, smaller) > WORTH_CUTTING * size or (
                more > MORE_READ and size <= 2 * SLOT_BYTES
            ):
                break
            tile = smaller
    return tile


def _halo_share(problem: ConvProblem, tile: Triple) -> float:
    """Return the input voxels that a tile reads, by its output voxels."""
    return math.prod(problem.block_shape(tile)) / math.prod(tile)


def _asked_tile(problem: ConvProblem, tile: Triple) -> Triple:
    d, h, w = (min(asked, size) for asked, size in zip(triple("tile", tile, 1), problem.out_size, strict=True))
    return d, h, w


def _tile_parts(problem: ConvProblem, way: Algorithm, tile: Triple) -> tuple[int, int, int]:
    itemsize = np.dtype(problem.dtype).itemsize
    block = problem.in_channels * math.prod(problem.block_shape(tile)) * itemsize
    return block, way.workspace(problem, tile), problem.out_channels * math.prod(tile) * itemsize


def _tile_bytes(problem: ConvProblem, way: Algorithm, tile: Triple) -> int:
    return sum(_tile_parts(problem, way, tile))


def _memory(problem: ConvProblem, way: Algorithm, tile: Triple, count: int) -> Memory:
    block, workspace, output = _tile_parts(problem, way, tile)
    weights = 2 * problem.parameters * np.dtype(problem.dtype).itemsize + FACTORING_BYTES * problem.taps
    process = PROCESS_BYTES + COMPILER_BYTES * (way.engine == "numba")
    return Memory(process, weights, count * block, count * workspace, count * output, 0, 0)
