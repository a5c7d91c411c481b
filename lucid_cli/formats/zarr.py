"""Zarr of the formats 2 and 3: a lone array, or an OME-Zarr image; a folder, a zip, or behind an address (fsspec).

Every chunk, or shard, is written whole, by the one tile that holds it. The metadata are written last, so that there is
no array before its voxels are there. A folder is filled beside its place (`lucid_cli.temporary.tree_of`) and then
renamed; a zip is packed from such a folder.
"""

import math
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from lucid_cli.boxes import BoxReader, cut_box, file_block, file_box, within
from lucid_cli.formats import ZARR_FILES, ZIPPED, Spec
from lucid_cli.rawfile import RAW_COPIES, RawFile, RawReader
from lucid_cli.streams import LIKELY_RATIO, SpooledSink, plain_file
from lucid_cli.temporary import tree_of
from lucid_cli.volumes import Array, Sink, Source, Target, Writing
from lucid_cli.zarr_layout import Layout, codec_options, comment, documents, layout, objects
from lucid_cli.zarr_library import zarr
from lucid_cli.zarr_source import STORE_BYTES, ZarrSource
from lucid_cli.zarr_store import missing, said, store_of
from lucid_cli.zarr_tree import make_tree, pack, publish, settle
from lucid_core import machine
from lucid_core.errors import OutputError, RunError
from lucid_core.regions import Region

PART_BYTES = 4 << 20
"""Bytes of chunks that a thread stores together, or one chunk where that is more."""
OBJECT_BYTES = 200
"""Memory that is kept for each chunk or shard while they are counted."""


class ArraySink(Sink):
    """Stores regions of whole chunks, or shards, of an array whose axes have these roles; also in other processes."""

    def __init__(self, array: Any, axes: str) -> None:
        self._array, self._axes = array, axes

    def encode(self, batch: int, region: Region, block: Array) -> None:
        """Store the voxels (C, d, h, w) of a region of one volume."""
        array, values = self._array, file_block(self._axes, block)
        box = file_box(self._axes, batch, region, block.shape[0])
        try:
            for part in cut_box(box, array.shards or array.chunks, PART_BYTES // block.itemsize):
                array[part] = values[within(part, box)]
        except OSError:
            raise
        except Exception as error:
            raise RunError(f"the output cannot be stored: {said(error)}") from error

    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Do nothing more: the region is stored."""

    def finish(self) -> None:
        """Nothing remains."""

    def shared(self) -> Sink:
        """Return itself: an array is known by where it lies."""
        return self

    def close(self) -> None:
        """Nothing is open."""


class ZarrSink(Sink):
    """Writes the arrays of an output; regions are whole chunks or shards."""

    def __init__(self, store: Any, target: Target, found: Layout, below: str) -> None:
        """Prepare the metadata, which `documents` keeps, and the arrays in a store, at a path below its root."""
        super().__init__()
        self.documents: dict[str, Any] = {}
        self.arrays = [_in_store(array, store) for array in _described(self.documents, target, found, below)]
        self._target, self._layout = target, found

    def encode(self, batch: int, region: Region, block: Array) -> None:
        """Store the chunks of a region of the first array: in several threads."""
        self.shared().encode(batch, region, block)

    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Do nothing more: the region is stored."""

    def shared(self) -> ArraySink:
        """Return what stores regions of the first array."""
        return ArraySink(self.arrays[0], self._target.axes)

    def finish(self) -> None:
        """Make the lower levels, and check that nothing is missing."""
        for number, step in enumerate(self._layout.shrinkings):
            assert self._target.shrink is not None
            self._target.shrink(self.arrays[number], self.arrays[number + 1], step)
        for array in self.arrays:
            absent, whole = missing(array)
            if absent:
                raise RunError(f"{absent} of {whole} chunks of the output {array.path} are missing; run again")


def _described(into: dict[str, Any], target: Target, found: Layout, below: str) -> list[Any]:
    """Put the metadata of all nodes into a dictionary by their keys, and return the arrays that they describe."""
    store = zarr.storage.MemoryStore(into)
    own, of_arrays = documents(target, found)
    groups = below.split("/")[: None if found.image else -1] if below else []
    root = {} if groups or not found.image else own
    for depth in range(len(groups) + 1):
        path = "/".join(groups[:depth])
        if depth < len(groups) or found.image:
            attrs = own if found.image and path == below else root
            zarr.create_group(store, path=path, zarr_format=found.zarr_format, attributes=attrs)
    return [
        _array(store, target, found, number, f"{below}/{array.path}".strip("/"), of_arrays[number])
        for number, array in enumerate(found.arrays)
    ]


def _array(store: Any, target: Target, found: Layout, number: int, path: str, attributes: dict[str, Any]) -> Any:
    array, newest = found.arrays[number], found.zarr_format == 3
    return zarr.create_array(
        store,
        name=path,
        shape=array.shape,
        dtype=target.dtype.newbyteorder("<"),
        chunks=array.chunks,
        shards=array.shards,
        filters=None,
        fill_value=0,
        zarr_format=found.zarr_format,
        attributes=attributes,
        dimension_names=_names(target, found) if newest else None,
        chunk_key_encoding=None if newest else {"name": "v2", "separator": "/"},
        config={"write_empty_chunks": True},  # a chunk of zeros is one that was written
        **codec_options(target, found.zarr_format),
    )


def _names(target: Target, found: Layout) -> list[str]:
    """Return the names of the axes, which are those of the image where it is one."""
    return list(target.axes.replace("n", "t")) if found.image is None else [axis.name for axis in found.image.axes]


def _in_store(array: Any, store: Any) -> Any:
    """Return an array of the same metadata whose chunks lie in another store."""
    place = zarr.storage.StorePath(store, array.path)
    return zarr.Array(zarr.AsyncArray(array.metadata, place, config={"write_empty_chunks": True, "order": "C"}))


class FolderSink(ZarrSink):
    """Fills a folder, which is renamed, or packed into a zip, when it is whole."""

    def __init__(self, temporary: Path, target: Target, found: Layout, below: str, *, zipped: bool) -> None:
        self._tree, self._zip = tree_of(temporary), temporary if zipped else None
        make_tree(self._tree)
        super().__init__(zarr.storage.LocalStore(self._tree.absolute()), target, found, below)

    def finish(self) -> None:
        """Complete the folder, flushed to the disk, and pack it where it shall be a zip."""
        super().finish()
        publish(self.documents, self._tree)
        settle(self._tree)
        if self._zip is not None:
            pack(self._tree, self._zip, comment(self._layout))


def open_source(spec: Spec) -> Source:
    """Open an array, or a level of an image, to read."""
    return ZarrSource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:
    """Open a hierarchy to write; regions that are no whole chunks are spooled first."""
    found = layout(target, spec, _parent_format(spec))
    if spec.url is not None:
        from lucid_cli.zarr_far import FarSink

        sink: ZarrSink = FarSink(target, found, spec)
        folder = Path(tempfile.gettempdir())
    else:
        zipped = not spec.is_folder
        below = spec.inner or "" if zipped else spec.node.relative_to(files(spec)[0]).as_posix().removeprefix(".")
        sink = FolderSink(temporaries[0], target, found, below, zipped=zipped)
        folder = temporaries[0].parent
    return sink if is_aligned(target, found) else _spooled(sink, target, found, folder)


def is_aligned(target: Target, found: Layout) -> bool:
    """Say whether the regions that come are whole chunks or shards."""
    return all(
        tile % grain == 0 or tile >= size
        for tile, grain, size in zip(target.tile, found.grain, target.shape[2:], strict=True)
    )


def _spooled(sink: Sink, target: Target, found: Layout, folder: Path) -> Sink:
    """Return a sink that takes regions into a plain file first, and pours it chunk by chunk."""
    with ExitStack() as stack:
        stack.callback(sink.close)
        file = stack.enter_context(plain_file(target, folder))
        spooled = SpooledSink(file, target.axes, target, sink, partial(_pour, file, target, found, sink))
        spooled.closes(stack.pop_all())
    return spooled


def _pour(file: IO[bytes], target: Target, found: Layout, sink: Sink, plain: RawFile) -> None:
    """Store the voxels of a plain file, chunk by chunk."""
    stored = target.dtype.newbyteorder("<")
    boxes = BoxReader(RawReader(file, 0, plain.shape, stored, "the temporary file"), plain.shape, stored, target.axes)
    for batch, region in target.regions(found.grain):
        block = np.empty((target.shape[1], *region.shape), target.dtype)
        boxes.read(batch, region, block)
        sink.encode(batch, region, block)


def writing(target: Target, spec: Spec) -> Writing:
    """Return what writing a target takes; compressed voxels are taken for a quarter of their size."""
    found = layout(target, spec, _parent_format(spec))
    voxels = sum(math.prod(array.shape) for array in found.arrays)
    size = voxels * target.dtype.itemsize // (1 if target.compression == "none" else LIKELY_RATIO)
    chunk = math.prod(found.arrays[0].written_together) * target.dtype.itemsize
    aligned, local = is_aligned(target, found), spec.url is None
    plain = 0 if aligned else math.prod(target.shape) * target.dtype.itemsize
    return Writing(
        memory=STORE_BYTES + 2 * machine.cores() * max(PART_BYTES, chunk) + OBJECT_BYTES * objects(found),
        copies=RAW_COPIES,
        disk=size if local else 0,
        spool=plain + (0 if spec.is_folder or not local else size),
        grain=found.grain,
        whole=True,
        in_place=aligned and local,
    )


def _parent_format(spec: Spec) -> int | None:
    """Return the format of the hierarchy that an output becomes a part of, None where it is one of its own.

    Raises `OutputError` where what is there cannot hold it.
    """
    if spec.inner is None:
        return None
    names = spec.inner.split("/")
    if any(name.startswith((".", "__")) or name in ZARR_FILES for name in names):
        raise OutputError(f"{spec}: {spec.inner!r} is no name for a part of a Zarr; name another output")
    above = [replace(spec, inner="/".join(names[:depth]) or None) for depth in range(len(names))]
    formats = [] if spec.suffix.endswith(ZIPPED) else [_format_of_group(one, spec.inner) for one in above]
    return next((one for one in formats[::-1] if one), None)


def _format_of_group(above: Spec, inner: str) -> int | None:
    """Return the format of a group that an output shall lie in, None where there is none yet."""
    node = _node_at(above)
    if hasattr(node, "shape"):
        raise OutputError(f"{above}: is an array, which holds nothing by the name {inner}; name another output")
    return None if node is None else int(node.metadata.zarr_format)


def _node_at(spec: Spec) -> Any:
    """Return what stands at the place of an output, None where nothing does."""
    try:
        return zarr.open(store=store_of(spec), path=spec.inner or "", mode="r")
    except (FileNotFoundError, KeyError):
        return None
    except Exception as error:
        raise OutputError(f"{spec}: its place cannot be looked at: {said(error)}") from error


def files(spec: Spec) -> list[Path]:
    """Return what is put in place for an output: its folder, or the first one it lies in that is not there yet.

    Nothing behind an address.
    """
    if spec.url is not None:
        return []
    if not spec.is_folder or not spec.path.is_dir():
        return [spec.path]
    path = spec.path
    for name in (spec.inner or "").split("/"):
        path = path / name
        if not path.is_dir():
            break
    return [path]


def files_read(spec: Spec) -> list[Path]:
    """Return the folder or the zip that an input is; nothing behind an address."""
    return [] if spec.url is not None else [spec.node]


def exists(spec: Spec) -> bool:
    """Say whether an array or a group stands behind an address."""
    return _node_at(spec) is not None
