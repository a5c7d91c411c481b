"""A file of plain voxels behind a header, written by regions in any order."""

import errno
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.volumes import file_block, file_box
from lucid_core.errors import ArgumentError
from lucid_core.regions import Region


class RawFile:
    """A new file whose array is in C order of `shape`, little-endian. Every write error is raised."""

    def __init__(self, path: Path, header: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._dtype = dtype.newbyteorder("<")
        self._shape = shape
        self._start = len(header)
        self._size = self._start + math.prod(shape) * dtype.itemsize
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
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

    def write_region(self, axes: str, batch: int, region: Region, block: npt.NDArray[Any]) -> None:
        """Write the voxels (C, d, h, w) of a region of one volume; `axes` are the roles of the file's axes."""
        box = file_box(axes, batch, region, block.shape[0])
        values = np.ascontiguousarray(file_block(axes, block), self._dtype)
        bytes_left = values.reshape(-1).view(np.uint8).data
        for offset, count in _runs(self._shape, box):
            size = count * self._dtype.itemsize
            self._write_at(self._start + offset * self._dtype.itemsize, bytes_left[:size])
            bytes_left = bytes_left[size:]

    def _write_at(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def read_all(self, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """Yield everything in the file from its start."""
        for offset in range(0, self._size, chunk_bytes):
            yield os.pread(self._file, min(chunk_bytes, self._size - offset), offset)

    def finish(self) -> None:
        """Check the size and flush to the disk."""
        found = os.fstat(self._file).st_size
        if found != self._size:
            raise OSError(f"the output has {found} bytes where {self._size} were written")
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


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


def check_compression(name: str, compression: str | None) -> None:
    """Refuse a compression for a format that has none."""
    if compression not in (None, "none"):
        raise ArgumentError(f"--compression {compression}: {name} files are not compressed; legal: none")


def level(compression: str | None, default: int) -> int:
    """Return the gzip level 1 to 9 of `--compression`, 0 for none."""
    if compression is None:
        return default
    if compression == "none":
        return 0
    if len(compression) == 1 and compression in "123456789":
        return int(compression)
    raise ArgumentError(f"--compression {compression!r} is not legal: none, or a gzip level from 1 to 9")
