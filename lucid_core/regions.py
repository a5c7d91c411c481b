"""Integer boxes on the voxel grid. Axes are always D, H, W."""

import math
from dataclasses import dataclass

Triple = tuple[int, int, int]
"""One integer each for D, H and W."""


@dataclass(frozen=True)
class Region:
    """The voxels from `start` up to but not including `stop`, along D, H, W."""

    start: Triple
    stop: Triple

    @property
    def shape(self) -> Triple:
        """Voxels along D, H, W."""
        d, h, w = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return d, h, w

    @property
    def voxels(self) -> int:
        """How many voxels the box holds."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index into an array whose last three axes are D, H, W."""
        d, h, w = (slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))
        return d, h, w
