"""The tiles of all pairs, which are trained or validated on, and how they are read."""

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.fitting.pairs import Pair
from lucid_cli.opening import opened
from lucid_cli.volumes import Source
from lucid_core.boundary import fill
from lucid_core.errors import ShapeError
from lucid_core.fitting.examples import Example, cut, inside
from lucid_core.regions import Region, Triple
from lucid_core.stack import Problem
from lucid_core.volume import VolumeReader

SUM_VOXELS, STEP_VOXELS = 1 << 17, 1 << 15
"""Output voxels of a tile, at most, of the sums of an exact solution and of a step of Adam.

Tiles follow from the shapes alone, so that threads and the memory limit change no bit.
"""
MOST_OPEN = 128
"""Pairs whose files are open at the same time: more than this take turns."""


@dataclass(frozen=True)
class Place:
    """Where a tile lies: the number of its pair, its volume, and its output voxels."""

    pair: int
    batch: int
    region: Region


class Readers:
    """The readers of the pairs that are read, opened when they are first needed."""

    def __init__(self, pairs: Sequence[Pair], folder: Path) -> None:
        self._pairs = pairs
        self._folder = folder
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def of(self, number: int) -> Iterator[tuple[VolumeReader, ...]]:
        """Give the readers of input, target and mask of a pair, whose files stay open meanwhile."""
        with self._lock:
            found = self._open.get(number) or self._opened(number)
            self._open.move_to_end(number)
            found.users += 1
        try:
            yield found.readers
        finally:
            with self._lock:
                found.users -= 1

    def _opened(self, number: int) -> "_Open":
        """Open a pair, and close those that nobody reads and that were read longest ago, where there are too many."""
        idle = [one for one, found in self._open.items() if not found.users]
        for one in idle[: max(0, len(self._open) + 1 - MOST_OPEN)]:
            self._open.pop(one).finish()
        stack = ExitStack()
        with stack:
            sources = [opened(volume.spec, stack) for volume in self._pairs[number].volumes]
            readers = [
                volume.reader(source, self._folder)
                for volume, source in zip(self._pairs[number].volumes, sources, strict=True)
            ]
            found = self._open[number] = _Open(stack.pop_all(), sources, tuple(readers))
        return found

    def finish(self, number: int | None = None) -> None:
        """Check that the files of a pair, or of all, were whole and did not change while they were read; close them."""
        with self._lock:
            for one in [number] if number is not None else list(self._open):
                if one in self._open:
                    self._open.pop(one).finish()

    def close(self) -> None:
        """Close the files of all pairs."""
        with self._lock:
            for found in self._open.values():
                found.stack.close()
            self._open.clear()


@dataclass
class _Open:
    """The open files of a pair."""

    stack: ExitStack
    sources: list[Source]
    readers: tuple[VolumeReader, ...]
    users: int = 0
    """Tiles that are being read."""

    def finish(self) -> None:
        with self.stack:
            for source in self.sources:
                source.finish()


@dataclass(frozen=True)
class Tiles:
    """Tiles that are examples (`lucid_core.fitting.examples.Examples`), in the order of their places."""

    problems: Sequence[Problem]
    """Of each pair."""
    readers: Readers
    places: Sequence[Place]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.places)

    def read(self, number: int) -> Example:
        """Read one of them."""
        place = self.places[number]
        problem, region = self.problems[place.pair], place.region
        source, mode = problem.input_region(region), problem.problems[0].padding_mode
        block = np.empty((problem.in_channels, *source.shape), self.dtype)
        target = np.empty((problem.out_channels, *region.shape), self.dtype)
        counted = np.ones(region.shape, bool)
        with self.readers.of(place.pair) as (reader, target_reader, *mask):
            fill(block, source, problem.size, mode, partial(reader.read, place.batch))
            target_reader.read(place.batch, region, target)
            if mask:
                voxels = np.empty((1, *region.shape), np.float32)
                mask[0].read(0, region, voxels)
                counted = np.abs(voxels[0]) > 0
        return Example(block, target, counted)

    @property
    def largest(self) -> Place:
        """The place of most voxels."""
        return max(self.places, key=lambda one: one.region.voxels)

    def block_bytes(self) -> int:
        """Return the memory of the largest example."""
        return max(
            (
                math.prod(problem.input_region(place.region).shape) * problem.in_channels
                + place.region.voxels * (problem.out_channels + 1)
            )
            * self.dtype.itemsize
            for place in self.places
            for problem in [self.problems[place.pair]]
        )


def places_of(
    pairs: Sequence[Pair], problems: Sequence[Problem], tile: Triple | None, most: int, *, borders: bool
) -> list[Place]:
    """Cut the outputs of all pairs into tiles: all voxels with `borders`, else those computed from inside alone.

    Tiles have at most `most` voxels where their size is not given.

    Raises `ShapeError` where nothing is left.
    """
    places: list[Place] = []
    for number, problem in enumerate(problems):
        region = Region((0, 0, 0), problem.out_size) if borders else inside(problem)
        if not region.voxels:
            raise ShapeError(
                f"every output voxel of {pairs[number].input.spec} reads beyond its border, and those are left out; "
                "use a smaller kernel, or --borders to count them"
            )
        step = tile or default_tile(region.shape, most)
        places += [
            Place(number, batch, one) for batch, one in itertools.product(range(problem.batch), cut(region, step))
        ]
    return places


def default_tile(size: Triple, most: int) -> Triple:
    """Return a tile of no more than `most` voxels, halving the longest axis, D before H before W."""
    tile = list(size)
    while math.prod(tile) > most:
        axis = tile.index(max(tile))
        tile[axis] = -(-tile[axis] // 2)
    d, h, w = tile
    return d, h, w


def split(places: Sequence[Place], share: float, seed: int) -> tuple[list[Place], list[Place]]:
    """Part tiles into those to train and those to validate with: whole scans where the share is of one or more.

    Each keeps the order of the tiles; which are taken is drawn by the seed.
    """
    scans = sorted({place.pair for place in places})
    count = round(share * len(scans))
    drawn = np.random.default_rng([seed, len(places)])
    if 0 < count < len(scans):
        held = set(drawn.choice(scans, count, replace=False).tolist())
        chosen = [place.pair in held for place in places]
    else:
        count = min(max(1, round(share * len(places))), len(places) - 1) if share else 0
        numbers = set(drawn.choice(len(places), count, replace=False).tolist())
        chosen = [number in numbers for number in range(len(places))]
    trained = [place for place, other in zip(places, chosen, strict=True) if not other]
    return trained, [place for place, other in zip(places, chosen, strict=True) if other]
