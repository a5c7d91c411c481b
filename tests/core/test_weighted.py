"""Weighted sums of shifted slices: the order of the taps, whatever the number of positions, and where they end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_core.weighted import weighted_sums

DTYPES = ("float32", "float64")


def one_by_one(values, weights, spreads, count):
    """Sum tap by tap in C order, rounding every product and every sum."""
    total = np.zeros(count, values.dtype)
    for index in np.ndindex(weights.shape):
        at = sum(i * spread for i, spread in zip(index, spreads, strict=True))
        total += values[at : at + count] * weights[index]
    return total


@st.composite
def layouts(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    spreads = draw(st.lists(st.integers(1, 40), min_size=len(shape), max_size=len(shape)))
    return tuple(shape), tuple(spreads), draw(st.integers(1, 70)), draw(st.sampled_from(DTYPES))


@given(layouts())
def test_taps_are_summed_in_order_at_every_position(layout):
    shape, spreads, count, dtype = layout
    rng = np.random.default_rng(0)
    reach = sum((size - 1) * spread for size, spread in zip(shape, spreads, strict=True))
    values, weights = rng.standard_normal(count + reach).astype(dtype), rng.standard_normal(shape).astype(dtype)
    total = np.full(count, np.nan, dtype)
    weighted_sums(values, weights, spreads, total)
    unit, terms = np.finfo(dtype).eps / 2, weights.size
    scale = one_by_one(np.abs(values), np.abs(weights), spreads, count)
    assert (np.abs(total - one_by_one(values, weights, spreads, count)) <= 2 * terms * unit * scale).all()
    for position in {0, count // 2, count - 1}:
        alone = np.empty(1, dtype)
        weighted_sums(values[position:], weights, spreads, alone)
        assert alone[0] == total[position]


def test_what_lies_behind_the_last_tap_is_not_read():
    values = np.array([1, 2, 3, np.nan], np.float32)
    total = np.empty(2, np.float32)
    weighted_sums(values, np.ones(2, np.float32), (1,), total)
    assert total.tolist() == [3, 5]
    with pytest.raises(ValueError, match="4 values are too few for 3 sums that reach 2 further"):
        weighted_sums(values, np.ones(2, np.float32), (2,), np.empty(3, np.float32))
