"""Files whose voxels lie plain behind a header, or as one compressed stream: what reads them is the same for all."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from lucid_cli.boxes import BoxReader
from lucid_cli.compression import open_stream
from lucid_cli.opening import check_input
from lucid_cli.planes import PlaneWindow, drain, skip, spool, stream_fetch, window
from lucid_cli.rawfile import RawReader, raw_readings
from lucid_cli.volumes import Reading, Source, five_shape
from lucid_core.errors import InputError
from lucid_core.volume import Shape5, VolumeReader

DECOMPRESSION_BYTES = 4 << 20
"""Memory that decompressing a stream takes."""


@dataclass(frozen=True)
class Layout:
    """How an array lies in a file."""

    shape: tuple[int, ...]
    """Sizes in the order of the header's axes."""
    dtype: np.dtype[Any]
    """Type of the stored values, in their byte order."""
    offset: int
    """Where the array begins in the file, decompressed."""
    x_first: bool
    """Whether the first axis of the header is the fastest, else the last."""
    scaling: tuple[float, float] | None = None
    """Slope and intercept of stored values."""

    @property
    def bytes(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize

    def in_c_order(self, axes: Any) -> Any:
        """Return what belongs to the axes, one each, with the slowest axis first."""
        return axes[::-1] if self.x_first else axes


class RawSource(Source):
    """A file of plain voxels. A subclass reads the header and sets `layout`, `info` and `is_stream`."""

    layout: Layout

    def __init__(self, path: Path | None, name: str) -> None:
        """Note the file of the voxels, None for a pipe, and what messages call it."""
        super().__init__(path)
        self._data_path = path
        self._name = name
        self._window: PlaneWindow | None = None
        """What reads the stream now, where it is read plane by plane."""

    def _check_size(self) -> None:
        """Refuse, before anything is allocated, a header that promises more voxels than the file holds."""
        assert self._data_path is not None
        found = self._data_path.stat().st_size - self.layout.offset
        if found < self.layout.bytes:
            raise InputError(
                f"{self._name}: the file is cut short: expected {self.layout.bytes} bytes of voxels for shape "
                f"{self.layout.shape} of {self.layout.dtype.name}, found {max(found, 0)}"
            )

    def readings(self, roles: str) -> list[Reading]:
        """Read plane by plane where the planes lie in order; a stream whose planes do not is spooled."""
        shape, order = five_shape(self.layout.shape, roles), self.layout.in_c_order(roles)
        by_planes = _by_planes(shape, order)
        if not self.is_stream:
            return raw_readings(shape, self.layout.dtype, by_planes=by_planes)
        spooled = raw_readings(shape, self.layout.dtype, by_planes=by_planes, spool=self.layout.bytes)
        if not (by_planes and _whole_planes(shape, order)):
            return spooled
        plane = shape[1] * math.prod(shape[3:]) * self.layout.dtype.itemsize
        return [Reading(True, DECOMPRESSION_BYTES, plane), spooled[-1]]

    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:
        """Return a reader: over the file, over the stream of a compressed one, or over what it was spooled to."""
        layout, shape = self.layout, five_shape(self.layout.shape, roles)
        if not self.is_stream:
            return self._boxes(self._open.enter_context(self._stream()), layout.offset, roles, reading)
        self._window = None
        self._begun = self._begin()
        if not reading.spool:
            within = layout.in_c_order(roles).partition("z")[2]
            fetch = stream_fetch(self._begun, self._name, shape, layout.dtype, within)
            self._window = PlaneWindow(shape, fetch, layout.scaling)
            return self._window
        spooled = self._open.enter_context(spool(self._begun, layout.bytes, self._name, spool_folder))
        return self._boxes(spooled, 0, roles, reading)

    def _stream(self) -> IO[bytes]:
        """Open the file of the voxels, decompressing it where it is compressed."""
        assert self._data_path is not None
        return open_stream(self._data_path)

    def _begin(self) -> IO[bytes]:
        """Return a stream at its first voxel."""
        self._open.close()
        stream = self._open.enter_context(self._stream())
        skip(stream, self.layout.offset, self._name)
        return stream

    def _boxes(self, file: IO[bytes], start: int, roles: str, reading: Reading) -> VolumeReader:
        """Return a reader over voxels that lie plain in a file."""
        layout = self.layout
        shape = layout.in_c_order(layout.shape)
        raw = RawReader(file, start, shape, layout.dtype, self._name, forward=reading.forward)
        boxes = BoxReader(raw, shape, layout.dtype, layout.in_c_order(roles), layout.scaling)
        return window(boxes, reading.planes_at_once) if reading.forward else boxes

    def verify(self) -> None:
        """Decompress all voxels of a compressed file, up to the checksums."""
        if self.is_stream:
            self._begun = self._begin()
            skip(self._begun, self.layout.bytes, self._name)
            self._drain()

    def finish(self) -> None:
        """Read a stream to its end, where the checksums stand that are compared."""
        if self.is_stream:
            if self._window is not None:
                self._window.forget(self._window.shape[0], 0)
            self._drain()
        super().finish()

    def _drain(self) -> None:
        """Read what follows the voxels in a stream."""
        drain(self._begun, self._name)


def _by_planes(shape: Shape5, order: str) -> bool:
    """Say whether the planes of one volume lie in order in an array whose axes have these roles, the slowest first."""
    inner = order.partition("z")[2]
    return "y" in inner and "x" in inner and ("n" not in inner or shape[0] == 1)


def _whole_planes(shape: Shape5, order: str) -> bool:
    """Say whether planes with all their channels lie one behind the other."""
    return shape[1] == 1 or "c" in order.partition("z")[2]


def data_beside(header: Path, name: str) -> Path:
    """Return the file of voxels that a header of a pair names, which must lie in its folder or below.

    Raises `InputError` where it is elsewhere, since the header would decide what is read, where it is no regular file,
    and for several files.
    """
    if name.upper().startswith("LIST") or "%" in name or not name:
        raise InputError(f"{header}: its voxels lie in several files ({name!r}): not read")
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise InputError(f"{header}: its voxels lie in {name}, outside its folder: not read; move both into one folder")
    path = header.parent / name
    try:
        check_input(path)
    except InputError as error:
        raise InputError(f"{header}: names the file of its voxels: {error}") from error
    return path
