"""From computed voxels to stored ones: casting, and the statistics of what was written."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.volumes import Sink
from lucid_core.errors import ArgumentError, RunError
from lucid_core.regions import Region

Array = npt.NDArray[Any]
OUT_DTYPES = {
    "nifti": ("float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    "npy": ("float16", "float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
}
OUT_DTYPES["hdf5"] = OUT_DTYPES["npy"]
"""Types of values that each format can hold and others can read."""


def out_dtype(name: str, cast: str, format_name: str) -> np.dtype[Any]:
    """Return the dtype `--out-dtype` names, or raise `ArgumentError` where the format or `--cast` do not go with it."""
    legal = OUT_DTYPES[format_name]
    if name not in legal:
        raise ArgumentError(f"--out-dtype {name!r} is not legal in {format_name}; legal: {', '.join(legal)}")
    if cast == "rescale" and (format_name != "nifti" or np.dtype(name).kind == "f"):
        raise ArgumentError(
            "--cast rescale needs an integer --out-dtype and a NIfTI output, whose header keeps the scaling; "
            "use --cast clip"
        )
    return np.dtype(name)


@dataclass
class Statistics:
    """Of the values an output represents: extremes and mean of the finite ones, and counts."""

    low: float = math.inf
    high: float = -math.inf
    finite: int = 0
    total: float = 0.0
    nan_count: int = 0
    clipped_count: int = 0

    def add(self, values: Array) -> None:
        """Take in a block of values."""
        finite = np.isfinite(values)
        kept = values if finite.all() else values[finite]
        self.nan_count += int(np.isnan(values).sum()) if kept is not values else 0
        if kept.size:
            self.low = min(self.low, float(kept.min()))
            self.high = max(self.high, float(kept.max()))
            with np.errstate(over="ignore"):
                self.total += float(kept.sum(dtype=np.float64))
            self.finite += kept.size

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the report's `output`; null where no value is finite."""
        known = self.finite > 0
        return {
            "min": self.low if known else None,
            "max": self.high if known else None,
            "mean": self.total / self.finite if known and math.isfinite(self.total) else None,
            "nan_count": self.nan_count,
            "clipped_count": self.clipped_count,
        }


@dataclass
class CastingWriter:
    """Casts computed blocks to the output's dtype and hands them to a file; implements `VolumeWriter`.

    With no file it only takes the statistics: the first pass of `--cast rescale`.
    """

    sink: Sink | None
    dtype: np.dtype[Any]
    cast: str
    slope: float = 1.0
    inter: float = 0.0
    statistics: Statistics = field(default_factory=Statistics)

    def view(self, batch: int, region: Region) -> Array | None:  # noqa: ARG002 - nothing to compute into
        """Offer no memory: blocks are cast and written."""
        return None

    def write(self, batch: int, region: Region, block: Array) -> None:
        """Cast and write a block (C, d, h, w)."""
        if self.sink is None:
            self.statistics.add(block)
            return
        stored = self._integers(block) if self.dtype.kind in "iu" else self._floats(block)
        self.sink.write(batch, region, stored)

    def _floats(self, block: Array) -> Array:
        with np.errstate(over="ignore"):
            stored = block.astype(self.dtype, copy=False)
        if self.dtype.itemsize < block.dtype.itemsize:
            self.statistics.clipped_count += int((np.isinf(stored) & np.isfinite(block)).sum())
        self.statistics.add(stored)
        return stored

    def _integers(self, block: Array) -> Array:
        """Round half to even and saturate; NaN becomes 0. What did not fit is counted, or is an error."""
        limits = np.iinfo(self.dtype)
        with np.errstate(all="ignore"):
            wanted = np.rint((block.astype(np.float64) - self.inter) / self.slope)
        nan = np.isnan(wanted)
        self.statistics.nan_count += int(nan.sum())
        fits = (wanted >= limits.min) & (wanted < 2.0 ** (limits.bits - (self.dtype.kind == "i")))
        self._lose(int((~fits).sum()))
        inside = np.where(fits, wanted, 0).astype(self.dtype)
        stored = np.where(fits | nan, inside, np.where(wanted > 0, limits.max, limits.min).astype(self.dtype))
        self.statistics.add(stored * self.slope + self.inter if (self.slope, self.inter) != (1.0, 0.0) else stored)
        return stored

    def _lose(self, count: int) -> None:
        self.statistics.clipped_count += count
        if count and self.cast == "error":
            raise RunError(
                f"{count} or more voxels do not fit into {self.dtype}: they are NaN or outside its range; "
                "use --cast clip, --cast rescale (NIfTI), or another --out-dtype"
            )


def rescaling(statistics: Statistics, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return slope and inter, as float32 a NIfTI-1 header holds, that spread the values over an integer dtype.

    Raises `RunError` where float32 cannot hold them.
    """
    if not statistics.finite:
        return 1.0, 0.0
    if statistics.low == statistics.high == float(np.float32(statistics.low)):
        return 1.0, statistics.low
    limits = np.iinfo(dtype)
    middle = (float(limits.max) + float(limits.min)) / 2
    half = (float(limits.max) - float(limits.min)) / 2
    with np.errstate(all="ignore"):
        centre = statistics.low / 2 + statistics.high / 2
        reach = max(statistics.high - centre, np.spacing(np.float32(abs(centre)))) * (1 + 1e-6)
        slope = np.float32(reach / half)
        inter = np.float32(centre - float(slope) * middle)
        lost = abs(float(inter) - (centre - float(slope) * middle))
        slope = np.float32((reach + lost) / half)
    if not (np.finfo(np.float32).tiny <= slope < np.inf and np.isfinite(inter)):
        raise RunError(
            f"values from {statistics.low:g} to {statistics.high:g} cannot be rescaled: slope and intercept do not fit "
            "the float32 of a NIfTI header; use --out-dtype float64"
        )
    return float(slope), float(inter)


def empty_statistics() -> dict[str, Any]:
    """Return the report's keys for an output that was only planned."""
    return dict.fromkeys(Statistics().to_json())
