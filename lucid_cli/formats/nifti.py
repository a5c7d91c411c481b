"""NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz` and pairs `.hdr`/`.img`.

Axes x, y, z come first and fastest, so a D plane is contiguous. A compressed file is one stream, read and written
forward; several channels, which a stream would want one after the other, go through a nameless temporary file.
"""

import gzip
import math
import os
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.orientations import aff2axcodes

from lucid_cli import nifti_header as headers
from lucid_cli.compression import DEFAULT_GZIP_LEVEL, gzip_level
from lucid_cli.formats import Spec
from lucid_cli.planes import PlaneStream, drain, is_compressed, open_stream, skip, spool
from lucid_cli.rawfile import RawFile, RawReader
from lucid_cli.volumes import BoxReader, Sink, Source, Target, VolumeInfo, five_shape
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, spacing_of
from lucid_core.regions import Region
from lucid_core.units import Spacing
from lucid_core.volume import VolumeReader

AXES = {3: "xyz", 4: "xyzt", 5: "xyznc"}
"""Axes by rank; the 4th is time, unless the layer makes it channels (`axes.roles`)."""


class NiftiSource(Source):
    """A NIfTI file or pair."""

    def __init__(self, spec: Spec) -> None:
        header_path, self._data_path = _pair(spec)
        super().__init__(self._data_path)
        self._name = str(spec.path)
        with open_stream(header_path) as stream:
            self.header = headers.read_header(stream, self._name)
        if header_path == self._data_path and not self.header.is_single:
            raise InputError(f"{self._name}: is the header of a pair; name it .hdr, beside its .img")
        with open_stream(self._data_path) as stream:
            self._compressed = is_compressed(stream)
        self._shape = headers.shape(self.header, self._name)
        self._dtype = headers.stored_dtype(self.header, self._name)
        self._scaling = headers.scaling(self.header, self._name)
        self._offset = headers.data_offset(self.header, self._name)
        self._check_size()
        self.info = self._describe(spec.suffix)

    def _check_size(self) -> None:
        """Refuse, before anything is allocated, a header that promises more voxels than the file holds."""
        self._bytes = math.prod(self._shape) * self._dtype.itemsize
        found = self._data_path.stat().st_size - self._offset
        if not self._compressed and found < self._bytes:
            raise InputError(
                f"{self._name}: the file is cut short: expected {self._bytes} bytes of voxels for shape "
                f"{self._shape} of {self._dtype.name}, found {max(found, 0)}"
            )

    def _describe(self, suffix: str) -> VolumeInfo:
        affine, spacing = self._place()
        spatial, temporal = headers.units(self.header)
        details: dict[str, Any] = {
            "orientation": None if affine is None else "".join(aff2axcodes(affine)),
            "units": {"space": spatial, "time": temporal},
            "scaling": {"slope": self._scaling[0], "inter": self._scaling[1]} if self._scaling else None,
            "compression": "gzip" if self._compressed else None,
        }
        version = 1 if int(self.header["sizeof_hdr"]) == 348 else 2
        kind = "pair" if suffix in (".hdr", ".img") else "single file"
        details["version"] = f"NIfTI-{version}, {kind}"
        return VolumeInfo(
            self._name, "nifti", self._shape, AXES[len(self._shape)], self._dtype.name, spacing, affine, details
        )

    def _place(self) -> tuple[Affine | None, Spacing | None]:
        """Return the affine that places the volume and the spacing in mm; say so where there is none."""
        found = headers.forms(self.header, self._name)
        per_unit = headers.MM_PER_UNIT.get(headers.units(self.header)[0], 1.0)
        if found:
            affine = np.diag([per_unit, per_unit, per_unit, 1.0]) @ next(iter(found.values()))
            return affine, self._spacing(affine, per_unit)
        self.warnings = (
            f"{self._name}: neither its sform nor its qform places the volume in the world; only pixdim is carried",
        )
        steps = [abs(float(step)) for step in self.header["pixdim"][1:4]]
        if not all(0 < step < math.inf for step in steps):
            return None, None
        x, y, z = (step * per_unit for step in steps)
        return None, (z, y, x)

    def _spacing(self, affine: Affine, per_unit: float) -> Spacing:
        """Return the steps of the affine, each as pixdim has it where both agree up to float32 rounding."""
        x, y, z = (abs(float(step)) * per_unit for step in self.header["pixdim"][1:4])
        d, h, w = (
            said if math.isclose(said, step, rel_tol=1e-5) else step
            for said, step in zip((z, y, x), spacing_of(affine), strict=True)
        )
        return d, h, w

    def reader(self, roles: str, spool_folder: Path | None) -> VolumeReader:
        """Return a reader: over the file, or over the stream of a compressed one."""
        shape = five_shape(self._shape, roles)
        if not self._compressed:
            file = self._open.enter_context(open_stream(self._data_path))
            return self._boxes(file, self._offset, roles)
        self._open.close()
        self._stream = self._open.enter_context(open_stream(self._data_path))
        skip(self._stream, self._offset, self._name)
        if shape[1] == 1:
            return PlaneStream(self._stream, self._name, shape, self._dtype, self._scaling)
        return self._boxes(
            self._open.enter_context(spool(self._stream, self._bytes, self._name, spool_folder)), 0, roles
        )

    def _boxes(self, file: IO[bytes], start: int, roles: str) -> VolumeReader:
        """Return a reader over voxels that lie plain in a file: x fastest is C order of the reversed axes."""
        boxes = RawReader(file, start, self._shape[::-1], self._dtype, self._name)
        return BoxReader(boxes, self._shape[::-1], roles[::-1], self._scaling)

    def window_bytes(self, roles: str, planes: int) -> int:
        """Return what the planes held of a compressed file take."""
        shape = five_shape(self._shape, roles)
        streamed = self._compressed and shape[1] == 1
        return planes * shape[3] * shape[4] * self._dtype.itemsize if streamed else 0

    def finish(self) -> None:
        """Compare the checksums of a compressed file, which stand at its end."""
        if self._compressed:
            drain(self._stream, self._name)
        super().finish()


def _pair(spec: Spec) -> tuple[Path, Path]:
    """Return the header's file and the voxels' file, which differ for a pair."""
    if spec.suffix not in (".hdr", ".img"):
        return spec.path, spec.path
    paths = files(spec)
    for path in paths:
        if not path.is_file():
            raise InputError(f"{spec.path}: a pair needs both files, but {path} is not there")
    return paths[1], paths[0]


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of, in the order they are put in place."""
    if spec.suffix not in (".hdr", ".img"):
        return [spec.path]
    upper = spec.path.name[-3:].isupper()
    base = spec.path.parent / spec.stem
    return [Path(f"{base}{suffix.upper() if upper else suffix}") for suffix in (".img", ".hdr")]


class RawSink(Sink):
    """Writes `.nii` or a pair, in any order."""

    def __init__(self, temporaries: list[Path], target: Target, header: bytes) -> None:
        single = len(temporaries) == 1
        self._axes = target.axes[::-1]
        self._header = None if single else temporaries[1]
        self._header_bytes = header
        super().__init__()
        file = self._open.enter_context(temporaries[0].open("r+b"))
        self._file = RawFile(file, header if single else b"", target.file_shape[::-1], target.dtype)

    def write(self, batch: int, region: Region, block: Any) -> None:
        """Write one region."""
        self._file.write_region(self._axes, batch, region, block)

    def finish(self) -> None:
        """Write the header of a pair and flush to the disk."""
        self._file.finish()
        if self._header is not None:
            with self._header.open("r+b") as file:
                file.write(self._header_bytes)
                file.flush()
                os.fsync(file.fileno())


class GzipSink(Sink):
    """Writes `.nii.gz` forward; regions that do not come in the file's order are spooled first."""

    def __init__(self, temporary: Path, target: Target, header: bytes) -> None:
        super().__init__()
        self._file = self._open.enter_context(temporary.open("r+b"))
        self._gzip = gzip.GzipFile("", "wb", gzip_level(target.compression, DEFAULT_GZIP_LEVEL), self._file, mtime=0)
        self._dtype = target.dtype.newbyteorder("<")
        self._axes = target.axes[::-1]
        self._spool: RawFile | None = None
        if target.shape[1] == 1 and target.tile_planes_whole:
            self._gzip.write(header)
        else:
            nameless = tempfile.TemporaryFile(dir=temporary.parent)  # noqa: SIM115 - `close` closes it
            self._open.enter_context(nameless)
            self._spool = RawFile(nameless, header, target.file_shape[::-1], target.dtype)

    def write(self, batch: int, region: Region, block: Any) -> None:
        """Write one region, the next in order unless they are spooled."""
        if self._spool is not None:
            self._spool.write_region(self._axes, batch, region, block)
        else:
            self._gzip.write(np.ascontiguousarray(block, self._dtype).reshape(-1).view(np.uint8).data)

    def finish(self) -> None:
        """Compress what was spooled, end the stream and flush to the disk."""
        if self._spool is not None:
            for chunk in self._spool.read_all():
                self._gzip.write(chunk)
        self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())


def open_source(spec: Spec) -> Source:
    """Open a NIfTI file or pair to read."""
    return NiftiSource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:
    """Open temporary files to write a NIfTI of the suffix of `spec`."""
    source = target.source.header if isinstance(target.source, NiftiSource) else None
    single = spec.suffix not in (".hdr", ".img")
    header = headers.header_bytes(headers.output_header(target, source, single))
    if spec.suffix == ".nii.gz":
        return GzipSink(temporaries[0], target, header)
    return RawSink(temporaries, target, header)
