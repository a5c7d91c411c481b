"""Volumes in files, as the formats describe them: `Source` to read, `Target` and `Sink` to write.

A file's axes are letters in the file's own order: x, y, z, and t, n or c. Before it is read, every axis gets its
role among n, c, z, y, x (`axes.roles`), and the array is seen as (N, C, D, H, W).
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.cutting import cuts
from lucid_core.errors import InputError
from lucid_core.geometry import Affine
from lucid_core.regions import Region, Triple
from lucid_core.stack import Problem
from lucid_core.units import Spacing
from lucid_core.volume import Shape5, VolumeReader

Array = npt.NDArray[Any]
FIVE = "nczyx"
Shrink = Callable[[Any, Any, Any], None]
"""Makes the second of two arrays of a multiscale image from the first, by a `pyramid.Shrinking`."""


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


@dataclass(frozen=True)
class Placement:
    """One of several affines that a header may hold, and what it says of it."""

    code: int | None
    """What the affine is said to be, 0 for nothing; None where nothing is said of it."""
    affine: Affine | None
    """In mm, where it is usable."""


@dataclass(frozen=True)
class Reading:
    """A way to read a source, and what it takes."""

    forward: bool
    """Whether every plane is read once, in order, and held as long as tiles need it; else regions are read as asked."""
    memory: int
    """Bytes, besides the planes that are held."""
    plane: int = 0
    """Bytes of a D plane that is held, with all its channels."""
    planes_at_once: int = 1
    """Planes that are read together."""
    spool: int = 0
    """Bytes of a temporary file that it needs beside the output."""
    grain: Triple = (1, 1, 1)
    """Voxels along D, H, W that are stored together, where a region is read as it is asked for."""


@dataclass(frozen=True)
class Writing:
    """What writing a target takes."""

    memory: int
    copies: float
    """Memory for what is made of a tile's output, as a share of it."""
    disk: int
    """Bytes that the output surely takes."""
    spool: int = 0
    """Bytes of temporary files beside it."""
    grain: Triple = (1, 1, 1)
    """Voxels along D, H, W that are stored together."""
    waiting: int = 0
    """Bytes that wait where the regions that come end within what is stored together."""
    whole: bool = False
    """Whether regions should be multiples of `grain`, as others are written twice."""
    in_place: bool = False
    """Whether regions are written, in any order, where they stay."""


class Source(ABC):
    """An input file whose header has been read."""

    info: VolumeInfo
    warnings: tuple[str, ...] = ()
    provenance: dict[str, Any] | None = None
    """What made it, where this program did and it says so."""
    is_stream = False
    """Whether it can only be read from its start to its end."""

    def __init__(self, path: Path | None) -> None:
        """Note how a file stands, None for a pipe."""
        self._path = path
        self._stamp = _stamp(path) if path else None
        self._open = ExitStack()
        """The files that `close` closes."""

    @abstractmethod
    def readings(self, roles: str) -> list[Reading]:
        """Return the ways to read it for these roles of the axes, the best first."""

    @abstractmethod
    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:
        """Return a reader (N, C, D, H, W) for the roles of the axes; `spool_folder` is where temporary data may go."""

    def placements(self) -> dict[str, Placement]:
        """Return the affines by name where the format may hold several."""
        return {}

    def time_step(self) -> float | None:
        """Return the seconds from one volume to the next, where the file says them."""
        return None

    def fields(self) -> dict[str, Any]:
        """Return what the header says besides shape, dtype and place, by the format's names; nothing of provenance."""
        return {}

    def verify(self) -> None:
        """Check that all of it is whole, reading what cannot be told from its size."""
        Source.finish(self)

    def finish(self) -> None:
        """Check, after the last read, that the input was whole and did not change meanwhile."""
        if self._path and _stamp(self._path) != self._stamp:
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
    problem: Problem
    source: Source | None
    spacing: Spacing | None
    """Of the output, in mm along D, H, W."""
    affine: Affine | None
    """Of the output, in mm; `source` may hold more forms of it."""
    input_spacing: Spacing | None
    """What the input's spacing was said to be, where `--spacing` said so."""
    compression: str | None
    chunks: Triple | None
    """Shape of HDF5 or Zarr chunks along D, H, W, where `--chunks` says it."""
    shuffle: bool | None
    """Whether bytes are shuffled before HDF5 or Zarr compresses them, where `--shuffle` says so."""
    tile: Triple
    """Voxels along D, H, W of the regions that come, in order; those at the end may be smaller."""
    voxels: Path | None = None
    """A file that keeps the voxels plain until all are there, where the run shall be one that can go on."""
    slope: float = 1.0
    inter: float = 0.0
    provenance: str | None = None
    """What made it, kept where the format has a place for it."""
    shards: Triple | None = None
    """Shape of Zarr shards along D, H, W, where `--shards` says it."""
    zarr_format: int | None = None
    """Format of a Zarr, 2 or 3, where `--zarr-format` says it."""
    pyramid: bool = False
    """Whether lower levels of resolution are written too."""
    shrink: Shrink | None = None
    """Makes a lower level, where the voxels are written."""

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Sizes in the file's order."""
        sizes = dict(zip(FIVE, self.shape, strict=True))
        return tuple(sizes[letter] for letter in self.axes)

    @property
    def whole_planes(self) -> bool:
        """Whether the regions that come are whole planes, so that one channel comes in the order of D, H, W."""
        return self.tile[1:] == self.shape[3:]

    def regions(self, tile: Triple | None = None) -> Iterator[tuple[int, Region]]:
        """Yield the regions that come, and their volumes, in order; or those of another size."""
        cut = [cuts(size, step) for size, step in zip(self.shape[2:], tile or self.tile, strict=True)]
        for batch in range(self.shape[0]):
            for d, h, w in itertools.product(*cut):
                yield batch, Region((d[0], h[0], w[0]), (d[1], h[1], w[1]))


class Sink(ABC):
    """Writes voxels that have the output's dtype into a temporary file, or into a pipe."""

    def __init__(self) -> None:
        self._open = ExitStack()
        """The files that `close` closes."""

    def encode(self, batch: int, region: Region, block: Array) -> Any:  # noqa: ARG002
        """Return the voxels (C, d, h, w) of a region of volume `batch` as `write` wants them: in several threads."""
        return block

    @abstractmethod
    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Write what `encode` returned for a region; called in the order of the tiles."""

    @abstractmethod
    def finish(self) -> None:
        """Write what remains and flush the data to the disk."""

    def shared(self) -> "Sink | None":
        """Return a sink that can be sent to other processes, which store regions by it; None where all come to this."""
        return None

    def closes(self, files: ExitStack) -> None:
        """Let `close` close these too."""
        self._open.push(files)

    def close(self) -> None:
        """Close the files; after an error, without finishing them."""
        self._open.close()


def five_shape(shape: tuple[int, ...], roles: str) -> Shape5:
    """Return the sizes (N, C, D, H, W) of an array whose axes have these roles."""
    sizes = dict(zip(roles, shape, strict=True))
    n, c, d, h, w = (sizes.get(letter, 1) for letter in FIVE)
    return n, c, d, h, w
