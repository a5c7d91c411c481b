"""MRC and CCP4 maps: `.mrc`, `.mrcs`, `.map` and `.rec`, and with `.gz` behind the first and the third.

Follows MRC2014 (Cheng et al., J. Struct. Biol. 2015), with IMOD's unsigned bytes. The file holds sections of rows of
columns, which need not be z, y and x of the world: the header says which (MAPC, MAPR, MAPS). Lengths are in angstrom. A
stack of volumes (space group 401) is a series. There are no directions but those of the axes, and no channels.
"""

from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.compression import codec_of, compression_of, is_stream, open_stream
from lucid_cli.failures import looks_like
from lucid_cli.formats import Spec
from lucid_cli.place import is_straight
from lucid_cli.planes import read_exactly
from lucid_cli.rawfile import RawSink, raw_writing
from lucid_cli.rawsource import Layout, RawSource
from lucid_cli.streams import stream_sink, stream_writing
from lucid_cli.talk import silent
from lucid_cli.volumes import Sink, Source, Target, VolumeInfo, Writing
from lucid_core import __version__
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, is_usable, spacing_of

_FIELDS: list[tuple[str, str, int, int]] = [
    ("n", "<i4", 3, 0),
    ("mode", "<i4", 1, 12),
    ("start", "<i4", 3, 16),
    ("m", "<i4", 3, 28),
    ("cell", "<f4", 3, 40),
    ("angles", "<f4", 3, 52),
    ("axes", "<i4", 3, 64),
    ("range", "<f4", 3, 76),
    ("group", "<i4", 1, 88),
    ("extended", "<i4", 1, 92),
    ("version", "<i4", 1, 108),
    ("imod", "<i4", 2, 152),
    ("origin", "<f4", 3, 196),
    ("map", "S4", 1, 208),
    ("stamp", "u1", 4, 212),
    ("deviation", "<f4", 1, 216),
    ("labels", "<i4", 1, 220),
    ("label", "S80", 1, 224),
]
HEADER_BYTES = 1024
HEADER = np.dtype(
    {
        "names": [name for name, *_ in _FIELDS],
        "formats": [code if count == 1 else (code, count) for _, code, count, _ in _FIELDS],
        "offsets": [at for *_, at in _FIELDS],
        "itemsize": HEADER_BYTES,
    }
)
MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
"""Types of voxels by the code in the header."""
IMOD_STAMP, SIGNED_BYTES = 1146047817, 1
"""IMOD's mark in a header, and its flag that bytes are signed."""
STACK = 401
"""The least space group of a stack of volumes."""
MM_PER_ANGSTROM = 1e-7
VERSION = 20141


class MrcSource(RawSource):
    """An MRC file."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path, str(spec.path))
        with open_stream(spec.path) as stream:
            block = bytearray(HEADER_BYTES)
            read_exactly(stream, memoryview(block), self._name)
            compressed = compression_of(stream)
        if bytes(block[208:211]) != b"MAP":
            raise InputError(f"{self._name}: not an MRC file{looks_like(bytes(block[:6]))}; it lacks MAP at byte 208")
        self.is_stream = compressed is not None
        big = block[212] == 0x11
        header = np.frombuffer(bytes(block), HEADER.newbyteorder(">") if big else HEADER)[0]
        axes, shape = self._axes(header)
        extended = int(header["extended"])
        if extended < 0:
            raise InputError(f"{self._name}: its extended header has {extended} bytes, legal: at least 0")
        self.layout = Layout(shape, self._dtype(header, ">" if big else "<"), HEADER_BYTES + extended, x_first=False)
        if not self.is_stream:
            self._check_size()
        affine = self._affine(header)
        spacing = None if affine is None else spacing_of(affine)
        details = {"compression": compressed}
        stored = self.layout.dtype.name
        self.info = VolumeInfo(self._name, "mrc", shape, axes, stored, spacing, affine, details)

    def _axes(self, header: Any) -> tuple[str, tuple[int, ...]]:
        """Return the axes and the sizes: sections, rows, columns, and volumes before them in a stack of such."""
        sizes = [int(size) for size in header["n"][::-1]]
        if min(sizes) < 1:
            raise InputError(f"{self._name}: its sizes are {sizes[::-1]}, legal: at least 1")
        sections = int(header["m"][2])
        if int(header["group"]) < STACK:
            return "zyx", tuple(sizes)
        if sections < 1 or sizes[0] % sections:
            raise InputError(f"{self._name}: {sizes[0]} sections are no stack of volumes of {sections}")
        return "tzyx", (sizes[0] // sections, sections, *sizes[1:])

    def _dtype(self, header: Any, order: str) -> np.dtype[Any]:
        mode = int(header["mode"])
        if mode not in MODES:
            legal = ", ".join(f"{number} ({np.dtype(code).name})" for number, code in MODES.items())
            raise InputError(f"{self._name}: its mode is {mode}, legal: {legal}")
        stamp, flags = (int(value) for value in header["imod"])
        unsigned = mode == 0 and stamp == IMOD_STAMP and not flags & SIGNED_BYTES
        return np.dtype("u1" if unsigned else order + MODES[mode])

    @silent()
    def _affine(self, header: Any) -> Affine | None:
        """Return what places the voxels; None where the header does not say how large they are, or at what angles."""
        world = [int(axis) - 1 for axis in header["axes"]]
        if sorted(world) != [0, 1, 2]:
            world = [0, 1, 2]
        sizes = MM_PER_ANGSTROM * header["cell"].astype(np.float64) / header["m"]
        steps, affine = np.zeros((3, 3)), np.eye(4)
        steps[world, range(3)] = sizes[world]
        said = MM_PER_ANGSTROM * header["origin"].astype(np.float64)
        origin = said if said.any() else steps @ header["start"]
        affine[:3, :3], affine[:3, 3] = steps, origin
        if not (np.isfinite(sizes).all() and (sizes > 0).all() and is_usable(affine)):
            return None
        if not all(angle in (0, 90) for angle in header["angles"].round(2)):
            self.warnings += (f"{self._name}: the angles of its cell are not 90 degrees; its place is left out",)
            return None
        return affine


def open_source(spec: Spec) -> Source:
    """Open an MRC file to read."""
    return MrcSource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:
    """Open a temporary file to write an MRC of the suffix of `spec`."""
    header = _output_header(target)
    if is_stream(spec.suffix, target.compression):
        return stream_sink(temporaries[0], target, header, codec_of(spec.suffix, target.compression), x_first=False)
    return RawSink(temporaries, target, header, target.axes)


def _output_header(target: Target) -> bytes:
    """Return the header; the range of the values is said to be unknown, as it is before they are written."""
    header = np.zeros(1, HEADER)
    volumes, _, *size = target.shape
    header["n"] = [*size[:0:-1], volumes * size[0]]
    header["m"] = size[::-1]
    header["mode"] = next(mode for mode, code in MODES.items() if np.dtype(code) == target.dtype)
    header["angles"], header["axes"] = 90, [1, 2, 3]
    header["range"], header["deviation"] = [0, -1, -2], -1
    header["group"] = STACK if "n" in target.axes else 1
    header["version"], header["map"], header["stamp"] = VERSION, b"MAP ", [0x44, 0x44, 0, 0]
    header["labels"], header["label"] = 1, f"lucid-conv3d {__version__}".encode()
    if target.spacing is not None:
        header["cell"] = np.array(target.spacing[::-1]) / MM_PER_ANGSTROM * size[::-1]
    affine = target.affine
    if affine is not None and is_straight(affine):
        header["origin"] = affine[:3, 3] / MM_PER_ANGSTROM
    return header.tobytes()


def writing(target: Target, spec: Spec) -> Writing:
    """Return what writing a target takes."""
    return stream_writing(target) if is_stream(spec.suffix, target.compression) else raw_writing(target)


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of."""
    return [spec.path]


files_read = files
