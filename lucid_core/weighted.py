"""Weighted sums of shifted slices of a flat array: what a kernel does at stride 1, many taps in one call of NumPy.

Every tap of a kernel is a slice of the flat block that begins some positions further (see `lattice`), so that all of
them are one view with overlapping entries. `numpy.einsum` multiplies and adds it tap by tap over the contiguous
positions, without copies and without the interpreter between two taps.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

Array = npt.NDArray[Any]
LABELS = "dcba"
"""Axes of the taps. Under order 'F', einsum takes positions innermost, then taps from the last label to the first."""


def weighted_sums(values: Array, weights: Array, spreads: tuple[int, ...], total: Array) -> None:
    """Put into `total` (n,), at p, the sum over tap t of weights[t] * values[p + t . spreads], last axis fastest.

    `values` is flat and contiguous, `weights` has up to four axes, and `spreads` says how many positions one step along
    each of them is. Each position sums its taps in C order, whatever n.
    """
    reach = sum((size - 1) * spread for size, spread in zip(weights.shape, spreads, strict=True))
    if values.size < total.size + reach:
        raise ValueError(f"{values.size} values are too few for {total.size} sums that reach {reach} further")
    step = values.itemsize
    strides = tuple(spread * step if size > 1 else 0 for size, spread in zip(weights.shape, spreads, strict=True))
    taps = as_strided(values, (*weights.shape, total.size), (*strides, step), writeable=False)
    names = LABELS[-weights.ndim :]
    if total.size > 1:
        np.einsum(f"{names},{names}z->z", weights, taps, out=total, order="F")
        return
    twice = np.einsum(f"{names},{names}z->z", weights, np.repeat(taps, 2, axis=-1), order="F")  # one alone: taps inside
    total[...] = twice[:1]
