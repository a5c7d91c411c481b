"""Boxes of arrays in files: ranges along the axes of a file, and regions of volumes read through them."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lucid_cli.volumes import FIVE, five_shape
from lucid_core.regions import Region

Array = npt.NDArray[Any]
Box = tuple[slice, ...]
"""A range along every axis of an array in a file."""


def file_box(axes: str, batch: int, region: Region, channels: int) -> Box:
    """Return the index, in the file's order of axes, of all channels of a region of one volume."""
    slices = dict(zip(FIVE, (slice(batch, batch + 1), slice(0, channels), *region.slices), strict=True))
    return tuple(slices[letter] for letter in axes)


def file_block(axes: str, block: Array) -> Array:
    """View a block (C, d, h, w) in the file's order of axes; axes the file lacks have size 1."""
    kept = [FIVE.index(letter) for letter in axes]
    dropped = [axis for axis in range(5) if axis not in kept]
    view: Array = block[np.newaxis].transpose(*dropped, *kept)[(0,) * len(dropped)]
    return view


class Boxes(Protocol):
    """An array in a file that is read by boxes (`rawfile.RawReader`)."""

    def read_box(self, box: Box) -> Iterator[tuple[Box, Array]]:
        """Yield the values of a box, part by part, with where each part lies in the box."""


def cut_box(box: Box, grain: tuple[int, ...], most: int) -> Iterator[Box]:
    """Cut a box into parts of at most `most` values, or one grain where that is more, in C order.

    Parts begin at multiples of the grain, which has an entry an axis.
    """
    sizes = [one.stop - one.start for one in box]
    least = list(map(min, grain, sizes))
    axis, part = next(
        (axis, part)
        for axis in range(len(box))
        if (part := math.prod(least[: axis + 1]) * math.prod(sizes[axis + 1 :])) <= most or axis == len(box) - 1
    )
    steps = [*grain[:axis], grain[axis] * max(1, most // max(part, 1))]
    ranges = [_aligned(one, step, unit) for one, step, unit in zip(box, steps, grain, strict=False)]
    yield from itertools.product(*ranges, *([one] for one in box[axis + 1 :]))


def _aligned(one: slice, step: int, unit: int) -> list[slice]:
    """Cut a range into steps; all but the first begin at a multiple of the unit."""
    edges = [one.start, *range(one.start - one.start % unit + step, one.stop, step), one.stop]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def within(part: Box, box: Box) -> Box:
    """Return where a part lies in the box it was cut from."""
    return tuple(slice(one.start - all_.start, one.stop - all_.start) for one, all_ in zip(part, box, strict=True))


class BoxReader:
    """Reads regions from boxes of a file's array, scaling stored values; implements `VolumeReader`."""

    random_access = True

    def __init__(
        self,
        boxes: Boxes,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        axes: str,
        scaling: tuple[float, float] | None = None,
    ) -> None:
        self.shape = five_shape(shape, axes)
        self.scaling = scaling
        self._boxes = boxes
        self._dtype = dtype
        self._axes = axes

    def read(self, batch: int, region: Region, out: Array) -> None:
        """Read a region of one volume into `out` (C, d, h, w)."""
        target = file_block(self._axes, out)
        for part, values in self._boxes.read_box(file_box(self._axes, batch, region, self.shape[1])):
            convert(values, self.scaling, target[part])

    def planes(self, batch: int, first: int, count: int) -> Array:
        """Return some D planes (C, planes, H, W) of one volume as they are stored."""
        channels, depth, height, width = self.shape[1:]
        region = Region((first, 0, 0), (min(first + count, depth), height, width))
        stored = np.empty((channels, *region.shape), self._dtype)
        target = file_block(self._axes, stored)
        for part, values in self._boxes.read_box(file_box(self._axes, batch, region, channels)):
            target[part] = values
        return stored

    def view(self, batch: int, dtype: Any) -> None:
        """Have none: voxels are read."""

    def forget(self, batch: int, plane: int) -> None:
        """Nothing is held."""


def convert(stored: Array, scaling: tuple[float, float] | None, out: Array) -> None:
    """Put stored values into `out`, as slope * value + inter in float64 where there is a scaling."""
    if scaling is None:
        with np.errstate(all="ignore"):
            out[...] = stored
    else:
        slope, inter = scaling
        with np.errstate(all="ignore"):
            for at in np.ndindex(stored.shape[:-2]):
                out[at] = stored[at].astype(np.float64) * slope + inter
