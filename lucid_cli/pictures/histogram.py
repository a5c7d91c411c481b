"""How often values occur in a whole volume, counted in one pass without knowing their range beforehand."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
BINS = 4096
LEAST_EXPONENT = -1074
"""Of the smallest float."""
PRECISION = 52
"""Bits of a float behind its first."""
BARS = 64
SHOWN = 0.999
"""Share of the values that the bars shall show; those beyond, at both ends, may lie far away."""


@dataclass
class Histogram:
    """Counts of finite values in bins 2**exponent wide, from bin `first` on; bin 0 begins at 0.

    The bins are as narrow as BINS of them hold the range, at least 1 for integers: they do not depend on the order in
    which values come, and two of them join into one without a rest.
    """

    exponent: int = LEAST_EXPONENT
    first: int = 0
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    least: float = math.inf
    most: float = -math.inf
    not_finite: int = 0

    @classmethod
    def of(cls, values: Iterable[npt.NDArray[np.floating]], *, whole: bool = False) -> "Histogram":
        """Count values that come in pieces; `whole` says that they are integers."""
        counted = cls(exponent=0 if whole else LEAST_EXPONENT)
        for piece in values:
            counted.add(piece)
        return counted

    @property
    def finite(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def add(self, values: npt.NDArray[np.floating]) -> None:
        """Count some values."""
        exact = values.astype(np.float64).ravel()
        if not (known := np.isfinite(exact)).all():
            self.not_finite += int(known.size - known.sum())
            exact = exact[known]
        if not exact.size:
            return
        self.least, self.most = min(self.least, float(exact.min())), max(self.most, float(exact.max()))
        self._make_room()
        bins = np.floor(np.ldexp(exact, -self.exponent)).astype(np.int64) - self.first
        self.counts += np.bincount(bins, minlength=len(self.counts))

    def _make_room(self) -> None:
        """Widen the bins as far as the range needs, and cover it."""
        largest = max(abs(self.least), abs(self.most))
        exponent = max(self.exponent, math.frexp(largest)[1] - 1 - PRECISION) if largest else self.exponent
        while self._bin(self.most, exponent) - self._bin(self.least, exponent) >= BINS:
            exponent += 1
        first, last = self._bin(self.least, exponent), self._bin(self.most, exponent)
        counts = np.zeros(last - first + 1, np.int64)
        filled = np.flatnonzero(self.counts)
        wider = min(exponent - self.exponent, 62)
        np.add.at(counts, ((filled + self.first) >> wider) - first, self.counts[filled])
        self.exponent, self.first, self.counts = exponent, first, counts

    @staticmethod
    def _bin(value: float, exponent: int) -> int:
        return math.floor(math.ldexp(value, -exponent))

    def bars(self) -> list[tuple[float, float, int]]:
        """Return at most BARS bars (from, to, count), equally wide, of the middle `SHOWN` of the values at least."""
        total = self.finite
        if not total:
            return []
        sums, beyond = np.cumsum(self.counts), total * (1 - SHOWN) / 2
        start = int(np.searchsorted(sums, beyond, side="right"))
        stop = int(np.searchsorted(sums, total - beyond)) + 1
        step = -(-(stop - start) // BARS)
        edges = [(self.first + at) * math.ldexp(1.0, self.exponent) for at in range(start, stop + step, step)]
        counts = np.add.reduceat(self.counts[start:stop], np.arange(0, stop - start, step))
        return [(low, high, int(count)) for low, high, count in zip(edges, edges[1:], counts, strict=False)]
