"""Scaling of the input by its own statistics, joined with reading it: `zscore`, `minmax`, `percentile`.

Each channel of each volume is scaled by itself: (x - offset) / divisor. Its statistics are those of its finite values,
inside a mask where there is one, taken in passes over the volume plane by plane, in an order that depends on nothing
but its shape. NaN stays NaN. A channel whose values are all the same becomes 0.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ArgumentError
from lucid_core.regions import Region
from lucid_core.registry import choose
from lucid_core.volume import Shape5, VolumeReader

Array = npt.NDArray[Any]
METHODS = ("zscore", "minmax", "percentile")
PIECE_VALUES = 1 << 16
"""Values that are added at once, or one row where that is more: so the order of a sum follows from the shape alone."""
SLAB_BYTES = 4 << 20
"""Memory of what is read at once."""
MOST_SLAB_BYTES = 64 << 20
"""The same, where more planes are stored together."""
PIECE_BYTES = 64 * PIECE_VALUES
"""What looking at a piece takes."""
DIGIT = 16
"""Bits of a value that one pass of `percentile` tells apart."""


@dataclass(frozen=True)
class Intensity:
    """How the input is scaled: to mean 0 and deviation 1, or from the lowest and highest value to 0 and 1.

    `percentile` takes two percentiles for lowest and highest, as NumPy interpolates them, and clips to 0 and 1.
    """

    method: str
    low: float = 0.0
    high: float = 100.0

    @classmethod
    def parse(cls, text: str) -> "Intensity":
        """Read `zscore`, `minmax` or `percentile:1,99`; else raise `ArgumentError`."""
        method, colon, numbers = text.partition(":")
        choose("normalize", method, METHODS)
        if method != "percentile" and not colon:
            return cls(method)
        try:
            low, high = map(float, numbers.split(","))
        except ValueError:
            low = high = 0.0
        if method != "percentile" or not 0 <= low < high <= 100:
            raise ArgumentError(f"normalize {text!r} is not legal; write it like zscore, minmax or percentile:1,99")
        return cls(method, low, high)

    def __str__(self) -> str:
        return f"{self.method}:{self.low:.15g},{self.high:.15g}" if self.method == "percentile" else self.method

    def memory(self, shape: Shape5, dtype: npt.DTypeLike, grain: int) -> int:
        """Return the bytes that `measure` takes for volumes of this shape, a mask included."""
        ranks = 4 if self.method == "percentile" else 0
        planes, rows = _slab(shape, dtype, grain)
        slab = (shape[1] + 1) * planes * rows * shape[4] * np.dtype(dtype).itemsize
        return slab + PIECE_BYTES + shape[1] * ranks * (8 << DIGIT)

    def measure(self, dtype: npt.DTypeLike) -> "Measure":
        """Return what takes the statistics of one channel whose values have this dtype."""
        if self.method == "percentile":
            return Ranks(np.dtype(dtype), self.low, self.high)
        return Moments() if self.method == "zscore" else Extremes()


@dataclass(frozen=True)
class Scaling:
    """(x - offset) / divisor for one channel of one volume; with `clip`, not below 0 nor above 1."""

    offset: float = 0.0
    divisor: float = 1.0
    clip: bool = False

    def apply(self, values: Array) -> None:
        """Scale values in place, in float64."""
        exact = values.astype(np.float64)
        exact -= self.offset
        exact /= self.divisor
        if self.clip:
            np.clip(exact, 0, 1, out=exact)
        values[...] = exact


class Measure(ABC):
    """The statistics of one channel of one volume."""

    passes = 1
    """How often its values are given, all of them in the same order."""

    @abstractmethod
    def add(self, values: Array) -> None:
        """Take in finite values (n,)."""

    def end(self) -> None:  # noqa: B027 - one pass needs none
        """Take note that a pass has ended."""

    @abstractmethod
    def scaling(self) -> Scaling:
        """Return what follows, after all passes."""


class Moments(Measure):
    """Mean and standard deviation, of blocks that are joined (Chan, Golub and LeVeque, Am. Stat. 37, 1983)."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: Array) -> None:
        """Join the moments of a block with those before."""
        exact = values.astype(np.float64)
        mean = float(exact.mean())
        exact -= mean
        count = self._count + exact.size
        apart = mean - self._mean
        self._squares += float(np.square(exact, out=exact).sum()) + apart * apart * self._count * exact.size / count
        self._mean += apart * exact.size / count
        self._count = count

    def scaling(self) -> Scaling:
        """Mean 0, population deviation 1."""
        deviation = (self._squares / max(self._count, 1)) ** 0.5
        return Scaling(self._mean, deviation or 1.0)


class Extremes(Measure):
    """The lowest and the highest value."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf

    def add(self, values: Array) -> None:
        """Look at a block."""
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))

    def scaling(self) -> Scaling:
        """From the lowest value 0 to the highest 1."""
        return _between(self._low, self._high, clip=False) if self._low <= self._high else Scaling()


class Ranks(Measure):
    """Percentiles, exact: the bits of the values next to each are found from the highest down, some in a pass."""

    def __init__(self, dtype: np.dtype[Any], low: float, high: float) -> None:
        self._bits = 8 * dtype.itemsize
        self.passes = self._bits // DIGIT
        self._wanted = (low, high)
        self._dtype = dtype
        self._counts: dict[int, Array] = {0: np.zeros(1 << DIGIT, np.int64)}
        self._found: list[tuple[int, int]] = []
        """For each rank, the highest bits of its value, and its rank among the values that share them."""
        self._shares: list[float] = []
        self._done = 0

    def add(self, values: Array) -> None:
        """Count the next bits of the values whose highest bits are those of a rank."""
        keys = _ordered(values)
        word = keys.dtype.type
        keys >>= word(self._bits - DIGIT * (self._done + 1))
        for head, counts in self._counts.items():
            tails = keys if not self._done else keys[keys >> word(DIGIT) == word(head)]
            counts += np.bincount((tails & word((1 << DIGIT) - 1)).astype(np.int64), minlength=1 << DIGIT)

    def end(self) -> None:
        """Follow each rank into the values that share one more digit with it."""
        if not self._done:
            self._found = self._ranks(int(self._counts[0].sum()))
        found = []
        for head, rank in self._found:
            sums = np.cumsum(self._counts[head])
            digit = int(np.searchsorted(sums, rank, side="right"))
            found.append((head << DIGIT | digit, rank - (int(sums[digit - 1]) if digit else 0)))
        self._found, self._done = found, self._done + 1
        last = self._done == self.passes
        self._counts = {} if last else {head: np.zeros(1 << DIGIT, np.int64) for head, _ in found}

    def _ranks(self, count: int) -> list[tuple[int, int]]:
        """Return the ranks on both sides of each percentile."""
        places = [share / 100 * (count - 1) for share in self._wanted] if count else []
        self._shares = [place - int(place) for place in places]
        return [(0, min(int(place) + step, count - 1)) for place in places for step in (0, 1)]

    def scaling(self) -> Scaling:
        """From the lower percentile 0 to the higher 1, and no further."""
        if not self._found:
            return Scaling(clip=True)
        values = [_value(key, self._dtype) for key, _ in self._found]
        low, high = (
            below + (above - below) * share
            for below, above, share in zip(values[::2], values[1::2], self._shares, strict=True)
        )
        return _between(low, high, clip=True)


def _between(low: float, high: float, *, clip: bool) -> Scaling:
    return Scaling(low, high - low or 1.0, clip)


def _ordered(values: Array) -> Array:
    """Return the bits of floats as unsigned integers in the order of the floats."""
    bits: Array = values.view(f"u{values.itemsize}")
    top = bits.dtype.type(1 << (8 * values.itemsize - 1))
    return np.where(bits & top, ~bits, bits | top)


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """Return the float whose bits in order are `key`."""
    top = 1 << (8 * dtype.itemsize - 1)
    bits = key ^ top if key & top else ~key & (2 * top - 1)
    return float(np.array(bits, f"u{dtype.itemsize}").view(dtype))


def measure(
    open_reader: Callable[[], tuple[VolumeReader, VolumeReader | None]],
    intensity: Intensity,
    dtype: npt.DTypeLike,
    grain: int = 1,
) -> list[list[Scaling]]:
    """Return the scaling of each channel of each volume, from passes over the input.

    `open_reader` gives a new reader of the input, and one of the mask where there is one, which every volume reads
    again; `grain` is the D planes that are stored together.
    """
    measures: list[list[Measure]] = []
    for _ in range(intensity.measure(dtype).passes):
        reader, mask = open_reader()
        batch, channels, *_ = reader.shape
        measures = measures or [[intensity.measure(dtype) for _ in range(channels)] for _ in range(batch)]
        for number, volume in enumerate(measures):
            for values, inside in pieces(reader, mask, number, dtype, grain):
                for one, piece in zip(volume, values, strict=True):
                    known = piece[np.isfinite(piece) & inside]
                    if known.size:
                        one.add(known)
            for one in volume:
                one.end()
    return [[one.scaling() for one in volume] for volume in measures]


def _slab(shape: Shape5, dtype: npt.DTypeLike, grain: int) -> tuple[int, int]:
    """Return the planes and the rows of each that are read at once."""
    _, channels, depth, height, width = shape
    row = (channels + 1) * width * np.dtype(dtype).itemsize
    planes = max(SLAB_BYTES // max(row * height, 1), min(grain, MOST_SLAB_BYTES // max(row * height, 1)))
    if planes:
        return min(planes, depth), height
    together = _rows(width)
    return 1, min(max(SLAB_BYTES // row // together, 1) * together, height)


def _rows(width: int) -> int:
    """Return the rows of a piece."""
    return max(1, PIECE_VALUES // width)


def pieces(
    reader: VolumeReader, mask: VolumeReader | None, batch: int, dtype: npt.DTypeLike, grain: int
) -> Iterator[tuple[Array, Array | bool]]:
    """Yield a volume in pieces (C, rows, W), plane by plane, with what of each lies inside the mask (rows, W)."""
    _, channels, depth, height, width = reader.shape
    planes, rows = _slab(reader.shape, dtype, grain)
    slab = np.empty((channels + 1, planes, rows, width), dtype)
    for d, h in itertools.product(range(0, depth, planes), range(0, height, rows)):
        region = Region((d, h, 0), (min(d + planes, depth), min(h + rows, height), width))
        values = slab[:, : region.shape[0], : region.shape[1]]
        reader.forget(batch, d)
        reader.read(batch, region, values[:channels])
        if mask is not None:
            mask.forget(0, d)
            mask.read(0, region, values[channels:])
        for plane in range(region.shape[0]):
            for first in range(0, region.shape[1], _rows(width)):
                piece = values[:, plane, first : first + _rows(width)]
                yield piece[:channels], True if mask is None else np.abs(piece[channels]) > 0


class ScaledReader:
    """Scales what another reader reads; implements `VolumeReader`."""

    def __init__(self, reader: VolumeReader, scalings: list[list[Scaling]]) -> None:
        self._reader = reader
        self._scalings = scalings
        self.shape: Shape5 = reader.shape

    @property
    def random_access(self) -> bool:
        """Whether the other reader has it."""
        return self._reader.random_access

    def view(self, batch: int, dtype: npt.DTypeLike) -> None:
        """Have none: values are scaled on reading."""

    def forget(self, batch: int, plane: int) -> None:
        """Let the other reader go on."""
        self._reader.forget(batch, plane)

    def read(self, batch: int, region: Region, out: Array) -> None:
        """Read a region into `out` (C, d, h, w), scaled."""
        self._reader.read(batch, region, out)
        with np.errstate(all="ignore"):
            for scaling, values in zip(self._scalings[batch], out, strict=True):
                for plane in values:
                    scaling.apply(plane)
