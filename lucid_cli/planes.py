"""Compressed volumes: one stream, read forward once, D plane by D plane."""

import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lucid_cli.volumes import convert
from lucid_core.errors import InputError
from lucid_core.regions import Region
from lucid_core.volume import Shape5

CHUNK_BYTES = 1 << 20


def open_stream(path: Path) -> IO[bytes]:
    """Open a file to read forward, decompressing it if its first bytes are those of gzip, whatever its name."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if file.peek(2)[:2] != b"\x1f\x8b":
        return file
    return io.BufferedReader(_Members(file), CHUNK_BYTES)


class _Members(gzip.GzipFile):
    """A gzip file, closing the file below with it."""

    def __init__(self, file: io.BufferedReader) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._below = file

    def close(self) -> None:
        super().close()
        self._below.close()


def is_compressed(stream: IO[bytes]) -> bool:
    """Say whether `open_stream` found a gzip file."""
    return isinstance(getattr(stream, "raw", None), _Members)


class PlaneStream:
    """Reads single-channel volumes from a stream at their first voxel; implements `VolumeReader`.

    Planes are kept, in the stored type, from the first one a tile needs until `forget` lets them go.
    """

    random_access = False

    def __init__(
        self, stream: IO[bytes], name: str, shape: Shape5, dtype: np.dtype[Any], scaling: tuple[float, float] | None
    ) -> None:
        self.shape = shape
        self._stream = stream
        self._name = name
        self._dtype = dtype
        self._scaling = scaling
        self._planes: dict[int, npt.NDArray[Any]] = {}
        self._batch = 0
        self._next = 0
        self._keep = 0

    def view(self, batch: int, dtype: Any) -> None:
        """Have none: voxels are read."""

    def forget(self, batch: int, plane: int) -> None:
        """Drop planes below `plane`, and all of earlier volumes."""
        while self._batch < batch:
            self._keep = self.shape[2]
            self._advance(self.shape[2])
            self._planes.clear()
            self._batch, self._next = self._batch + 1, 0
        self._keep = plane
        for held in [one for one in self._planes if one < plane]:
            del self._planes[held]

    def read(self, batch: int, region: Region, out: npt.NDArray[Any]) -> None:
        """Read a region, whose planes have not been forgotten, of the current volume into `out` (1, d, h, w)."""
        if batch != self._batch or region.start[0] < self._keep:
            raise RuntimeError(f"plane {region.start[0]} of volume {batch} was asked for after it was let go")
        self._advance(region.stop[0])
        _, h, w = region.slices
        for at, plane in enumerate(range(region.start[0], region.stop[0])):
            convert(self._planes[plane][h, w], self._scaling, out[0, at])

    def _advance(self, stop: int) -> None:
        """Read the planes before `stop` that have not been read."""
        height, width = self.shape[3:]
        for plane in range(self._next, stop):
            values = np.empty((height, width), self._dtype)
            read_exactly(self._stream, values.reshape(-1).view(np.uint8).data, self._name)
            if plane >= self._keep:
                self._planes[plane] = values
            self._next = plane + 1


def read_exactly(stream: IO[bytes], target: memoryview, name: str) -> None:
    """Fill `target` from a stream, or raise `InputError` saying how much was there."""
    done = 0
    with reading(name):
        while done < len(target):
            count = stream.readinto(target[done:])  # type: ignore[attr-defined]
            if not count:
                raise InputError(f"{name}: the file ends too early: expected {len(target)} more bytes, found {done}")
            done += count


class reading:  # noqa: N801 - used like a function
    """Turn the errors of a damaged stream into `InputError` with the file's name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (EOFError, zlib.error, OSError)) and not isinstance(error, InputError):
            raise InputError(f"{self._name}: the file is damaged or cut short: {error}") from error


def skip(stream: IO[bytes], count: int, name: str) -> None:
    """Read over the first `count` bytes of a stream."""
    for size in _chunks(count):
        read_exactly(stream, memoryview(bytearray(size)), name)


def drain(stream: IO[bytes], name: str) -> None:
    """Read a stream to its end, so that every gzip member's checksum is compared."""
    with reading(name):
        while stream.read(CHUNK_BYTES):
            pass


def spool(stream: IO[bytes], size: int, name: str, folder: Path | None) -> IO[bytes]:
    """Copy `size` bytes of a stream to a nameless temporary file and return it."""
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
    try:
        for count in _chunks(size):
            chunk = bytearray(count)
            read_exactly(stream, memoryview(chunk), name)
            file.write(chunk)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def _chunks(size: int) -> Iterator[int]:
    for start in range(0, size, CHUNK_BYTES):
        yield min(CHUNK_BYTES, size - start)
