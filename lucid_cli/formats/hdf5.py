"""HDF5: one dataset of a file, chunked or not, with its attributes (`lucid_cli.attributes`)."""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from lucid_cli import attributes
from lucid_cli.boxes import Box, BoxReader, cut_box, file_block, file_box, within
from lucid_cli.compression import compression_level
from lucid_cli.formats import Spec
from lucid_cli.formats.npy import AXES, check_array
from lucid_cli.hdf5_file import MOST_ATTRIBUTE_BYTES, Description, Hdf5Dataset
from lucid_cli.isolation import Isolated
from lucid_cli.planes import window
from lucid_cli.provenance import ATTRIBUTE, parse
from lucid_cli.rawfile import RANDOM_READ_BYTES, RAW_COPIES, READ_BYTES, RawFile, RawReader, WatchedFile
from lucid_cli.streams import LIKELY_RATIO, SpooledSink
from lucid_cli.volumes import Array, Reading, Sink, Source, Target, VolumeInfo, Writing, five_shape
from lucid_core.errors import OutputError
from lucid_core.regions import Region
from lucid_core.volume import VolumeReader

DEFAULT_DATASET = "/data"
LIBRARY_BYTES = 16 << 20
"""Memory that the HDF5 library takes, its cache of chunks included, and that a child process has of its own."""
INDEX_BYTES = 1600
"""Memory that the library takes for each chunk that was written."""
LEAST_CHUNK_BYTES, MOST_SMALL_CHUNKS = 1 << 14, 1 << 12
"""Chunks of an input that are smaller, and more, are not those of its output: they cost more than they hold."""
CHUNK = 64
"""Largest size of a chunk along an axis where nothing says its shape."""


class Hdf5Source(Source):
    """One dataset, read in a child process."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path)
        self._child = Isolated(str(spec.path), Hdf5Dataset, spec.path, spec.inner)
        self._open.callback(self._child.close)
        try:
            self.dataset: Description = self._child.call("describe")
            check_array(self.dataset.name, self.dataset.shape, self.dataset.dtype)
            self.warnings = self.dataset.warnings
            self.info = self._describe()
            self.provenance = parse(attributes.text(self.dataset.attributes.get(ATTRIBUTE)) or "")
        except BaseException:
            self.close()
            raise

    def _describe(self) -> VolumeInfo:
        dataset = self.dataset
        spacing, affine, orientation = attributes.place(dataset.attributes)
        details = {
            "orientation": orientation,
            "units": attributes.text(dataset.attributes.get("units")),
            "chunks": list(dataset.chunks) if dataset.chunks else None,
            "compression": dataset.compression,
        }
        axes = AXES[len(dataset.shape)]
        return VolumeInfo(dataset.name, "hdf5", dataset.shape, axes, dataset.dtype.name, spacing, affine, details)

    def fields(self) -> dict[str, Any]:
        """Return the attributes that say nothing of place or provenance."""
        found = self.dataset.attributes.items()
        return {name: value for name, value in found if name not in attributes.NO_FIELDS}

    def readings(self, roles: str) -> list[Reading]:
        """Read whole rows of chunks forward, so that each chunk is decompressed once; else as asked."""
        shape = five_shape(self.info.shape, roles)
        plane = shape[1] * math.prod(shape[3:]) * self.dataset.dtype.itemsize
        grain = five_shape(self.dataset.chunks, roles)[2:] if self.dataset.chunks else (1, 1, 1)
        rows = grain[0] if self.dataset.chunks else max(1, READ_BYTES // plane)
        chunk = math.prod(self.dataset.chunks or ()) * self.dataset.dtype.itemsize
        child = LIBRARY_BYTES + 3 * chunk
        forward = Reading(True, child + 2 * max(READ_BYTES, chunk), plane, rows)
        return [forward, Reading(False, child + RANDOM_READ_BYTES, grain=grain)]

    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:  # noqa: ARG002
        """Return a reader over the dataset."""
        boxes = BoxReader(_DatasetBoxes(self.dataset, self._child), self.info.shape, self.dataset.dtype, roles)
        return window(boxes, reading.planes_at_once) if reading.forward else boxes

    def verify(self) -> None:
        """Read all chunks that are compressed, or have a checksum."""
        if self.dataset.filtered:
            whole = tuple(slice(0, size) for size in self.dataset.shape)
            for _ in _DatasetBoxes(self.dataset, self._child).read_box(whole):
                pass
        super().verify()


class _DatasetBoxes:
    """Reads boxes of a dataset; implements `Boxes`."""

    def __init__(self, dataset: Description, child: Isolated) -> None:
        self._dataset = dataset
        self._child = child

    def read_box(self, box: Box) -> Iterator[tuple[Box, Array]]:
        """Yield the values of a box, whole chunks at a time, with where they lie in the box."""
        grain = self._dataset.chunks or (1,) * len(box)
        for part in cut_box(box, grain, READ_BYTES // self._dataset.dtype.itemsize):
            yield within(part, box), self._child.call("read", part)


class Hdf5Sink(Sink):
    """Writes a new file with one dataset."""

    def __init__(self, temporary: Path, target: Target, inner: str) -> None:
        super().__init__()
        self._axes = target.axes
        self._channels = target.shape[1]
        storage = _storage(target)
        self._raw = self._open.enter_context(WatchedFile(temporary, "w+b"))
        self._file = self._open.enter_context(h5py.File(self._raw, "w"))
        try:
            self._dataset = self._file.create_dataset(
                inner, target.file_shape, target.dtype, **storage, track_times=False
            )
        except (ValueError, TypeError) as error:
            self.close()
            raise OutputError(f"{inner!r} is no name for a dataset: {error}") from error
        _write_attributes(self._dataset, target)

    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Write one region."""
        self._dataset[file_box(self._axes, batch, region, self._channels)] = file_block(self._axes, encoded)
        self._raw.check()

    def finish(self) -> None:
        """Close the file and flush it to the disk."""
        self._file.close()
        self._raw.check()
        os.fsync(self._raw.fileno())


def _storage(target: Target) -> dict[str, Any]:
    """Return how the dataset is stored: as the options say, else like the input dataset, else plain."""
    source = target.source.dataset if isinstance(target.source, Hdf5Source) else None
    storage: dict[str, Any] = {}
    if target.compression is not None:
        if level := compression_level(target.compression, 0):
            storage = {"compression": "gzip", "compression_opts": level, "shuffle": True}
    elif source is not None and source.compression in ("gzip", "lzf"):
        storage = {"compression": source.compression, "shuffle": source.shuffle}
        if source.compression == "gzip":
            storage["compression_opts"] = source.compression_opts
    if storage and target.shuffle is not None:
        storage["shuffle"] = target.shuffle
    chunks = _chunks(target, source)
    if chunks or storage:
        storage["chunks"] = chunks or _default_chunks(target)
    return storage


def _chunks(target: Target, source: Any) -> tuple[int, ...] | None:
    """Return the shape of chunks that `--chunks` or the input dataset says."""
    if target.chunks is not None:
        sizes = dict(zip("zyx", target.chunks, strict=True))
        return tuple(min(sizes.get(axis, 1), size) for axis, size in zip(target.axes, target.file_shape, strict=True))
    plain = target.compression == "none"
    if source is None or source.chunks is None or len(source.shape) != len(target.file_shape) or plain:
        return None
    chunks = tuple(min(pair) for pair in zip(source.chunks, target.file_shape, strict=True))
    small = math.prod(chunks) * target.dtype.itemsize < LEAST_CHUNK_BYTES
    return None if small and _count(chunks, target) > MOST_SMALL_CHUNKS else chunks


def _count(chunks: tuple[int, ...], target: Target) -> int:
    """Return how many chunks a dataset has."""
    return math.prod(-(-size // chunk) for size, chunk in zip(target.file_shape, chunks, strict=True))


def _default_chunks(target: Target) -> tuple[int, ...]:
    """Return cubes of one channel: small enough to read a part, large enough to compress."""
    return tuple(
        min(CHUNK, size) if axis in "zyx" else 1 for axis, size in zip(target.axes, target.file_shape, strict=True)
    )


def _write_attributes(dataset: Any, target: Target) -> None:
    if isinstance(target.source, Hdf5Source):
        for name, value in target.source.dataset.attributes.items():
            if name not in (*attributes.OWN, ATTRIBUTE):
                dataset.attrs[name] = value
    if target.provenance is not None and len(target.provenance) <= MOST_ATTRIBUTE_BYTES:
        dataset.attrs[ATTRIBUTE] = target.provenance
    for name, value in attributes.following(target).items():
        dataset.attrs[name] = value


def open_source(spec: Spec) -> Source:
    """Open a dataset to read."""
    return Hdf5Source(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:
    """Open a temporary HDF5 file to write the dataset of `spec`, `/data` unless it names one."""
    sink = Hdf5Sink(temporaries[0], target, spec.inner or DEFAULT_DATASET)
    if target.voxels is None:
        return sink
    with ExitStack() as stack:
        stack.callback(sink.close)
        file = stack.enter_context(target.voxels.open("r+b"))
        spooled = SpooledSink(file, target.axes, target, sink, partial(_pour, file, target, sink))
        spooled.closes(stack.pop_all())
    return spooled


def _pour(file: IO[bytes], target: Target, sink: Sink, plain: RawFile) -> None:
    """Write the voxels of a plain file region by region, as they would have come."""
    stored = target.dtype.newbyteorder("<")
    boxes = BoxReader(RawReader(file, 0, plain.shape, stored, "the temporary file"), plain.shape, stored, target.axes)
    for batch, region in target.regions():
        block = np.empty((target.shape[1], *region.shape), target.dtype)
        boxes.read(batch, region, block)
        sink.write(batch, region, sink.encode(batch, region, block))


def writing(target: Target, spec: Spec) -> Writing:  # noqa: ARG001
    """Return what writing a target takes; compressed voxels are taken for a quarter of their size."""
    storage = _storage(target)
    size = math.prod(target.shape) * target.dtype.itemsize
    chunks = storage.get("chunks")
    grain = five_shape(chunks, target.axes)[2:] if chunks else (1, 1, 1)
    chunk = math.prod(chunks or ()) * target.dtype.itemsize
    packed = size // LIKELY_RATIO if "compression" in storage else size
    return Writing(
        memory=LIBRARY_BYTES + 3 * chunk + (INDEX_BYTES * _count(chunks, target) if chunks else 0),
        copies=RAW_COPIES,
        disk=packed,
        spool=size if target.voxels else 0,
        grain=grain,
    )


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of."""
    return [spec.path]


files_read = files
