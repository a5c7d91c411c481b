"""The simulation of a cluster says what can be said without it."""

import math

import pytest

from tests.benchmarks.schedule import Rates, Work, bound, simulate

WORK = Work(64, read=3e6, compute=0.5, written=1e6)


def test_one_worker_does_one_tile_after_the_other():
    rates = Rates(worker=1e6, store=1e9, task=0.1)
    assert simulate(1, WORK, rates, 7) == pytest.approx(7 * (0.1 + 3 + 0.5 + 1))
    assert bound(1, WORK, rates) == "workers"


def test_workers_that_nothing_holds_back_divide_the_time():
    rates = Rates(worker=1e6, store=1e12, task=1e-9)
    assert simulate(10, WORK, rates, 40) == pytest.approx(4 * 4.5, rel=1e-3)


def test_a_store_gives_no_more_than_it_has():
    rates = Rates(worker=1e6, store=2e6, task=1e-9)
    assert bound(50, WORK, rates) == "store"
    assert simulate(50, WORK, rates, 500) == pytest.approx(500 * 4e6 / 2e6, rel=0.02)


def test_a_scheduler_serves_one_after_the_other():
    rates = Rates(worker=1e9, store=1e12, task=0.2)
    assert bound(100, WORK, rates) == "scheduler"
    assert simulate(100, WORK, rates, 200) == pytest.approx(200 * 0.2, rel=0.05)


def test_larger_tiles_read_less_and_compute_less():
    small, large = (Work.of(edge, Rates()) for edge in (64, 512))
    assert small.read / small.written == 27
    assert math.isclose(large.read / large.written, (640 / 512) ** 3)
    assert large.compute / 512**3 < small.compute / 64**3
