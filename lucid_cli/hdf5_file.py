"""What reads HDF5 files. It works in a child process (`isolation`), as a damaged file can crash the library.

`Hdf5Dataset` is one dataset, `Hdf5Arrays` are all numeric ones of a file. Data that lies in other files is never read:
the file would decide which.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lucid_cli.failures import looks_like
from lucid_cli.volumes import Array
from lucid_core.errors import InputError, LucidError

DIMENSION_SCALES = ("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST")
"""Attributes by which HDF5 ties datasets to one another."""
MOST_ATTRIBUTE_BYTES = 60000
"""HDF5 keeps at most 64 KiB for the attributes of a dataset unless files need a recent version."""


@dataclass(frozen=True)
class Description:
    """What a dataset says of itself."""

    name: str
    """File and path in it."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    compression: str | None
    compression_opts: Any
    shuffle: bool
    filtered: bool
    """Whether the chunks pass through a filter, a checksum perhaps, when they are read."""
    attributes: dict[str, Any]
    """Those that can be copied to another file."""
    warnings: tuple[str, ...]


class Hdf5Dataset:
    """The dataset at a path in a file, or its only numeric one of three or more axes.

    Raises `InputError` where there is none, or its data is not in the file.
    """

    def __init__(self, path: Path, inner: str | None) -> None:
        with _errors(path):
            self._file = _opened(path)
            self._dataset = _find(self._file, path, inner)
            self._name = f"{path}:{self._dataset.name}"
            self._check_storage()

    def _check_storage(self) -> None:
        dataset = self._dataset
        if dataset.file.filename != self._file.filename or dataset.external or dataset.is_virtual:
            raise InputError(
                f"{self._name}: its data lies in other files (a link, external or virtual storage): not read"
            )

    def describe(self) -> Description:
        """Return what the dataset says of itself."""
        dataset = self._dataset
        with _errors(Path(self._file.filename)):
            carried, warnings = self._attributes()
            return Description(
                self._name,
                dataset.shape or (),
                dataset.dtype,
                dataset.chunks,
                dataset.compression,
                dataset.compression_opts,
                dataset.shuffle,
                dataset.id.get_create_plist().get_nfilters() > 0,
                carried,
                warnings,
            )

    def _attributes(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the attributes that a copy can hold, and what is to be said of the others."""
        carried: dict[str, Any] = {}
        warnings: tuple[str, ...] = ()
        for key, value in self._dataset.attrs.items():
            if key in DIMENSION_SCALES:
                continue
            if h5py.check_ref_dtype(np.asarray(value).dtype) or np.asarray(value).nbytes > MOST_ATTRIBUTE_BYTES:
                warnings += (f"{self._name}: the attribute {key!r} is a reference or too large; it is not copied",)
            else:
                carried[key] = value
        return carried, warnings

    def read(self, box: tuple[slice, ...]) -> Array:
        """Return the values of a box."""
        try:
            values: Array = self._dataset[box]
        except OSError as error:
            raise InputError(f"{self._name}: damaged or unreadable data: {error}") from error
        return values


class Hdf5Arrays:
    """The numeric datasets of a file, by their paths without the first slash."""

    def __init__(self, path: Path) -> None:
        self._found: dict[str, Any] = {}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu" and not (item.external or item.is_virtual):
                self._found[name] = item

        with _errors(path):
            _opened(path).visititems(visit)

    def sizes(self) -> dict[str, tuple[tuple[int, ...], int, int]]:
        """Return the shape of each, its bytes, and those that it takes in the file."""
        return {
            name: (item.shape, int(item.nbytes), int(item.id.get_storage_size())) for name, item in self._found.items()
        }

    def read(self, name: str) -> Array:
        """Return the values of one."""
        values: Array = np.asarray(self._found[name][()])
        return values


class _errors:  # noqa: N801 - used like a function
    """Make whatever the library raises for a file an `InputError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, LucidError):
            hint = "; if another program holds it, set HDF5_USE_FILE_LOCKING=FALSE" if "lock" in str(error) else ""
            raise InputError(f"{self._path}: not a readable HDF5 file: {error}{hint}") from error


def _opened(path: Path) -> Any:
    """Open a file; one that is no HDF5 at all is said to be what it looks like."""
    if not h5py.is_hdf5(path):
        with path.open("rb") as file:
            raise InputError(f"{path}: not an HDF5 file{looks_like(file.read(6))}")
    return h5py.File(path, "r")


def _find(file: Any, path: Path, inner: str | None) -> Any:
    """Return the dataset named, or the only numeric one of three or more axes."""
    candidates = _volumes(file)
    listing = ", ".join(candidates) or "none"
    if inner is None:
        if len(candidates) != 1:
            raise InputError(
                f"{path}: holds {len(candidates)} numeric datasets of 3 or more axes ({listing}); "
                f"say which: {path}:/PATH"
            )
        return file[candidates[0]]
    try:
        found = file.get(inner)
    except RuntimeError as error:
        raise InputError(f"{path}: cannot follow {inner!r}: {error}; it holds: {listing}") from error
    if not isinstance(found, h5py.Dataset):
        what = "is a group, not a dataset" if isinstance(found, h5py.Group) else "has no dataset"
        raise InputError(f"{path}: {what} {inner!r}; datasets of 3 or more axes: {listing}")
    return found


def _volumes(file: Any) -> list[str]:
    """Return the names of the numeric datasets of three or more axes, without following links to other files."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf" and len(item.shape or ()) >= 3:
            found.append(f"/{name}")

    file.visititems(visit)
    return sorted(found)
