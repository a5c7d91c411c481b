"""Where the time of a run goes, when several threads work at once."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("read", "compute", "write")
OTHERWISE = "compute"
"""The stage of moments in which no thread is in any: planning, and what lies between the stages."""


class Stopwatch:
    """Shares every moment among the stages that threads are in, so that the stages add up to the time that passed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._active = dict.fromkeys(STAGES, 0)
        self._last = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block as time of this stage."""
        self._change(name, 1)
        try:
            yield
        finally:
            self._change(name, -1)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage, and `total`, their sum: the time since the stopwatch was made."""
        with self._lock:
            self._share()
            return self._spent | {"total": sum(self._spent.values())}

    def _change(self, name: str, by: int) -> None:
        with self._lock:
            self._share()
            self._active[name] += by

    def _share(self) -> None:
        """Share the time since the last change."""
        now = time.perf_counter()
        working = sum(self._active.values())
        for name, count in self._active.items():
            self._spent[name] += (now - self._last) * (count / working if working else name == OTHERWISE)
        self._last = now
