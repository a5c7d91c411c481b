"""The only loop over tiles: read and pad a block, run the algorithm, write; tile after tile, in order.

With several threads, tiles are computed in a pool while this thread writes those before them. At most `slots`
tiles are in work; each slot keeps its buffers from tile to tile.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core import blas
from lucid_core.algorithms import algorithms
from lucid_core.boundary import Window, fill
from lucid_core.events import Observer, Progress, Seconds, ignore
from lucid_core.plan import Plan
from lucid_core.regions import Region
from lucid_core.scratch import Scratch
from lucid_core.tiling import Tile, tiles
from lucid_core.volume import VolumeReader, VolumeWriter

Array = npt.NDArray[Any]


class _Work:
    """Everything the tiles of one run share. `read`, `compute` and `write` are called once a tile, in this order."""

    def __init__(
        self, plan: Plan, weight: Array, bias: Array | None, reader: VolumeReader, writer: VolumeWriter
    ) -> None:
        self.problem = plan.problem
        self.algorithm = algorithms()[plan.algorithm]
        self.prepared = self.algorithm.prepare(plan.problem, weight)
        self.bias = bias
        self.reader = reader
        self.writer = writer
        self.seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        self._lock = Lock()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        with self._lock:
            self.seconds[stage] += time.perf_counter() - began

    def read(self, tile: Tile, scratch: Scratch) -> Window:
        """Return the padded block of a tile: a window on the volume where it is in memory, else read and filled."""
        problem = self.problem
        with self._timed("read"):
            volume = self.reader.view(tile.batch, problem.dtype)
            if volume is not None:
                return Window(volume, tile.source, problem.padding_mode)
            block = scratch.array("block", (problem.in_channels, *tile.source.shape), problem.dtype)
            fill(block, tile.source, problem.size, problem.padding_mode, partial(self.reader.read, tile.batch))
        return Window(block, Region((0, 0, 0), tile.source.shape), problem.padding_mode)

    def compute(self, tile: Tile, window: Window, scratch: Scratch) -> Array:
        """Return the output (O, d, h, w) of a tile, in the writer's memory where it offers some."""
        with self._timed("compute"), np.errstate(all="ignore"):
            out = self.writer.view(tile.batch, tile.out)
            if out is None:
                out = scratch.array("out", (self.problem.out_channels, *tile.out.shape), self.problem.dtype)
            self.algorithm.run(self.problem, self.prepared, self.bias, window, tile.out, out, scratch)
        return out

    def write(self, tile: Tile, out: Array) -> None:
        """Write the output of a tile, unless it was computed in place."""
        with self._timed("write"):
            if self.writer.view(tile.batch, tile.out) is None:
                self.writer.write(tile.batch, tile.out, out)


def execute(
    plan: Plan,
    weight: Array,
    bias: Array | None,
    reader: VolumeReader,
    writer: VolumeWriter,
    observe: Observer = ignore,
) -> None:
    """Carry out a plan: weight (O, C/g, K_D, K_H, K_W) and bias (O,) have the problem's dtype."""
    work = _Work(plan, weight, bias, reader, writer)
    total, done = math.prod(plan.problem.out_shape), 0

    def finish(tile: Tile, out: Array) -> None:
        nonlocal done
        work.write(tile, out)
        done += plan.problem.out_channels * tile.out.voxels
        observe(Progress(done, total))

    observe(Progress(0, total))
    with blas.single_threaded():
        (_serial if plan.threads == 1 else _threaded)(plan, work, finish)
    observe(Seconds(**work.seconds))


def _serial(plan: Plan, work: _Work, finish: Callable[[Tile, Array], None]) -> None:
    scratch = Scratch()
    for tile in tiles(plan):
        work.reader.forget(tile.batch, tile.keep)
        finish(tile, work.compute(tile, work.read(tile, scratch), scratch))


def _threaded(plan: Plan, work: _Work, finish: Callable[[Tile, Array], None]) -> None:
    """Keep `slots` tiles in work; where the reader is a stream, this thread reads."""
    scratches = [Scratch() for _ in range(plan.slots)]
    pending: deque[tuple[Tile, Future[Array]]] = deque()

    def read_and_compute(tile: Tile, scratch: Scratch) -> Array:
        return work.compute(tile, work.read(tile, scratch), scratch)

    pool = ThreadPoolExecutor(plan.threads, "lucid-tile")
    try:
        for count, tile in enumerate(tiles(plan)):
            while pending and (len(pending) == len(scratches) or not _together(plan, pending[0][0], tile)):
                oldest, future = pending.popleft()
                finish(oldest, future.result())
            scratch = scratches[count % len(scratches)]
            work.reader.forget(tile.batch, tile.keep)
            if work.reader.random_access:
                pending.append((tile, pool.submit(read_and_compute, tile, scratch)))
            else:
                pending.append((tile, pool.submit(work.compute, tile, work.read(tile, scratch), scratch)))
        for tile, future in pending:
            finish(tile, future.result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _together(plan: Plan, oldest: Tile, newest: Tile) -> bool:
    """Say whether the batch size lets two tiles be in work at once."""
    return plan.batch_size is None or newest.batch - oldest.batch < plan.batch_size
