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
    """A file as named on the command line: its path and, for HDF5, the dataset in it."""

    path: Path
    inner: str | None
    suffix: str
    """Suffix that says the format, in lower case, or '' where none is known."""

    @property
    def is_pipe(self) -> bool:
        """Whether it is `-`: a NIfTI on stdin or stdout."""
        return str(self.path) == PIPE

    def __str__(self) -> str:
        return f"{self.path}:{self.inner}" if self.inner else str(self.path)

    @property
    def stem(self) -> str:
        """Name of the file without its suffix."""
        if self.is_pipe:
            return "stdin"
        return self.path.name[: -len(self.suffix)] if self.suffix else self.path.name


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
}
"""Suffixes and the modules that serve them; kept here so that naming a file imports no format."""

_WITH_DATASET = re.compile(r"(?P<path>.*\.(?:h5|hdf5)):{1,2}(?P<inner>/.*|[^/:\\].*)", re.IGNORECASE | re.DOTALL)


def parse_spec(text: str) -> Spec:
    """Split `file.h5:/group/data` (also with `::`) into path and dataset, and find the suffix of the path."""
    if text == PIPE:
        return Spec(Path(PIPE), None, ".nii")
    match = _WITH_DATASET.fullmatch(text)
    name, inner = (match["path"], match["inner"]) if match else (text, None)
    lower = Path(name).name.lower()
    suffix = max((one for one in SUFFIXES if lower.endswith(one)), key=len, default="")
    return Spec(Path(name), inner, suffix)


def format_of(spec: Spec) -> ModuleType:
    """Return the module for a file's suffix, or raise `ArgumentError` with the suffixes there are."""
    if not spec.suffix:
        raise ArgumentError(f"{spec.path}: the suffix says no format known here; legal: {', '.join(SUFFIXES)}")
    return importlib.import_module(f"{__name__}.{SUFFIXES[spec.suffix]}")
