"""Seconds of stages, when several threads work at once."""

import threading
import time
from itertools import pairwise

import pytest

from lucid_core import stopwatch
from lucid_core.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """Return a function that lets seconds pass."""
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


def test_a_moment_is_shared_among_the_stages_of_the_threads(clock):
    watch = Stopwatch()
    clock(1)
    with watch.stage("read"):
        clock(2)
        with watch.stage("write"), watch.stage("write"):
            clock(3)
        clock(5)
    assert watch.seconds() == pytest.approx({"read": 2 + 1 + 5, "compute": 1, "write": 2, "total": 11})


def test_the_stages_add_up_whatever_threads_do():
    watch, began = Stopwatch(), time.perf_counter()

    def work(name):
        for _ in range(50):
            with watch.stage(name):
                time.sleep(0.0002)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("read", "compute", "write", "write")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = watch.seconds()
    assert sum(seconds[name] for name in stopwatch.STAGES) == pytest.approx(seconds["total"])
    assert 0 < seconds["total"] <= time.perf_counter() - began
    later = [watch.seconds()["total"] for _ in range(3)]
    assert all(first <= second for first, second in pairwise(later))
