"""One input and its output: planned from headers alone (`prepare`), then carried out (`run`)."""

import math
import resource
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli import axes
from lucid_cli.compression import check_compression
from lucid_cli.formats import SUFFIXES, Spec, format_of
from lucid_cli.layer import Layer, Recipe
from lucid_cli.options import Settings
from lucid_cli.output import check_input, check_space, written
from lucid_cli.report import Item
from lucid_cli.sink import CastingWriter, Statistics, empty_statistics, out_dtype, rescaling
from lucid_cli.volumes import Source, Target, VolumeInfo, five_shape
from lucid_cli.weights import split as split_weights
from lucid_core import machine
from lucid_core.errors import LimitError
from lucid_core.events import Event, Observer, Seconds
from lucid_core.execute import execute
from lucid_core.geometry import affine_of, grid_transform, rescale, scaled
from lucid_core.plan import Plan
from lucid_core.planner import PROCESS_BYTES, limit, plan
from lucid_core.problem import ConvProblem, triple
from lucid_core.tiling import window_planes
from lucid_core.volume import VolumeWriter, arithmetic_dtype

MOST_VOXELS = 1 << 48
"""An output of more voxels is refused before it is cut into tiles."""
WRITER_COPIES = 4
"""Copies of one tile's output that casting, statistics and writing make at once, at most."""
KERNEL_START_SECONDS = 1.0
"""What compiled kernels must save on one volume, on one core: a new process takes half a second to load them."""


@dataclass
class Job:
    """An input whose header was read, the layer for it, and the plan."""

    settings: Settings
    source: Source
    roles: str
    info: VolumeInfo
    layer: Layer
    plan: Plan
    spec: Spec | None
    """The output, None where only a plan was asked for."""
    target: Target


def prepare(spec: Spec, out: Spec | None, recipe: Recipe, stack: ExitStack) -> Job:
    """Read the header of an input and plan its convolution; `stack` closes the input.

    Raises the errors of the formats, the layer and the planner; reads no voxel and writes nothing.
    """
    settings = recipe.settings
    check_input(spec.path)
    source: Source = format_of(spec).open_source(spec)
    stack.callback(source.close)
    info = _placed(source.info, settings)
    roles = axes.roles(
        info,
        axes=settings.axes,
        axis4=settings.axis4,
        in_channels=recipe.in_channels,
        each_channel_alone=recipe.each_channel_alone,
    )
    shape = five_shape(info.shape, roles)
    dtype = np.dtype(settings.dtype) if settings.dtype else arithmetic_dtype(info.dtype)
    layer = recipe.build(shape[1], info.spacing, dtype)
    chosen = _plan(settings, layer.problem(shape), source, roles)
    target = _target(settings, source, info, roles, chosen, out or spec)
    shown = replace(info, axes=roles) if settings.axes else info
    return Job(settings, source, roles, shown, layer, chosen, out, target)


def _plan(settings: Settings, problem: ConvProblem, source: Source, roles: str) -> Plan:
    """Plan within the memory that is available; what no disk could hold is refused before it is cut into tiles."""
    if math.prod(problem.out_shape) > MOST_VOXELS:
        sizes = "x".join(map(str, problem.out_shape))
        raise LimitError(f"the output would have {sizes} voxels (N, C, D, H, W); legal: at most 2**48 in all")
    chosen = plan(
        problem,
        algorithm=settings.algorithm,
        engine=settings.engine,
        accuracy=settings.accuracy,
        threads=settings.threads,
        tile=None if settings.tile is None else triple("tile", settings.tile, 1),
        batch_size=settings.batch_size,
        start_seconds=KERNEL_START_SECONDS,
    )
    available = machine.available_bytes()
    return limit(
        chosen,
        None if available is None else available + PROCESS_BYTES,
        reader=source.window_bytes(roles, window_planes(chosen)),
        writer=WRITER_COPIES * chosen.memory.outputs // chosen.in_work,
    )


def _placed(info: VolumeInfo, settings: Settings) -> VolumeInfo:
    """Return the input's info with the spacing that `--spacing` says."""
    if settings.spacing is None:
        return info
    spacing = settings.spacing.millimetres()
    affine = affine_of(spacing) if info.affine is None else rescale(info.affine, spacing)
    return replace(info, spacing=spacing, affine=affine)


def _target(settings: Settings, source: Source, info: VolumeInfo, roles: str, chosen: Plan, out: Spec) -> Target:
    problem = chosen.problem
    format_name = SUFFIXES[out.suffix]
    check_compression(out.suffix, settings.compression)
    return Target(
        shape=problem.out_shape,
        axes=axes.output_axes(format_name, info.format, roles, problem.batch, problem.out_channels),
        dtype=out_dtype(settings.out_dtype, settings.cast, format_name),
        problem=problem,
        source=source,
        spacing=None if info.spacing is None else scaled(info.spacing, problem),
        affine=None if info.affine is None else info.affine @ grid_transform(problem),
        input_spacing=None if settings.spacing is None else settings.spacing.millimetres(),
        compression=settings.compression,
        tile_planes_whole=chosen.tile[1:] == problem.out_size[1:],
    )


def run(job: Job, finals: list[Path], observe: Observer) -> Item:
    """Convolve and write; the output stands in its place, flushed to the disk, when this returns."""
    began = time.perf_counter()
    assert job.spec is not None
    if not _is_compressed(job):
        check_space(finals[0].parent, math.prod(job.target.file_shape) * job.target.dtype.itemsize)
    clock = _Clock(observe)
    target = job.target
    if job.settings.cast == "rescale":
        low_high = CastingWriter(None, target.dtype, "rescale")
        _convolve(job, low_high, clock, finals[0].parent)
        slope, inter = rescaling(low_high.statistics, target.dtype)
        target = replace(target, slope=slope, inter=inter)
    with written(job.spec, finals, target, job.settings.overwrite) as sink:
        writer = CastingWriter(sink, target.dtype, job.settings.cast, target.slope, target.inter)
        _convolve(job, writer, clock, finals[0].parent)
        job.source.finish()
        closing = time.perf_counter()
    clock.seconds = replace(clock.seconds, write=clock.seconds.write + time.perf_counter() - closing)
    seconds = vars(clock.seconds) | {"total": time.perf_counter() - began}
    return item(job, "ok", writer.statistics, seconds)


def _is_compressed(job: Job) -> bool:
    """Say whether the output may take less of the disk than its voxels do."""
    if job.spec and job.spec.suffix == ".nii.gz":
        return True
    asked = job.settings.compression
    return asked not in (None, "none") or (asked is None and bool(job.info.details.get("compression")))


class _Clock:
    """Passes events on, and adds up the seconds of the stages over several passes."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self.seconds = Seconds(0.0, 0.0, 0.0)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Seconds):
            mine = self.seconds
            self.seconds = Seconds(mine.read + event.read, mine.compute + event.compute, mine.write + event.write)
        self._observe(event)


def _convolve(job: Job, writer: VolumeWriter, observe: Observer, spool: Path) -> None:
    reader = job.source.reader(job.roles, spool)
    execute(job.plan, job.layer.weight, job.layer.bias, reader, writer, observe)


def item(job: Job, status: str, statistics: Statistics | None, seconds: dict[str, float] | None) -> Item:
    """Return the report's item for a job."""
    problem = job.plan.problem
    return Item(
        input=job.info.to_json(),
        output=_output_json(job, statistics),
        layer=job.layer.to_json(),
        shapes={
            "input": list(problem.in_shape),
            "padded": list(problem.padded_shape),
            "output": list(problem.out_shape),
        },
        parameters=problem.parameters,
        macs=problem.macs,
        plan=job.plan,
        seconds=seconds or dict.fromkeys(("read", "compute", "write", "total")),
        peak_rss_bytes=peak_rss_bytes(),
        status=status,
        error=None,
    )


def _output_json(job: Job, statistics: Statistics | None) -> dict[str, Any]:
    target, spec = job.target, job.spec
    letters = target.axes.replace("n", "t") if len(target.axes) == 4 and target.axes.startswith("xyz") else target.axes
    info = VolumeInfo(
        str(spec) if spec else "",
        SUFFIXES[spec.suffix] if spec else job.info.format,
        target.file_shape,
        letters,
        target.dtype.name,
        target.spacing,
        target.affine,
    )
    shown = info.to_json() | (statistics.to_json() if statistics else empty_statistics())
    return shown if spec else shown | {"path": None}


def peak_rss_bytes() -> int:
    """Return the most memory this process has had resident.

    Linux keeps `ru_maxrss` across exec, so that it may be the parent's: VmHWM is this program's own.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def open_info(spec: Spec) -> VolumeInfo:
    """Return what the header of a file says."""
    check_input(spec.path)
    source: Source = format_of(spec).open_source(spec)
    source.close()
    return source.info


def protected(inputs: Iterable[Spec], settings: Settings, config: str | None) -> list[Path]:
    """Return the files a run reads: none of them may be its output."""
    paths = [path for spec in inputs for path in (format_of(spec).files(spec) if spec.suffix else [spec.path])]
    paths += [split_weights(settings.weights)[0]] if settings.weights else []
    return paths + ([Path(config)] if config else [])
