"""All inputs of one command: each is planned and run by itself, and a failing one does not stop the others."""

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from lucid_cli import report
from lucid_cli.bids import DATASET, checked_description, describe, of_dataset
from lucid_cli.board import Board
from lucid_cli.device import settled
from lucid_cli.executors import HERE, Executor
from lucid_cli.formats import PIPE, Spec, format_of
from lucid_cli.journal import hash_values
from lucid_cli.layers import any_recipe
from lucid_cli.listing import Listed, listed
from lucid_cli.naming import output_specs
from lucid_cli.origin import configuration, files_read, files_written
from lucid_cli.output import check_target, protect, write_bytes
from lucid_cli.progress import Reporter
from lucid_cli.settings import Settings
from lucid_cli.single import Outcome, Single, Task, clear
from lucid_cli.talk import data, say
from lucid_cli.workers import Told, at_once, shared
from lucid_core import machine
from lucid_core.errors import ArgumentError, OutputError
from lucid_core.events import Observer
from lucid_core.optional import require

WRONG_USAGE, OVER_LIMIT, SOME_FAILED = 2, 6, 7


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
        data(batch.text(items))
    elif report_path is not None:
        write_bytes(report_path, batch.text(items).encode(), settings.overwrite)
    return code


class _Batch:
    def __init__(
        self, command: str, inputs: tuple[str, ...], settings: Settings, config: str | None, *, dry: bool
    ) -> None:
        if not inputs and settings.from_file is None:
            raise ArgumentError(f"no INPUT is given; write it like: lucid-conv3d {command} scan.nii.gz ...")
        if settings.output is None and settings.out_dir is None and not dry:
            hint = f": -o {inputs[-1]}" if len(inputs) > 1 and not Path(inputs[-1]).exists() else ""
            raise ArgumentError(f"no output is given; name it with -o OUTPUT{hint}, or a folder with --out-dir FOLDER")
        settings = settled(settings, lambda text: None if settings.quiet else say(text))
        self._command, self._settings, self._dry = command, settings, dry
        out_dir = settings.out_dir or settings.output
        found = listed(inputs, settings.from_file, Path(out_dir) if out_dir else None)
        self._tasks = _tasks(of_dataset(found) if settings.bids else found, settings)
        _check_pipes(self._tasks, settings)
        self._protected = protect(files_read((task.input for task in self._tasks), settings, config))
        self._description = None
        if settings.bids and not dry:
            inputs_of = [task.input for task in self._tasks]
            self._description = checked_description(inputs_of, Path(str(settings.out_dir)))
        self._shard: dict[str, Any] | None = None
        if settings.shard is not None:
            index, count = settings.shard
            of = hash_values([str(task.input) for task in self._tasks], configuration(settings))
            self._shard = {"index": index, "count": count, "of": of}
            self._tasks = self._tasks[index - 1 :: count]
        self._recipe = any_recipe(settings)
        self._outcomes: dict[int, Outcome] = {}
        self._executor: Executor = HERE

    def check_report(self) -> Path | None:
        """Return where the report goes, None for nowhere or stdout, refusing what must not be written over."""
        settings = self._settings
        if settings.report in (None, "-"):
            return None
        path = Path(str(settings.report))
        if path.suffix.lower() != ".json" and not settings.draws:
            raise ArgumentError(
                f"--report {path}: the suffix says no form of report; legal: FILE.json, FILE.html, or - for stdout"
            )
        if self._dry:
            raise ArgumentError("a plan writes nothing; use --report - to see the report")
        if settings.draws:
            require("matplotlib", "viz")
        finals = [one for task in self._tasks if task.output for one in files_written(task.output, settings)]
        finals += [Path(str(settings.out_dir), DATASET)] if settings.bids else []
        if os.path.realpath(path) in map(os.path.realpath, finals):
            raise OutputError(f"--report {path}: is one of the files that the run itself writes; name another")
        return check_target(path, self._protected, settings.overwrite, make_folder=settings.makes_folders)

    def text(self, items: list[report.Item]) -> str:
        """Return the report in the form that the suffix of its file says."""
        if not self._settings.draws:
            return report.dump(report.report_json(self._command, items, self._shard))
        from lucid_cli.pictures.page import page

        pictures = [self._outcomes[index].pictures for index in sorted(self._outcomes)]
        return page(items, pictures, shlex.join(["lucid-conv3d", *sys.argv[1:]]))

    def each(self) -> tuple[list[report.Item], int]:
        """Carry out the tasks; return their items, in the order of the inputs, and the exit code."""
        with ExitStack() as stack:
            self._executor = _executor(self._settings, stack, dry=self._dry)
            if len(self._tasks) == 1 and self._settings.shard is None:
                self._alone(self._tasks[0])
            elif self._dry or self._executor.workers is not None:
                self._in_turn()
            else:
                self._at_once()
        if self._description is not None and any(self._finished(task) for task in self._tasks):
            describe(self._description, Path(str(self._settings.out_dir)))
        outcomes = [self._outcomes[index] for index in sorted(self._outcomes)]
        codes = {outcome.code for outcome in outcomes} - {0}
        alone = len(self._tasks) == 1 and self._settings.shard is None
        one_code = (
            alone or not codes or (codes == {WRONG_USAGE} and not any(self._finished(task) for task in self._tasks))
        )
        return [outcome.item for outcome in outcomes], max(codes, default=0) if one_code else SOME_FAILED

    def _finished(self, task: Task) -> bool:
        """Say whether the output of a task is there."""
        return task.index in self._outcomes and self._outcomes[task.index].item.status in ("ok", "skipped")

    def _alone(self, task: Task) -> None:
        """Carry out the only task in this process, with its progress and its table."""
        settings = self._settings
        kind = "none" if settings.quiet or self._dry else settings.progress
        with Reporter(kind, task.input.path.name) as observe:
            outcome = self._single(settings, self._tell).outcome(task, observe)
        self._outcomes[task.index] = outcome
        if outcome.item.error is not None:
            say(f"Error: {outcome.item.error}")
        elif outcome.item.status == "skipped":
            self._tell(f"{task.output} is finished, skipped")
        elif self._command == "apply":
            self._tell(report.table(outcome.item))

    def _in_turn(self) -> None:
        """Carry out the tasks from this process, or only plan them; an error that several have is said once."""
        single, said = self._single(self._settings, self._tell), set[str]()
        kind = "none" if self._settings.quiet or self._dry else self._settings.progress
        for task in self._tasks:
            with Reporter(kind, task.input.path.name) as observe:
                outcome = self._noted(task, single.outcome(task, observe))
            error = outcome.item.error
            if error is None and self._command == "apply":
                self._tell(report.table(outcome.item))
            elif error is not None and error not in said:
                said.add(error)
                say(f"Error: {error}")
            if outcome.code and self._settings.fail_fast:
                break

    def _at_once(self) -> None:
        """Carry out the tasks in worker processes, and at the end, alone, those that found too little memory."""
        settings = self._settings
        threads = settings.threads or machine.cores()
        jobs = min(threads if settings.jobs == 0 else settings.jobs or 1, threads, len(self._tasks) or 1)
        with Board(settings.progress, len(self._tasks), quiet=settings.quiet) as board:
            postponed = self._pass(self._tasks, jobs, board)
            self._pass(postponed, 1, board)
        if not settings.quiet:
            board.summarize()

    def _pass(self, tasks: list[Task], jobs: int, board: Board) -> list[Task]:
        """Carry out tasks; return those that are over the limit where several files share it."""
        for task in tasks:
            for spec in (task.input, task.output):
                if spec is not None and spec.suffix:
                    format_of(spec)  # a worker has what is loaded before it is forked
        settings = shared(self._settings, jobs)

        def carry(task: Task, observe: Observer, tell: Callable[[str], None]) -> Outcome:
            return self._single(settings, tell).outcome(task, observe)

        postponed: list[Task] = []
        try:
            with closing(at_once(tasks, carry, jobs)) as events:
                for said in events:
                    if isinstance(said, Told):
                        board.told(said)
                    elif said.outcome.code == OVER_LIMIT and jobs > 1:
                        postponed.append(said.task)
                    else:
                        if said.outcome.crashed and not settings.resume:
                            clear(said.task)
                        board.end(said.task, self._noted(said.task, said.outcome))
                        if said.outcome.code and settings.fail_fast:
                            return []
        except BaseException as stop:
            done = sum(outcome.code == 0 for outcome in self._outcomes.values())
            stop.add_note(f"{done} of {len(self._tasks)} inputs are done; the same with --resume does the rest.")
            raise
        return postponed

    def _noted(self, task: Task, outcome: Outcome) -> Outcome:
        """Keep an outcome; its error names the input it comes from."""
        text = outcome.item.error
        if text is not None and outcome.code != WRONG_USAGE and task.input.name not in text:
            outcome = replace(outcome, item=replace(outcome.item, error=f"{task.input}: {text}"))
        self._outcomes[task.index] = outcome
        return outcome

    def _single(self, settings: Settings, tell: Callable[[str], None]) -> Single:
        return Single(replace(self._recipe, settings=settings), self._protected, self._dry, tell, self._executor)

    def _tell(self, text: str) -> None:
        if not self._settings.quiet:
            say(text)


def _executor(settings: Settings, stack: ExitStack, *, dry: bool) -> Executor:
    """Return who carries out plans; `stack` ends what is started for it."""
    if settings.executor != "dask":
        for name in ("scheduler", "workers"):
            if getattr(settings, name) is not None:
                raise ArgumentError(f"--{name} says how dask computes; give --executor dask too")
        return HERE
    if settings.jobs is not None:
        raise ArgumentError("-J computes files at once, and the workers of dask have one after the other; leave it out")
    if settings.scheduler not in (None, "slurm") and settings.workers is not None:
        raise ArgumentError("--workers starts workers, and --scheduler names some that run; leave one out")
    from lucid_cli.cluster.connection import Cluster

    return stack.enter_context(Cluster(settings, dry=dry))


def _tasks(inputs: list[Listed], settings: Settings) -> list[Task]:
    specs = [_with_level(one.spec, settings.level) for one in inputs]
    if sum(spec.is_pipe for spec in specs) + (settings.from_file == PIPE) > 1:
        raise ArgumentError("stdin can be given only once, as an INPUT or as the list of them")
    named = settings.output is not None or settings.out_dir is not None
    outputs = output_specs(inputs, settings) if named else [None] * len(specs)
    made = {os.path.realpath(out.node): one for one, out in zip(inputs, outputs, strict=True) if out is not None}
    pairs = []
    for one, out in zip(inputs, outputs, strict=True):
        maker = made.get(os.path.realpath(one.spec.node), one)
        if maker is one:
            pairs.append((_with_level(one.spec, settings.level), out))
        elif not one.found:  # what was found is what an earlier run wrote
            raise OutputError(f"{one.spec}: is an input, and the output of {maker.spec} too; name another output")
    return [Task(index, *pair) for index, pair in enumerate(pairs)]


def _with_level(spec: Spec, level: int | None) -> Spec:
    """Return an input of which a level is read, where `--level` says one."""
    if level is not None and not spec.is_zarr:
        raise ArgumentError(f"--level {level}: {spec} is no OME-Zarr; leave it out")
    return replace(spec, level=level)


def _check_pipes(tasks: list[Task], settings: Settings) -> None:
    """Raise `ArgumentError` for what stdin and stdout cannot do."""
    into = any(task.input.is_pipe for task in tasks)
    out = any(task.output is not None and task.output.is_pipe for task in tasks)
    if into and settings.cast == "rescale":
        raise ArgumentError("--cast rescale reads its input twice, which stdin does not allow; use --cast clip")
    if into and settings.executor == "dask":
        raise ArgumentError("the workers of dask read the input themselves, and stdin is none of theirs; name a file")
    if into and settings.normalize is not None:
        raise ArgumentError("--normalize reads its input twice, which stdin does not allow; name a file")
    if (into or out) and settings.resume:
        raise ArgumentError("--resume needs files: neither stdin nor stdout can be gone on with")
    if out and sys.stdout is None:
        raise OutputError("stdout is closed, and the output is to go there; name a file")
    if out and settings.sidecar:
        raise ArgumentError("--sidecar writes a file beside the output, and stdout is none; name a file")
    if out and settings.report == "-":
        raise ArgumentError("stdout can hold the volume or the report, not both; name a file for one of them")
