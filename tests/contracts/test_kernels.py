"""What every named kernel must do, and that its taps are those of scipy.ndimage where it has the filter."""

import numpy as np
import pytest
from scipy import ndimage

from lucid_core.errors import ArgumentError
from lucid_core.kernels import kernels, taps

NEEDED = {"gaussian": {"sigma": (0.5, 1.2, 3.0)}, "box": {"size": (2, 3, 5)}}
LEGAL = {"sigma": (1.0, 1.0, 1.0), "fwhm": (2.0, 2.0, 2.0), "size": (3, 3, 3), "axis": "H"}


def impulse(size):
    volume = np.zeros((size, size, size))
    volume[size // 2, size // 2, size // 2] = 1
    return volume


def response(filtered, shape):
    """The taps of a filter whose impulse response is `filtered`: correlation mirrors the kernel."""
    middle = filtered.shape[0] // 2
    return filtered[tuple(slice(middle - n // 2, middle + n // 2 + 1) for n in shape)][::-1, ::-1, ::-1]


@pytest.mark.parametrize("name", kernels())
def test_taps_are_float64_and_the_same_every_time(name):
    first, second = (taps(name, **NEEDED.get(name, {})) for _ in range(2))
    assert first.ndim == 3
    assert first.dtype == np.float64
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", kernels())
def test_only_declared_options_are_taken(name):
    for option, value in LEGAL.items():
        if option not in kernels()[name].options:
            with pytest.raises(ArgumentError, match=f"the kernel '{name}' has no {option}"):
                taps(name, **{option: value})


@pytest.mark.parametrize("name", kernels())
def test_the_sum_says_what_a_constant_becomes(name):
    expected = {"gaussian": 1, "box": 1, "identity": 1, "sobel": 0, "laplacian": 0}[name]
    assert taps(name, **NEEDED.get(name, {})).sum() == pytest.approx(expected, abs=1e-14)


def test_gaussian_is_scipys():
    sigma = (0.5, 1.2, 2.0)
    made = taps("gaussian", sigma=sigma)
    assert made.shape == tuple(2 * int(4 * s + 0.5) + 1 for s in sigma)
    np.testing.assert_allclose(made, response(ndimage.gaussian_filter(impulse(31), sigma), made.shape), atol=1e-16)


def test_fwhm_is_where_the_gaussian_is_half():
    made = taps("gaussian", fwhm=(6.0, 6.0, 6.0))
    middle = made[made.shape[0] // 2, made.shape[1] // 2]
    assert middle[len(middle) // 2 + 3] / middle.max() == pytest.approx(0.5)


@pytest.mark.parametrize("axis", ["D", "H", "W"])
def test_sobel_is_scipys(axis):
    made = taps("sobel", axis=axis)
    np.testing.assert_array_equal(made, response(ndimage.sobel(impulse(7), "DHW".index(axis)), made.shape))
    np.testing.assert_array_equal(made, taps("sobel", axis="zyx"["DHW".index(axis)]))


def test_laplacian_and_box_are_scipys():
    np.testing.assert_array_equal(taps("laplacian"), response(ndimage.laplace(impulse(7)), (3, 3, 3)))
    np.testing.assert_allclose(
        taps("box", size=(3, 5, 1)), response(ndimage.uniform_filter(impulse(9), (3, 5, 1)), (3, 5, 1))
    )


def test_identity_has_its_one_at_the_centre():
    assert taps("identity").tolist() == [[[1.0]]]
    assert taps("identity", size=(4, 3, 1))[1, 1, 0] == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gaussian", {}, "needs its width"),
        ("gaussian", LEGAL | {}, "has no size"),
        ("gaussian", {"sigma": (1.0,) * 3, "fwhm": (1.0,) * 3}, "either sigma or fwhm"),
        ("box", {}, "needs its size"),
        ("sobel", {"axis": "t"}, "unknown axis 't'; legal: D, H, W"),
        ("gausian", {}, "Did you mean 'gaussian'"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        taps(name, **options)
