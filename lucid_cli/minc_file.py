"""What reads MINC files, by nibabel, in a child process (`isolation`), as a damaged file can crash libraries."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from nibabel.externals.netcdf import netcdf_file
from nibabel.minc1 import Minc1File
from nibabel.minc2 import Minc2File

from lucid_cli.failures import looks_like
from lucid_cli.planes import reading
from lucid_cli.talk import silent
from lucid_cli.volumes import Array
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, is_usable

NETCDF = b"CDF"
LETTERS = {"time": "t", "vector_dimension": "c"}


@dataclass(frozen=True)
class Description:
    """What a file says of its image."""

    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    """Type of the stored values."""
    affine: Affine | None
    chunks: tuple[int, ...] | None
    version: int


@contextmanager
def _opening(name: str) -> Iterator[None]:
    """Make what goes wrong while a header is read an `InputError`, also sizes that no memory holds."""
    with reading(name), silent():
        try:
            yield
        except MemoryError as error:
            raise InputError(f"{name}: the file is damaged: its header does not fit into memory") from error


class MincImage:
    """The image of a file. Raises `InputError` where it is none."""

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        with _opening(self._name):
            with path.open("rb") as file:
                start = file.read(4)
            self._version = 1 if start[:3] == NETCDF else 2
            if self._version == 1:
                self._minc = Minc1File(netcdf_file(str(path)))
            elif h5py.is_hdf5(path):
                self._minc = Minc2File(h5py.File(path, "r"))
            else:
                raise InputError(f"{path}: not a MINC file{looks_like(start)}")

    def describe(self) -> Description:
        """Return what the file says of the image."""
        with _opening(self._name):
            image, names = self._minc._image, list(self._minc._dim_names)
            if self._version == 2 and (image.external or image.is_virtual):
                raise InputError(f"{self._name}: its data lies in other files: not read")
            spatial = [name for name in names if name.endswith("space")]
            letters = LETTERS | dict(zip(spatial, "zyx", strict=False))
            if len(spatial) != 3 or len(set(names)) < len(names) or not set(names) <= set(letters):
                raise InputError(f"{self._name}: its axes are {', '.join(names)}: legal: three of space, and time")
            affine = np.asarray(self._minc.get_affine(), np.float64)[:, [2, 1, 0, 3]]
            return Description(
                tuple(map(int, self._minc.get_data_shape())),
                "".join(letters[name] for name in names),
                np.dtype(self._minc.get_data_dtype()),
                affine if is_usable(affine) else None,
                image.chunks if self._version == 2 else None,
                self._version,
            )

    def read(self, box: tuple[slice, ...]) -> Array:
        """Return the values of a box, scaled."""
        with reading(self._name), silent():
            values: Array = np.asarray(self._minc.get_scaled_data(box))
            if values.shape != tuple(one.stop - one.start for one in box):
                raise InputError(f"{self._name}: the file is damaged: its image and its ranges differ in their sizes")
            return values
