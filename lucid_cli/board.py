"""What is shown while a batch runs: one bar for all files on a terminal, and a line for every file that ends."""

import json
import sys
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from lucid_cli.progress import LINE_SECONDS, Reporter, kind_shown
from lucid_cli.report import Item
from lucid_cli.single import Outcome, Task
from lucid_cli.talk import say
from lucid_cli.workers import Told
from lucid_core.events import Progress


class Board:
    """Shows the progress of many inputs; a context manager that ends what it shows."""

    def __init__(self, kind: str, total: int, *, quiet: bool) -> None:
        self._kind = "none" if quiet else kind_shown(kind)
        self._quiet = quiet
        self._total = total
        self._ended: list[tuple[Task, Item]] = []
        self._began = time.monotonic()
        self._parts: dict[int, float] = {}
        """Of each input in work, the share that is done."""
        self._reporters: dict[int, Reporter] = {}
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._kind == "bar":
            from tqdm import tqdm

            tqdm.monitor_interval = 0  # its thread must not be there when a worker is forked
            layout = "{percentage:3.0f}%|{bar}| {n:.1f}/{total} files [{elapsed}<{remaining}]"
            self._bar = tqdm(total=self._total, bar_format=layout, leave=False, file=sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def told(self, told: Told) -> None:
        """Take what a worker says of an input in work: words or an event."""
        if isinstance(told.what, str):
            self._tell(told.what)
        else:
            self._event(told.task, told.what)

    def _event(self, task: Task, event: Progress) -> None:
        if self._kind == "bar":
            self._parts[task.index] = event.done / event.total if event.total else 1.0
            self._draw()
        elif self._kind in ("log", "json"):
            made = Reporter(self._kind, str(task.input), patience=LINE_SECONDS)
            self._reporters.setdefault(task.index, made)(event)

    def _tell(self, text: str) -> None:
        if not self._quiet:
            self._print(text)

    def end(self, task: Task, outcome: Outcome) -> None:
        """Take the outcome of an input; an error that several have is said once."""
        item = outcome.item
        self._parts.pop(task.index, None)
        self._reporters.pop(task.index, None)
        known = any(item.error == other.error for _, other in self._ended)
        self._ended.append((task, item))
        if self._kind == "json":
            self._print(self._json(task, item))
        if item.error is not None and not known:
            self._print(f"Error: {item.error}")
        elif item.error is None and self._kind != "json":
            self._tell(f"[{len(self._ended)}/{self._total}] {_line(task, item)}")
        self._draw()

    def summarize(self) -> None:
        """Print how many inputs came to which end, the time that all took, and a table of those that failed."""
        if self._kind == "json":
            return
        words = {"ok": "done", "skipped": "skipped", "failed": "failed"}
        counts = Counter(item.status for _, item in self._ended)
        parts = [f"{counts[status]} {word}" for status, word in words.items() if counts[status]]
        left = self._total - len(self._ended)
        parts += [f"{left} not done"] if left else []
        ended = sorted(self._ended, key=lambda one: one[0].index)
        failed = [(str(task.input), str(item.error)) for task, item in ended if item.status == "failed"]
        wide = max((len(name) for name, _ in failed), default=0)
        rows = [f"  {name:<{wide}}  {error.removeprefix(f'{name}: ')}" for name, error in failed]
        seconds = time.monotonic() - self._began
        self._print("\n".join([f"{self._total} inputs: {', '.join(parts)}, in {seconds:.1f} s", *rows]))

    def _json(self, task: Task, item: Item) -> str:
        known = {"event": "ended", "input": str(task.input), "output": str(task.output), "status": item.status}
        return json.dumps(known | {"error": item.error, "done": len(self._ended), "total": self._total})

    def _draw(self) -> None:
        if self._bar is not None:
            self._bar.n = len(self._ended) + sum(self._parts.values())
            self._bar.refresh()

    def _print(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        say(text)


def _line(task: Task, item: Item) -> str:
    """Return what is said of an input that was done."""
    if item.status == "skipped":
        return f"{task.input}: skipped, {task.output} is finished"
    return f"{task.input} -> {task.output}, {item.seconds['total']:.2f} s"
