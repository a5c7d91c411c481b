"""Fair timing: the contestants in turn, round by round, and the median of each."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping


def medians(contestants: Mapping[str, Callable[[], object]], rounds: int = 5, pause: float = 0.0) -> dict[str, float]:
    """Return the median seconds of each, warm: every call that is timed follows one that is not.

    Before these, what the last contestant left is freed, and its threads have `pause` seconds to fall asleep: those
    of OpenMP wait awake for more work, and would take a core from whoever comes next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, function in contestants.items():
            gc.collect()
            time.sleep(pause)
            function()
            began = time.perf_counter()
            result = function()
            took = time.perf_counter() - began
            del result
            seconds[name].append(took)
    return {name: statistics.median(times) for name, times in seconds.items()}
