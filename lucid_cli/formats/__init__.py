"""File formats, one a module, found by the suffix of a name.

A format module has `open_source(spec)` returning a `Source` (header read, no voxel), `open_sink(temporaries, target,
spec)` returning a `Sink` that writes into temporary files, `writing(target, spec)` saying what that takes,
`files(spec)` for the files of an output and `files_read(spec)` for those of an input. What a format can hold stands in
`sink.OUT_DTYPES`, `axes.OWN_AXES` and `compression.LEGAL`. `tests/contracts/test_formats.py` holds what each must do.
"""

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lucid_core.errors import ArgumentError


@dataclass(frozen=True)
class Spec:
    """A file as named on the command line: its path and, for HDF5, the dataset in it, for DICOM, the series."""

    path: Path
    inner: str | None
    suffix: str
    """Suffix that says the format, in lower case, or '' where none is known."""

    @property
    def is_pipe(self) -> bool:
        """Whether it is `-`: a NIfTI on stdin or stdout."""
        return str(self.path) == PIPE

    @property
    def is_series(self) -> bool:
        """Whether it is a folder with the slices of DICOM series."""
        return self.suffix == SERIES and self.path.is_dir()

    @property
    def likely_output(self) -> "Spec":
        """An output to plan with where none is named: of the same format, or NIfTI where that is only read."""
        return Spec(self.path, None, ".nii") if self.suffix in READ_ONLY else self

    def __str__(self) -> str:
        return f"{self.path}:{self.inner}" if self.inner else str(self.path)

    @property
    def stem(self) -> str:
        """Name of the file without its suffix."""
        if self.is_pipe:
            return "stdin"
        ends = self.suffix and self.path.name.lower().endswith(self.suffix)
        return self.path.name[: -len(self.suffix)] if ends else self.path.name


PIPE = "-"
SUFFIXES = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nii.zst": "nifti",
    ".hdr": "nifti",
    ".img": "nifti",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npy": "npy",
    ".mgh": "mgh",
    ".mgz": "mgh",
    ".mgh.gz": "mgh",
    ".mha": "metaimage",
    ".mhd": "metaimage",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".ome.tif": "ome_tiff",
    ".ome.tiff": "ome_tiff",
    ".mrc": "mrc",
    ".mrc.gz": "mrc",
    ".mrcs": "mrc",
    ".map": "mrc",
    ".map.gz": "mrc",
    ".rec": "mrc",
    ".dcm": "dicom",
    ".mnc": "minc",
}
"""Suffixes and the modules that serve them; kept here so that naming a file imports no format."""

SERIES = ".dcm"
"""Suffix of DICOM files, and of folders that hold series of them, whatever these are called."""
READ_ONLY = (SERIES, ".mnc")
"""Suffixes of formats that are not written."""
_DICOM_MAGIC = (128, b"DICM")

_LEGAL = ", ".join(suffix for suffix in SUFFIXES if suffix not in READ_ONLY)

_WITH_DATASET = re.compile(r"(?P<path>.*\.(?:h5|hdf5)):{1,2}(?P<inner>/.*|[^/:\\].*)", re.IGNORECASE | re.DOTALL)


def parse_spec(text: str) -> Spec:
    """Split `file.h5:/group/data` (also with `::`) into path and dataset, and find the suffix of the path."""
    if text == PIPE:
        return Spec(Path(PIPE), None, ".nii")
    match = _WITH_DATASET.fullmatch(text)
    name, inner = (match["path"], match["inner"]) if match else (text, None)
    lower = Path(name).name.lower()
    suffix = max((one for one in SUFFIXES if lower.endswith(one)), key=len, default="")
    return (_series(text) if suffix in ("", SERIES) else None) or Spec(Path(name), inner, suffix)


def _series(text: str) -> Spec | None:
    """Return the series that a text names, a folder or `folder:UID`; None where it names none."""
    folder, colon, inner = text.rpartition(":")
    if is_series(Path(text)):
        return Spec(Path(text), None, SERIES)
    return Spec(Path(folder), inner, SERIES) if colon and inner and is_series(Path(folder)) else None


def is_series(folder: Path) -> bool:
    """Say whether a folder holds slices of DICOM series: files `.dcm`, or files without a suffix, the first a DICOM."""
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        if any(path.name.lower().endswith(SERIES) and path.is_file() for path in paths):
            return True
        bare = next((path for path in paths if "." not in path.name and path.is_file()), None)
        if bare is None:
            return False
        with bare.open("rb") as file:
            at, magic = _DICOM_MAGIC
            return file.read(at + len(magic))[at:] == magic
    except (OSError, ValueError):
        return False


def read_only(spec: Spec, name: str) -> ArgumentError:
    """Return the error of an output in a format that is not written."""
    return ArgumentError(f"{spec.path}: {name} is read, but not written; legal for an output: {_LEGAL}")


def format_of(spec: Spec) -> ModuleType:
    """Return the module for a file's suffix, or raise `ArgumentError` with the suffixes there are."""
    if not spec.suffix:
        raise ArgumentError(f"{spec.path}: the suffix says no format known here; legal: {', '.join(SUFFIXES)}")
    return importlib.import_module(f"{__name__}.{SUFFIXES[spec.suffix]}")
