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
PIECE_VOXELS = 1 << 16
"""Voxels that are cast and looked at together."""
OUT_DTYPES = {
    "nifti": ("float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    "npy": ("float16", "float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
}
OUT_DTYPES |= {
    "mgh": ("float32", "uint8", "int16", "int32"),
    "metaimage": OUT_DTYPES["nifti"],
    "nrrd": OUT_DTYPES["nifti"],
    "mrc": ("float32", "float16", "int8", "int16", "uint16"),
    "tiff": ("float32", "uint8", "int16", "uint16"),
    "ome_tiff": ("float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32"),
}
OUT_DTYPES["hdf5"] = OUT_DTYPES["zarr"] = OUT_DTYPES["npy"]
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
        with np.errstate(all="ignore"):
            low, high, total = float(values.min()), float(values.max()), float(values.sum(dtype=np.float64))
            if not (math.isfinite(low) and math.isfinite(high)):
                self.nan_count += int(np.isnan(values).sum())
                values = values[np.isfinite(values)]
                if not values.size:
                    return
                low, high, total = float(values.min()), float(values.max()), float(values.sum(dtype=np.float64))
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.total += total
        self.finite += values.size

    def merge(self, other: "Statistics") -> None:
        """Take in the statistics of other values."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.finite += other.finite
        self.total += other.total
        self.nan_count += other.nan_count
        self.clipped_count += other.clipped_count

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

    def encode(self, batch: int, region: Region, block: Array) -> tuple[Statistics, Any]:
        """Cast a block (C, d, h, w) in pieces that stay in the cache, and encode it for the file."""
        statistics = Statistics()
        stored = block if block.dtype == self.dtype or self.sink is None else np.empty(block.shape, self.dtype)
        values, cast = block.reshape(-1), stored.reshape(-1)
        for first in range(0, values.size, PIECE_VOXELS):
            piece = slice(first, first + PIECE_VOXELS)
            if self.sink is None:
                statistics.add(values[piece])
            elif self.dtype.kind in "iu":
                self._integers(values[piece], cast[piece], statistics)
            else:
                self._floats(values[piece], cast[piece], statistics)
        return statistics, None if self.sink is None else self.sink.encode(batch, region, stored)

    def write(self, batch: int, region: Region, encoded: tuple[Statistics, Any]) -> None:
        """Write an encoded block."""
        statistics, data = encoded
        self.statistics.merge(statistics)
        if self.sink is not None:
            self.sink.write(batch, region, data)

    def _floats(self, block: Array, stored: Array, statistics: Statistics) -> None:
        if stored.dtype != block.dtype:
            with np.errstate(over="ignore"):
                stored[...] = block
            if stored.dtype.itemsize < block.dtype.itemsize:
                statistics.clipped_count += int((np.isinf(stored) & np.isfinite(block)).sum())
        statistics.add(stored)

    def _integers(self, block: Array, stored: Array, statistics: Statistics) -> None:
        """Round half to even and saturate; NaN becomes 0. What did not fit is counted, or is an error."""
        limits = np.iinfo(self.dtype)
        with np.errstate(all="ignore"):
            wanted = np.rint((block.astype(np.float64) - self.inter) / self.slope)
        nan = np.isnan(wanted)
        fits = (wanted >= limits.min) & (wanted < 2.0 ** (limits.bits - (self.dtype.kind == "i")))
        lost = int((~fits).sum())
        if lost and self.cast == "error":
            raise RunError(
                f"{lost} or more voxels do not fit into {self.dtype}: they are NaN or outside its range; "
                "use --cast clip, --cast rescale (NIfTI), or another --out-dtype"
            )
        stored[...] = np.where(fits, wanted, 0).astype(self.dtype)
        if lost:
            beyond = ~(fits | nan)
            ends = np.array([limits.min, limits.max], self.dtype)
            stored[beyond] = ends[(wanted[beyond] > 0).astype(np.intp)]
        statistics.add(stored * self.slope + self.inter if (self.slope, self.inter) != (1.0, 0.0) else stored)
        statistics.nan_count += int(nan.sum())
        statistics.clipped_count += lost


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
