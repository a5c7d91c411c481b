"""What counts of a volume, read together with it: the input of a normalised convolution (see `normalization`)."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ShapeError
from lucid_core.normalization import Normalization
from lucid_core.regions import Region
from lucid_core.volume import Shape5, VolumeReader

Array = npt.NDArray[Any]


class MaskedReader:
    """Reads the channels of M X, then those of M, then the mask where M is more than that; implements `VolumeReader`.

    A voxel lies inside the mask where its value there is neither 0 nor NaN. The mask, of one volume and channel,
    serves all of them.
    """

    def __init__(self, reader: VolumeReader, normalization: Normalization, mask: VolumeReader | None) -> None:
        self._reader = reader
        self._mask = mask
        self._missing = normalization.missing
        self.found = False
        """Whether a voxel that was read lies inside the mask."""
        batch, self._channels, *size = reader.shape
        if mask is not None and mask.shape != (1, 1, *size):
            raise ShapeError(f"the mask has shape {mask.shape} as N, C, D, H, W; legal: {(1, 1, *size)}")
        more = self._channels if self._missing else 0
        self.shape: Shape5 = (batch, self._channels + more + (mask is not None), size[0], size[1], size[2])

    @property
    def random_access(self) -> bool:
        """Whether both can be read in any order."""
        return self._reader.random_access and (self._mask is None or self._mask.random_access)

    def view(self, batch: int, dtype: npt.DTypeLike) -> None:
        """Have none: what does not count is left out on reading."""

    def forget(self, batch: int, plane: int) -> None:
        """Let both go on."""
        self._reader.forget(batch, plane)
        if self._mask is not None:
            self._mask.forget(batch, plane)

    def read(self, batch: int, region: Region, out: Array) -> None:
        """Read a region into `out` (channels as above, d, h, w)."""
        self._reader.read(batch, region, out[: self._channels])
        if self._mask is not None:
            self._mask.read(0, region, out[-1:])
        for d in range(out.shape[1]):
            self._leave_out(out[:, d])

    def _leave_out(self, plane: Array) -> None:
        """Make the voxels (channels, h, w) of a plane what they are where they count, and 0 elsewhere."""
        values, counts = plane[: self._channels], plane[self._channels :]
        inside = known = None
        if self._mask is not None:
            inside = np.abs(counts[-1]) > 0
            counts[-1] = inside
            self.found = self.found or bool(inside.any())
        if self._missing:
            known = values == values
            known = known if inside is None else known & inside
            counts[: self._channels] = known
        zero_unless(values, known if known is not None else np.asarray(inside))


def zero_unless(values: Array, kept: npt.NDArray[np.bool_]) -> None:
    """Set floats to +0 in place but where they are kept, NaN too: by their bits, which is the fastest way."""
    kind = np.dtype(f"i{values.itemsize}")
    bits = values.view(kind)
    np.bitwise_and(bits, np.negative(kept.view(np.int8), dtype=kind), out=bits)
