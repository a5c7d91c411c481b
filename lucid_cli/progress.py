"""Progress on stderr: a bar on a terminal, else a line after the first second and then every 10 % or 30 seconds."""

import json
import sys
import threading
import time
from types import TracebackType
from typing import Any

from lucid_cli.talk import say
from lucid_core.events import Progress

LINE_SHARE = 0.1
LINE_SECONDS = 30.0
FIRST_SECONDS = 1.0
TICK_SECONDS = 1.0
"""Time between two looks at the clock while no event comes."""


def kind_shown(kind: str) -> str:
    """Return what `--progress` comes to: auto is a bar on a terminal, else a log."""
    return ("bar" if sys.stderr and sys.stderr.isatty() else "log") if kind == "auto" else kind


class Due:
    """Says when a line is due: the first one, 10 % or 30 s after the last, or the last."""

    def __init__(self, began: float, patience: float = 0.0) -> None:
        """No line is due in the first `patience` seconds from when it `began`."""
        self._patience = patience
        self._start = self._last_time = began
        self._last_share = 0.0
        self._shown = 0

    def now(self, share: float) -> bool:
        """Say whether a line is due when this share is done; then it counts as shown."""
        self._last_share = min(self._last_share, share)
        since = time.monotonic() - self._last_time
        wait = LINE_SECONDS if self._shown else FIRST_SECONDS
        due = share - self._last_share >= LINE_SHARE or since >= wait or share == 1.0 > self._last_share
        due = due and (not self._patience or time.monotonic() - self._start >= self._patience)
        if due:
            self._last_share, self._last_time = share, time.monotonic()
            self._shown += 1
        return due


class Reporter:
    """Shows the progress of one input; an observer of `execute` and a context manager that ends what it shows.

    A thread of its own keeps the clock, so that a tile that takes minutes is not silence.
    """

    def __init__(self, kind: str, title: str, *, patience: float = 0.0) -> None:
        """Report nothing as lines in the first `patience` seconds."""
        self._kind = kind_shown(kind)
        self._title = title
        self._bar: Any = None
        self._began = time.monotonic()
        self._due = Due(self._began, patience)
        self._before = 0
        self._event: Progress | None = None
        self._lock, self._end = threading.Lock(), threading.Event()
        self._clock = threading.Thread(target=self._tick, name="lucid-progress", daemon=True)

    def __call__(self, event: Progress) -> None:
        """Take one event."""
        with self._lock:
            if self._event is None or event.done < self._event.done:  # the first pass over the volume, or another
                self._before, self._began = event.done, time.monotonic()
            self._event = event
            self._show(event)

    def _tick(self) -> None:
        """Look at the clock until the end."""
        while not self._end.wait(TICK_SECONDS):
            with self._lock:
                if self._event is not None:
                    self._show(self._event)

    def _show(self, event: Progress) -> None:
        if self._kind == "bar":
            self._show_bar(event)
        elif self._kind in ("log", "json") and self._due.now(event.done / event.total if event.total else 1.0):
            say(self._line(event) if self._kind == "log" else self._json(event))

    def _show_bar(self, event: Progress) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=event.total, desc=self._title, unit="voxel", unit_scale=True, leave=False, initial=event.done
            )
        if event.done > self._bar.n:
            self._bar.update(event.done - self._bar.n)
        else:
            self._bar.refresh()

    def _rate(self, event: Progress) -> tuple[float, float | None]:
        """Return the voxels a second, and the seconds left, None where no voxel is done yet."""
        seconds, new = time.monotonic() - self._began, event.done - self._before
        return new / seconds if seconds else 0.0, seconds * (event.total - event.done) / new if new else None

    def _line(self, event: Progress) -> str:
        rate, left = self._rate(event)
        share = 100 * event.done / event.total if event.total else 100.0
        rest = "time left not known yet" if left is None else f"{left:.0f} s left"
        return f"{self._title}: {share:.0f} % of {event.total} voxels, {rate / 1e6:.1f} Mvoxel/s, {rest}"

    def _json(self, event: Progress) -> str:
        rate, left = self._rate(event)
        known = {"event": "progress", "input": self._title, "done": event.done, "total": event.total}
        return json.dumps(known | {"rate": round(rate), "seconds_left": None if left is None else round(left, 1)})

    def __enter__(self) -> "Reporter":
        if self._kind != "none":
            self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._clock.is_alive():
            self._clock.join()
        if self._bar is not None:
            self._bar.close()
