"""Progress on stderr: a bar on a terminal, else a line every 10 % or 30 seconds."""

import json
import sys
import time
from types import TracebackType
from typing import Any

from lucid_cli.talk import say
from lucid_core.events import Progress

LINE_SHARE = 0.1
LINE_SECONDS = 30.0


class Reporter:
    """Shows the progress of one input; an observer of `execute` and a context manager that ends the bar."""

    def __init__(self, kind: str, title: str) -> None:
        self._kind = ("bar" if sys.stderr and sys.stderr.isatty() else "log") if kind == "auto" else kind
        self._title = title
        self._bar: Any = None
        self._began = time.monotonic()
        self._last_time = self._began
        self._last_share = 0.0
        self._before: int | None = None

    def __call__(self, event: Progress) -> None:
        """Take one event."""
        if self._before is None:
            self._before = event.done
        shows = {"bar": self._show_bar, "log": self._show_line, "json": self._show_json}
        if self._kind in shows:
            shows[self._kind](event)

    def _show_bar(self, event: Progress) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=event.total, desc=self._title, unit="voxel", unit_scale=True, leave=False, initial=event.done
            )
        self._bar.update(event.done - self._bar.n)

    def _due(self, event: Progress) -> bool:
        """Say whether 10 % or 30 s have passed since the last line, or all is done."""
        share = event.done / event.total if event.total else 1.0
        self._last_share = min(self._last_share, share)
        now = time.monotonic()
        due = share - self._last_share >= LINE_SHARE or now - self._last_time >= LINE_SECONDS or share == 1.0
        if due:
            self._last_share, self._last_time = share, now
        return due

    def _show_line(self, event: Progress) -> None:
        if self._due(event):
            seconds = time.monotonic() - self._began
            new = event.done - (self._before or 0)
            rate = new / seconds / 1e6 if seconds else 0.0
            left = seconds * (event.total - event.done) / new if new else 0.0
            share = 100 * event.done / event.total if event.total else 100.0
            say(f"{self._title}: {share:.0f} % of {event.total} voxels, {rate:.1f} Mvoxel/s, {left:.0f} s left")

    def _show_json(self, event: Progress) -> None:
        if self._due(event):
            say(json.dumps({"event": "progress", "input": self._title, "done": event.done, "total": event.total}))

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
