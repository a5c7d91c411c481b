"""What two arrays differ by, added up region by region."""

import math
from dataclasses import dataclass, field

import numpy as np

from lucid_cli.volumes import Array

Five = tuple[int, ...]
"""Where a voxel lies: N, C, D, H, W."""


@dataclass(frozen=True)
class Voxel:
    """A voxel that differs."""

    at: Five
    a: int | float
    b: int | float


@dataclass
class Differences:
    """What the voxels differ by. Errors are |a - b|, of all voxels where that is a number."""

    rtol: float
    atol: float
    voxels: int = 0
    beyond: int = 0
    """Voxels that differ by more than atol + rtol |b|."""
    nan: int = 0
    """Voxels that are NaN on one side only."""
    infinite: int = 0
    """Voxels that are infinite on one side only, or of different sign."""
    largest: float = 0.0
    relative: float = 0.0
    """Largest |a - b| / |b|, of the voxels where b is not 0."""
    total: float = 0.0
    """Sum of the errors."""
    norm: float = 0.0
    """Square root of the sum of their squares."""
    examples: dict[str, Voxel] = field(default_factory=dict)
    """The voxel with the `largest` error, and the first that was met of `nan` and `infinite`."""

    @property
    def differing(self) -> int:
        """Voxels that are not the same within the tolerances."""
        return self.beyond + self.nan + self.infinite

    @property
    def compared(self) -> int:
        """Voxels that have an error."""
        return self.voxels - self.nan - self.infinite

    @property
    def mean(self) -> float:
        """Mean error."""
        return self.total / self.compared if self.compared else 0.0

    @property
    def rms(self) -> float:
        """Root of the mean of the squares of the errors."""
        return self.norm / math.sqrt(self.compared) if self.compared else 0.0

    def add(self, start: Five, a: Array, b: Array) -> None:
        """Add the voxels of a region (C, d, h, w) that begins at `start`; equal ones cost one look."""
        self.voxels += a.size
        at = np.flatnonzero(_unequal(a, b))
        if not at.size:
            return
        region = _Unequal(start, a.shape, at, a.reshape(-1)[at], b.reshape(-1)[at])
        with np.errstate(all="ignore"):
            nans = np.isnan(region.a).astype(np.int8) + np.isnan(region.b)
            infinite = (nans == 0) & (np.isinf(region.a) | np.isinf(region.b))
            self.nan += self._count("nan", region.where(nans == 1))
            self.infinite += self._count("infinite", region.where(infinite))
            self._add_finite(region.where((nans == 0) & ~infinite))

    def _count(self, name: str, region: "_Unequal") -> int:
        if region.at.size and name not in self.examples:
            self.examples[name] = region.voxel(0)
        return region.at.size

    def _add_finite(self, region: "_Unequal") -> None:
        if not region.at.size:
            return
        errors, sizes = _errors(region.a, region.b), np.abs(region.b.astype(np.float64))
        self.beyond += int(np.count_nonzero(errors > self.atol + self.rtol * sizes))
        self.total += float(errors.sum())
        worst = int(errors.argmax())
        largest = float(errors[worst])
        scaled = np.linalg.norm(errors / largest) if math.isfinite(largest) else 1.0
        self.norm = math.hypot(self.norm, largest * float(scaled))
        self.relative = max(self.relative, float((errors[sizes > 0] / sizes[sizes > 0]).max(initial=0.0)))
        if largest > self.largest:
            self.largest, self.examples["largest"] = largest, region.voxel(worst)


@dataclass(frozen=True)
class _Unequal:
    """The voxels of a region that are not the same bit for bit."""

    start: Five
    shape: tuple[int, ...]
    at: Array
    """Their places among those of the region."""
    a: Array
    b: Array

    def where(self, chosen: Array) -> "_Unequal":
        return _Unequal(self.start, self.shape, self.at[chosen], self.a[chosen], self.b[chosen])

    def voxel(self, number: int) -> Voxel:
        place = np.array([0, *np.unravel_index(int(self.at[number]), self.shape)])
        return Voxel(tuple((self.start + place).tolist()), self.a[number].item(), self.b[number].item())


def _unequal(a: Array, b: Array) -> Array:
    """Say which values are not equal; a NaN never is. Integers of 64 bits are never rounded."""
    if a.dtype.kind == "f":
        return a != b
    unequal: Array = (a.view(np.uint64) != b.view(np.uint64)) | ((a < 0) != (b < 0))
    return unequal


def _errors(a: Array, b: Array) -> Array:
    """Return |a - b| in float64, rounded once: 0 for no two different values."""
    if a.dtype.kind == "f":
        return np.abs(a - b)
    high = (a >> 32).astype(np.int64) - (b >> 32).astype(np.int64)
    low = (a & 0xFFFFFFFF).astype(np.int64) - (b & 0xFFFFFFFF).astype(np.int64)
    return np.abs(high * 2.0**32 + low)
