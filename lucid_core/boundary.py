"""Padded blocks: the voxels of a region, and what stands beyond the border of the volume.

A border always comes from the whole volume, never from a tile. Along one axis, each position of a padded block
takes a source voxel (or a real zero); `axis_pieces` sorts these positions into what must be read from the
volume and what can be copied inside the block, and `fill` carries that out for the three axes.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.padding import source_index
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch


@dataclass(frozen=True)
class Run:
    """Positions `block` of a padded block that take the voxels `start` to `stop`, last first if `reverse`."""

    block: slice
    start: int
    stop: int
    reverse: bool


@dataclass(frozen=True)
class AxisPieces:
    """How one axis of a padded block is filled: runs to read, positions to copy inside it, positions of zeros."""

    runs: tuple[Run, ...]
    copies: tuple[tuple[int, int], ...]
    zeros: tuple[int, ...]


@lru_cache(maxsize=4096)
def axis_pieces(start: int, stop: int, size: int, mode: str) -> AxisPieces:
    """Sort the positions `start` to `stop` of an axis of `size` voxels (they may lie outside) into pieces."""
    sources = [source_index(position, size, mode) for position in range(start, stop)]
    inside = range(max(start, 0), min(stop, size))
    home = {position: position - start for position in inside}
    for at, source in enumerate(sources):
        if source is not None:
            home.setdefault(source, at)
    read = sorted((at, source) for source, at in home.items())
    copies = [(at, home[source]) for at, source in enumerate(sources) if source is not None and home[source] != at]
    zeros = [at for at, source in enumerate(sources) if source is None]
    return AxisPieces(tuple(_runs(read)), tuple(copies), tuple(zeros))


def _runs(read: list[tuple[int, int]]) -> list[Run]:
    """Join (position in block, source voxel) pairs, in order of position, into runs of step +1 or -1."""
    runs: list[Run] = []
    for at, source in read:
        last = runs[-1] if runs else None
        if last and last.block.stop == at:
            single = last.stop - last.start == 1
            if source == last.stop and (single or not last.reverse):
                runs[-1] = Run(slice(last.block.start, at + 1), last.start, source + 1, False)
                continue
            if source == last.start - 1 and (single or last.reverse):
                runs[-1] = Run(slice(last.block.start, at + 1), source, last.stop, True)
                continue
        runs.append(Run(slice(at, at + 1), source, source + 1, False))
    return runs


Read = Callable[[Region, npt.NDArray[Any]], None]
"""Reads a region that lies inside the volume into an array (C, d, h, w), which may be a reversed view."""


def fill(block: npt.NDArray[Any], region: Region, size: Triple, mode: str, read: Read) -> None:
    """Fill `block` (C, d, h, w) with the voxels of `region`, which may reach outside a volume of `size`."""
    pieces = [axis_pieces(*ends, mode) for ends in zip(region.start, region.stop, size, strict=True)]
    for runs in itertools.product(*(axis.runs for axis in pieces)):
        target = block[(slice(None), *(run.block for run in runs))]
        flip = tuple(slice(None, None, -1 if run.reverse else 1) for run in runs)
        source = Region(_triple(run.start for run in runs), _triple(run.stop for run in runs))
        read(source, target[(slice(None), *flip)])
    for axis, piece in enumerate(pieces, start=1):
        along = np.moveaxis(block, axis, 0)
        for at in piece.zeros:
            along[at] = 0
        for at, home in piece.copies:
            along[at] = along[home]


@dataclass(frozen=True)
class Window:
    """A padded block that need not exist: voxels (C, D, H, W), and a region of them that may reach outside."""

    voxels: npt.NDArray[Any]
    region: Region
    mode: str

    @property
    def size(self) -> Triple:
        """Voxels there are along D, H, W."""
        return _triple(self.voxels.shape[1:])

    @property
    def positions(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For D, H and W, the voxel that stands at each position of the region, -1 for a zero."""
        ends = zip(self.region.start, self.region.stop, self.size, strict=True)
        d, h, w = (_positions(start, stop, size, self.mode) for start, stop, size in ends)
        return d, h, w

    @property
    def inside(self) -> tuple[int, int]:
        """First and one past the last position along W that is a voxel of its own, no border."""
        low = max(-self.region.start[2], 0)
        return low, max(low, min(self.region.stop[2], self.size[2]) - self.region.start[2])

    def block(self, scratch: Scratch) -> npt.NDArray[Any]:
        """Return the padded block (C, d, h, w): the voxels themselves where the region is all of them.

        Made one axis, those of a channel follow one another: rows of a single voxel that lie apart are copied.
        """
        follow = self.size[2] > 1 or self.voxels.flags.c_contiguous
        if follow and self.region == Region((0, 0, 0), self.size):
            return self.voxels
        block = scratch.array("block", (self.voxels.shape[0], *self.region.shape), self.voxels.dtype)
        fill(block, self.region, self.size, self.mode, self._read)
        return block

    def _read(self, region: Region, out: npt.NDArray[Any]) -> None:
        out[...] = self.voxels[(slice(None), *region.slices)]


@lru_cache(maxsize=4096)
def _positions(start: int, stop: int, size: int, mode: str) -> npt.NDArray[np.int64]:
    positions = np.arange(start, stop, dtype=np.int64)
    for at in (*range(start, min(stop, 0)), *range(max(start, size), stop)):
        source = source_index(at, size, mode)
        positions[at - start] = -1 if source is None else source
    return positions


def planes_read(region: Region, size: Triple, mode: str) -> tuple[int, int]:
    """Return the first and one past the last D plane of the volume that `fill` reads for `region`, (0, 0) for none."""
    runs = axis_pieces(region.start[0], region.stop[0], size[0], mode).runs
    return (min(run.start for run in runs), max(run.stop for run in runs)) if runs else (0, 0)


def voxels_read(region: Region, size: Triple, mode: str) -> Region:
    """Return the box inside the volume that `region` takes its voxels from.

    It reaches to a border behind which voxels are taken, so that the box alone has them at the same places. Where none
    is taken it is the nearest voxel.
    """
    ends = zip(region.start, region.stop, size, strict=True)
    ranges = [_range_read(start, stop, count, mode) for start, stop, count in ends]
    return Region(_triple(low for low, _ in ranges), _triple(high for _, high in ranges))


@lru_cache(maxsize=4096)
def _range_read(start: int, stop: int, size: int, mode: str) -> tuple[int, int]:
    if mode == "circular" and (start < 0 or stop > size):
        return 0, size
    positions = _positions(start, stop, size, mode)
    taken = positions[positions >= 0]
    if not taken.size:
        nearest = min(max(start, 0), size - 1)
        return nearest, nearest + 1
    low, high = int(taken.min()), int(taken.max()) + 1
    if mode == "zeros":
        return low, high
    return 0 if start < 0 else low, size if stop > size else high


def _triple(values: Any) -> Triple:
    d, h, w = values
    return d, h, w
