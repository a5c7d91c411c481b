"""Where a cluster stops scaling, and why: a simulation, `python -m tests.benchmarks.schedule`.

A float32 volume of 10 TB in chunks of 64^3 is smoothed by 1 to 1000 workers of one thread, in cubic tiles of several
sizes. A worker asks the scheduler, which serves one request at a time, for a task; reads its tile with all chunks the
halo touches, from a store whose bandwidth all share; computes; writes. The times are those measured on one core of a
machine of 2 cores (`tests.benchmarks.cluster`), the bandwidth of the store is that of a parallel file system.
"""

import argparse
import heapq
import itertools
import math
from dataclasses import dataclass

CHUNK, ITEM = 64, 4
BYTES = 10e12
"""Of the volume."""
HALO = 9
"""Voxels that a tile reads beyond each side: of a Gaussian of 2 voxels."""


@dataclass(frozen=True)
class Rates:
    """What was measured, and what the store is taken to give."""

    voxels: float = 140e6
    """Output voxels that a core computes in a second, halo not counted."""
    worker: float = 450e6
    """Bytes that a worker alone reads or writes in a second, decompressed."""
    store: float = 20e9
    """Bytes that the store gives and takes in a second in all."""
    task: float = 2.5e-3
    """Seconds that scheduler and client take for a task, one after the other."""


@dataclass(frozen=True)
class Work:
    """What a tile of `edge` voxels takes."""

    edge: int
    read: float
    """Bytes."""
    compute: float
    """Seconds."""
    written: float
    """Bytes."""

    @classmethod
    def of(cls, edge: int, rates: Rates) -> "Work":
        """Return the work of a cubic tile: whole chunks are read, and halos computed along one axis after another."""
        read = ITEM * (edge + 2 * math.ceil(HALO / CHUNK) * CHUNK) ** 3
        passes = edge * (edge + 2 * HALO) ** 2 / edge**3
        return cls(edge, read, edge**3 * passes / rates.voxels, ITEM * edge**3)


class Store:
    """Bandwidth that all transfers share, each with no more than a worker can take (processor sharing).

    `moved` is what each transfer under way has had since the beginning; one ends when that reaches its own end.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._now = self._moved = 0.0
        self._ends: list[tuple[float, int]] = []

    def _rate(self) -> float:
        return min(self._rates.worker, self._rates.store / max(1, len(self._ends)))

    def advance(self, now: float) -> None:
        """Let the time pass."""
        self._moved += (now - self._now) * self._rate()
        self._now = now

    def begin(self, size: float, worker: int) -> None:
        """Begin a transfer of so many bytes, now."""
        heapq.heappush(self._ends, (self._moved + size, worker))

    def next_end(self) -> float:
        """Return when the next transfer ends, if none begins before."""
        return self._now + (self._ends[0][0] - self._moved) / self._rate() if self._ends else math.inf

    def end(self) -> int:
        """End that transfer, and return its worker."""
        return heapq.heappop(self._ends)[1]


def simulate(workers: int, work: Work, rates: Rates, tiles: int) -> float:
    """Return the seconds that so many tiles take."""
    store, serial = Store(rates), 0.0
    count = itertools.count()
    events: list[tuple[float, int, str, int]] = []
    stage = dict.fromkeys(range(workers), "written")
    given, finish = 0, 0.0
    for worker in range(workers):
        events.append((0.0, next(count), "asks", worker))
    heapq.heapify(events)
    while True:
        at, ends = (events[0][0] if events else math.inf), store.next_end()
        now = min(at, ends)
        if now == math.inf:
            return finish
        store.advance(now)
        if ends < at:
            worker = store.end()
            what = "computes" if stage[worker] == "read" else "asks"
            finish = now
        else:
            _, _, what, worker = heapq.heappop(events)
        if what == "asks" and given < tiles:
            given += 1
            serial = max(serial, now) + rates.task
            heapq.heappush(events, (serial, next(count), "reads", worker))
        elif what == "reads":
            stage[worker] = "read"
            store.begin(work.read, worker)
        elif what == "computes":
            heapq.heappush(events, (now + work.compute, next(count), "writes", worker))
        elif what == "writes":
            stage[worker] = "written"
            store.begin(work.written, worker)


def bound(workers: int, work: Work, rates: Rates) -> str:
    """Return what holds so many workers back."""
    alone = rates.task + work.compute + (work.read + work.written) / rates.worker
    limits = {
        "workers": alone / workers,
        "scheduler": rates.task,
        "store": (work.read + work.written) / rates.store,
    }
    return max(limits, key=lambda name: limits[name])


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=float, default=Rates.store, help="bytes a second of the store in all")
    parser.add_argument("--task", type=float, default=Rates.task, help="seconds of the scheduler for a task")
    given = parser.parse_args()
    rates = Rates(store=given.store, task=given.task)
    counts = (1, 10, 30, 100, 300, 1000)
    print(f"{'tile':>6}{'memory':>10}{'read':>7}{'tiles':>9}  hours with workers, and what holds them back")
    print(f"{'':>32}" + "".join(f"{count:>17}" for count in counts))
    for edge in (64, 128, 256, 512, 1024):
        work = Work.of(edge, rates)
        tiles = math.ceil(BYTES / ITEM / edge**3)
        part = min(1.0, 40_000 / tiles)  # the beginning tells: after it every second is like the last
        cells = []
        for workers in counts:
            some = max(math.ceil(tiles * part), min(tiles, 40 * workers))
            hours = simulate(workers, work, rates, some) * tiles / some / 3600
            cells.append(f"{hours:>8.2f} {bound(workers, work, rates):<8}")
        memory = (work.read + work.written + 2 * ITEM * edge**3) / 2**20
        share = work.read / work.written
        print(f"{edge:>4}^3{memory:>7.0f} MB{share:>6.1f}x{tiles:>9}  " + "".join(cells))


if __name__ == "__main__":
    main()
