"""One input and its output: planned from headers alone (`prepare`), then carried out (`run`)."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli import axes
from lucid_cli.budget import check_disk, make_plan
from lucid_cli.ends import OpenEnd
from lucid_cli.executors import HERE, Executor
from lucid_cli.formats import SUFFIXES, Spec, format_of, parse_spec
from lucid_cli.inputs import Inputs, open_inputs
from lucid_cli.journal import hash_values
from lucid_cli.layer import Layer, Recipe
from lucid_cli.layers import Layers, LayersRecipe, described
from lucid_cli.opening import opened
from lucid_cli.origin import Read, provenance, read_by
from lucid_cli.output import Replacement, filled, make_folder, temporaries, write_bytes
from lucid_cli.place import losses, placed
from lucid_cli.provenance import sidecar, sidecar_path, text
from lucid_cli.report import Item
from lucid_cli.resume import Resumption, tile_left
from lucid_cli.settings import Settings
from lucid_cli.sink import CastingWriter, Statistics, empty_statistics, rescaling
from lucid_cli.target import target_of
from lucid_cli.temporary import VOXELS, hidden
from lucid_cli.volumes import Target, VolumeInfo, Writing, five_shape
from lucid_core import __version__, machine
from lucid_core.errors import ArgumentError
from lucid_core.events import Observer, Progress
from lucid_core.normalization import checked_outside
from lucid_core.plan import Plan
from lucid_core.regions import Triple
from lucid_core.stack import Problem
from lucid_core.stopwatch import Stopwatch
from lucid_core.volume import arithmetic_dtype


@dataclass
class Job:
    """An input whose header was read, the layer for it, and the plan."""

    settings: Settings
    input: Spec
    inputs: Inputs
    info: VolumeInfo
    layer: Layer | Layers
    plan: Plan
    spec: Spec | None
    """The output, None where only a plan was asked for."""
    target: Target
    stopwatch: Stopwatch
    read: list[Read]
    """What is read; hashed where that is asked for."""
    metadata: dict[str, Any]
    """What a sidecar holds beside provenance."""
    executor: Executor
    """Who carries out the plan."""

    def provenance(self) -> dict[str, Any] | None:
        """Return what the output is made from, None where it is not to be kept; hashes the files."""
        if not (self.settings.provenance or self.settings.has_sidecar):
            return None
        with self.stopwatch.stage("read"):
            return provenance(self.input, self.settings, self.plan, self.read)


def prepare(
    spec: Spec,
    out: Spec | None,
    recipe: Recipe | LayersRecipe,
    stack: ExitStack,
    tile: Triple | None = None,
    executor: Executor = HERE,
) -> Job:
    """Read the header of an input and plan its convolution, with a tile where it is given; `stack` closes the input.

    Raises the errors of the formats, the layer and the planner; reads no voxel and writes nothing.
    """
    settings, stopwatch = executor.settled(replace(recipe.settings, tile=tile or recipe.settings.tile)), Stopwatch()
    with stopwatch.stage("read"):
        source = opened(spec, stack)
    info = placed(source.info, settings)
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
    checked_outside(settings.outside or 0.0, dtype)
    inputs = open_inputs(settings, source, roles, info, shape[2:], stack)
    inputs.notes = layer.warnings + (losses(info, out, SUFFIXES[out.suffix]) if out else ())
    problem = layer.problem(shape, inputs.normalization)
    if settings.bids and problem.out_channels > 1:
        raise ArgumentError(f"--bids: BIDS has no name for a map of {problem.out_channels} channels; leave it out")
    target = target_of(settings, source, info, roles, problem, out or spec.likely_output)
    chosen = make_plan(settings, inputs, target, out or spec.likely_output, workers=executor.workers)
    target = replace(target, tile=chosen.tile)
    shown = replace(info, axes=roles) if settings.axes else info
    read = read_by(spec, recipe.settings)
    metadata = _metadata(settings, spec, problem)
    return Job(settings, spec, inputs, shown, layer, chosen, out, target, stopwatch, read, metadata, executor)


def run(job: Job, finals: list[Path], observe: Observer) -> Item:
    """Convolve and write; the output stands in its place, flushed to the disk, when this returns."""
    made = job.provenance()
    if job.settings.provenance and made is not None:
        job.target = replace(job.target, provenance=text(made))
    spec = _named(job)
    kept = hidden(finals[0], VOXELS) if job.settings.resume else None
    folder = finals[0].parent if finals else Path(tempfile.gettempdir())
    if job.settings.makes_folders:
        make_folder(folder)
    writing: Writing = format_of(spec).writing(replace(job.target, voxels=kept), spec)
    if not (job.settings.resume and tile_left(finals[0])):
        check_disk(folder, writing, job.inputs.readings)
    with ExitStack() as stack:
        replacement = stack.enter_context(temporaries(finals, job.settings.overwrite, keep=job.settings.resume))
        resumption = None
        if job.settings.resume or (job.settings.executor == "dask" and writing.in_place):
            hashes = _hashes(job)
            resumption = Resumption(finals[0], replacement, job.plan, hashes, in_place=writing.in_place)
            stack.enter_context(resumption)
        statistics = _fill(job, replacement, resumption, folder, observe)
        with job.stopwatch.stage("write"):
            if resumption is not None:
                resumption.done()
            with _sidecar(job, made):
                replacement.commit()
    return replace(item(job, "ok", statistics, job.stopwatch.seconds()), provenance=made)


def _metadata(settings: Settings, spec: Spec, problem: Problem) -> dict[str, Any]:
    """Return what a sidecar holds beside provenance."""
    if not settings.bids:
        return {}
    from lucid_cli.bids import metadata

    mixes_slices = problem.out_size[0] != problem.size[0] or any(problem.halo[0])
    return metadata(spec, Path(str(settings.out_dir)), settings, mixes_slices=mixes_slices)


@contextmanager
def _sidecar(job: Job, made: dict[str, Any] | None) -> Iterator[None]:
    """Put a sidecar in its place before the output; it does not stay where that is not put there."""
    if not job.settings.has_sidecar or made is None:
        yield
        return
    path = sidecar_path(_named(job))
    write_bytes(path, sidecar(made, job.metadata), job.settings.overwrite)
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _named(job: Job) -> Spec:
    """Return the output of a job that is run."""
    assert job.spec is not None
    return job.spec


def _fill(
    job: Job, replacement: Replacement, resumption: Resumption | None, folder: Path, observe: Observer
) -> Statistics:
    """Write the voxels into the temporary files, complete and flushed, and return their statistics."""
    target, left = job.target, resumption.left if resumption else None
    with job.stopwatch.stage("read"):
        job.inputs.measure(job.plan.problem.dtype, folder)
    if left is not None:
        target = replace(target, slope=left.start.slope, inter=left.start.inter)
    elif job.settings.cast == "rescale":
        low_high = CastingWriter(None, target.dtype, "rescale")
        _convolve(job, low_high, observe, folder)
        slope, inter = rescaling(low_high.statistics, target.dtype)
        target = replace(target, slope=slope, inter=inter)
    if resumption is not None:
        resumption.begin(target.slope, target.inter)
        target = replace(target, voxels=resumption.voxels)
    if target.pyramid:
        from lucid_cli.shrink import shrink

        target = replace(target, shrink=partial(shrink, job.executor, target.axes, job.plan.threads))
    statistics = left.statistics if left else Statistics()
    closing = ExitStack()
    with closing, filled(_named(job), replacement.paths, target) as sink:
        writer = CastingWriter(sink, target.dtype, job.settings.cast, target.slope, target.inter, statistics)
        _convolve(job, writer, observe, folder, resumption)
        with job.stopwatch.stage("read"):
            job.inputs.finish(folder, elsewhere=job.executor.workers is not None)
        closing.enter_context(job.stopwatch.stage("write"))
    return statistics


def _hashes(job: Job) -> dict[str, str]:
    """Return what an interrupted run must share with the one that goes on."""
    target, spec = job.target, _named(job)
    with job.stopwatch.stage("read"):
        content = hash_values([one.sha256 for one in job.read if one.role != "weights"])
    shape = [
        target.file_shape,
        target.axes,
        target.dtype.str,
        target.spacing,
        job.inputs.roles,
        str(job.settings.spacing),
    ]
    storage = [job.settings.cast, target.compression, target.chunks, target.shuffle, spec.suffix, spec.inner]
    laid_out = [target.shards, target.zarr_format, target.pyramid]
    computed = [__version__, job.plan.algorithm, job.plan.engine, job.plan.tf32, job.layer.to_json()]
    weights = [array for both in job.layer.filters for array in both if array is not None]
    mask = None if job.settings.mask is None else parse_spec(job.settings.mask).inner or ""
    reading = [mask, str(job.settings.outside), job.settings.nan, job.settings.normalize]
    return {
        "input": content,
        "weights": hash_values(*weights),
        "configuration": hash_values(shape, storage, laid_out, computed, reading),
    }


def _convolve(
    job: Job, writer: CastingWriter, observe: Observer, folder: Path, resumption: Resumption | None = None
) -> None:
    end = OpenEnd(job.input, job.settings, job.inputs, job.plan.problem.size, folder)
    first = done = resumption.tiles if resumption else 0

    def noted(event: Progress) -> None:
        nonlocal done
        if resumption is not None and done > first:
            resumption.note(writer.statistics)
        done += 1
        observe(event)

    job.executor.execute(job.plan, job.layer.filters, end, writer, noted, stopwatch=job.stopwatch, finished=first)


def item(job: Job, status: str, statistics: Statistics | None, seconds: dict[str, float] | None) -> Item:
    """Return the report's item for a job."""
    problem = job.plan.problem
    return Item(
        input=job.info.to_json(),
        output=_output_json(job, statistics),
        layer=described(job.layer, problem),
        shapes={
            "input": list(problem.in_shape),
            "padded": list(problem.padded_shape),
            "output": list(problem.out_shape),
        },
        parameters=problem.parameters,
        macs=problem.macs,
        plan=job.plan,
        seconds=seconds or dict.fromkeys(("read", "compute", "write", "total")),
        peak_rss_bytes=machine.peak_resident_bytes(),
        status=status,
        error=None,
        volume=job.inputs.to_json() or None,
    )


def _output_json(job: Job, statistics: Statistics | None) -> dict[str, Any]:
    target, spec = job.target, job.spec
    letters = target.axes.replace("n", "t") if target.axes.endswith("xyzn") else target.axes
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
