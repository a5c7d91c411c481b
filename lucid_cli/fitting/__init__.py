"""Weights fitted to scans and what is to be made of them: planned from headers, learned tile by tile, saved whole."""

import os
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from lucid_cli.budget import check_disk
from lucid_cli.fitting.adam import bytes_of_step, fit_by_adam
from lucid_cli.fitting.checkpoint import Checkpoint
from lucid_cli.fitting.exact import bytes_of_sums, fit_exactly
from lucid_cli.fitting.iterated import bytes_of_passes, fit_by_iterations
from lucid_cli.fitting.memory import Memory, within
from lucid_cli.fitting.model import Model, model_of
from lucid_cli.fitting.pairs import Pair, dtype_of, pairs_of
from lucid_cli.fitting.report import Outcome
from lucid_cli.fitting.saving import content, suffix_for
from lucid_cli.fitting.settings import FitSettings
from lucid_cli.fitting.tiles import MOST_OPEN, STEP_VOXELS, SUM_VOXELS, Readers, Tiles, places_of, split
from lucid_cli.fitting.work import Fitted, Job
from lucid_cli.journal import hash_values
from lucid_cli.layers import weights_files
from lucid_cli.origin import read_as
from lucid_cli.output import check_target, protect, temporaries, write_bytes
from lucid_cli.report import dump
from lucid_cli.settings import PAGES
from lucid_cli.talk import data, say
from lucid_cli.volumes import Writing
from lucid_core import __version__, machine
from lucid_core.arguments import triple
from lucid_core.errors import ArgumentError, OutputError
from lucid_core.fitting.constraints import checked
from lucid_core.optional import require
from lucid_core.turns import WAITING

SOLVERS = {"exact": fit_exactly, "cg": fit_by_iterations, "adam": fit_by_adam}
MOST_TERMS = 4096
"""Weights of one filter of which a gram matrix, of 128 MiB then, is made; more are found by iterations."""
ADAM_VALIDATION = 0.1
"""Share of the tiles to validate with where Adam learns and nothing is said."""


def fit(inputs: tuple[str, ...], settings: FitSettings, config: str | None) -> int:
    """Fit a layer or a stack, write its weights and the report, and return the exit code."""
    began = time.monotonic()
    with ExitStack() as stack:
        job = prepare(inputs, settings, config, stack)
        for warning in job.warnings:
            _tell(settings, f"Warning: {warning}")
        fitted = None if settings.dry_run else run(job)
    outcome = Outcome(job, fitted, time.monotonic() - began, machine.peak_resident_bytes())
    for warning in fitted.warnings if fitted else ():
        _tell(settings, f"Warning: {warning}")
    _tell(settings, outcome.table())
    _write_pages(job, outcome)
    return 0


def _unvalidated(job: Job, fitted: Fitted) -> tuple[str, ...]:
    """Return a warning where a validation was asked for, or tiles are held out for one, and no voxel counts in it."""
    if fitted.validation is not None or not (job.settings.validation or len(job.validation)):
        return ()
    return (
        f"nothing is validated: no voxel counts in {len(job.validation)} tiles to validate with, beside "
        f"{len(job.training)} to learn from; use a smaller --tile, or another --seed",
    )


def _tell(settings: FitSettings, text: str) -> None:
    if not settings.quiet:
        say(text)


def prepare(inputs: tuple[str, ...], settings: FitSettings, config: str | None, stack: ExitStack) -> Job:
    """Read the headers of all files and check what they and the options say; nothing is written.

    `stack` closes what is opened later.
    """
    checked(settings.constraint)
    pairs = pairs_of(inputs, settings)
    dtype = dtype_of(pairs, settings)
    model = model_of(settings, pairs[0], dtype)
    solver = _solver(settings, model, pairs[0])
    suffix = suffix_for(settings.output, model)
    final, pages = _targets(settings, pairs, config)
    problems = [model.problem(pair.input.shape) for pair in pairs]
    warnings = [one for pair, problem in zip(pairs, problems, strict=True) for one in pair.check(problem)]
    warnings += [one for pair in pairs for one in pair.warnings]
    tile = None if settings.tile is None else triple("tile", settings.tile, 1)
    most = STEP_VOXELS if solver == "adam" else SUM_VOXELS
    places = places_of(pairs, problems, tile, most, borders=settings.borders)
    share = (ADAM_VALIDATION if solver == "adam" else 0.0) if settings.validation is None else settings.validation
    if share >= 1:
        raise ArgumentError(f"--validation {share:g}: a share of the scans or tiles; legal: from 0 to below 1")
    readers = Readers(pairs, final.parent)
    stack.enter_context(closing(readers))
    training, validation = (Tiles(problems, readers, part, dtype) for part in split(places, share, settings.seed or 0))
    memory = _memory(settings, model, Tiles(problems, readers, places, dtype), pairs, solver)
    _check_disk(final.parent, pairs, _open_at_once(settings, solver))
    return Job(settings, pairs, model, final, suffix, pages, training, validation, memory, solver, tuple(warnings))


def _solver(settings: FitSettings, model: Model, first: Pair) -> str:
    """Return how the weights are found; raise `ArgumentError` for what is asked for and cannot be."""
    reason = None
    if model.only is None:
        reason = "the layers are a stack"
    elif settings.loss != "mse":
        reason = f"the loss is {settings.loss}"
    if settings.solver in ("exact", "cg") and reason:
        raise ArgumentError(
            f"--solver {settings.solver} is for one layer with the loss mse, and {reason}; leave it out"
        )
    if model.only is None and settings.borders:
        raise ArgumentError("--borders counts what one layer makes at a border; a stack learns from the voxels inside")
    if settings.solver != "auto":
        return settings.solver
    (problem,) = model.problem(first.input.shape).problems if reason is None else (None,)
    return "adam" if problem is None else "exact" if problem.terms <= MOST_TERMS else "cg"


def _targets(settings: FitSettings, pairs: list[Pair], config: str | None) -> tuple[Path, dict[str, Path]]:
    """Return where the weights, and report and plot by their options, go; refuse what must not be written over."""
    read = [path for pair in pairs for one in pair.volumes for path in read_as("input", one.spec).files]
    protected = protect([*read, *weights_files(settings), *([Path(config)] if config else [])])
    pages: dict[str, Path] = {}
    for option, suffixes in (("report", (".json", *PAGES)), ("plot", (".png",))):
        name = getattr(settings, option)
        if name is None or (option == "report" and name == "-"):
            continue
        if not name.lower().endswith(suffixes):
            raise ArgumentError(f"--{option} {name}: the suffix says no form; legal: {', '.join(suffixes)}")
        if settings.dry_run:
            raise ArgumentError(f"--{option}: a plan writes nothing; use --report - to see the report")
        pages[option] = check_target(Path(name), protected, settings.overwrite, skips=False)
    if settings.plot is not None or settings.draws:
        require("matplotlib", "viz")
    final = check_target(Path(str(settings.output)), protected, settings.overwrite, skips=False)
    real = [os.path.realpath(path) for path in (final, *pages.values())]
    if len(set(real)) < len(real):
        raise OutputError(f"{settings.output}: weights, report and plot are files of their own; give each a name")
    return final, pages


def _open_at_once(settings: FitSettings, solver: str) -> int:
    """Return how many pairs are open at the same time: an exact solution closes them behind those in work."""
    threads = settings.threads or machine.cores()
    return min(MOST_OPEN, WAITING * threads + 1) if solver == "exact" else MOST_OPEN


def _memory(settings: FitSettings, model: Model, tiles: Tiles, pairs: list[Pair], solver: str) -> Memory:
    """Return the threads that keep the limit, and what they take for tiles of all pairs."""
    open_pairs = sorted((sum(one.memory for one in pair.readings) for pair in pairs), reverse=True)
    readers = sum(open_pairs[: _open_at_once(settings, solver)])
    if solver == "adam":
        fixed, each = bytes_of_step(model, tiles, settings.batch_size or 1)
    else:
        fixed, each = bytes_of_sums(tiles) if solver == "exact" else bytes_of_passes(tiles)
    return within(settings, readers + fixed, each, compiles=solver != "exact")


def _check_disk(folder: Path, pairs: list[Pair], at_once: int) -> None:
    """Raise `LimitError` where a folder's disk has no room for the streams that are unpacked at the same time."""
    largest = sorted((pair.readings for pair in pairs), key=lambda ones: sum(one.spool for one in ones), reverse=True)
    unpacked = [one for ones in largest[:at_once] for one in ones]
    check_disk(folder, Writing(memory=0, copies=0.0, disk=0), tuple(unpacked))


def run(job: Job) -> Fitted:
    """Learn, and put the weights in their place."""
    settings = job.settings
    with temporaries([job.final], settings.overwrite, keep=settings.resume) as replacement:
        checkpoint = Checkpoint(job.final, _hashes(job)) if settings.resume else None
        try:
            fitted = SOLVERS[job.solver](job, checkpoint)
            job.training.readers.finish()
        except BaseException as error:
            if checkpoint is not None and checkpoint.kept:
                error.add_note("What is learned so far is kept: run again with --resume to go on.")
            raise
        spacing = job.pairs[0].input.info.spacing
        replacement.fill(0, content(fitted.model, str(settings.output), job.suffix, spacing))
        replacement.commit()
        if checkpoint is not None:
            checkpoint.remove()
    return replace(fitted, warnings=(*fitted.warnings, *_unvalidated(job, fitted)))


def _hashes(job: Job) -> dict[str, str]:
    """Return what an interrupted run must share with the one that goes on."""
    settings = job.settings
    names = ("solver", "loss", "l2", "constraint", "learning_rate", "batch_size", "seed", "borders", "spacing")
    chosen = {name: str(getattr(settings, name)) for name in names}
    tiles = [str(place) for one in (job.training, job.validation) for place in one.places]
    volumes = [read_as("input", one.spec).sha256 for pair in job.pairs for one in pair.volumes]
    axes = [one.roles for pair in job.pairs for one in pair.volumes]
    start = [part.weight for part in job.model.convolutions]
    start += [part.bias for part in job.model.convolutions if part.bias is not None]
    return {
        "input": hash_values(volumes, axes),
        "weights": hash_values(*start),
        "configuration": hash_values(__version__, chosen, tiles, job.model.layer.to_json(), str(job.training.dtype)),
    }


def _write_pages(job: Job, outcome: Outcome) -> None:
    """Write the report and the plot."""
    settings = job.settings
    if settings.report == "-":
        data(dump(outcome.to_json()))
    elif "report" in job.pages and settings.draws:
        from lucid_cli.fitting.page import page

        write_bytes(job.pages["report"], page(outcome).encode(), settings.overwrite)
    elif "report" in job.pages:
        write_bytes(job.pages["report"], dump(outcome.to_json()).encode(), settings.overwrite)
    if "plot" in job.pages:
        from lucid_cli.fitting.page import plot

        write_bytes(job.pages["plot"], plot(outcome), settings.overwrite)
