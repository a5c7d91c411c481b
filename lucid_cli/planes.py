"""Volumes read forward, D plane by D plane: every plane once, kept until no tile needs it any more."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from lucid_cli.boxes import BoxReader, convert
from lucid_cli.compression import CHUNK_BYTES
from lucid_cli.volumes import FIVE
from lucid_core.errors import InputError, LucidError
from lucid_core.regions import Region
from lucid_core.volume import Shape5

Fetch = Callable[[int, int], npt.NDArray[Any]]
"""Returns some planes (C, planes, H, W) of a volume, as they are stored, from a D plane on."""


class PlaneWindow:
    """Reads volumes whose planes can be had one after the other; implements `VolumeReader`.

    `fetch` is called for each volume of the batch in turn, with the planes in order. They are kept, in the stored
    type, from the first one a tile needs until `forget` lets them go.
    """

    random_access = False

    def __init__(self, shape: Shape5, fetch: Fetch, scaling: tuple[float, float] | None) -> None:
        self.shape = shape
        self._fetch = fetch
        self._scaling = scaling
        self._pieces: list[tuple[int, npt.NDArray[Any]]] = []
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
            self._pieces.clear()
            self._batch, self._next = self._batch + 1, 0
        self._keep = plane
        self._drop()

    def read(self, batch: int, region: Region, out: npt.NDArray[Any]) -> None:
        """Read a region, whose planes have not been forgotten, of the current volume into `out` (C, d, h, w)."""
        if batch != self._batch or region.start[0] < self._keep:
            raise RuntimeError(f"plane {region.start[0]} of volume {batch} was asked for after it was let go")
        self._advance(region.stop[0])
        _, h, w = region.slices
        for first, planes in self._pieces:
            start, stop = max(first, region.start[0]), min(first + planes.shape[1], region.stop[0])
            if start < stop:
                stored = planes[:, start - first : stop - first, h, w]
                convert(stored, self._scaling, out[:, start - region.start[0] : stop - region.start[0]])

    def _advance(self, stop: int) -> None:
        """Fetch the planes before `stop` that have not been fetched."""
        while self._next < stop:
            planes = self._fetch(self._batch, self._next)
            self._pieces.append((self._next, planes))
            self._next += planes.shape[1]
            self._drop()

    def _drop(self) -> None:
        """Let go of what lies below the planes that are kept."""
        while self._pieces and self._pieces[0][0] + self._pieces[0][1].shape[1] <= self._keep:
            self._pieces.pop(0)


def window(reader: BoxReader, planes_at_once: int) -> PlaneWindow:
    """Return a reader that reads every plane of another one once, some at a time."""
    return PlaneWindow(reader.shape, lambda batch, first: reader.planes(batch, first, planes_at_once), reader.scaling)


def stream_fetch(stream: IO[bytes], name: str, shape: Shape5, dtype: np.dtype[Any], within: str) -> Fetch:
    """Return a `Fetch` that reads volumes of this shape from a stream at their first voxel.

    `within` are the roles of the axes of one plane, as they lie in the stream.
    """
    sizes = dict(zip(FIVE, shape, strict=True))
    axes = within.replace("n", "") if "c" in within else f"c{within.replace('n', '')}"

    def fetch(batch: int, plane: int) -> npt.NDArray[Any]:  # noqa: ARG001 - the next plane comes next
        values = np.empty([sizes[letter] for letter in axes], dtype)
        read_exactly(stream, values.reshape(-1).view(np.uint8).data, name)
        return values.transpose([axes.index(letter) for letter in "cyx"])[:, np.newaxis]

    return fetch


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
        if isinstance(error, Exception) and not isinstance(error, (LucidError, MemoryError)):
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
