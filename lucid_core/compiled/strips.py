"""Strips: the boxes of output voxels whose padded input fits the cache, and where every term of a sum reads in them.

A strip holds, for each channel, the phases of the padded input (see `lattice`): voxels whose index leaves the same
remainder by the stride. Its layout is (channel, phase along D, plane, phase along H, phase along W, row, voxel), so
output voxel (d, h, w) reads every term at d planes + h rows + w voxels + the offset of the term.

The vectors of a strip either lie along its output rows and are stored at once, the last of a row overlapping the one
before; or, where rows are short, they run on from row to row into a buffer whose voxels are then copied.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.lattice import steps
from lucid_core.machine import CACHE_BYTES, vectors
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple

Table = npt.NDArray[np.int64]
STRIP_BYTES = CACHE_BYTES // 2
"""Packed input of one strip, the other half of the cache being for weights and sums."""

WASTE = 0.04
"""See `Strip.waste`: what copying the outputs costs."""
SHARING_WASTE = 0.3
"""The same for a single output channel, where rows of vectors share what they load."""
STREAMED_BYTES = CACHE_BYTES
"""Output of a tile from which on it is written past the caches."""


def lanes(itemsize: int) -> int:
    """Return the numbers of `itemsize` bytes in one vector."""
    found = vectors()
    return (found.bytes if found else itemsize) // itemsize


@dataclass(frozen=True)
class Strip:
    """The packed input of one plane of a box of output voxels, and of every plane it reads."""

    out: tuple[int, int]
    """Output voxels along H, W."""
    phases: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Remainders by the stride that taps along D, H, W read."""
    reach: Triple
    """Outputs further along D, H, W that the last tap reads."""
    channels: int
    spacing: int
    """Output planes from one plane of the strip to the next: a dilation along D, so that no plane is packed twice."""
    waste: float
    """Share of vectors that lying along the rows may cost more than running on from row to row."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape (channels, phases D, planes, phases H, phases W, rows, width)."""
        d, h, w = map(len, self.phases)
        height, width = self.out
        return self.channels, d, self.reach[0] + 1, h, w, height + self.reach[1], width + self.reach[2]

    @property
    def size(self) -> int:
        """Values of the packed input."""
        return math.prod(self.shape)

    def flat(self, width: int) -> int:
        """Return how many vectors of `width` values run over a plane, from the first output voxel to the last."""
        height, across = self.out
        return -(-((height - 1) * self.shape[6] + across) // width)

    def along(self, width: int) -> int:
        """Return how many vectors of `width` values lie along the output rows, the last of each overlapping."""
        return -(-self.out[1] // width) * self.out[0]

    def buffered(self, width: int) -> bool:
        """Say whether vectors run on from row to row: rows are shorter than one, or that takes far fewer of them."""
        return self.out[1] < width or self.along(width) > (1 + self.waste) * self.flat(width)

    def vectors(self, width: int) -> int:
        """Return how many vectors of `width` values a plane takes."""
        return self.flat(width) if self.buffered(width) else self.along(width)

    def streamed(self, out: npt.NDArray[Any]) -> bool:
        """Say whether a tile `out` is large and its rows whole vectors: it may be stored past the caches."""
        return out.nbytes >= STREAMED_BYTES and self.out[1] % lanes(out.itemsize) == 0

    def offsets(self, taps: list[list[tuple[int, int]]]) -> Table:
        """Return where each term (channel, K_D, K_H, K_W) reads, in values from its output, as (planes, terms).

        Planes take turns: row r serves the output plane whose first plane stands at place r.
        """
        inner = [math.prod(self.shape[axis + 1 :]) for axis in range(7)]
        planes = self.shape[2]
        turns = np.arange(planes, dtype=np.int64)
        d = np.stack(
            [self.phases[0].index(phase) * inner[1] + (turns + step) % planes * inner[2] for step, phase in taps[0]]
        )
        h = np.array([self.phases[1].index(phase) * inner[3] + step * inner[5] for step, phase in taps[1]], np.int64)
        w = np.array([self.phases[2].index(phase) * inner[4] + step * inner[6] for step, phase in taps[2]], np.int64)
        channels = np.arange(self.channels, dtype=np.int64) * inner[0]
        sums = channels[:, None, None, None] + d.T[:, None, :, None, None] + h[:, None] + w
        return np.ascontiguousarray(sums.reshape(planes, -1))


Measure = Callable[[ConvProblem, Strip], float]


def packed(_: ConvProblem, one: Strip) -> float:
    """Return the values of a packed strip."""
    return one.size


@lru_cache(maxsize=256)
def strip(problem: ConvProblem, out: Triple, work: Measure, size: Measure = packed, multiple: int = 1) -> Strip:
    """Choose the strips of a tile of shape `out`: those of the least work in all whose `size` in values fits the cache.

    Their height is a multiple of `multiple`, their width one of as many vectors where it is not all of the tile.
    """
    itemsize = np.dtype(problem.dtype).itemsize
    budget, vector = STRIP_BYTES // itemsize, lanes(itemsize)
    widths = {min(-(-width // vector) * vector * multiple, out[2]) for width in _shares(out[2])}
    choices = []
    heights = {min(-(-height // multiple) * multiple, out[1]) for height in _shares(out[1])}
    for height, width in itertools.product(sorted(heights, reverse=True), sorted(widths, reverse=True)):
        one = _strip(problem, (height, width))
        count = -(-out[1] // height) * -(-out[2] // width)
        choices.append((max(size(problem, one) - budget, 0), count * work(problem, one), one))
    return min(choices, key=lambda choice: choice[:2])[2]


def _shares(size: int) -> list[int]:
    """Return the sizes into which an axis can be cut, each into one more piece or, for many, an eighth more."""
    pieces = 1
    shares: list[int] = []
    while True:
        share = -(-size // pieces)
        if not shares or share != shares[-1]:
            shares.append(share)
        if share == 1:
            return shares
        pieces = pieces + max(1, pieces // 8)


def _strip(problem: ConvProblem, out: tuple[int, int]) -> Strip:
    taps = strip_taps(problem)
    phases = [tuple(sorted({phase for _, phase in axis})) for axis in taps]
    d, h, w = (max(step for step, _ in axis) for axis in taps)
    channels = problem.in_channels // problem.groups
    waste = SHARING_WASTE if problem.out_channels == problem.groups else WASTE
    return Strip(out, (phases[0], phases[1], phases[2]), (d, h, w), channels, spacing(problem), waste)


def spacing(problem: ConvProblem) -> int:
    """Return how far apart the output planes of a strip are."""
    return problem.dilation[0] if problem.stride[0] == 1 and problem.kernel_size[0] > 1 else 1


def strip_taps(problem: ConvProblem) -> list[list[tuple[int, int]]]:
    """Return, for each axis and tap along it, how many outputs of a strip further it reads and in which phase."""
    d, h, w = steps(problem)
    return [[(step // spacing(problem), phase) for step, phase in d], h, w]


@dataclass(frozen=True)
class Vectors:
    """The vectors of a plane of a strip, in bytes: where each begins to read, and where it is stored."""

    starts: Table
    targets: Table


def vector_table(one: Strip, row_step: int, rows: int, itemsize: int, together: int, pitch: int = 0) -> Vectors:
    """Lay vectors over the rows of a strip, every `rows`-th of them, in groups of `together` (the last one repeated).

    `row_step` is the bytes from an output row to the next, `pitch` the values from a row of the strip to the next,
    where not its width.
    """
    width = lanes(itemsize)
    height, across = one.out
    if one.buffered(width):
        starts = targets = flat_table(one.flat(width), itemsize, together)
    else:
        lines = np.minimum(np.arange(0, height, rows, dtype=np.int64), height - rows)[:, None]
        places = np.minimum(np.arange(0, across, width, dtype=np.int64), across - width) * itemsize
        starts = _grouped((lines * (pitch or one.shape[6]) * itemsize + places).reshape(-1), together)
        targets = _grouped((lines * row_step + places).reshape(-1), together)
    return Vectors(starts, targets)


def flat_table(count: int, itemsize: int, together: int) -> Table:
    """Return the byte offsets of `count` vectors one after another, in groups of `together` (the last one repeated)."""
    return _grouped(np.arange(count, dtype=np.int64) * lanes(itemsize) * itemsize, together)


def plane_table(height: int, width: int, rows: int, itemsize: int, together: int) -> Table:
    """Return the byte offsets of the vectors of every `rows`-th row of a plane, the last rows overlapping, in groups.

    `width` is a multiple of a vector.
    """
    lines = np.minimum(np.arange(0, height, rows, dtype=np.int64), height - rows)[:, None] * width
    places = np.arange(0, width, lanes(itemsize), dtype=np.int64)
    return _grouped(((lines + places) * itemsize).reshape(-1), together)


def _grouped(table: Table, together: int) -> Table:
    return np.concatenate([table, np.full(-len(table) % together, table[-1])])
