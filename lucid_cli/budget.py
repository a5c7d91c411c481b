"""What a run may take and will take: memory of the whole process, and space on the disk."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

from lucid_cli.formats import Spec, format_of
from lucid_cli.inputs import Inputs
from lucid_cli.settings import Settings
from lucid_cli.volumes import Reading, Target, Writing
from lucid_core import compiled, machine, tensors
from lucid_core.arguments import triple
from lucid_core.errors import LimitError
from lucid_core.plan import COMPILER_BYTES, PROCESS_BYTES, Ends, Plan
from lucid_core.planner import plan, where_to_compute
from lucid_core.regions import Triple
from lucid_core.stack import Problem
from lucid_core.tensors.devices import free_bytes, resolve
from lucid_core.units import format_bytes

MOST_VOXELS = 1 << 48
"""An output of more voxels is refused before it is cut into tiles."""
MOST_ALONG = 1 << 20
"""A volume of more voxels along an axis is refused: planning takes time for every plane."""
KERNEL_START_SECONDS = 1.0
"""What compiled kernels must save on one volume, on one core: a new process takes half a second to load them."""
WORKER_BYTES = 176 << 20
"""Resident memory of a worker of dask before its first tile."""
SENT_COPIES = 3.0
"""Outputs that a worker keeps for each of its threads until they are taken, where it sends them back."""
LATER_BYTES = 10 << 20
"""What the process grows by after the plan is made: modules that are loaded then, threads, small buffers."""
BEGINS_BYTES = {"cpu": 64 << 20, "cuda": 640 << 20, "metal": 256 << 20}
"""What torch, loaded already, takes when it begins to compute on a device: the libraries that multiply."""
PICTURES_BYTES = 32 << 20
"""What drawing takes: Matplotlib, figures and their pixels."""
CASTING_BYTES = 4 << 20
"""What a thread takes that casts voxels and looks at them."""
READER_SHARE = 0.125
"""Share of the memory that planes may take which are held to be read once; beyond, regions are read as asked."""
LEAST_MARGIN = 64 << 20
MARGIN_SHARE = 0.05
"""Of the memory that is available, this share and at least `LEAST_MARGIN` is left to others."""


def memory_limit(settings: Settings) -> int | None:
    """Return the most memory the process may take: as `--max-memory` says, else what there is, less a margin."""
    if settings.max_memory is not None:
        return settings.max_memory.count
    available = machine.available_bytes()
    if available is None:
        return None
    margin = max(LEAST_MARGIN, int(MARGIN_SHARE * available))
    return (machine.resident_bytes() or 0) + max(0, available - margin)


def make_plan(settings: Settings, inputs: Inputs, target: Target, spec: Spec, *, workers: int | None = None) -> Plan:
    """Plan within the memory limit, and choose the way to read: the first that keeps it and holds no great part of it.

    The way is kept as `inputs.readings`. With `workers` other processes carry the plan out, each within the limit; they
    read regions as they need them.

    Raises `LimitError` where none does, or where no disk could hold the output.
    """
    problem = target.problem
    _check_sizes(problem)
    engine, where = where_to_compute(settings.engine, settings.device)
    if engine == "torch":
        tensors.library()
        free_bytes(where)  # starts CUDA, whose memory is then part of the process
    limit_bytes = memory_limit(settings)
    writing = format_of(spec).writing(target, spec)
    process = WORKER_BYTES if workers is not None else _process_bytes(settings)
    refusals: list[LimitError] = []
    kept: list[tuple[Plan, tuple[Reading, ...]]] = []
    for readings in inputs.ways(problem.batch):
        if workers is not None and any(reading.forward for reading in readings):
            continue
        ends = _ends(settings, inputs, problem, process, readings, writing)
        if workers is not None:
            copies = ends.copies if writing.whole else SENT_COPIES
            ends = replace(ends, workers=workers, compiler=COMPILER_BYTES, copies=copies)
        try:
            chosen = _plan(settings, problem, ends, limit_bytes)
        except LimitError as error:
            refusals.append(error)
            continue
        kept.append((chosen, readings))
        if limit_bytes is None or chosen.memory.reader <= READER_SHARE * limit_bytes or inputs.source.is_stream:
            break
    if not kept:
        raise min(refusals, key=lambda one: one.least_bytes or math.inf)
    chosen, inputs.readings = min(kept, key=lambda one: one[0].memory.reader)
    return chosen


def _check_sizes(problem: Problem) -> None:
    """Raise `LimitError` for a problem that no computer could plan, or whose output no disk could hold."""
    if math.prod(problem.out_shape) > MOST_VOXELS:
        sizes = "x".join(map(str, problem.out_shape))
        raise LimitError(f"the output would have {sizes} voxels (N, C, D, H, W); legal: at most 2**48 in all")
    if max(problem.size) > MOST_ALONG:
        raise LimitError(f"an axis of the input has {max(problem.size)} voxels; legal: at most {MOST_ALONG}")


def _process_bytes(settings: Settings) -> int:
    """Return what this process takes besides tiles, reading and writing."""
    return (machine.resident_bytes() or PROCESS_BYTES) + LATER_BYTES + (PICTURES_BYTES if settings.draws else 0)


def _plan(settings: Settings, problem: Problem, ends: Ends, limit_bytes: int | None) -> Plan:
    return plan(
        problem,
        algorithm=settings.algorithm,
        engine=settings.engine,
        accuracy=settings.accuracy,
        device=settings.device,
        tf32=settings.tf32,
        threads=settings.threads,
        tile=None if settings.tile is None else triple("tile", settings.tile, 1),
        batch_size=settings.batch_size,
        start_seconds=KERNEL_START_SECONDS,
        ends=ends,
        limit_bytes=limit_bytes,
    )


def _ends(
    settings: Settings,
    inputs: Inputs,
    problem: Problem,
    process: int,
    readings: tuple[Reading, ...],
    writing: Writing,
) -> Ends:
    threads = settings.threads or machine.cores()
    return Ends(
        process=process,
        compiler=0 if compiled.loaded() else COMPILER_BYTES,
        torch=BEGINS_BYTES[resolve(settings.device).kind],
        reader=sum(reading.memory for reading in readings) + inputs.memory(problem, readings[0].grain[0]),
        plane=sum(reading.plane for reading in readings if reading.forward),
        planes_at_once=max(reading.planes_at_once for reading in readings),
        writer=writing.memory + threads * CASTING_BYTES,
        copies=writing.copies,
        grain=_grain(problem, readings[0].grain, writing.grain, whole=writing.whole),
        block=writing.grain[0],
        waiting=writing.waiting,
    )


def _grain(problem: Problem, read: Triple, written: Triple, *, whole: bool) -> Triple:
    """Return the output voxels that tiles should be multiples of: of both grains where that is not too large.

    Where it is, of the larger one; of what is written where that shall be `whole`.
    """
    common = []
    for step, stride, one in zip(read, problem.stride, written, strict=True):
        other = max(1, step // stride)
        both = math.lcm(one, other)
        common.append(both if both <= 2 * max(one, other) else one if whole else max(one, other))
    d, h, w = common
    return d, h, w


def check_disk(folder: Path, writing: Writing, readings: tuple[Reading, ...]) -> None:
    """Raise `LimitError` where a folder's disk has less space than the output and the temporary files need."""
    needs = {
        "the output": writing.disk,
        "temporary files": writing.spool,
        "the decompressed input": sum(reading.spool for reading in readings),
    }
    needed, free = sum(needs.values()), shutil.disk_usage(folder).free
    if needed > free:
        parts = ", ".join(f"{what}: {format_bytes(size)}" for what, size in needs.items() if size)
        raise LimitError(
            f"this needs {format_bytes(needed)} on the disk ({parts}), but {folder} has {format_bytes(free)} free"
        )
