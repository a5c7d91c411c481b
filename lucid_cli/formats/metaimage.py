"""ITK's MetaImage: `.mha`, header and voxels in one file, and `.mhd` beside a file of voxels.

The header is lines of `Key = Value` up to `ElementDataFile`. x is the fastest axis, but for the channels of a voxel,
which stand together; a fourth axis is time. `TransformMatrix` has the direction of every axis in turn, and the world is
LPS in mm. Voxels may be one zlib stream.
"""

import math
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.orientations import aff2axcodes

from lucid_cli.compression import codec_of, inflated, is_stream
from lucid_cli.failures import looks_like
from lucid_cli.formats import Spec
from lucid_cli.planes import reading
from lucid_cli.rawfile import RawSink, raw_writing
from lucid_cli.rawsource import Layout, RawSource, data_beside
from lucid_cli.streams import stream_sink, stream_writing
from lucid_cli.talk import silent
from lucid_cli.text_header import MOST_BYTES, TextHeader, detached_files, files_of_header, words
from lucid_cli.volumes import Sink, Source, Target, VolumeInfo, Writing
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, is_usable, lps, spacing_of

AXES = {(3, False): "xyz", (4, False): "xyzt", (3, True): "cxyz", (4, True): "cxyzt"}
"""Axes by NDims, and whether a voxel has several channels."""
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
"""Types of voxels; a long has four bytes on every machine."""
NAMES = {np.dtype(code): name for name, code in TYPES.items() if "_LONG" not in name or code[1] == "8"}
SPACINGS, OFFSETS = ("ElementSpacing", "ElementSize"), ("Offset", "Position", "Origin")
MATRICES = ("TransformMatrix", "Rotation", "Orientation")
"""Names of a field, the first one that stands there counts."""
LOCAL = "LOCAL"


def read_header(path: Path) -> TextHeader:
    """Return the fields of the header of a file."""
    fields: dict[str, str] = {}
    with reading(str(path)), path.open("rb") as file:
        while "ElementDataFile" not in fields:
            line = file.readline(MOST_BYTES)
            key, equals, value = line.decode("utf-8", "replace").partition("=")
            if not equals or file.tell() > MOST_BYTES:
                what = "its header has no ElementDataFile" if fields else f"not a MetaImage file{looks_like(line[:6])}"
                raise InputError(f"{path}: {what}")
            fields[key.strip()] = value.strip()
        return TextHeader(str(path), fields, file.tell())


class MetaImageSource(RawSource):
    """A MetaImage, in one file or in two."""

    def __init__(self, spec: Spec) -> None:
        header = read_header(spec.path)
        data = _data_file(spec.path, header)
        super().__init__(data, str(spec.path))
        self.is_stream = header.flag("CompressedData")
        dims = header.whole("NDims")[0]
        channels = header.whole("ElementNumberOfChannels", "1")[0]
        if (dims, channels > 1) not in AXES:
            raise InputError(f"{self._name}: a volume has 3 axes, or 4 with time; this file has {dims}")
        axes = AXES[dims, channels > 1]
        shape = (*[channels] * (channels > 1), *header.whole("DimSize", count=dims))
        self._start = header.end if data == spec.path else 0
        dtype = _stored_dtype(header)
        self.layout = Layout(shape, dtype, 0 if self.is_stream else self._offset(header, shape, dtype), x_first=True)
        if not self.is_stream:
            self._check_size()
        affine = self._affine(header, dims)
        details = {
            "orientation": None if affine is None else "".join(aff2axcodes(affine)),
            "compression": "zlib" if self.is_stream else None,
        }
        spacing = None if affine is None else spacing_of(affine)
        self.info = VolumeInfo(self._name, "metaimage", shape, axes, dtype.name, spacing, affine, details)

    def _offset(self, header: TextHeader, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
        """Return where the voxels begin: TextHeaderSize says it, -1 where they end with the file."""
        size = header.whole("HeaderSize", "0", least=-1)[0]
        if size >= 0:
            return size or self._start
        assert self._data_path is not None
        return max(0, self._data_path.stat().st_size - math.prod(shape) * dtype.itemsize)

    def _affine(self, header: TextHeader, dims: int) -> Affine | None:
        """Return what places the volume; None where the header does not say or says what cannot be."""
        steps, origin = header.numbers(*SPACINGS, count=dims), header.numbers(*OFFSETS, count=dims)
        matrix = header.numbers(*MATRICES, count=dims**2)
        if steps is None and origin is None and matrix is None:
            return None
        directions = np.eye(dims) if matrix is None else np.reshape(matrix, (dims, dims))
        affine = np.eye(4)
        with silent():
            affine[:3, :3] = directions[:3, :3].T * (steps or [1.0] * dims)[:3]
            affine[:3, 3] = (origin or [0.0] * dims)[:3]
        if is_usable(affine):
            return lps(affine)
        self.warnings += (f"{self._name}: its directions and steps place no voxels; they are left out",)
        return None

    def _stream(self) -> IO[bytes]:
        """Open the file of the voxels; a compressed stream begins behind the header."""
        assert self._data_path is not None
        with reading(self._name):
            file = self._data_path.open("rb")
        if not self.is_stream:
            return file
        file.seek(self._start)
        return inflated(file)


def _data_file(path: Path, header: TextHeader) -> Path:
    """Return the file of the voxels."""
    name = header.fields["ElementDataFile"]
    return path if name.upper() == LOCAL else data_beside(path, name)


def _stored_dtype(header: TextHeader) -> np.dtype[Any]:
    kind = header.fields.get("ElementType", "")
    if kind not in TYPES:
        raise InputError(f"{header.name}: ElementType is {kind!r}, legal: {', '.join(TYPES)}")
    if header.fields.get("BinaryData", "True").lower() == "false":
        raise InputError(f"{header.name}: its voxels are written as text (BinaryData = False): not read")
    order = ">" if header.flag("BinaryDataByteOrderMSB", "ElementByteOrderMSB") else "<"
    return np.dtype(order + TYPES[kind])


def open_source(spec: Spec) -> Source:
    """Open a MetaImage to read."""
    return MetaImageSource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:
    """Open temporary files to write a MetaImage of the suffix of `spec`."""
    if is_stream(spec.suffix, target.compression):
        codec, header = codec_of(spec.suffix, target.compression), partial(_output_header, target, spec)
        return stream_sink(temporaries[0], target, b"", codec, preface=header)
    return RawSink(temporaries, target, _output_header(target, spec, None), target.axes[::-1])


def _output_header(target: Target, spec: Spec, size: int | None) -> bytes:
    """Return the lines that say what the voxels are, in how many bytes they are compressed, and where they lie."""
    axes = target.axes.removeprefix("c")
    fields = {
        "ObjectType": "Image",
        "NDims": len(axes),
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": size is not None,
        **({} if size is None else {"CompressedDataSize": f"{size:016}"}),
        **_place(target, len(axes)),
        "DimSize": words(target.file_shape[-len(axes) :]),
        **({"ElementNumberOfChannels": target.shape[1]} if axes != target.axes else {}),
        "ElementType": NAMES[target.dtype],
        "ElementDataFile": LOCAL if len(files(spec)) == 1 else files(spec)[0].name,
    }
    return "".join(f"{key} = {value}\n" for key, value in fields.items()).encode()


def _place(target: Target, dims: int) -> dict[str, str]:
    """Return the fields that place a volume, those that are known; the axis of time has steps of 1."""
    if target.affine is None:
        steps = [*(target.spacing or ())[::-1], 1.0][:dims]
        return {"ElementSpacing": words(steps)} if target.spacing else {}
    affine = lps(target.affine)
    steps = [*spacing_of(affine)[::-1], 1.0][:dims]
    directions = np.eye(dims)
    directions[:3, :3] = (affine[:3, :3] / steps[:3]).T
    return {
        "TransformMatrix": words(directions.ravel()),
        "Offset": words([*affine[:3, 3], 0.0][:dims]),
        "CenterOfRotation": words([0.0] * dims),
        "ElementSpacing": words(steps),
    }


def writing(target: Target, spec: Spec) -> Writing:
    """Return what writing a target takes."""
    return stream_writing(target) if is_stream(spec.suffix, target.compression) else raw_writing(target)


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of, in the order they are put in place."""
    return detached_files(spec, ".mhd")


def files_read(spec: Spec) -> list[Path]:
    """Return the files that an input of this name consists of."""
    return files_of_header(spec.path, lambda: _data_file(spec.path, read_header(spec.path)))
