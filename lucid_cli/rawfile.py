"""Files of plain voxels behind a header, read and written by boxes in any order."""

import errno
import io
import itertools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from lucid_cli.boxes import Box, cut_box, file_block, file_box, within
from lucid_cli.volumes import FIVE, Reading, Sink, Target, Writing
from lucid_core.errors import InputError
from lucid_core.regions import Region
from lucid_core.volume import Shape5

ByteOrder = Literal["<", ">"]
"""Of stored values: the lowest byte first, or the highest."""
Trailer = Callable[[], bytes]
"""Gives what follows the voxels of an output."""
READ_BYTES = 2 << 20
"""Bytes read at a time, and the least worth a system call of their own are a sixty-fourth of it."""

RAW_COPIES = 2.0
"""Copies of a tile's output that casting it and putting it in the file's order make."""
RANDOM_READ_BYTES = 32 << 20
"""Memory that threads take which read boxes at once."""


def raw_readings(shape: Shape5, dtype: np.dtype[Any], *, by_planes: bool, spool: int = 0) -> list[Reading]:
    """Return the ways to read volumes (N, C, D, H, W) that lie plain in a file, `by_planes` where D is outermost."""
    plane = shape[1] * math.prod(shape[3:]) * dtype.itemsize
    at_once = max(1, READ_BYTES // plane)
    forward = Reading(True, 2 * READ_BYTES, plane, at_once, spool)
    return [forward] * by_planes + [Reading(False, RANDOM_READ_BYTES, spool=spool)]


class RawReader:
    """Reads boxes of an array in C order of `shape` from an open file, safe for several threads.

    The file is read, not mapped: a mapped file that is cut short meanwhile would end the process.
    """

    def __init__(
        self,
        file: IO[bytes],
        start: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        name: str,
        *,
        forward: bool = False,
    ) -> None:
        """Note where the array begins; `forward` says that it is read in order, so that no axis may be read wider."""
        self._file = file
        self._start = start
        self._shape = shape
        self._dtype = dtype
        self._name = name
        self._forward = forward

    def read_box(self, box: Box) -> Iterator[tuple[Box, npt.NDArray[Any]]]:
        """Yield the values of a box, part by part, with where each part lies in the box."""
        wide = box if self._forward else self._widened(box)
        for part in cut_box(wide, (1,) * len(box), READ_BYTES // self._dtype.itemsize):
            wanted = tuple(
                slice(max(one.start, all_.start), min(one.stop, all_.stop)) for one, all_ in zip(part, box, strict=True)
            )
            yield within(wanted, box), self._read(part)[within(wanted, part)]

    def _widened(self, box: Box) -> Box:
        """Take whole inner axes, as far as they are read at once, where the box alone is read in pieces too small."""
        wide, entry = box, self._dtype.itemsize
        for axis in range(len(box) - 1, 0, -1):
            _, count = next(_runs(self._shape, wide))
            entry *= self._shape[axis]
            if count * self._dtype.itemsize >= READ_BYTES // 64 or entry > READ_BYTES:
                break
            wide = (*wide[:axis], slice(0, self._shape[axis]), *wide[axis + 1 :])
        return wide

    def _read(self, box: tuple[slice, ...]) -> npt.NDArray[Any]:
        values = np.empty([one.stop - one.start for one in box], self._dtype)
        target = values.reshape(-1).view(np.uint8).data
        for offset, count in _runs(self._shape, box):
            size = count * self._dtype.itemsize
            self._read_at(self._start + offset * self._dtype.itemsize, target[:size])
            target = target[size:]
        return values

    def _read_at(self, offset: int, target: memoryview) -> None:
        while target:
            try:
                count = os.preadv(self._file.fileno(), [target], offset)
            except OSError as error:
                raise InputError(f"{self._name}: cannot be read: {error.strerror}") from error
            if not count:
                raise InputError(f"{self._name}: the file ends too early: {len(target)} bytes are missing at {offset}")
            target, offset = target[count:], offset + count


class RawFile:
    """An open file that gets an array in C order of `shape`, in a byte order; what it holds beforehand stays.

    Every write error is raised.
    """

    def __init__(
        self, file: IO[bytes], header: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], order: ByteOrder = "<"
    ) -> None:
        self._dtype = dtype.newbyteorder(order)
        self.shape = shape
        self._start = len(header)
        self._size = self._start + math.prod(shape) * dtype.itemsize
        self._file = file.fileno()
        self._allocate()
        self._write_at(0, memoryview(header))

    def _allocate(self) -> None:
        """Take the space now, so that a full disk shows before the work; file systems without that just grow."""
        try:
            os.posix_fallocate(self._file, 0, self._size)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            os.ftruncate(self._file, self._size)
        if os.fstat(self._file).st_size > self._size:  # an interrupted run had begun with what follows the array
            os.ftruncate(self._file, self._size)

    def write_region(self, axes: str, batch: int, region: Region, block: npt.NDArray[Any]) -> None:
        """Write the voxels (C, d, h, w) of a region of one volume; `axes` are the roles of the file's axes."""
        box = file_box(axes, batch, region, block.shape[0])
        values = np.ascontiguousarray(file_block(axes, block), self._dtype)
        bytes_left = values.reshape(-1).view(np.uint8).data
        for offset, count in _runs(self.shape, box):
            size = count * self._dtype.itemsize
            self._write_at(self._start + offset * self._dtype.itemsize, bytes_left[:size])
            bytes_left = bytes_left[size:]

    def _write_at(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes behind the header that were written."""
        data = os.pread(self._file, size, self._start + offset)
        if len(data) != size:
            raise OSError(f"the temporary file ends {size - len(data)} bytes too early")
        return data

    def finish(self, trailer: bytes = b"") -> None:
        """Check the size, write what follows the array, and flush to the disk."""
        found = os.fstat(self._file).st_size
        if found != self._size:
            raise OSError(f"the output has {found} bytes where {self._size} were written")
        self._write_at(self._size, memoryview(trailer))
        os.fsync(self._file)


class RawSink(Sink):
    """Writes voxels plain, in any order, behind a header, or beside it where there are two temporary files.

    `axes` are the roles of the file's axes, the slowest first. `trailer` gives what follows the voxels once all are
    there.
    """

    def __init__(
        self,
        temporaries: list[Path],
        target: Target,
        header: bytes,
        axes: str,
        *,
        order: ByteOrder = "<",
        trailer: Trailer = bytes,
    ) -> None:
        super().__init__()
        self._axes = axes
        self._header = None if len(temporaries) == 1 else temporaries[1]
        self._header_bytes = header
        self._trailer = trailer
        sizes = dict(zip(FIVE, target.shape, strict=True))
        shape = tuple(sizes[letter] for letter in axes)
        file = self._open.enter_context(temporaries[0].open("r+b"))
        self._file = RawFile(file, b"" if self._header else header, shape, target.dtype, order)

    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Write one region."""
        self._file.write_region(self._axes, batch, region, encoded)

    def finish(self) -> None:
        """Write the header of a pair and flush to the disk."""
        self._file.finish(self._trailer())
        if self._header is not None:
            with self._header.open("r+b") as file:
                file.write(self._header_bytes)
                file.flush()
                os.fsync(file.fileno())


class WatchedFile(io.FileIO):
    """A file for the HDF5 library to write, which crashes the process when a write fails as it closes.

    The first error is kept for `check` to raise, and from then on nothing is written and nothing fails.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, unless a write failed before."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.error is None:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size, unless a write failed before."""
        try:
            return size or 0 if self.error else super().truncate(size)
        except OSError as error:
            self.error = error
            return size or 0

    def check(self) -> None:
        """Raise the first error."""
        if self.error is not None:
            raise self.error


def raw_writing(target: Target) -> Writing:
    """Return what writing a target plain takes."""
    return Writing(memory=0, copies=RAW_COPIES, disk=math.prod(target.shape) * target.dtype.itemsize, in_place=True)


def _runs(shape: tuple[int, ...], box: tuple[slice, ...]) -> Iterator[tuple[int, int]]:
    """Yield (offset, count) of the contiguous values of a box in a C-ordered array, in the box's C order."""
    axis = len(shape) - 1
    while axis > 0 and box[axis] == slice(0, shape[axis]):
        axis -= 1
    inner = math.prod(shape[axis + 1 :])
    count = (box[axis].stop - box[axis].start) * inner
    strides = [math.prod(shape[one + 1 :]) for one in range(axis)]
    for index in itertools.product(*(range(one.start, one.stop) for one in box[:axis])):
        start = sum(at * stride for at, stride in zip(index, strides, strict=True))
        yield start + box[axis].start * inner, count
