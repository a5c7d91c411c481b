"""One input of a command: planned or run, and what came of it as an item of the report and an exit code."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lucid_cli import report
from lucid_cli.executors import HERE, Executor
from lucid_cli.failures import exit_code, message
from lucid_cli.finished import check_finished
from lucid_cli.formats import Spec, format_of
from lucid_cli.job import Job, item, prepare, run
from lucid_cli.layer import Recipe
from lucid_cli.layers import LayersRecipe
from lucid_cli.origin import files_written, read_by
from lucid_cli.output import Protected, check_far, check_target
from lucid_cli.provenance import kept_beside, sidecar_path
from lucid_cli.resume import tile_left
from lucid_cli.settings import Settings
from lucid_cli.talk import show_trace
from lucid_cli.temporary import JOURNAL, PARTIAL, VOXELS, hidden, tree_of
from lucid_core import machine
from lucid_core.errors import ArgumentError, LimitError, OutputError
from lucid_core.events import Observer
from lucid_core.regions import Triple

if TYPE_CHECKING:
    from lucid_cli.pictures.take import Pictures


@dataclass(frozen=True)
class Task:
    """An input, its output where there is one, and its place among the inputs."""

    index: int
    input: Spec
    output: Spec | None


@dataclass(frozen=True)
class Outcome:
    """What came of a task; `code` is 0 where nothing failed."""

    item: report.Item
    code: int = 0
    pictures: "Pictures | None" = None
    """What a page shows of it."""
    crashed: bool = False
    """Whether the process that worked on it has ended, so that nothing was cleaned up."""


@dataclass(frozen=True)
class Single:
    """What is done with every input: planned only where `dry`."""

    recipe: Recipe | LayersRecipe
    protected: Protected
    dry: bool
    tell: Callable[[str], None]
    """Takes words for people."""
    executor: Executor = HERE

    def outcome(self, task: Task, observe: Observer) -> Outcome:
        """Carry out a task; an error of its own is an outcome."""
        try:
            return self.done(task, observe)
        except Exception as error:
            show_trace(error)
            failed = report.bare_item(str(task.input), "failed", machine.peak_resident_bytes(), message(error))
            return Outcome(failed, exit_code(error))

    def done(self, task: Task, observe: Observer) -> Outcome:
        """Carry out a task, or raise its error."""
        settings, out, job = self.recipe.settings, task.output, None
        with ExitStack() as stack:
            if out is not None and _skips(settings) and _exists(out, settings):
                job = prepare(task.input, out, self.recipe, stack, executor=self.executor)
                if self._is_finished(out, job):
                    return Outcome(report.bare_item(str(task.input), "skipped", machine.peak_resident_bytes()))
            finals = self._finals(task.input, out)
            tile = tile_left(finals[0]) if finals and settings.resume else None
            if job is None or tile is not None:
                job = self._prepared(task, stack, tile)
            return self._carried_out(job, finals, observe)

    def _is_finished(self, out: Spec, job: Job) -> bool:
        """Say whether an output that exists is finished; one that is not is an error unless it may be replaced."""
        try:
            check_finished(out, job.target, job.provenance)
        except OutputError as error:
            if not self.recipe.settings.overwrite:
                raise
            self.tell(f"Warning: {error}")
            return False
        return True

    def _prepared(self, task: Task, stack: ExitStack, tile: Triple | None) -> Job:
        """Prepare a job, with the tile of the interrupted run where there is one."""
        try:
            return prepare(task.input, task.output, self.recipe, stack, tile, self.executor)
        except LimitError as error:
            if tile is not None:
                error.add_note("the tile is that of an interrupted run; run once without --resume to begin anew")
            raise

    def _carried_out(self, job: Job, finals: list[Path], observe: Observer) -> Outcome:
        """Run a job, or only plan it, telling what is to be told."""
        for warning in job.inputs.warnings:
            self.tell(f"Warning: {warning}")
        if job.settings.verbose:
            self.tell(str(job.plan))
        if self.dry:
            return Outcome(item(job, "planned", None, None))
        found = run(job, finals, observe)
        if not (job.settings.draws and job.spec):
            return Outcome(found)
        from lucid_cli.pictures.take import take

        return Outcome(found, pictures=take(job.input, job.spec, found, job.layer, job.inputs.warnings))

    def _finals(self, into: Spec, out: Spec | None) -> list[Path]:
        """Return the files an output consists of, after checking that each, and its sidecar, may be written."""
        if out is None:
            return []
        settings, finals = self.recipe.settings, format_of(out).files(out)
        if out.url is not None:
            _check_far(into, out, settings)
        lone = settings.has_sidecar and not any(path.exists() for path in finals)
        if lone and _skips(settings) and kept_beside(out):
            sidecar_path(out).unlink()  # a run was ended before its output stood there
        checked = partial(check_target, protected=self.protected, overwrite=settings.overwrite)
        return [
            checked(path, make_folder=settings.makes_folders, is_folder=out.is_folder and path in finals)
            for path in files_written(out, settings)
        ][: len(finals)]


def _skips(settings: Settings) -> bool:
    """Say whether finished outputs are left: what is resumed is the rest of a run, unless it was to replace them."""
    return settings.skip_existing or (settings.resume and not settings.overwrite)


def _exists(out: Spec, settings: Settings) -> bool:
    """Say whether all files of an output exist, its sidecar too where there is to be one; a pipe has none."""
    if out.url is not None:
        return bool(format_of(out).exists(out))
    paths = files_written(out, settings)
    return bool(paths) and all(path.exists() for path in paths)


def _check_far(into: Spec, out: Spec, settings: Settings) -> None:
    """Raise what speaks against an output behind an address."""
    if settings.resume or settings.has_sidecar:
        raise ArgumentError(f"{out}: --resume, --sidecar and --bids keep files beside an output, which a folder has")
    read = (one.zarr for one in read_by(into, settings))
    check_far(out, settings.overwrite, [one for one in read if one is not None])


def clear(task: Task) -> None:
    """Remove what a process that has ended left of an output."""
    for path in format_of(task.output).files(task.output) if task.output else []:
        for kind in (PARTIAL, VOXELS, JOURNAL):
            hidden(path, kind).unlink(missing_ok=True)
        shutil.rmtree(tree_of(hidden(path, PARTIAL)), ignore_errors=True)
