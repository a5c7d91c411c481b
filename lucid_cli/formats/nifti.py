"""NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz` and pairs `.hdr`/`.img`.

Axes x, y, z come first and fastest, so a D plane is contiguous. A compressed file is one stream, read and written
forward; several channels, which a stream would want one after the other, go through a nameless temporary file.
"""

import io
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.orientations import aff2axcodes

from lucid_cli import nifti_header as headers
from lucid_cli.compression import CHUNK_BYTES, codec_of, compression_of, decompressed, open_stream
from lucid_cli.formats import Spec
from lucid_cli.lengths import seconds_per
from lucid_cli.planes import reading
from lucid_cli.rawfile import RawSink, raw_writing
from lucid_cli.rawsource import Layout, RawSource
from lucid_cli.streams import stream_sink, stream_writing
from lucid_cli.volumes import Placement, Sink, Source, Target, VolumeInfo, Writing
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, is_usable, spacing_of
from lucid_core.units import Spacing

AXES = {3: "xyz", 4: "xyzt", 5: "xyznc"}
"""Axes by rank; the 4th is time, unless the layer makes it channels (`axes.roles`)."""

STREAMED = (".nii.gz", ".nii.zst")
"""Suffixes of outputs that are written forward."""


class NiftiSource(RawSource):
    """A NIfTI file or pair."""

    def __init__(self, spec: Spec) -> None:
        header_path, data_path = _pair(spec)
        super().__init__(None if spec.is_pipe else data_path, "stdin" if spec.is_pipe else str(spec.path))
        self._pipe = self._open.enter_context(_stdin()) if spec.is_pipe else None
        with nullcontext(self._pipe) if self._pipe else open_stream(header_path) as stream:
            self.header = headers.read_header(stream, self._name)
            self._compressed = compression_of(stream)
        if header_path == data_path and not self.header.is_single:
            raise InputError(f"{self._name}: is the header of a pair; name it .hdr, beside its .img")
        if header_path != data_path:
            with open_stream(data_path) as stream:
                self._compressed = compression_of(stream)
        self.is_stream = self._pipe is not None or self._compressed is not None
        self.layout = Layout(
            headers.shape(self.header, self._name),
            headers.stored_dtype(self.header, self._name),
            headers.data_offset(self.header, self._name),
            x_first=True,
            scaling=headers.scaling(self.header, self._name),
        )
        if not self.is_stream:
            self._check_size()
        self.info = self._describe(spec.suffix)
        self.provenance = next(filter(None, map(headers.provenance_of, self.header.extensions)), None)
        if int(self.header["bitpix"]) != 8 * self.layout.dtype.itemsize:
            self.warnings += (
                f"{self._name}: bitpix is {int(self.header['bitpix'])}, but the datatype is {self.layout.dtype.name}, "
                "which is taken",
            )

    def _describe(self, suffix: str) -> VolumeInfo:
        affine, spacing = self._place()
        spatial, temporal = headers.units(self.header)
        details: dict[str, Any] = {
            "orientation": None if affine is None else "".join(aff2axcodes(affine)),
            "units": {"space": spatial, "time": temporal},
            "scaling": dict(zip(("slope", "inter"), self.layout.scaling, strict=True)) if self.layout.scaling else None,
            "compression": self._compressed,
        }
        version = 1 if int(self.header["sizeof_hdr"]) == 348 else 2
        kind = "pair" if suffix in (".hdr", ".img") else "single file"
        details["version"] = f"NIfTI-{version}, {kind}"
        shape, stored = self.layout.shape, self.layout.dtype.name
        return VolumeInfo(self._name, "nifti", shape, AXES[len(shape)], stored, spacing, affine, details)

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

    def time_step(self) -> float | None:
        """Return the seconds from one volume to the next: the fourth pixdim, where its unit is known."""
        unit, step = seconds_per(headers.units(self.header)[1]), float(self.header["pixdim"][4])
        return step * unit if "t" in self.info.axes and unit and 0 < step < math.inf else None

    def placements(self) -> dict[str, Placement]:
        """Return sform and qform, each with its code, and pixdim."""
        return headers.placements(self.header, self._name)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the header that mean something besides shape, datatype and place."""
        return headers.fields(self.header, self._name)

    def _begin(self) -> IO[bytes]:
        """Return the stream at its first voxel; stdin stands there."""
        return self._pipe if self._pipe is not None else super()._begin()


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


files_read = files


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
        return stream_sink(None, target, header, codec_of(suffix, target.compression))
    if spec.suffix in STREAMED:
        return stream_sink(temporaries[0], target, header, codec_of(spec.suffix, target.compression))
    return RawSink(temporaries, target, header, target.axes[::-1])


def writing(target: Target, spec: Spec) -> Writing:
    """Return what writing a target takes."""
    if spec.suffix in STREAMED or spec.is_pipe:
        return stream_writing(target)
    return raw_writing(target)
