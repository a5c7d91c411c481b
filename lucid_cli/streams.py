"""Volumes written forward, as a stream: into a compressed file, or into a pipe.

A NIfTI holds its channels one behind the other, while every tile brings planes of all of them. Each channel of each
volume is therefore a series of blocks of its own; where the channels of a voxel stand together, each volume is one.
Those of the first series that is not complete go straight to the stream; those of later ones are spilled, compressed,
into a nameless temporary file, until it is their turn. Which planes a block holds follows from the shape alone, so that
the same volume is the same bytes, however it is tiled.
"""

import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from lucid_cli.compression import Block, Codec
from lucid_cli.rawfile import ByteOrder, RawFile, Trailer
from lucid_cli.talk import DataPipe
from lucid_cli.volumes import FIVE, Array, Sink, Target, Writing
from lucid_core.regions import Region

BLOCK_BYTES = 1 << 18
"""Bytes that a block holds, or one plane where that is more."""
COPY_BYTES = 1 << 20
Preface = Callable[[int], bytes]
"""Gives what stands before a stream of so many bytes; always of one length."""
LIKELY_RATIO = 4
"""Voxels rarely compress to less than this part of their size."""
STREAM_COPIES = 2.0
"""Copies of a tile's output that casting and compressing it make, where it does not compress at all."""


def planes_per_block(plane_voxels: int, dtype: np.dtype[Any]) -> int:
    """Return how many planes of so many voxels are one block."""
    return max(1, BLOCK_BYTES // max(1, plane_voxels * dtype.itemsize))


@dataclass
class _Part:
    """Some planes of one series: whole blocks, compressed, or part of one, as it is."""

    first: int
    blocks: list[Block]
    raw: memoryview | None


@dataclass
class _Series:
    """The blocks of one channel of one volume."""

    planes: int = 0
    """Planes whose blocks are whole."""
    begun: bytearray = field(default_factory=bytearray)
    """Planes of a block that is not whole."""
    size: int = 0
    crc: int = 0
    spilled: list[tuple[int, int]] = field(default_factory=list)
    """Offset and size of pieces in the spill."""


class StreamSink(Sink):
    """Writes regions of whole planes, in the order of D, as one stream."""

    def __init__(
        self,
        file: IO[bytes],
        target: Target,
        header: bytes,
        codec: Codec,
        spill_folder: Path | None,
        *,
        preface: Preface | None = None,
        order: ByteOrder = "<",
        trailer: Trailer = bytes,
    ) -> None:
        """Begin the stream with `header`; a `preface` stands before it, not compressed."""
        super().__init__()
        self._file = file
        self._codec = codec
        self._dtype = target.dtype.newbyteorder(order)
        self._trailer = trailer
        self._depth = target.shape[2]
        self._together = channels_together(target)
        channels, plane = _series_of(target)
        self._plane_bytes = plane * self._dtype.itemsize
        self._per_block = planes_per_block(plane, self._dtype)
        self._spill_folder = spill_folder
        self._spill: IO[bytes] | None = None
        self._volumes = target.shape[0]
        self._series = [_Series() for _ in range(self._volumes * channels)]
        self._current = 0
        self._preface = preface
        self._preface_bytes = preface(0) if preface else b""
        self._file.write(self._preface_bytes + codec.begin)
        start = codec.block(memoryview(header)) if header else Block(b"", 0, 0)
        self._file.write(start.data)
        self._whole = start.then(0, 0)

    def encode(self, batch: int, region: Region, block: Array) -> list[list[_Part]]:  # noqa: ARG002
        """Compress the blocks that the planes of a region hold whole."""
        series = [block.transpose(1, 2, 3, 0)] if self._together else block
        return [list(self._parts(region.start[0], planes)) for planes in series]

    def _parts(self, first: int, planes: Array) -> Iterator[_Part]:
        stop, at = first + len(planes), first
        while at < stop:
            begin = at - at % self._per_block
            end = min(begin + self._per_block, self._depth)
            stored = np.ascontiguousarray(planes[at - first : min(end, stop) - first], self._dtype)
            data = stored.reshape(-1).view(np.uint8).data
            whole = at == begin and end <= stop
            yield _Part(at, self._compressed(data), None) if whole else _Part(at, [], data)
            at = min(end, stop)

    def _compressed(self, data: memoryview) -> list[Block]:
        """Compress the bytes of one block, in pieces where one plane is larger than a block."""
        return [self._codec.block(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES)]

    def write(self, batch: int, region: Region, encoded: list[list[_Part]]) -> None:  # noqa: ARG002
        """Append the planes of a region to the series of its channels."""
        for channel, parts in enumerate(encoded):
            place = channel * self._volumes + batch
            for part in parts:
                self._append(place, part)
        while self._current < len(self._series) and self._series[self._current].planes == self._depth:
            self._next_series()

    def _append(self, place: int, part: _Part) -> None:
        """Append a part to a series: its blocks, or planes that wait until their block is whole."""
        series = self._series[place]
        end = min(series.planes + self._per_block, self._depth)
        if part.raw is not None:
            series.begun += part.raw
            if len(series.begun) < (end - series.planes) * self._plane_bytes:
                return
            part = _Part(series.planes, self._compressed(memoryview(series.begun)), None)
            series.begun = bytearray()
        series.planes = end
        for block in part.blocks:
            self._emit(place, block)

    def _emit(self, place: int, block: Block) -> None:
        """Write the next block of a series, or spill it."""
        series = self._series[place]
        series.size, series.crc = block.then(series.size, series.crc)
        if place == self._current:
            self._file.write(block.data)
        else:
            self._put_aside(series, block.data)

    def _put_aside(self, series: _Series, data: bytes) -> None:
        """Spill the bytes of a block whose turn has not come."""
        if self._spill is None:
            self._spill = tempfile.TemporaryFile(dir=self._spill_folder)  # noqa: SIM115 - `close` closes it
            self._open.enter_context(self._spill)
        offset = self._spill.seek(0, os.SEEK_END)
        self._spill.write(data)
        series.spilled.append((offset, len(data)))

    def _next_series(self) -> None:
        """End the current series, and begin the next with what was spilled of it."""
        done = self._series[self._current]
        self._whole = Block(b"", done.size, done.crc).then(*self._whole)
        self._current += 1
        if self._spill is None or self._current == len(self._series):
            return
        for offset, size in self._series[self._current].spilled:
            self._spill.seek(offset)
            for at in range(0, size, COPY_BYTES):
                self._file.write(self._spill.read(min(COPY_BYTES, size - at)))

    def pour(self, plain: RawFile) -> None:
        """Compress a plain file that holds the planes of all series, one behind the other."""
        at = 0
        for place in range(len(self._series)):
            for first in range(0, self._depth, self._per_block):
                size = min(self._per_block, self._depth - first) * self._plane_bytes
                pieces = (plain.read(at + one, min(BLOCK_BYTES, size - one)) for one in range(0, size, BLOCK_BYTES))
                for piece in pieces:
                    self._emit(place, self._codec.block(memoryview(piece)))
                self._series[place].planes = first + size // self._plane_bytes
                at += size
            self._next_series()

    def finish(self) -> None:
        """End the stream, and flush a file to the disk."""
        if self._current < len(self._series):
            raise RuntimeError("the stream was ended before all of its planes were written")
        if trailer := self._trailer():
            end = self._codec.block(memoryview(trailer))
            self._file.write(end.data)
            self._whole = end.then(*self._whole)
        self._file.write(self._codec.end(*self._whole))
        if self._preface:
            whole = self._preface(self._file.tell() - len(self._preface_bytes))
            self._file.seek(0)
            self._file.write(whole)
        self._file.flush()
        if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            os.fsync(self._file.fileno())


def channels_together(target: Target) -> bool:
    """Say whether the channels of a voxel stand side by side in a file whose first axis is the fastest."""
    return target.axes.startswith("cx")


def _series_of(target: Target) -> tuple[int, int]:
    """Return how many series a volume is, and the values of a plane of one."""
    channels, plane = target.shape[1], math.prod(target.shape[3:])
    return (1, channels * plane) if channels_together(target) else (channels, plane)


def is_spooled(target: Target) -> bool:
    """Say whether the voxels of a target are written plain first: they come in pieces of planes, or are to be kept."""
    return target.voxels is not None or not target.whole_planes


def plain_file(target: Target, folder: Path) -> IO[bytes]:
    """Open the file for the plain voxels of a target: the one that is kept, or a nameless temporary one."""
    return target.voxels.open("r+b") if target.voxels else tempfile.TemporaryFile(dir=folder)


def stream_writing(target: Target) -> Writing:
    """Return what a stream of a target takes; compressed voxels are taken for a quarter of their size."""
    size = math.prod(target.shape) * target.dtype.itemsize
    channels, plane = _series_of(target)
    series = target.shape[0] * channels
    packed, planes = size // LIKELY_RATIO, planes_per_block(plane, target.dtype)
    return Writing(
        memory=4 * BLOCK_BYTES,
        copies=STREAM_COPIES,
        disk=packed,
        spool=size if is_spooled(target) else packed * (series - 1) // series if channels > 1 else 0,
        grain=(planes, 1, 1),
        waiting=0 if is_spooled(target) else 5 * channels * planes * plane * target.dtype.itemsize // 4,
    )


class SpooledSink(Sink):
    """Takes regions in any order into a plain file, whose axes are in the order said, and pours it at the end."""

    def __init__(
        self,
        file: IO[bytes],
        axes: str,
        target: Target,
        sink: Sink,
        pour: Callable[[RawFile], None],
        order: ByteOrder = "<",
    ) -> None:
        super().__init__()
        self._axes = axes
        self._sink = sink
        self._open.callback(sink.close)
        self._pour = pour
        sizes = dict(zip(FIVE, target.shape, strict=True))
        self.plain = RawFile(file, b"", tuple(sizes[letter] for letter in axes), target.dtype, order)

    def write(self, batch: int, region: Region, encoded: Array) -> None:
        """Write one region into the plain file."""
        self.plain.write_region(self._axes, batch, region, encoded)

    def finish(self) -> None:
        """Pour everything into the sink and finish it."""
        self._pour(self.plain)
        self._sink.finish()


def stream_sink(
    temporary: Path | None,
    target: Target,
    header: bytes,
    codec: Codec,
    *,
    preface: Preface | None = None,
    x_first: bool = True,
    order: ByteOrder = "<",
    trailer: Trailer = bytes,
) -> Sink:
    """Write forward, to stdout where there is no file; regions that are no whole planes are spooled first."""
    folder = temporary.parent if temporary else Path(tempfile.gettempdir())
    with ExitStack() as stack:
        file: Any = stack.enter_context(temporary.open("w+b")) if temporary else DataPipe()
        stream = StreamSink(file, target, header, codec, folder, preface=preface, order=order, trailer=trailer)
        sink: Sink = stream
        if is_spooled(target):
            plain = stack.enter_context(plain_file(target, folder))
            axes = target.axes[::-1] if x_first else target.axes
            sink = SpooledSink(plain, axes, target, stream, stream.pour, order)
        sink.closes(stack.pop_all())
    return sink
