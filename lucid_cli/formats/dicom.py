"""DICOM, to read: a folder that holds a series of slices, or one file `.dcm` of a slice or of many frames.

A folder with several series needs one to be named, as in `folder:1.2.840.113619.2.55` or `folder:3`, its number. Slices
are put in order by where they lie in the patient; every value is scaled by the slope and the intercept of its slice.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nibabel.orientations import aff2axcodes

from lucid_cli.boxes import Box, BoxReader
from lucid_cli.dicom_file import Volume, is_dicom, read_volume
from lucid_cli.formats import Spec, read_only
from lucid_cli.formats.npy import check_array
from lucid_cli.planes import window
from lucid_cli.rawfile import RANDOM_READ_BYTES
from lucid_cli.volumes import Array, Reading, Source, VolumeInfo, five_shape
from lucid_core.volume import VolumeReader

LIBRARY_BYTES = 16 << 20
"""Memory that reading a slice takes beside its voxels."""
SLICE_COPIES = 4
"""Copies of a slice that decoding and scaling it make, in its largest type."""


class DicomSource(Source):
    """A series of slices, or the frames of one file."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path)
        self._volume = volume = read_volume(spec.path, spec.inner)
        rows, columns, kind = volume.slices[0].kind
        shape, dtype = (len(volume.slices), rows, columns), np.dtype(kind)
        check_array(str(spec.path), shape, dtype)
        scalings = {one.scaling for one in volume.slices}
        self._dtype = dtype if len(scalings) == 1 else np.dtype(np.float64)
        self._scaling = scalings.pop() if len(scalings) == 1 and scalings != {(1.0, 0.0)} else None
        self.warnings = volume.warnings
        details = {
            "series": volume.description or None,
            "orientation": None if volume.affine is None else "".join(aff2axcodes(volume.affine)),
            "scaling": dict(zip(("slope", "inter"), self._scaling, strict=True)) if self._scaling else None,
        }
        name = str(spec.path)
        self.info = VolumeInfo(name, "dicom", shape, "zyx", dtype.name, volume.spacing, volume.affine, details)

    def readings(self, roles: str) -> list[Reading]:
        """Read slice by slice, forward where the slices are the planes."""
        shape = five_shape(self.info.shape, roles)
        plane = math.prod(self.info.shape[1:]) * self._dtype.itemsize
        memory = LIBRARY_BYTES + SLICE_COPIES * math.prod(self.info.shape[1:]) * 8
        forward = [Reading(True, memory, plane)] if roles[0] == "z" else []
        return [*forward, Reading(False, memory + RANDOM_READ_BYTES, grain=(1, *shape[3:]))]

    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:  # noqa: ARG002
        """Return a reader over the slices."""
        boxes = BoxReader(
            _SliceBoxes(self._volume, self._scaling is None), self.info.shape, self._dtype, roles, self._scaling
        )
        return window(boxes, 1) if reading.forward else boxes

    def verify(self) -> None:
        """Read all slices."""
        for one in self._volume.slices:
            one.read()
        super().verify()


class _SliceBoxes:
    """Reads boxes of a volume slice by slice; implements `Boxes`. With `scaled`, each by its own slope."""

    def __init__(self, volume: Volume, scaled: bool) -> None:
        self._slices = volume.slices
        self._scaled = scaled

    def read_box(self, box: Box) -> Iterator[tuple[Box, Array]]:
        """Yield the values of a box, a slice at a time, with where they lie in the box."""
        inner = tuple(slice(0, one.stop - one.start) for one in box[1:])
        for at, one in enumerate(self._slices[box[0]]):
            values = one.read()[box[1:]]
            if self._scaled and one.scaling != (1.0, 0.0):
                values = values.astype(np.float64) * one.scaling[0] + one.scaling[1]
            yield (slice(at, at + 1), *inner), values[np.newaxis]


def open_source(spec: Spec) -> Source:
    """Open a series or a file to read."""
    return DicomSource(spec)


def files(spec: Spec) -> list[Path]:
    """Raise `ArgumentError`: none is written."""
    raise read_only(spec, "DICOM")


def files_read(spec: Spec) -> list[Path]:
    """Return the files that are read: all DICOM files of a folder."""
    return sorted(one for one in spec.path.iterdir() if is_dicom(one)) if spec.path.is_dir() else [spec.path]
