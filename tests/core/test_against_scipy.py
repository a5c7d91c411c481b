"""Against `scipy.ndimage.correlate`: the four padding modes, under the names that scipy gives them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lucid_core as lucid
from lucid_core.padding import PADDING_MODES

ndimage = pytest.importorskip("scipy.ndimage")


@pytest.mark.parametrize("mode", PADDING_MODES)
@given(
    size=st.tuples(*[st.integers(3, 8)] * 3),
    half=st.tuples(*[st.integers(0, 2)] * 3),
    seed=st.integers(0, 2**32),
)
def test_the_same_filter(mode, size, half, seed):
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=size), rng.normal(size=[2 * radius + 1 for radius in half])
    expected = ndimage.correlate(x, weight, mode=PADDING_MODES[mode].scipy, cval=0.0)
    sizes = ndimage.correlate(np.abs(x), np.abs(weight), mode=PADDING_MODES[mode].scipy, cval=0.0)
    values = lucid.conv3d(x[None], weight[None, None], padding="same", padding_mode=mode)[0]
    assert (np.abs(values - expected) <= 2 * (weight.size + 2) * 2.0**-53 * sizes).all()


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("algorithm", ("direct", "separable", "gemm"))
def test_the_same_gaussian(mode, algorithm):
    x = np.random.default_rng(0).normal(size=(9, 10, 11))
    axis = np.exp(-0.5 * np.arange(-4, 5) ** 2 / 1.1**2)
    axis /= axis.sum()
    weight = np.einsum("i,j,k->ijk", axis, axis, axis)[None, None]
    expected = ndimage.gaussian_filter(x, 1.1, mode=PADDING_MODES[mode].scipy, cval=0.0, truncate=4 / 1.1)
    values = lucid.conv3d(x[None], weight, padding="same", padding_mode=mode, algorithm=algorithm)[0]
    np.testing.assert_allclose(values, expected, atol=1e-13)
