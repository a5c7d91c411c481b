"""NRRD: `.nrrd`, header and voxels in one file, and `.nhdr` beside a file of voxels; plain, or gzip.

The header is lines of `field: value` up to an empty one. The first axis is the fastest, and `kinds` says what each is:
three are of space, a `list` or `time` is a series, and any other has the channels. `space directions` has a step for
every axis, in the directions that `space` names; where it names none of those of the body, LPS is meant, as in ITK.
"""

import math
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.orientations import aff2axcodes

from lucid_cli.compression import codec_of, compression_of, decompressed, is_stream
from lucid_cli.formats import Spec
from lucid_cli.lengths import mm_per
from lucid_cli.nrrd_header import NAMES, PAIR, Axes, axes_of, read_header, stored_dtype, vectors
from lucid_cli.planes import reading
from lucid_cli.rawfile import RawSink, raw_writing
from lucid_cli.rawsource import Layout, RawSource, data_beside
from lucid_cli.streams import stream_sink, stream_writing
from lucid_cli.talk import silent
from lucid_cli.text_header import MOST_BYTES, TextHeader, detached_files, files_of_header, words
from lucid_cli.volumes import Sink, Source, Target, VolumeInfo, Writing
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, is_usable, lps, spacing_of
from lucid_core.units import Spacing

LPS = ("left-posterior-superior", "lps")
TO_LPS = {"right-anterior-superior": (-1, -1, 1), "left-anterior-superior": (1, -1, 1)}
TO_LPS |= {"ras": (-1, -1, 1), "las": (1, -1, 1)}
"""Spaces whose first axes point elsewhere than to left and back."""
GZIP = ("gzip", "gz")


class NrrdSource(RawSource):
    """An NRRD, in one file or in two."""

    def __init__(self, spec: Spec) -> None:
        self.header = header = read_header(spec.path)
        data = _data_file(spec.path, header)
        super().__init__(data, str(spec.path))
        encoding = header.fields.get("encoding", "").lower()
        if encoding not in ("raw", *GZIP):
            raise header.wrong("encoding", "raw, gzip")
        self.is_stream = encoding in GZIP
        dims = header.whole("dimension")[0]
        if dims > 5:
            raise header.wrong("dimension", "3 to 5")
        shape = tuple(header.whole("sizes", count=dims))
        axes = axes_of(header, dims)
        self._start = self._data_start(header.end if data == spec.path else 0)
        dtype = stored_dtype(header)
        self.layout = Layout(shape, dtype, self._offset(shape, dtype), x_first=True)
        if not self.is_stream:
            self._check_size()
        affine, spacing = self._place(axes)
        details = {
            "orientation": None if affine is None else "".join(aff2axcodes(affine)),
            "compression": "gzip" if self.is_stream else None,
        }
        self.info = VolumeInfo(self._name, "nrrd", shape, axes.letters, dtype.name, spacing, affine, details)

    def _data_start(self, start: int) -> int:
        """Return where the data begins in its file, behind the lines that are skipped."""
        assert self._data_path is not None
        skipped = self.header.whole("line skip", "0", least=0)[0]
        with reading(self._name), self._data_path.open("rb") as file:
            file.seek(start)
            for _ in range(skipped):
                if not file.readline(MOST_BYTES):
                    break
            return file.tell()

    def _offset(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
        """Return where the voxels begin: behind the bytes that are skipped, or so that they end with the file."""
        skipped = self.header.whole("byte skip", "0", least=-1)[0]
        if self.is_stream:
            return max(0, skipped)
        if skipped >= 0:
            return self._start + skipped
        assert self._data_path is not None
        return max(0, self._data_path.stat().st_size - math.prod(shape) * dtype.itemsize)

    def _place(self, axes: Axes) -> tuple[Affine | None, Spacing | None]:
        """Return the affine and the spacing, as far as the header says them."""
        at = [axes.letters.index(letter) for letter in "xyz"]
        if axes.steps is None:
            return None, self._spacings(at)
        origin = (vectors(self.header, "space origin", 1) or [None])[0] or [0.0, 0.0, 0.0]
        steps = [axes.steps[one] or [] for one in at]
        if min(map(len, [origin, *steps])) < 3:
            raise self.header.wrong("space directions", "vectors of 3 numbers for the axes of space")
        affine = np.eye(4)
        with silent():
            affine[:3, :3], affine[:3, 3] = np.transpose([one[:3] for one in steps]), origin[:3]
            signs = TO_LPS.get(self.header.fields.get("space", "").lower().removesuffix("-time"), (1, 1, 1))
            affine = np.diag([*(sign * self._per_unit() for sign in signs), 1.0]) @ affine
        if is_usable(affine):
            return lps(affine), spacing_of(affine)
        self.warnings += (f"{self._name}: its space directions place no voxels; they are left out",)
        return None, None

    def _spacings(self, at: list[int]) -> Spacing | None:
        """Return the lengths of the steps of a file that has no directions."""
        found = self.header.fields.get("spacings", "").split()
        try:
            x, y, z = (float(found[one]) * self._per_unit() for one in at)
        except (ValueError, IndexError):
            return None
        return (z, y, x) if all(0 < step < math.inf for step in (x, y, z)) else None

    def _per_unit(self) -> float:
        """Return the length in mm of the unit that the header says, mm where it says none that is known."""
        said = self.header.fields.get("space units", self.header.fields.get("units", ""))
        return next((length for unit in re.findall(r"[^\"\s]+", said) if (length := mm_per(unit))), 1.0)

    def _stream(self) -> IO[bytes]:
        """Open the file of the voxels; a compressed stream begins behind the header."""
        assert self._data_path is not None
        with reading(self._name):
            file = self._data_path.open("rb")
            if not self.is_stream:
                return file
            file.seek(self._start)
            stream = decompressed(file)
            if compression_of(stream) != "gzip":
                stream.close()
                raise InputError(f"{self._name}: its encoding is gzip, but its voxels are not compressed so")
            return stream


def _data_file(path: Path, header: TextHeader) -> Path:
    """Return the file of the voxels."""
    name = header.fields.get("data file")
    return path if name is None else data_beside(path, name)


def open_source(spec: Spec) -> Source:
    """Open an NRRD to read."""
    return NrrdSource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:
    """Open temporary files to write an NRRD of the suffix of `spec`."""
    header = _output_header(target, spec)
    if is_stream(spec.suffix, target.compression):
        codec = codec_of(spec.suffix, target.compression)
        return stream_sink(temporaries[0], target, b"", codec, preface=lambda _: header)
    return RawSink(temporaries, target, header, target.axes[::-1])


def _output_header(target: Target, spec: Spec) -> bytes:
    """Return the lines that say what the voxels are and where they lie."""
    kinds = {"c": "vector", "n": "list"}
    fields = {
        "type": NAMES[target.dtype.str[1:]].split(",")[0],
        "dimension": len(target.axes),
        **({} if target.affine is None else {"space": LPS[0]}),
        "sizes": words(target.file_shape),
        **_place(target),
        "kinds": " ".join(kinds.get(axis, "domain") for axis in target.axes),
        "endian": "little",
        "encoding": "gzip" if is_stream(spec.suffix, target.compression) else "raw",
        **({} if len(files(spec)) == 1 else {"data file": files(spec)[0].name}),
    }
    lines = [*(f"{key}: {value}" for key, value in fields.items()), *_carried(target)]
    return "".join(f"{line}\n" for line in ("NRRD0004", *lines, "")).encode()


def _carried(target: Target) -> list[str]:
    """Return the lines on the measurement, such as gradients of diffusion, where batch and channels are the same."""
    if not isinstance(target.source, NrrdSource) or target.problem.in_shape[:2] != target.shape[:2]:
        return []
    found = target.source.header.fields
    frame = found.get("measurement frame") if found.get("space", "").lower() in LPS else None
    pairs = [f"{key.removeprefix(PAIR)}:={value}" for key, value in found.items() if key.startswith(PAIR)]
    return [*([f"measurement frame: {frame}"] if frame else []), *pairs]


def _place(target: Target) -> dict[str, str]:
    """Return the fields that place a volume, those that are known."""
    if target.affine is None:
        steps = dict(zip("zyx", target.spacing or (), strict=False))
        return {"spacings": words(steps.get(axis, math.nan) for axis in target.axes)} if steps else {}
    affine = lps(target.affine)
    columns = {axis: f"({words(column, ',')})" for axis, column in zip("xyz", affine[:3, :3].T, strict=True)}
    return {
        "space directions": " ".join(columns.get(axis, "none") for axis in target.axes),
        "space origin": f"({words(affine[:3, 3], ',')})",
    }


def writing(target: Target, spec: Spec) -> Writing:
    """Return what writing a target takes."""
    return stream_writing(target) if is_stream(spec.suffix, target.compression) else raw_writing(target)


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of, in the order they are put in place."""
    return detached_files(spec, ".nhdr")


def files_read(spec: Spec) -> list[Path]:
    """Return the files that an input of this name consists of."""
    return files_of_header(spec.path, lambda: _data_file(spec.path, read_header(spec.path)))
