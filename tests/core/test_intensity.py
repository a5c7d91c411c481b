"""Scaling by statistics: equal to NumPy's over whole volumes, however large the planes, with and without a mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_core import intensity
from lucid_core.errors import ArgumentError
from lucid_core.intensity import Intensity, ScaledReader, Scaling, measure
from lucid_core.regions import Region
from lucid_core.volume import ArrayReader

HOWS = ("zscore", "minmax", "percentile:1,99", "percentile:0,50", "percentile:12.5,100")


def volumes(dtype, seed=0):
    """Return volumes with NaN, infinities, repeated values, negative zeros and a constant channel, and a mask."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(2, 4, 5, 6, 7)) * 10.0 ** rng.integers(-30, 30)).astype(dtype)
    x[0, 0, 0, 0, 0], x[1, 1, 2], x[0, 3, 1] = np.nan, -np.inf, np.inf
    x[0, 1] = rng.integers(-3, 4, size=(5, 6, 7))
    x[0, 1][x[0, 1] == 0] = -0.0
    x[1, 2] = 4
    x[1, 3] = np.nan
    return x, np.where(rng.random((5, 6, 7)) < 0.5, rng.choice([1, -2.5], size=(5, 6, 7)), np.nan)


def measured(x, mask, how, dtype):
    return measure(lambda: (ArrayReader(x), None if mask is None else ArrayReader(mask[None, None])), how, dtype, 3)


def wanted(values, how):
    """Return offset and divisor by NumPy in float64."""
    values = values[np.isfinite(values)].astype(np.float64)
    if not values.size:
        return 0, 1
    if how.method == "zscore":
        return values.mean(), values.std() or 1
    low, high = np.percentile(values, [how.low, how.high])
    return low, high - low or 1


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("text", HOWS)
@pytest.mark.parametrize("masked", (False, True))
@pytest.mark.parametrize("slab", (1, 1 << 20))
def test_the_statistics_are_those_of_numpy(monkeypatch, dtype, text, masked, slab):
    monkeypatch.setattr(intensity, "SLAB_BYTES", slab)
    how = Intensity.parse(text)
    for seed in range(3):
        x, mask = volumes(dtype, seed)
        inside = np.abs(np.nan_to_num(mask)) > 0 if masked else np.ones(mask.shape, bool)
        found = measured(x, mask if masked else None, how, dtype)
        for n, c in np.ndindex(2, 4):
            one = found[n][c]
            np.testing.assert_allclose((one.offset, one.divisor), wanted(x[n, c][inside], how), rtol=1e-9, atol=1e-300)
            assert one.clip == (how.method == "percentile")


@given(
    st.sampled_from((np.float32, np.float64)),
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=30),
    st.booleans(),
    st.data(),
)
def test_percentiles_are_exact(dtype, values, close_by, data):
    x = np.array(values, dtype).reshape(1, 1, 1, 1, -1)
    x = x[..., :1] + np.spacing(x[..., :1]) * np.arange(x.shape[-1], dtype=dtype) if close_by else x
    low, high = data.draw(st.integers(0, 98)), 100
    ((one,),) = measure(lambda: (ArrayReader(x), None), Intensity("percentile", low, high), dtype)
    exact = x.astype(np.longdouble).ravel()
    exact.sort()
    place = low / 100 * (exact.size - 1)
    below, above = exact[int(place)], exact[min(int(place) + 1, exact.size - 1)]
    assert below <= one.offset <= above
    assert one.divisor == (float(exact[-1]) - one.offset or 1)


def test_sums_take_the_same_order_however_it_is_read(monkeypatch):
    x = np.random.default_rng(0).normal(size=(1, 2, 9, 40, 50)).astype(np.float32)
    found = set()
    for slab, grain in ((1, 1), (1 << 14, 1), (1 << 14, 4), (1 << 30, 1)):
        monkeypatch.setattr(intensity, "SLAB_BYTES", slab)
        monkeypatch.setattr(intensity, "PIECE_VALUES", 300)
        both = measure(lambda: (ArrayReader(x), None), Intensity("zscore"), np.float32, grain)
        found.add(str(both))
    assert len(found) == 1


def test_what_is_read_is_scaled():
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 2, 2)
    x[0, 1, 0, 0, 0] = np.nan
    reader = ScaledReader(ArrayReader(x), [[Scaling(2, 4), Scaling(12, 8, clip=True)]])
    out = np.empty((2, 2, 2, 1), np.float32)
    reader.read(0, Region((1, 0, 1), (3, 2, 2)), out)
    wanted = [(x[0, 0, 1:, :, 1:] - 2) / 4, np.clip((x[0, 1, 1:, :, 1:] - 12) / 8, 0, 1)]
    assert np.array_equal(out, wanted)
    assert reader.view(0, np.float32) is None
    assert reader.random_access


@pytest.mark.parametrize(
    "text", ("zscore:1", "percentile", "percentile:5", "percentile:5,5", "percentile:-1,9", "percentile:1,x")
)
def test_what_is_no_scaling_is_refused(text):
    with pytest.raises(ArgumentError, match="write it like zscore, minmax or percentile:1,99"):
        Intensity.parse(text)


@pytest.mark.parametrize("text", HOWS)
def test_it_prints_as_it_is_read(text):
    assert str(Intensity.parse(text)) == text
