"""HDF5: one dataset of a file, chunked or not, with its attributes.

Spacing is the attribute `element_size_um` (z, y, x; micrometres), as microscopy software writes it; `affine` (4, 4)
maps voxel (x, y, z) to the world in `units`, mm unless said. Both follow the output; every other attribute is copied.
"""

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from lucid_cli.compression import compression_level
from lucid_cli.formats import Spec
from lucid_cli.formats.npy import AXES, check_array
from lucid_cli.planes import window
from lucid_cli.rawfile import RANDOM_READ_BYTES, RAW_COPIES, READ_BYTES, RawFile, RawReader, WatchedFile
from lucid_cli.streams import LIKELY_RATIO, SpooledSink
from lucid_cli.volumes import (
    Array,
    BoxReader,
    Reading,
    Sink,
    Source,
    Target,
    VolumeInfo,
    Writing,
    file_block,
    file_box,
    five_shape,
)
from lucid_core.errors import InputError, LucidError, OutputError
from lucid_core.geometry import affine_of, is_usable, spacing_of
from lucid_core.regions import Region
from lucid_core.units import MM_PER_UNIT, Spacing
from lucid_core.volume import VolumeReader

DEFAULT_DATASET = "/data"
OWN_ATTRIBUTES = ("element_size_um", "affine", "axes")
"""Attributes that follow the output; `units` does too, where it says those of the affine."""
LIBRARY_BYTES = 8 << 20
"""Memory that the HDF5 library takes, its cache of chunks included."""
CHUNK = 64
"""Largest size of a chunk along an axis where nothing says its shape."""
DIMENSION_SCALES = ("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST")
"""Attributes by which HDF5 ties datasets to one another."""
MOST_ATTRIBUTE_BYTES = 60000
"""HDF5 keeps at most 64 KiB for the attributes of a dataset unless files need a recent version."""
UNITS = {"micrometer": "um", "micrometre": "um", "micron": "um", "microns": "um", "µm": "um", "μm": "um"} | {
    "millimeter": "mm",
    "millimetre": "mm",
    "nanometer": "nm",
    "nanometre": "nm",
}
"""Other spellings of the units in `units.MM_PER_UNIT`."""


class Hdf5Source(Source):
    """One dataset."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path)
        try:
            self._file = h5py.File(spec.path, "r")
        except OSError as error:
            raise InputError(
                f"{spec.path}: not a readable HDF5 file: {error}; "
                "if another program holds it, set HDF5_USE_FILE_LOCKING=FALSE"
            ) from error
        self._open.callback(self._file.close)
        try:
            self.dataset = self._find(spec)
            name = f"{spec.path}:{self.dataset.name}"
            self._check_storage(name)
            check_array(name, self.dataset.shape or (), self.dataset.dtype)
            self.attributes = self._carried(name)
            self.info = self._describe(name)
        except LucidError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise InputError(f"{spec.path}: not a readable HDF5 file: {error}") from error

    def _carried(self, name: str) -> dict[str, Any]:
        """Return the attributes that an output keeps; what a copy cannot hold is left out with a warning."""
        carried = {}
        for key, value in self.dataset.attrs.items():
            if key in DIMENSION_SCALES:
                continue
            if h5py.check_ref_dtype(np.asarray(value).dtype) or np.asarray(value).nbytes > MOST_ATTRIBUTE_BYTES:
                self.warnings += (f"{name}: the attribute {key!r} is a reference or too large; it is not copied",)
            else:
                carried[key] = value
        return carried

    def _find(self, spec: Spec) -> Any:
        """Return the dataset named, or the only numeric one of three or more axes."""
        candidates = _volumes(self._file)
        listing = ", ".join(candidates) or "none"
        if spec.inner is None:
            if len(candidates) != 1:
                raise InputError(
                    f"{spec.path}: holds {len(candidates)} numeric datasets of 3 or more axes ({listing}); "
                    f"say which: {spec.path}:/PATH"
                )
            return self._file[candidates[0]]
        try:
            found = self._file.get(spec.inner)
        except RuntimeError as error:
            raise InputError(f"{spec.path}: cannot follow {spec.inner!r}: {error}; it holds: {listing}") from error
        if not isinstance(found, h5py.Dataset):
            what = "is a group, not a dataset" if isinstance(found, h5py.Group) else "has no dataset"
            raise InputError(f"{spec.path}: {what} {spec.inner!r}; datasets of 3 or more axes: {listing}")
        return found

    def _check_storage(self, name: str) -> None:
        """Refuse data that lies in other files: the file would decide what is read."""
        linked = self.dataset.file.filename != self._file.filename
        if linked or self.dataset.external or self.dataset.is_virtual:
            raise InputError(f"{name}: its data lies in other files (a link, external or virtual storage): not read")

    def _describe(self, name: str) -> VolumeInfo:
        dataset = self.dataset
        spacing, affine = _spacing(dataset), _affine(dataset)
        if spacing is None and affine is not None:
            spacing = spacing_of(affine)
        if affine is None and spacing is not None:
            affine = affine_of(spacing)
        details = {
            "units": _text(dataset.attrs.get("units")),
            "chunks": list(dataset.chunks) if dataset.chunks else None,
            "compression": dataset.compression,
        }
        rank = dataset.ndim
        return VolumeInfo(name, "hdf5", dataset.shape, AXES[rank], dataset.dtype.name, spacing, affine, details)

    def readings(self, roles: str) -> list[Reading]:
        """Read whole rows of chunks forward, so that each chunk is decompressed once; else as asked."""
        shape = five_shape(self.info.shape, roles)
        plane = shape[1] * math.prod(shape[3:]) * self.dataset.dtype.itemsize
        grain = five_shape(self.dataset.chunks, roles)[2:] if self.dataset.chunks else (1, 1, 1)
        rows = grain[0] if self.dataset.chunks else max(1, READ_BYTES // plane)
        chunk = math.prod(self.dataset.chunks or ()) * self.dataset.dtype.itemsize
        forward = Reading(True, LIBRARY_BYTES + 3 * chunk + rows * plane, plane, rows)
        return [forward, Reading(False, LIBRARY_BYTES + 3 * chunk + RANDOM_READ_BYTES, grain=grain)]

    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:  # noqa: ARG002
        """Return a reader over the dataset."""
        boxes = BoxReader(_DatasetBoxes(self.dataset, self.info.path), self.info.shape, self.dataset.dtype, roles)
        return window(boxes, reading.planes_at_once) if reading.forward else boxes


class _DatasetBoxes:
    """Reads boxes of a dataset; implements `Boxes`."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset = dataset
        self._name = name

    def read_box(self, box: tuple[slice, ...]) -> Iterator[tuple[slice, Array]]:
        """Yield the values of a box, some rows of chunks along its first axis at a time."""
        chunk = self._dataset.chunks[0] if self._dataset.chunks else 1
        entry = math.prod(one.stop - one.start for one in box[1:]) * self._dataset.dtype.itemsize
        step = max(1, READ_BYTES // max(entry * chunk, 1)) * chunk
        first = box[0].start
        while first < box[0].stop:
            last = min(first - first % chunk + step, box[0].stop)
            try:
                values = self._dataset[(slice(first, last), *box[1:])]
            except OSError as error:
                raise InputError(f"{self._name}: damaged or unreadable data: {error}") from error
            yield slice(first - box[0].start, last - box[0].start), values
            first = last


def _volumes(file: Any) -> list[str]:
    """Return the names of the numeric datasets of three or more axes, without following links to other files."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf" and len(item.shape or ()) >= 3:
            found.append(f"/{name}")

    file.visititems(visit)
    return sorted(found)


def _spacing(dataset: Any) -> Spacing | None:
    values = np.asarray(dataset.attrs.get("element_size_um", ()))
    if values.shape != (3,) or values.dtype.kind not in "fiu" or not all(0 < v < math.inf for v in values):
        return None
    z, y, x = (float(value) / 1000 for value in values)
    return z, y, x


def _affine(dataset: Any) -> Any:
    """Return the affine in mm, None where there is no usable one or its `units` are not known."""
    matrix = np.asarray(dataset.attrs.get("affine", ()))
    if matrix.shape != (4, 4) or matrix.dtype.kind not in "fiu" or not is_usable(matrix):
        return None
    units = _text(dataset.attrs.get("units")) or "mm"
    per_unit = MM_PER_UNIT.get(UNITS.get(units, units))
    if per_unit is None:
        return None
    return np.diag([per_unit, per_unit, per_unit, 1.0]) @ matrix


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else None if value is None else str(value)


class Hdf5Sink(Sink):
    """Writes a new file with one dataset."""

    def __init__(self, temporary: Path, target: Target, inner: str) -> None:
        super().__init__()
        self._axes = target.axes
        self._channels = target.shape[1]
        storage = _storage(target)
        self._raw = self._open.enter_context(WatchedFile(temporary, "r+b"))
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
    if source is None or source.chunks is None or source.ndim != len(target.file_shape) or plain:
        return None
    return tuple(min(pair) for pair in zip(source.chunks, target.file_shape, strict=True))


def _default_chunks(target: Target) -> tuple[int, ...]:
    """Return cubes of one channel: small enough to read a part, large enough to compress."""
    return tuple(
        min(CHUNK, size) if axis in "zyx" else 1 for axis, size in zip(target.axes, target.file_shape, strict=True)
    )


def _write_attributes(dataset: Any, target: Target) -> None:
    if isinstance(target.source, Hdf5Source):
        for name, value in target.source.attributes.items():
            if name not in OWN_ATTRIBUTES:
                dataset.attrs[name] = value
    dataset.attrs["axes"] = target.axes
    if target.spacing is not None:
        dataset.attrs["element_size_um"] = [step * 1000 for step in target.spacing]
    if target.affine is not None:
        dataset.attrs["affine"] = target.affine
    if target.spacing is not None or target.affine is not None:
        dataset.attrs["units"] = "mm"


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
        memory=LIBRARY_BYTES + 3 * chunk,
        copies=RAW_COPIES,
        disk=packed,
        spool=size if target.voxels else 0,
        grain=grain,
    )


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of."""
    return [spec.path]
