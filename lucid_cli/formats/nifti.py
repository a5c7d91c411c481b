"""NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz` and pairs `.hdr`/`.img`.

Axes x, y, z come first and fastest, so a D plane is contiguous. A compressed file is one stream, read and written
forward; several channels, which a stream would want one after the other, go through a nameless temporary file.
"""

import io
import math
import os
import sys
import tempfile
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.orientations import aff2axcodes

from lucid_cli import nifti_header as headers
from lucid_cli.boxes import BoxReader
from lucid_cli.compression import CHUNK_BYTES, Codec, codec_of, compression_of, decompressed, open_stream
from lucid_cli.formats import Spec
from lucid_cli.planes import PlaneWindow, drain, reading, skip, spool, stream_fetch, window
from lucid_cli.rawfile import RawFile, RawReader, raw_readings, raw_writing
from lucid_cli.streams import SpooledSink, StreamSink, is_spooled, plain_file, stream_writing
from lucid_cli.talk import DataPipe
from lucid_cli.volumes import Placement, Reading, Sink, Source, Target, VolumeInfo, Writing, five_shape
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, is_usable, spacing_of
from lucid_core.regions import Region
from lucid_core.units import Spacing
from lucid_core.volume import VolumeReader

AXES = {3: "xyz", 4: "xyzt", 5: "xyznc"}
"""Axes by rank; the 4th is time, unless the layer makes it channels (`axes.roles`)."""

STREAMED = (".nii.gz", ".nii.zst")
"""Suffixes of outputs that are written forward."""
DECOMPRESSION_BYTES = 4 << 20
"""Memory that decompressing a stream takes."""


class NiftiSource(Source):
    """A NIfTI file or pair."""

    def __init__(self, spec: Spec) -> None:
        header_path, self._data_path = _pair(spec)
        super().__init__(None if spec.is_pipe else self._data_path)
        self._name = "stdin" if spec.is_pipe else str(spec.path)
        self._pipe = self._open.enter_context(_stdin()) if spec.is_pipe else None
        with nullcontext(self._pipe) if self._pipe else open_stream(header_path) as stream:
            self.header = headers.read_header(stream, self._name)
            self._compressed = compression_of(stream)
        if header_path == self._data_path and not self.header.is_single:
            raise InputError(f"{self._name}: is the header of a pair; name it .hdr, beside its .img")
        if header_path != self._data_path:
            with open_stream(self._data_path) as stream:
                self._compressed = compression_of(stream)
        self.is_stream = self._pipe is not None or self._compressed is not None
        self._shape = headers.shape(self.header, self._name)
        self._dtype = headers.stored_dtype(self.header, self._name)
        self._scaling = headers.scaling(self.header, self._name)
        self._offset = headers.data_offset(self.header, self._name)
        self._bytes = math.prod(self._shape) * self._dtype.itemsize
        if not self.is_stream:
            self._check_size()
        self.info = self._describe(spec.suffix)
        self.provenance = next(filter(None, map(headers.provenance_of, self.header.extensions)), None)
        if int(self.header["bitpix"]) != 8 * self._dtype.itemsize:
            self.warnings += (
                f"{self._name}: bitpix is {int(self.header['bitpix'])}, but the datatype is {self._dtype.name}, "
                "which is taken",
            )

    def _check_size(self) -> None:
        """Refuse, before anything is allocated, a header that promises more voxels than the file holds."""
        found = self._data_path.stat().st_size - self._offset
        if found < self._bytes:
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
            "compression": self._compressed,
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
        for form in found.values():
            affine = np.diag([per_unit, per_unit, per_unit, 1.0]) @ form
            if is_usable(affine):
                return affine, self._spacing(affine, per_unit)
        self.warnings += (
            f"{self._name}: neither its sform nor its qform places the volume in the world; only pixdim is carried",
        )
        x, y, z = (abs(float(step)) * per_unit for step in self.header["pixdim"][1:4])
        if not all(0 < step < math.inf for step in (x, y, z)):
            return None, None
        return None, (z, y, x)

    def _spacing(self, affine: Affine, per_unit: float) -> Spacing:
        """Return the steps of the affine, each as pixdim has it where both agree up to float32 rounding."""
        x, y, z = (abs(float(step)) * per_unit for step in self.header["pixdim"][1:4])
        d, h, w = (
            said if math.isclose(said, step, rel_tol=1e-5) else step
            for said, step in zip((z, y, x), spacing_of(affine), strict=True)
        )
        return d, h, w

    def placements(self) -> dict[str, Placement]:
        """Return sform and qform, each with its code."""
        return headers.placements(self.header, self._name)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the header that mean something besides shape, datatype and place."""
        return headers.fields(self.header, self._name)

    def readings(self, roles: str) -> list[Reading]:
        """Read plane by plane; a compressed file is one stream, spooled where its channels follow one another."""
        shape = five_shape(self._shape, roles)
        if not self.is_stream:
            return raw_readings(shape, self._dtype, by_planes=True)
        spooled = raw_readings(shape, self._dtype, by_planes=True, spool=self._bytes)
        if shape[1] > 1:
            return spooled
        plane = math.prod(shape[3:]) * self._dtype.itemsize
        return [Reading(True, DECOMPRESSION_BYTES, plane), spooled[-1]]

    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:
        """Return a reader: over the file, over the stream of a compressed one, or over what it was spooled to."""
        shape = five_shape(self._shape, roles)
        if not self.is_stream:
            file = self._open.enter_context(open_stream(self._data_path))
            return self._boxes(file, self._offset, roles, reading)
        self._stream = self._begun()
        if not reading.spool:
            return PlaneWindow(shape, stream_fetch(self._stream, self._name, shape, self._dtype), self._scaling)
        spooled = self._open.enter_context(spool(self._stream, self._bytes, self._name, spool_folder))
        return self._boxes(spooled, 0, roles, reading)

    def _begun(self) -> IO[bytes]:
        """Return the stream at its first voxel."""
        if self._pipe is not None:
            return self._pipe
        self._open.close()
        stream = self._open.enter_context(open_stream(self._data_path))
        skip(stream, self._offset, self._name)
        return stream

    def _boxes(self, file: IO[bytes], start: int, roles: str, reading: Reading) -> VolumeReader:
        """Return a reader over voxels that lie plain in a file: x fastest is C order of the reversed axes."""
        raw = RawReader(file, start, self._shape[::-1], self._dtype, self._name, forward=reading.forward)
        boxes = BoxReader(raw, self._shape[::-1], self._dtype, roles[::-1], self._scaling)
        return window(boxes, reading.planes_at_once) if reading.forward else boxes

    def verify(self) -> None:
        """Decompress all voxels of a compressed file, up to the checksums."""
        if self.is_stream:
            self._stream = self._begun()
            skip(self._stream, self._bytes, self._name)
            drain(self._stream, self._name)

    def finish(self) -> None:
        """Compare the checksums of a compressed file, which stand at its end."""
        if self.is_stream:
            drain(self._stream, self._name)
        super().finish()


def _stdin() -> IO[bytes]:
    """Return what comes in on stdin, decompressed."""
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("stdin: is no pipe and no file; put a NIfTI into it, or name a file")
    with reading("stdin"):
        return decompressed(io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False), CHUNK_BYTES))


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
    if spec.is_pipe:
        return []
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

    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Write one region."""
        self._file.write_region(self._axes, batch, region, encoded)

    def finish(self) -> None:
        """Write the header of a pair and flush to the disk."""
        self._file.finish()
        if self._header is not None:
            with self._header.open("r+b") as file:
                file.write(self._header_bytes)
                file.flush()
                os.fsync(file.fileno())


def open_source(spec: Spec) -> Source:
    """Open a NIfTI file or pair to read."""
    return NiftiSource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:
    """Open temporary files to write a NIfTI of the suffix of `spec`."""
    source = target.source.header if isinstance(target.source, NiftiSource) else None
    single = spec.suffix not in (".hdr", ".img")
    header = headers.header_bytes(headers.output_header(target, source, single))
    if spec.is_pipe:
        suffix = ".nii" if target.compression in (None, "none") else ".nii.gz"
        return _stream_sink(None, target, header, codec_of(suffix, target.compression))
    if spec.suffix in STREAMED:
        return _stream_sink(temporaries[0], target, header, codec_of(spec.suffix, target.compression))
    return RawSink(temporaries, target, header)


def writing(target: Target, spec: Spec) -> Writing:
    """Return what writing a target takes."""
    if spec.suffix in STREAMED or spec.is_pipe:
        return stream_writing(target)
    return raw_writing(target)


def _stream_sink(temporary: Path | None, target: Target, header: bytes, codec: Codec) -> Sink:
    """Write forward, to stdout where there is no file; regions that are no whole planes are spooled first."""
    folder = temporary.parent if temporary else Path(tempfile.gettempdir())
    with ExitStack() as stack:
        file: Any = stack.enter_context(temporary.open("w+b")) if temporary else DataPipe()
        stream = StreamSink(file, target, header, codec, folder)
        sink: Sink = stream
        if is_spooled(target):
            plain = stack.enter_context(plain_file(target, folder))
            sink = SpooledSink(plain, target.axes[::-1], target, stream, stream.pour)
        sink.closes(stack.pop_all())
    return sink
