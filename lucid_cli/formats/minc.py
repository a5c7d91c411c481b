"""MINC, to read: `.mnc` of version 1 (netCDF) and 2 (HDF5), with an axis of time or without.

The axes of space may come in any order: the first in the file is D here, and the affine says where each points.
Integers are scaled by the range of each slice (`image-min`, `image-max`).
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nibabel.orientations import aff2axcodes

from lucid_cli.boxes import Box, BoxReader, cut_box, within
from lucid_cli.formats import Spec, read_only
from lucid_cli.formats.npy import check_array
from lucid_cli.isolation import Isolated
from lucid_cli.minc_file import Description, MincImage
from lucid_cli.planes import window
from lucid_cli.rawfile import RANDOM_READ_BYTES, READ_BYTES
from lucid_cli.volumes import Array, Reading, Source, VolumeInfo, five_shape
from lucid_core.geometry import spacing_of
from lucid_core.volume import VolumeReader

LIBRARY_BYTES = 16 << 20
"""Memory that the libraries and the child process take."""
COPIES = 4
"""Copies of what is read at once that scaling it makes."""


class MincSource(Source):
    """The image of a MINC file."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path)
        self._child = Isolated(str(spec.path), MincImage, spec.path)
        self._open.callback(self._child.close)
        try:
            self._image: Description = self._child.call("describe")
            image = self._image
            check_array(str(spec.path), image.shape, image.dtype)
        except BaseException:
            self.close()
            raise
        self._dtype = np.dtype(np.float64) if image.dtype.kind in "iu" else image.dtype
        affine = image.affine
        details = {
            "version": f"MINC {image.version}",
            "orientation": None if affine is None else "".join(aff2axcodes(affine)),
            "chunks": list(image.chunks) if image.chunks else None,
        }
        spacing = None if affine is None else spacing_of(affine)
        name = str(spec.path)
        self.info = VolumeInfo(name, "minc", image.shape, image.axes, image.dtype.name, spacing, affine, details)

    def readings(self, roles: str) -> list[Reading]:
        """Read whole rows of chunks forward; else as asked."""
        shape = five_shape(self.info.shape, roles)
        plane = shape[1] * math.prod(shape[3:]) * self._dtype.itemsize
        grain = five_shape(self._image.chunks, roles)[2:] if self._image.chunks else (1, 1, 1)
        chunk = math.prod(self._image.chunks or ()) * self._dtype.itemsize
        memory = LIBRARY_BYTES + COPIES * max(READ_BYTES, chunk)
        forward = [Reading(True, memory, plane, grain[0])] if _by_planes(roles) else []
        return [*forward, Reading(False, memory + RANDOM_READ_BYTES, grain=grain)]

    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:  # noqa: ARG002
        """Return a reader of the image."""
        boxes = BoxReader(_ImageBoxes(self._image, self._child), self.info.shape, self._dtype, roles)
        return window(boxes, reading.planes_at_once) if reading.forward else boxes

    def verify(self) -> None:
        """Read everything."""
        for _ in _ImageBoxes(self._image, self._child).read_box(tuple(slice(0, size) for size in self.info.shape)):
            pass
        super().verify()


def _by_planes(roles: str) -> bool:
    """Say whether the planes of one volume lie in order."""
    return {"y", "x"} <= set(roles.partition("z")[2]) and "n" not in roles.partition("z")[2]


class _ImageBoxes:
    """Reads boxes of an image; implements `Boxes`."""

    def __init__(self, image: Description, child: Isolated) -> None:
        self._grain = image.chunks or (1,) * len(image.shape)
        self._child = child

    def read_box(self, box: Box) -> Iterator[tuple[Box, Array]]:
        """Yield the values of a box, whole chunks at a time, with where they lie in the box."""
        for part in cut_box(box, self._grain, READ_BYTES // 8):
            yield within(part, box), self._child.call("read", part)


def open_source(spec: Spec) -> Source:
    """Open a MINC file to read."""
    return MincSource(spec)


def files(spec: Spec) -> list[Path]:
    """Raise `ArgumentError`: none is written."""
    raise read_only(spec, "MINC")


def files_read(spec: Spec) -> list[Path]:
    """Return the files of an input."""
    return [spec.path]
