"""TIFF: stacks of pages, `.tif` and `.tiff`, as ImageJ writes them, and anything that tifffile reads.

The axes are T, Z, C, Y, X, named by ImageJ or OME-XML; where nothing names them, pages are planes along z. ImageJ and
OME-XML say the spacing; directions and origin a TIFF has none. Voxels that are not compressed, and lie one behind the
other, are read in any order; others page by page, in a child process.
"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.boxes import Box, BoxReader, within
from lucid_cli.formats import Spec
from lucid_cli.formats.npy import check_array
from lucid_cli.isolation import Isolated
from lucid_cli.planes import window
from lucid_cli.rawfile import RANDOM_READ_BYTES, RawSink, raw_writing
from lucid_cli.rawsource import Layout, RawSource
from lucid_cli.tiff_file import Description, TiffImage, tifffile
from lucid_cli.volumes import Array, Reading, Sink, Source, Target, VolumeInfo, Writing, five_shape
from lucid_core import __version__
from lucid_core.errors import InputError
from lucid_core.volume import VolumeReader

LETTERS = {"n": "T", "c": "C"}
"""Letters of axes that tifffile calls otherwise than in upper case."""
LIBRARY_BYTES = 16 << 20
"""Memory of the child process beside a page."""
PAGE_COPIES = 3
"""Copies of a page that decompressing and passing it on make."""
PAGE_ENTRY_BYTES = 256
"""Bytes that a page takes in the file beside its voxels."""
LARGEST_CLASSIC = (1 << 32) - (1 << 25)
"""Bytes of voxels that a TIFF with offsets of 32 bits has room for."""


class TiffSource(RawSource):
    """The first image of a TIFF."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path, str(spec.path))
        self._child = Isolated(self._name, TiffImage, spec.path)
        self._open.callback(self._child.close)
        try:
            self._image: Description = self._child.call("describe")
            image = self._image
            check_array(self._name, image.shape, image.dtype)
            self.layout = Layout(image.shape, image.dtype, image.offset or 0, x_first=False)
            if image.offset is not None:
                self._check_size()
        except BaseException:
            self.close()
            raise
        self.warnings = image.warnings
        kind = {"ome": "OME-TIFF", "imagej": "TIFF, ImageJ"}.get(image.kind, "TIFF")
        details = {"version": kind, "compression": image.compression}
        stored = image.dtype.name
        self.info = VolumeInfo(self._name, "tiff", image.shape, image.axes, stored, image.spacing, None, details)

    def readings(self, roles: str) -> list[Reading]:
        """Read plain voxels as those of any file, others page by page: forward where pages come in the order of D."""
        if self._image.offset is not None:
            return super().readings(roles)
        shape = five_shape(self._image.shape, roles)
        page = math.prod(self._image.page_shape) * self.layout.dtype.itemsize
        memory = LIBRARY_BYTES + PAGE_COPIES * page
        plane = shape[1] * math.prod(shape[3:]) * self.layout.dtype.itemsize
        return [Reading(True, memory, plane), Reading(False, memory + RANDOM_READ_BYTES, grain=(1, *shape[3:]))]

    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:
        """Return a reader of voxels that lie plain, or of pages."""
        if self._image.offset is not None:
            return super().reader(roles, reading, spool_folder)
        boxes = BoxReader(_PageBoxes(self._image, self._child), self._image.shape, self.layout.dtype, roles)
        return window(boxes, 1) if reading.forward else boxes

    def verify(self) -> None:
        """Read all pages that are compressed."""
        if self._image.offset is None:
            whole = tuple(slice(0, size) for size in self._image.shape)
            for _ in _PageBoxes(self._image, self._child).read_box(whole):
                pass
        super().verify()


class _PageBoxes:
    """Reads boxes of an image page by page; implements `Boxes`."""

    def __init__(self, image: Description, child: Isolated) -> None:
        self._child = child
        self._shape = image.shape
        self._inner = next(
            at for at in range(len(image.shape), -1, -1) if math.prod(image.shape[at:]) == math.prod(image.page_shape)
        )

    def read_box(self, box: Box) -> Iterator[tuple[Box, Array]]:
        """Yield the values of a box, a page at a time, with where they lie in the box."""
        outer, inner = self._shape[: self._inner], self._shape[self._inner :]
        for at in np.ndindex(*(one.stop - one.start for one in box[: self._inner])):
            place = tuple(one.start + step for one, step in zip(box, at, strict=False))
            page = self._child.call("read", int(np.ravel_multi_index(place, outer)) if outer else 0)
            if math.prod(page.shape) != math.prod(inner):
                raise InputError(f"a page has {page.shape} values where {inner} are due")
            part = (*(slice(one, one + 1) for one in place), *box[self._inner :])
            yield within(part, box), page.reshape(*(1,) * len(outer), *inner)[(..., *box[self._inner :])]


def open_source(spec: Spec) -> Source:
    """Open the first image of a TIFF to read."""
    return TiffSource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:  # noqa: ARG001
    """Open a temporary file to write a hyperstack of ImageJ."""
    said: dict[str, Any] = {}
    if target.spacing is not None:
        z, y, x = (1000 * step for step in target.spacing)
        said = {"metadata": {"spacing": z, "unit": "um"}, "resolution": (1 / x, 1 / y)}
    return raw_sink(temporaries, target, {"imagej": True}, said)


def raw_sink(temporaries: list[Path], target: Target, kind: dict[str, Any], said: dict[str, Any]) -> Sink:
    """Write voxels plain between what tifffile writes before and behind them."""
    axes = "".join(LETTERS.get(axis, axis.upper()) for axis in target.axes)
    metadata = {"axes": axes, **said.get("metadata", {})}
    size = math.prod(target.shape) * target.dtype.itemsize
    with tempfile.TemporaryFile() as file:
        file.raw.name = "output.tif"  # type: ignore[attr-defined] # tifffile wants a name, this file has none
        with tifffile.TiffWriter(file, byteorder="<", **kind) as writer:
            offset, _ = writer.write(
                None,
                shape=target.file_shape,
                dtype=target.dtype,
                photometric="minisblack",
                software=f"lucid-conv3d {__version__}",
                returnoffset=True,
                **said | {"metadata": metadata},
            )
        file.seek(0)
        before = file.read(offset)
        file.seek(offset + size)
        after = file.read()
    return RawSink(temporaries, target, before, target.axes, trailer=lambda: after)


def writing(target: Target, spec: Spec) -> Writing:  # noqa: ARG001
    """Return what writing a target takes."""
    pages = math.prod(target.shape[:3])
    return replace(raw_writing(target), memory=pages * PAGE_ENTRY_BYTES)


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of."""
    return [spec.path]


files_read = files
