"""The only loop over tiles: read and pad a block, run the algorithm, encode, write; tile after tile, in order.

Every thread, the caller's among them, takes the next tile, computes it in buffers that it keeps from tile to tile,
encodes it for the writer, and writes it when all tiles before it are written. So `threads` tiles are in work, and
no thread waits for another to hand it work: with as many threads as cores, a further one that only hands out
would wait for a core.
"""

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core import blas
from lucid_core.algorithms import member
from lucid_core.boundary import Window
from lucid_core.compute import Filters, computation, window_on
from lucid_core.events import Observer, Progress, ignore
from lucid_core.plan import Plan
from lucid_core.room import lane_sizes
from lucid_core.scratch import Scratch
from lucid_core.stack import Stack
from lucid_core.stopwatch import Stopwatch
from lucid_core.tensors import lane, precision
from lucid_core.tensors.devices import resolve
from lucid_core.tiling import Tile, tiles
from lucid_core.volume import VolumeReader, VolumeWriter

Array = npt.NDArray[Any]


class Work:
    """What the tiles of one run share. `read`, `compute`, `encode`, `write` are called once a tile, in this order."""

    def __init__(
        self,
        plan: Plan,
        filters: Sequence[Filters],
        reader: VolumeReader,
        writer: VolumeWriter,
        stopwatch: Stopwatch,
    ) -> None:
        self.problem = plan.problem
        self.computation = computation(plan, filters)
        self.reader = reader
        self.writer = writer
        self._plan = plan
        self._stage = stopwatch.stage

    def worker(self) -> AbstractContextManager[Scratch]:
        """Make a thread a worker, with buffers of its own, and a lane to the device where torch computes."""
        grows = isinstance(self.problem, Stack)  # tiles at a border are smaller: they are cut off there layer by layer
        if self._plan.engine != "torch":
            return nullcontext(Scratch(grows=grows))
        ways = tuple(member(choice.algorithm, choice.engine) for choice in self._plan.choices)
        sizes = lane_sizes(self.problem, ways, self._plan.tile)
        return lane.worker(resolve(self._plan.device), sizes, grows=grows)

    def read(self, tile: Tile, scratch: Scratch) -> Window:
        """Return what a tile is computed from."""
        with self._stage("read"):
            return window_on(self.reader, tile.batch, self.problem, tile.source, scratch)

    def forget(self, tile: Tile) -> None:
        """Let the reader drop what neither this tile nor later ones read."""
        with self._stage("read"):
            self.reader.forget(tile.batch, tile.keep)

    def compute(self, tile: Tile, window: Window, scratch: Scratch) -> Array:
        """Return the output (O, d, h, w) of a tile, in the writer's memory where it offers some."""
        with self._stage("compute"), np.errstate(all="ignore"):
            out = self.writer.view(tile.batch, tile.out)
            if out is None:
                out = scratch.array("out", (self.problem.out_channels, *tile.out.shape), self.problem.dtype)
            self.computation.compute(window, tile.out, out, scratch)
        return out

    def in_place(self, tile: Tile) -> bool:
        """Say whether a tile is computed in the writer's memory, and need not be written."""
        return self.writer.view(tile.batch, tile.out) is not None

    def encoded(self, tile: Tile, scratch: Scratch) -> Any:
        """Read, compute and encode a tile that may be read in any order."""
        return self.encode(tile, self.compute(tile, self.read(tile, scratch), scratch))

    def encode(self, tile: Tile, out: Array) -> Any:
        """Return the output of a tile as the writer wants it; nothing where it was computed in place."""
        with self._stage("write"):
            return None if self.in_place(tile) else self.writer.encode(tile.batch, tile.out, out)

    def write(self, tile: Tile, encoded: Any) -> None:
        """Write what `encode` made of a tile."""
        with self._stage("write"):
            if not self.in_place(tile):
                self.writer.write(tile.batch, tile.out, encoded)


def holding(plan: Plan) -> AbstractContextManager[None]:
    """Hold torch's precision as a plan says, where torch computes."""
    return precision.held(tf32=plan.tf32) if plan.engine == "torch" else nullcontext()


class Tally:
    """Tells an observer of the voxels that are written: first of those of the tiles that are `finished` already."""

    def __init__(self, plan: Plan, observe: Observer, finished: int = 0) -> None:
        self._channels, self._total = plan.problem.out_channels, math.prod(plan.problem.out_shape)
        self._observe = observe
        self._done = self._channels * sum(tile.out.voxels for tile in islice(tiles(plan), finished))
        observe(Progress(self._done, self._total))

    def add(self, tile: Tile) -> None:
        """Take in a tile that was written."""
        self._done += self._channels * tile.out.voxels
        self._observe(Progress(self._done, self._total))


def execute(
    plan: Plan,
    filters: Sequence[Filters],
    reader: VolumeReader,
    writer: VolumeWriter,
    observe: Observer = ignore,
    *,
    stopwatch: Stopwatch | None = None,
    finished: int = 0,
) -> None:
    """Carry out a plan with the weights and biases of its convolutions, in the problem's dtype.

    `stopwatch` is told what threads are doing; the first `finished` tiles are taken for written, and left out.
    """
    work = Work(plan, filters, reader, writer, stopwatch or Stopwatch())
    tally = Tally(plan, observe, finished)

    def finish(tile: Tile, encoded: Any) -> None:
        work.write(tile, encoded)
        tally.add(tile)

    with blas.single_threaded(), holding(plan):
        _Crew(plan, work, finish, finished).run(min(plan.threads, plan.tiles))


class _Crew:
    """Threads that share the tiles of a run."""

    def __init__(self, plan: Plan, work: Work, finish: Callable[[Tile, Any], None], finished: int) -> None:
        self._work = work
        self._finish = finish
        self._batch_size = plan.batch_size or plan.problem.batch
        self._tiles_per_volume = plan.tiles // max(plan.problem.batch, 1)
        self._tiles = enumerate(tiles(plan, finished), finished)
        self._taking, self._finishing, self._state = threading.Lock(), threading.Lock(), threading.Condition()
        self._finished: set[int] = set()
        self._first = finished
        self._begun: list[threading.Thread] = []
        self._ended = 0
        self._closed = False
        self._error: BaseException | None = None

    def run(self, threads: int) -> None:
        """Compute every tile; the first error of any thread, or of this one while it waits, ends all of them."""
        try:
            for count in range(1, threads):
                threading.Thread(target=self._help, name=f"lucid-tile-{count}").start()
            self._go()
            self._wait(self._all_ended)
        except BaseException as error:
            self._fail(error)
        with self._state:
            self._closed = True
            self._state.wait_for(self._all_ended)
        for thread in self._begun:
            thread.join()
        if self._error:
            raise self._error

    def _help(self) -> None:
        """Share the tiles, in a thread of its own, and say so when there are none left.

        (`Thread.join` alone takes a thread for ended after an interrupt, CPython issue 90882; and `Thread.start` may
        have started one when it is interrupted. One that begins when all is over does nothing.)
        """
        with self._state:
            if self._closed:
                return
            self._begun.append(threading.current_thread())
        self._go()
        with self._state:
            self._ended += 1
            self._state.notify_all()

    def _all_ended(self) -> bool:
        """Say whether all threads that have begun are done."""
        return self._ended == len(self._begun)

    def _go(self) -> None:
        """Take tile after tile until none is left or a thread failed."""
        try:
            with self._work.worker() as scratch:
                while (taken := self._take(scratch)) is not None:
                    place, tile, window = taken
                    out = self._work.compute(tile, window or self._work.read(tile, scratch), scratch)
                    encoded = self._work.encode(tile, out)
                    if self._work.in_place(tile) or self._wait(partial(self._is_next, place)):
                        self._end(place, tile, encoded)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Let every thread end after the tile it computes; the first error is kept."""
        with self._state:
            self._error = self._error or error
            self._state.notify_all()

    def _is_next(self, place: int) -> bool:
        """Say whether all tiles before a place are written."""
        return self._first == place

    def _take(self, scratch: Scratch) -> tuple[int, Tile, Window | None] | None:
        """Take the next tile, and read it where tiles must be read in order; None where none is left."""
        with self._taking:
            place, tile = next(self._tiles, (0, None))
            if tile is None or not self._wait(lambda: self._in_work(place) <= self._batch_size):
                return None
            reader = self._work.reader
            self._work.forget(tile)
            return place, tile, None if reader.random_access else self._work.read(tile, scratch)

    def _in_work(self, place: int) -> int:
        """Return the volumes in work with the tile at `place`."""
        return place // self._tiles_per_volume - self._first // self._tiles_per_volume + 1

    def _wait(self, ready: Callable[[], bool]) -> bool:
        """Wait until it is so; False where a thread failed meanwhile."""
        with self._state:
            self._state.wait_for(lambda: self._error or ready())
            return not self._error

    def _end(self, place: int, tile: Tile, encoded: Any) -> None:
        """Write a tile and tell of it."""
        with self._finishing:
            self._finish(tile, encoded)
        with self._state:
            self._finished.add(place)
            while self._first in self._finished:
                self._finished.remove(self._first)
                self._first += 1
            self._state.notify_all()
