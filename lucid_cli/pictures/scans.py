"""One volume of a file to look at: the three planes through a voxel, turned as pictures, and all of its values.

With an affine the planes are axial, coronal and sagittal, after the axis of the world that each axis of the file is
nearest to, and lie as radiologists hang them: the patient's right, or front, on the left of the picture. Without, they
are the planes across D, H and W, with rows downwards and columns to the right as in the array.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import io_orientation

from lucid_cli.volumes import Source, VolumeInfo, five_shape
from lucid_core.errors import ArgumentError
from lucid_core.geometry import Affine
from lucid_core.intensity import pieces
from lucid_core.regions import Region, Triple
from lucid_core.volume import VolumeReader, arithmetic_dtype

Array = npt.NDArray[Any]
MOST_SIDE = 1024
"""Voxels along a side of a plane that are kept: of longer ones every second, third..."""
STRIP_BYTES = 16 << 20
"""Memory of what is read of a plane at once, or one row where that is more."""
SWAPPED = str.maketrans("nc", "cn")
DOWN = (("axial", 2, 1, 0, "AP", "RL"), ("coronal", 1, 2, 0, "SI", "RL"), ("sagittal", 0, 2, 1, "SI", "AP"))
"""Of each plane its name, the world axes (x, y, z) across it, down and to the right, and the letters at both ends of
these two: all go from high to low."""


@dataclass(frozen=True)
class View:
    """A plane across one axis of a volume, and how it is turned to be looked at."""

    name: str
    """axial, coronal or sagittal; '' where nothing says how the volume lies."""
    across: int
    """The axis, of D, H, W, that is cut."""
    down: int
    right: int
    """The axes along the rows' order and along a row."""
    flipped: tuple[bool, bool]
    """Whether the index goes from high to low downwards, and to the right."""
    edges: tuple[str, str, str, str]
    """What stands at the left, right, top and bottom edge."""

    def turned(self, plane: Array) -> Array:
        """Return a plane, whose axes are those left of D, H, W in this order, as rows and columns of the picture."""
        rows = plane if self.down < self.right else plane.T
        down, right = (slice(None, None, -1 if flipped else 1) for flipped in self.flipped)
        return rows[down, right]

    def title(self, at: Triple) -> str:
        """Return the plane's name and where it lies."""
        index = f"{'DHW'[self.across]} = {at[self.across]}"
        return f"{self.name}, {index}" if self.name else index


def views(affine: Affine | None) -> list[View]:
    """Return the three planes to show of a volume with this affine; without, those across D, H and W."""
    if affine is None:
        pairs = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
        return [
            View("", across, down, right, (False, False), ("", f"+{'DHW'[right]}", "", f"+{'DHW'[down]}"))
            for across, down, right in pairs
        ]
    axis, upwards = {}, {}
    for voxel_axis, (world, sign) in enumerate(io_orientation(affine)):
        axis[int(world)], upwards[int(world)] = 2 - voxel_axis, bool(sign > 0)
    return [
        View(name, axis[across], axis[down], axis[right], (upwards[down], upwards[right]), (*sides, *ends))
        for name, across, down, right, ends, sides in DOWN
    ]


def is_oriented(info: VolumeInfo) -> bool:
    """Say whether the file itself says how its axes lie in the world, not only how long their steps are."""
    return info.affine is not None and info.details.get("orientation") is not None


class Scan:
    """One volume and channel of a file whose header was read; `source` is closed by the caller.

    The 4th axis of a NIfTI, which may be time or channels, is what is said of the two; where both are, it is time.
    """

    def __init__(self, source: Source, info: VolumeInfo, volume: int | None = None, channel: int | None = None) -> None:
        self.info = info
        self._source = source
        fourth = "channel" if volume is None and channel is not None else "volume"
        self._names = {"n": "volume", "c": "channel", "t": fourth}
        said = {"volume": volume or 0, "channel": channel or 0}
        sizes = dict(zip(info.axes, info.shape, strict=True))
        self._picked = {
            letter: min(said[name], sizes[letter] - 1) for letter, name in self._names.items() if letter in sizes
        }
        self._roles = info.axes.replace("t", "n")
        self._volume, self._channel = self._picked.get("n", self._picked.get("t", 0)), self._picked.get("c", 0)
        if five_shape(info.shape, self._roles)[0] == 1:  # channels are read one by one, as volumes are
            self._roles = self._roles.translate(SWAPPED)
            self._volume, self._channel = self._channel, 0
        self._shape = five_shape(info.shape, self._roles)
        self.size: Triple = self._shape[2:]
        d, h, w = (-(-one // MOST_SIDE) for one in self.size)
        self.thinning: Triple = (d, h, w)
        """Along D, H, W, every how manieth voxel is kept."""

    @property
    def picked(self) -> str:
        """Which of several volumes and channels this is; '' where there is one."""
        sizes = dict(zip(self.info.axes, self.info.shape, strict=True))
        shown = [
            f"{self._names[letter]} {index} (of 0 to {sizes[letter] - 1})"
            for letter, index in self._picked.items()
            if sizes[letter] > 1
        ]
        return ", ".join(shown)

    @property
    def is_whole(self) -> bool:
        """Whether the values are integers as they are stored, unscaled."""
        return np.dtype(self.info.dtype).kind in "iub" and not self.info.details.get("scaling")

    def planes(self, shown: Sequence[View], at: Triple) -> list[Array]:
        """Return the planes through the voxel `at`, turned; of a stream, which is passed to its end, in one pass."""
        ways = self._source.readings(self._roles)
        reader = self._source.reader(self._roles, min(ways, key=lambda one: (one.spool, one.forward)), None)
        if reader.random_access:
            found = [self._across(reader, axis, at[axis]) for axis in range(3)]
        else:
            found = self._passing(reader, at)
        self._source.finish()
        return [view.turned(found[view.across]).astype(np.float64) for view in shown]

    def _across(self, reader: VolumeReader, axis: int, index: int) -> Array:
        """Read the plane across an axis strip by strip, so that what is thinned is never held whole."""
        along, step = (1, self.thinning[1]) if axis == 0 else (0, self.thinning[0])
        start, stop = [0, 0, 0], list(self.size)
        start[axis], stop[axis] = index, index + 1
        dtype = arithmetic_dtype(self.info.dtype)
        others = [size for one, size in enumerate(self.size) if one not in (axis, along)]
        strip = -(-max(1, STRIP_BYTES // (self._shape[1] * others[0] * dtype.itemsize)) // step) * step
        parts = []
        for first in range(0, self.size[along], strip):
            start[along], stop[along] = first, min(first + strip, self.size[along])
            region = Region((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
            block = np.empty((self._shape[1], *region.shape), dtype)
            reader.read(self._volume, region, block)
            parts.append(block[self._channel][self._thinned].copy())
        return np.concatenate(parts, axis=along).squeeze(axis)

    @property
    def _thinned(self) -> tuple[slice, slice, slice]:
        d, h, w = (slice(None, None, step) for step in self.thinning)
        return d, h, w

    def _passing(self, reader: VolumeReader, at: Triple) -> list[Array]:
        """Take the three planes from the D planes as they come."""
        depth, height, width = self.size
        block = np.empty((self._shape[1], 1, height, width), arithmetic_dtype(self.info.dtype))
        plane, (_, rows, columns) = block[self._channel, 0], self._thinned
        across_d, across_h, across_w = plane, [], []
        for d in range(depth):
            reader.forget(self._volume, d)
            reader.read(self._volume, Region((d, 0, 0), (d + 1, height, width)), block)
            if d == at[0]:
                across_d = plane[rows, columns].copy()
            if d % self.thinning[0] == 0:
                across_h.append(plane[at[1], columns].copy())
                across_w.append(plane[rows, at[2]].copy())
        return [across_d, np.stack(across_h), np.stack(across_w)]

    def values(self) -> Iterator[Array]:
        """Yield the values of all volumes and channels, piece by piece, each once."""
        ways = self._source.readings(self._roles)
        reading = min(ways, key=lambda one: (one.spool, not one.forward))
        reader = self._source.reader(self._roles, reading, None)
        for batch in range(self._shape[0]):
            for piece, _ in pieces(reader, None, batch, arithmetic_dtype(self.info.dtype), reading.grain[0]):
                yield piece
        self._source.finish()


def check_picked(infos: Sequence[VolumeInfo], volume: int | None, channel: int | None) -> None:
    """Raise `ArgumentError` where a volume or channel, counted from 0, is in none of the files, or not in all.

    A file that has one only shows that one beside another that has several.
    """
    for name, said, letters in (("volume", volume, "nt"), ("channel", channel, "c" if volume is not None else "ct")):
        counts = {
            info.path: next((size for letter, size in zip(info.axes, info.shape, strict=True) if letter in letters), 1)
            for info in infos
        }
        for path, count in counts.items():
            if said is not None and said >= count and (count > 1 or max(counts.values()) == 1):
                legal = f"0 to {count - 1}" if count > 1 else "0"
                raise ArgumentError(f"--{name} {said}: {path} has {count} {name}{'s' * (count > 1)}; legal: {legal}")
