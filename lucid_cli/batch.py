"""All inputs of one command: each is planned and run by itself, and a failing one does not stop the others."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lucid_cli import report
from lucid_cli.failures import exit_code, message
from lucid_cli.finished import check_finished
from lucid_cli.formats import Spec, format_of, parse_spec
from lucid_cli.job import Job, item, peak_rss_bytes, prepare, protected, run
from lucid_cli.layer import Recipe
from lucid_cli.layers import LayersRecipe, any_recipe
from lucid_cli.options import Settings
from lucid_cli.output import check_target, output_specs, write_bytes
from lucid_cli.progress import Reporter
from lucid_cli.resume import tile_left
from lucid_cli.talk import data, say, show_trace
from lucid_core.errors import ArgumentError, LimitError, OutputError
from lucid_core.optional import require
from lucid_core.regions import Triple

if TYPE_CHECKING:
    from lucid_cli.pictures.take import Pictures

PAGES = (".html", ".htm")
"""Suffixes of a report that is a page with pictures."""
WRONG_USAGE = 2
SOME_FAILED = 7


def plan_all(inputs: tuple[str, ...], settings: Settings) -> tuple[list[report.Item], int]:
    """Plan every input from its header; return the items and the exit code."""
    batch = _Batch("plan", inputs, settings, None, dry=True)
    batch.check_report()
    return batch.each()


def apply_all(inputs: tuple[str, ...], settings: Settings, config: str | None) -> int:
    """Convolve every input, write the report, and return the exit code."""
    batch = _Batch("apply", inputs, settings, config, dry=settings.dry_run)
    report_path = batch.check_report()
    items, code = batch.each()
    if settings.report == "-":
        data(report.dump(report.report_json("apply", items)))
    elif report_path is not None:
        write_bytes(report_path, batch.text(items).encode(), settings.overwrite)
    return code


class _Batch:
    def __init__(
        self, command: str, inputs: tuple[str, ...], settings: Settings, config: str | None, *, dry: bool
    ) -> None:
        if not inputs:
            raise ArgumentError(f"no INPUT is given; write it like: lucid-conv3d {command} scan.nii.gz ...")
        if settings.output is None and not dry:
            raise ArgumentError("no output is given; name it with -o OUTPUT")
        self._command = command
        self._settings = settings
        self._dry = dry
        self._inputs = [parse_spec(text) for text in inputs]
        if sum(spec.is_pipe for spec in self._inputs) > 1:
            raise ArgumentError("stdin can be an INPUT only once")
        self._outputs: list[Spec | None] = [None] * len(inputs)
        if settings.output is not None:
            self._outputs = [*output_specs(self._inputs, settings.output, settings.name)]
        _check_pipes(self._inputs, self._outputs, settings)
        self._protected = protected(self._inputs, settings, config)
        self._recipe = any_recipe(settings)
        self._draws = False
        """Whether the report is a page with pictures."""
        self._pictures: list[Pictures | None] = []

    def check_report(self) -> Path | None:
        """Return where the report goes, None for nowhere or stdout, refusing what must not be written over."""
        settings = self._settings
        if settings.report in (None, "-"):
            return None
        path = Path(str(settings.report))
        if path.suffix.lower() not in (".json", *PAGES):
            raise ArgumentError(
                f"--report {path}: the suffix says no form of report; legal: FILE.json, FILE.html, or - for stdout"
            )
        if self._dry:
            raise ArgumentError("a plan writes nothing; use --report - to see the report")
        self._draws = path.suffix.lower() in PAGES
        if self._draws:
            require("matplotlib", "viz")
        outputs = [spec.path for spec in self._outputs if spec]
        return check_target(path, [*self._protected, *outputs], settings.overwrite)

    def text(self, items: list[report.Item]) -> str:
        """Return the report in the form that the suffix of its file says."""
        if not self._draws:
            return report.dump(report.report_json(self._command, items))
        from lucid_cli.pictures.page import page

        command = shlex.join(["lucid-conv3d", *sys.argv[1:]])
        return page(items, self._pictures, command)

    def each(self) -> tuple[list[report.Item], int]:
        """Take the inputs one by one; return their items and the exit code."""
        items: list[report.Item] = []
        codes: list[int] = []
        for spec, out in zip(self._inputs, self._outputs, strict=True):
            self._pictures.append(None)
            try:
                items.append(self._one(spec, out))
            except Exception as error:
                show_trace(error)
                text = self._named(spec, error)
                if all(text != item.error for item in items):
                    say(f"Error: {text}")
                items.append(report.bare_item(str(spec), "failed", peak_rss_bytes(), text))
                codes.append(exit_code(error))
                if self._settings.fail_fast:
                    break
        if not codes:
            return items, 0
        return items, codes[0] if len(self._inputs) == 1 or set(codes) == {WRONG_USAGE} else SOME_FAILED

    def _one(self, spec: Spec, out: Spec | None) -> report.Item:
        settings, job = self._settings, None
        with ExitStack() as stack:
            if out is not None and settings.skip_existing and _exists(out):
                job = prepare(spec, out, self._recipe, stack)
                if self._is_finished(out, job):
                    self._tell(f"{out} is finished, skipped")
                    return report.bare_item(str(spec), "skipped", peak_rss_bytes())
            finals = self._finals(out)
            tile = tile_left(finals[0]) if finals and settings.resume else None
            if job is None or tile is not None:
                job = _prepared(spec, out, self._recipe, stack, tile)
            done = self._done(job, finals)
            if self._command == "apply":
                self._tell(report.table(done))
            if self._draws and out is not None:
                from lucid_cli.pictures.take import take

                self._pictures[-1] = take(spec, out, done, job.layer, job.inputs.warnings)
            return done

    def _named(self, spec: Spec, error: Exception) -> str:
        """Return the message of an error, with the input among several that it comes from."""
        text = message(error)
        alone = len(self._inputs) == 1 or exit_code(error) == WRONG_USAGE or str(spec.path) in text
        return text if alone else f"{spec}: {text}"

    def _is_finished(self, out: Spec, job: Job) -> bool:
        """Say whether an output that exists is finished; one that is not is an error unless it may be replaced."""
        try:
            check_finished(out, job.target)
        except OutputError as error:
            if not self._settings.overwrite:
                raise
            self._tell(f"Warning: {error}")
            return False
        return True

    def _done(self, job: Job, finals: list[Path]) -> report.Item:
        """Carry out a job, or only plan it, telling what is to be told."""
        for warning in job.inputs.warnings:
            self._tell(f"Warning: {warning}")
        if self._settings.verbose:
            self._tell(str(job.plan))
        if self._dry:
            return item(job, "planned", None, None)
        kind = "none" if self._settings.quiet else self._settings.progress
        with Reporter(kind, job.input.path.name) as observe:
            return run(job, finals, observe)

    def _finals(self, out: Spec | None) -> list[Path]:
        """Return the files an output consists of, after checking that each may be written."""
        if out is None:
            return []
        return [check_target(path, self._protected, self._settings.overwrite) for path in format_of(out).files(out)]

    def _tell(self, text: str) -> None:
        if not self._settings.quiet:
            say(text)


def _prepared(spec: Spec, out: Spec | None, made: Recipe | LayersRecipe, stack: ExitStack, tile: Triple | None) -> Job:
    """Prepare a job, with the tile of the interrupted run where there is one."""
    try:
        return prepare(spec, out, made, stack, tile)
    except LimitError as error:
        if tile is not None:
            error.add_note("the tile is that of an interrupted run; run once without --resume to begin anew")
        raise


def _exists(out: Spec) -> bool:
    """Say whether all files of an output exist; a pipe has none."""
    paths = format_of(out).files(out)
    return bool(paths) and all(path.exists() for path in paths)


def _check_pipes(inputs: Sequence[Spec | None], outputs: Sequence[Spec | None], settings: Settings) -> None:
    """Raise `ArgumentError` for what stdin and stdout cannot do."""
    into, out = (any(spec and spec.is_pipe for spec in specs) for specs in (inputs, outputs))
    if into and settings.cast == "rescale":
        raise ArgumentError("--cast rescale reads its input twice, which stdin does not allow; use --cast clip")
    if into and settings.normalize is not None:
        raise ArgumentError("--normalize reads its input twice, which stdin does not allow; name a file")
    if (into or out) and settings.resume:
        raise ArgumentError("--resume needs files: neither stdin nor stdout can be gone on with")
    if out and sys.stdout is None:
        raise OutputError("stdout is closed, and the output is to go there; name a file")
    if out and settings.report == "-":
        raise ArgumentError("stdout can hold the volume or the report, not both; name a file for one of them")
