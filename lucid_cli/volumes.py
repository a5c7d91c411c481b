"""Volumes in files, as the formats describe them: `Source` to read, `Target` and `Sink` to write.

A file's axes are letters in the file's own order: x, y, z, and t, n or c. Before it is read, every axis gets its
role among n, c, z, y, x (`axes.roles`), and the array is seen as (N, C, D, H, W).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lucid_core.errors import InputError
from lucid_core.geometry import Affine
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region
from lucid_core.units import Spacing
from lucid_core.volume import Shape5, VolumeReader

Array = npt.NDArray[Any]
FIVE = "nczyx"


@dataclass(frozen=True)
class VolumeInfo:
    """What a header says of a volume."""

    path: str
    format: str
    shape: tuple[int, ...]
    """Sizes in the file's own order."""
    axes: str
    """One letter an axis, in the same order."""
    dtype: str
    """Type of the stored values."""
    spacing: Spacing | None
    """Millimetres along D, H, W, where the file holds them."""
    affine: Affine | None
    """Voxel (x, y, z) to world in mm, where the file holds a usable one."""
    details: dict[str, Any] = field(default_factory=dict)
    """orientation, units, scaling, chunks, compression: where the format has them."""

    def spacing_in_order(self) -> list[float] | None:
        """Return the spacing in the order of the letters x, y, z in `axes`."""
        if self.spacing is None:
            return None
        along = dict(zip("zyx", self.spacing, strict=True))
        return [along[letter] for letter in self.axes if letter in along]

    def to_json(self) -> dict[str, Any]:
        """Return the `input` object of the shape report."""
        return {
            "path": self.path,
            "format": self.format,
            "shape": list(self.shape),
            "axes": self.axes,
            "dtype": self.dtype,
            "spacing_mm": self.spacing_in_order(),
            "affine": None if self.affine is None else self.affine.tolist(),
        }


class Source(ABC):
    """An input file whose header has been read."""

    info: VolumeInfo
    warnings: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._open = ExitStack()
        """The files that `close` closes."""

    @abstractmethod
    def reader(self, roles: str, spool_folder: Path | None) -> VolumeReader:
        """Return a reader (N, C, D, H, W) for the roles of the axes; `spool_folder` is where temporary data may go."""

    def window_bytes(self, roles: str, planes: int) -> int:  # noqa: ARG002 - only streams hold planes
        """Return the memory the reader takes while it holds `planes` D planes."""
        return 0

    def finish(self) -> None:
        """Check, after the last read, that the input was whole and did not change meanwhile."""
        if _stamp(self._path) != self._stamp:
            raise InputError(f"{self._path}: changed while it was read; run again")

    def close(self) -> None:
        """Close the files."""
        self._open.close()


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Target:
    """What an output file shall hold."""

    shape: Shape5
    """(N, C, D, H, W)."""
    axes: str
    """Roles of the file's axes in the file's order: three to five of n, c, z, y, x."""
    dtype: np.dtype[Any]
    problem: ConvProblem
    source: Source | None
    spacing: Spacing | None
    """Of the output, in mm along D, H, W."""
    affine: Affine | None
    """Of the output, in mm; `source` may hold more forms of it."""
    input_spacing: Spacing | None
    """What the input's spacing was said to be, where `--spacing` said so."""
    compression: str | None
    tile_planes_whole: bool
    """Whether tiles are whole planes, so that a single-channel file is written in its own order."""
    slope: float = 1.0
    inter: float = 0.0

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Sizes in the file's order."""
        sizes = dict(zip(FIVE, self.shape, strict=True))
        return tuple(sizes[letter] for letter in self.axes)


class Sink(ABC):
    """Writes voxels that have the output's dtype into temporary files."""

    def __init__(self) -> None:
        self._open = ExitStack()
        """The files that `close` closes."""

    @abstractmethod
    def write(self, batch: int, region: Region, block: Array) -> None:
        """Write the voxels (C, d, h, w) of a region of volume `batch`."""

    @abstractmethod
    def finish(self) -> None:
        """Write what remains and flush the data to the disk."""

    def close(self) -> None:
        """Close the files; after an error, without finishing them."""
        self._open.close()


def five_shape(shape: tuple[int, ...], roles: str) -> Shape5:
    """Return the sizes (N, C, D, H, W) of an array whose axes have these roles."""
    sizes = dict(zip(roles, shape, strict=True))
    n, c, d, h, w = (sizes.get(letter, 1) for letter in FIVE)
    return n, c, d, h, w


def file_box(axes: str, batch: int, region: Region, channels: int) -> tuple[slice, ...]:
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

    def read_box(self, box: tuple[slice, ...]) -> Iterator[tuple[slice, Array]]:
        """Yield the values of a box, some entries of its first axis at a time, with where these lie in the box."""


class BoxReader:
    """Reads regions from boxes of a file's array, scaling stored values; implements `VolumeReader`."""

    random_access = True

    def __init__(
        self, boxes: Boxes, shape: tuple[int, ...], axes: str, scaling: tuple[float, float] | None = None
    ) -> None:
        self.shape = five_shape(shape, axes)
        self._boxes = boxes
        self._axes = axes
        self._scaling = scaling

    def read(self, batch: int, region: Region, out: Array) -> None:
        """Read a region of one volume into `out` (C, d, h, w)."""
        target = file_block(self._axes, out)
        for entries, values in self._boxes.read_box(file_box(self._axes, batch, region, self.shape[1])):
            convert(values, self._scaling, target[entries])

    def view(self, batch: int, dtype: Any) -> None:
        """Have none: voxels are read."""

    def forget(self, batch: int, plane: int) -> None:
        """Nothing is held."""


def convert(stored: Array, scaling: tuple[float, float] | None, out: Array) -> None:
    """Put stored values into `out`, as slope * value + inter in float64 where there is a scaling."""
    if scaling is None:
        out[...] = stored
    else:
        slope, inter = scaling
        with np.errstate(all="ignore"):
            out[...] = stored.astype(np.float64) * slope + inter
