"""FreeSurfer's MGH: `.mgh`, and `.mgz` or `.mgh.gz` compressed, of one frame or several.

Big-endian voxels, x fastest, stand between a header of 284 bytes and a footer with the repetition time and the like;
the frames are time or channels. The directions and the centre of the volume place it in the world.
"""

from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader, data_type_codes, footer_dtype, header_dtype
from nibabel.orientations import aff2axcodes

from lucid_cli.compression import codec_of, compression_of, open_stream
from lucid_cli.failures import looks_like
from lucid_cli.formats import Spec
from lucid_cli.planes import drain, read_exactly, reading
from lucid_cli.rawfile import RawSink, raw_writing
from lucid_cli.rawsource import Layout, RawSource
from lucid_cli.streams import stream_sink, stream_writing
from lucid_cli.talk import silent
from lucid_cli.volumes import Sink, Source, Target, VolumeInfo, Writing
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, affine_of, is_usable, spacing_of

AXES = {3: "xyz", 4: "xyzt"}
DATA_OFFSET = 284
VERSION = b"\0\0\0\1"
PLAIN = ".mgh"
"""The suffix of files that are not compressed."""


class MghSource(RawSource):
    """An MGH file."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path, str(spec.path))
        with open_stream(spec.path) as stream:
            self.header = _header(stream, self._name)
            compressed = compression_of(stream)
        self.is_stream = compressed is not None
        self.footer = bytes(footer_dtype.itemsize)
        """What follows the voxels: repetition time, angle and so on; of a stream, once it was read to its end."""
        self.layout = Layout(
            _shape(self.header, self._name), _stored_dtype(self.header, self._name), DATA_OFFSET, x_first=True
        )
        if not self.is_stream:
            self._check_size()
        shape, affine = self.layout.shape, self._affine()
        details: dict[str, Any] = {
            "orientation": None if affine is None else "".join(aff2axcodes(affine)),
            "compression": compressed,
        }
        spacing = None if affine is None else spacing_of(affine)
        stored = self.layout.dtype.name
        self.info = VolumeInfo(self._name, "mgh", shape, AXES[len(shape)], stored, spacing, affine, details)

    def _affine(self) -> Affine | None:
        """Return what places the volume, None where the header does not say or says what cannot be."""
        if int(self.header["goodRASFlag"]) <= 0:
            self.warnings += (f"{self._name}: its header says of no place in the world (goodRASFlag)",)
            return None
        with silent():
            affine = np.asarray(MGHHeader(self.header.tobytes(), check=False).get_affine(), np.float64)
        if not is_usable(affine):
            self.warnings += (f"{self._name}: its directions and steps place no voxels; they are left out",)
            return None
        return affine

    def finish(self) -> None:
        """Read the footer of a file that is not compressed, too."""
        if not self.is_stream:
            with self._stream() as stream:
                stream.seek(self.layout.offset + self.layout.bytes)
                self._read_footer(stream)
        super().finish()

    def _drain(self) -> None:
        """Read the footer and what follows it."""
        self._read_footer(self._begun)
        drain(self._begun, self._name)

    def _read_footer(self, stream: IO[bytes]) -> None:
        """Read the footer, which may be cut short or missing."""
        with reading(self._name):
            self.footer = stream.read(footer_dtype.itemsize).ljust(footer_dtype.itemsize, b"\0")


def _header(stream: IO[bytes], name: str) -> Any:
    """Return the fields of the header."""
    with reading(name):
        start = stream.read(4)
    if start != VERSION:
        raise InputError(f"{name}: not an MGH file{looks_like(start)}")
    block = bytearray(DATA_OFFSET)
    block[:4] = start
    read_exactly(stream, memoryview(block)[4:], name)
    return np.frombuffer(bytes(block), header_dtype, 1)[0]


def _shape(header: Any, name: str) -> tuple[int, ...]:
    """Return the sizes (x, y, z) of one frame, (x, y, z, t) of more."""
    sizes = [int(size) for size in header["dims"]]
    if any(size < 1 for size in sizes):
        raise InputError(f"{name}: dims is {sizes}: four sizes of at least 1 are legal")
    return tuple(sizes[:3] if sizes[3] == 1 else sizes)


def _stored_dtype(header: Any, name: str) -> np.dtype[Any]:
    code = int(header["type"])
    try:
        return np.dtype(data_type_codes.numpy_dtype[code]).newbyteorder(">")
    except KeyError:
        legal = ", ".join(f"{one} ({data_type_codes.label[one]})" for one in sorted(data_type_codes.value_set("code")))
        raise InputError(f"{name}: its type {code} is not known; legal: {legal}") from None


def open_source(spec: Spec) -> Source:
    """Open an MGH file to read."""
    return MghSource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:
    """Open a temporary file to write an MGH of the suffix of `spec`."""
    header = _output_header(target)
    source = target.source if isinstance(target.source, MghSource) else None

    def footer() -> bytes:
        return source.footer if source else bytes(footer_dtype.itemsize)

    if spec.suffix == PLAIN:
        return RawSink(temporaries, target, header, target.axes[::-1], order=">", trailer=footer)
    codec = codec_of(spec.suffix, target.compression)
    return stream_sink(temporaries[0], target, header, codec, order=">", trailer=footer)


def _output_header(target: Target) -> bytes:
    """Return the header: steps along x, y, z, their directions, and the world place of the centre voxel."""
    header = MGHHeader()
    header.set_data_shape(target.file_shape)
    header.set_data_dtype(target.dtype)
    affine = affine_of(target.spacing) if target.affine is None and target.spacing else target.affine
    if affine is None:
        header["goodRASFlag"] = 0
    else:
        header["delta"] = spacing_of(affine)[::-1]
        header["Mdc"] = (affine[:3, :3] / spacing_of(affine)[::-1]).T
        header["Pxyz_c"] = (affine @ [*np.array(header["dims"][:3]) / 2, 1])[:3]
    return bytes(header.binaryblock[: header_dtype.itemsize]).ljust(DATA_OFFSET, b"\0")


def writing(target: Target, spec: Spec) -> Writing:
    """Return what writing a target takes."""
    return raw_writing(target) if spec.suffix == PLAIN else stream_writing(target)


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of."""
    return [spec.path]


files_read = files
