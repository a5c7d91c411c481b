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
    """A file as named on the command line, and what is meant in it: an HDF5 dataset, a series, a node of a Zarr."""

    path: Path
    inner: str | None
    suffix: str
    """Suffix that says the format, in lower case, or '' where none is known."""
    url: str | None = None
    """Address of a Zarr that is not a file or folder here; `path` is its name then."""
    level: int | None = None
    """Level of an OME-Zarr image, where `--level` says it."""

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

    @property
    def is_zarr(self) -> bool:
        """Whether it is a Zarr: a folder, a zip or an address."""
        return self.suffix in ZARR

    @property
    def is_folder(self) -> bool:
        """Whether it is a Zarr that is a folder here."""
        return self.is_zarr and self.url is None and not self.suffix.endswith(ZIPPED)

    @property
    def name(self) -> str:
        """The file, folder or address, without what is meant in it."""
        return self.url or str(self.path)

    @property
    def node(self) -> Path:
        """What the file system, or an address, has of its own for it: the folder of a node of a Zarr, else the file."""
        return Path(self.name, self.inner or "") if self.is_folder or self.url else self.path

    def __str__(self) -> str:
        return f"{self.name}{'/' if self.is_zarr else ':'}{self.inner}" if self.inner else self.name

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
    ".zarr": "zarr",
    ".ome.zarr": "zarr",
    ".zarr.zip": "zarr",
    ".ome.zarr.zip": "zarr",
    ".ozx": "zarr",
}
"""Suffixes and the modules that serve them; kept here so that naming a file imports no format."""

SERIES = ".dcm"
"""Suffix of DICOM files, and of folders that hold series of them, whatever these are called."""
READ_ONLY = (SERIES, ".mnc")
"""Suffixes of formats that are not written."""
ZARR = tuple(suffix for suffix, name in SUFFIXES.items() if name == "zarr")
"""Suffixes of Zarr hierarchies, which are folders, zips or addresses."""
ZIPPED = (".zip", ".ozx")
ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
"""Names of the metadata of a node of a Zarr: of format 3, of an array and of a group of format 2."""
_DICOM_MAGIC = (128, b"DICM")

_LEGAL = ", ".join(suffix for suffix in SUFFIXES if suffix not in READ_ONLY)

_WITH_DATASET = re.compile(r"(?P<path>.*\.(?:h5|hdf5)):{1,2}(?P<inner>/.*|[^/:\\].*)", re.IGNORECASE | re.DOTALL)

_WITH_NODE = re.compile(
    rf"(?P<path>.+?(?P<suffix>{'|'.join(map(re.escape, sorted(ZARR, key=len, reverse=True)))}))"
    r"(?::{0,2}/+(?P<inner>.*?)/*)?",
    re.IGNORECASE | re.DOTALL,
)
_SLASHES = re.compile("(?<!:)//+")
_LOCAL = re.compile(r"^(?:file|local)://", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*(?:::[a-z0-9+.-]+)*://", re.IGNORECASE)


def parse_spec(text: str) -> Spec:
    """Split `file.h5:/group/data` (also with `::`) or `a.zarr/path`, and find the suffix of the file."""
    if text == PIPE:
        return Spec(Path(PIPE), None, ".nii")
    found = (None if _WITH_DATASET.fullmatch(text) else _node(text)) or _file(text)
    if is_address(text) and (found.url is None or found.suffix.endswith(ZIPPED)):
        raise ArgumentError(
            f"{text}: behind an address only a Zarr is read and written, not a zip of one; legal: .zarr"
        )
    return found


def is_address(text: str) -> bool:
    """Say whether a text names what is not a file of this machine."""
    return bool(_URL.match(text)) and not _LOCAL.match(text)


def _node(text: str) -> Spec | None:
    """Return the node of a Zarr that a text names, None where it names none."""
    local = _LOCAL.sub("", text)
    above = local[: local.rfind("../") + 3] if "/../" in local and not _URL.match(local) else ""
    match = _WITH_NODE.fullmatch(local.removeprefix(above))
    if match is None or (match["inner"] and _suffix(match["inner"]) not in ("", *ZARR)):
        return _bare(text)
    lower = match["path"].lower()
    suffix = max((one for one in ZARR if lower.endswith(one)), key=len)
    url = _SLASHES.sub("/", match["path"]) if _URL.match(local) else None
    path = Path(url.rpartition("/")[2]) if url else Path(above + match["path"])
    inner = "/".join(filter(None, (match["inner"] or "").split("/")))
    return Spec(path, inner or None, suffix, url)


def _bare(text: str) -> Spec | None:
    """Return the Zarr that a folder is whose name does not say so, None where it is none."""
    try:
        is_zarr = not _suffix(text) and any(Path(text, name).is_file() for name in ZARR_FILES)
    except (OSError, ValueError):
        return None
    return Spec(Path(text), None, ".zarr") if is_zarr else None


def _suffix(name: str) -> str:
    """Return the suffix of a name that says a format, '' where none does."""
    lower = Path(name).name.lower()
    return max((one for one in SUFFIXES if lower.endswith(one)), key=len, default="")


def _file(text: str) -> Spec:
    match = _WITH_DATASET.fullmatch(text)
    name, inner = (match["path"], match["inner"]) if match else (text, None)
    suffix = _suffix(name)
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
