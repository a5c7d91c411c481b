"""Volumes as the engine sees them: a batch (N, C, D, H, W) that is read and written by regions.

File formats implement `VolumeReader` and `VolumeWriter`; `ArrayReader` and `ArrayWriter` do it for arrays in
memory. `arithmetic_dtype` and `promoted` say which numbers are computed with.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ArgumentTypeError
from lucid_core.regions import Region

Shape5 = tuple[int, int, int, int, int]
"""Batch, channels, D, H, W."""


class VolumeReader(Protocol):
    """A batch of volumes to read.

    With `random_access`, any region may be read at any time, by several threads at once. Without, reads come one
    after another in the order of the tiles, and `forget` says which planes will never be asked for again.
    """

    @property
    def shape(self) -> Shape5:
        """Shape (N, C, D, H, W)."""

    @property
    def random_access(self) -> bool:
        """Whether regions can be read in any order."""

    def read(self, batch: int, region: Region, out: npt.NDArray[Any]) -> None:
        """Read a region that lies inside volume `batch` into `out` (C, d, h, w), converting to its dtype."""

    def view(self, batch: int, dtype: npt.DTypeLike) -> npt.NDArray[Any] | None:
        """Return a volume (C, D, H, W) in memory, of this dtype and contiguous along W, or None: `read` is called."""

    def forget(self, batch: int, plane: int) -> None:
        """Drop what is held of volume `batch` below D plane `plane`, and of earlier volumes."""


class VolumeWriter(Protocol):
    """A batch of volumes to write: tiles are encoded by several threads at once, and written in order, one by one."""

    def view(self, batch: int, region: Region) -> npt.NDArray[Any] | None:
        """Return memory (C, d, h, w) to compute the region into directly, or None: `encode` and `write` are called."""

    def encode(self, batch: int, region: Region, block: npt.NDArray[Any]) -> Any:
        """Return the voxels `block` (C, d, h, w) of a region as `write` wants them; may view `block`."""

    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Write what `encode` returned for a region; called in the order of the tiles."""


class ArrayReader:
    """Reads from an array (N, C, D, H, W) of any strides and byte order, which is never modified."""

    random_access = True

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array

    @property
    def shape(self) -> Shape5:
        """Shape (N, C, D, H, W)."""
        n, c, d, h, w = self._array.shape
        return n, c, d, h, w

    def read(self, batch: int, region: Region, out: npt.NDArray[Any]) -> None:
        """Copy the region into `out`."""
        out[...] = self._array[(batch, slice(None), *region.slices)]

    def view(self, batch: int, dtype: npt.DTypeLike) -> npt.NDArray[Any] | None:
        """Return the array where its layout allows."""
        array = self._array
        fits = array.dtype == np.dtype(dtype) and array.dtype.isnative and array.flags.aligned
        contiguous = array.strides[-1] == array.itemsize or array.shape[-1] == 1
        return array[batch] if fits and contiguous else None

    def forget(self, batch: int, plane: int) -> None:
        """Keep everything: the array is the caller's."""


class ArrayWriter:
    """Computes straight into an array (N, C, D, H, W)."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array

    def view(self, batch: int, region: Region) -> npt.NDArray[Any] | None:
        """Return the region of the array."""
        view: npt.NDArray[Any] = self._array[(batch, slice(None), *region.slices)]
        return view

    def encode(self, batch: int, region: Region, block: npt.NDArray[Any]) -> npt.NDArray[Any]:  # noqa: ARG002
        """Return the block as it is."""
        return block

    def write(self, batch: int, region: Region, encoded: npt.NDArray[Any]) -> None:
        """Copy a block into the region."""
        self._array[(batch, slice(None), *region.slices)] = encoded


def promoted(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype a result has: floats keep theirs, integers become the one they are computed in."""
    given = np.dtype(dtype).newbyteorder("=")
    return given if given.kind == "f" and given.itemsize <= 8 else arithmetic_dtype(given)


def arithmetic_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype of the arithmetic: float32 for floats and integers up to 16 bits and float32, else float64.

    Raises `ArgumentTypeError` for what is not a real number of at most 64 bits.
    """
    given = np.dtype(dtype)
    if given.kind not in "fiub" or given.itemsize > 8:
        raise ArgumentTypeError(
            f"cannot convolve values of dtype {given}; legal: float16, float32, float64 and integers of 8 to 64 bits"
        )
    single = given.itemsize <= (4 if given.kind == "f" else 2)
    return np.dtype(np.float32 if single else np.float64)
