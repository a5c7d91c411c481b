"""What every named kernel must do, and that its taps are those of scipy.ndimage where it has the filter."""

import numpy as np
import pytest
from scipy import ndimage

from lucid_core.errors import ArgumentError, LimitError
from lucid_core.kernels import kernels, taps

SIGMA = (0.7, 1.2, 2.0)
SMOOTH = {"sigma": SIGMA}
NEEDED = {
    "gaussian": SMOOTH,
    "log": SMOOTH,
    "dog": SMOOTH,
    "hessian": SMOOTH,
    "unsharp": SMOOTH,
    "derivative": SMOOTH | {"order": (1, 0, 0)},
    "gabor": SMOOTH | {"wavelength": (3.0, 4.0, 6.0)},
    "box": {"size": (2, 3, 5)},
    "meanpool": {"size": (2, 3, 5)},
    "sphere": {"radius": (1.0, 2.0, 3.0)},
    "shift": {"offset": (1.0, -2.0, 0.5)},
}
LEGAL = {
    "sigma": (1.0, 1.0, 1.0),
    "fwhm": (2.0, 2.0, 2.0),
    "sigma2": (2.0, 2.0, 2.0),
    "truncate": 3.0,
    "size": (3, 3, 3),
    "radius": (2.0, 2.0, 2.0),
    "axis": "H",
    "order": (0, 0, 1),
    "neighbours": 6,
    "offset": (1.0, 0.0, 0.0),
    "amount": 1.0,
    "wavelength": (4.0, 4.0, 4.0),
    "direction": (0.0, 1.0, 0.0),
    "phase": 90.0,
}
SUMS = {"gaussian": 1, "box": 1, "identity": 1, "sphere": 1, "shift": 1, "unsharp": 1, "meanpool": 1, "dog": 0}
SUMS |= dict.fromkeys(("sobel", "prewitt", "scharr", "central", "laplacian", "derivative"), 0)
every_kernel = pytest.mark.parametrize("name", kernels())
axes = pytest.mark.parametrize("axis", ["D", "H", "W"])


def made(name, **options):
    return taps(name, **(NEEDED.get(name, {}) | options))


def impulse(size):
    volume = np.zeros((size, size, size))
    volume[size // 2, size // 2, size // 2] = 1
    return volume


def response(filtered, shape):
    """The taps of a filter whose impulse response is `filtered`: correlation mirrors the kernel."""
    middle = filtered.shape[0] // 2
    return filtered[tuple(slice(middle - n // 2, middle + n // 2 + 1) for n in shape)][::-1, ::-1, ::-1]


def assert_is(found, filtered):
    """Check taps against a filtered impulse, and that there is nothing beyond them."""
    np.testing.assert_allclose(found, response(filtered, found.shape), rtol=0, atol=1e-15 * np.abs(found).max())
    assert np.count_nonzero(np.abs(filtered) > 1e-15) <= found.size


@every_kernel
def test_taps_are_float64_and_the_same_every_time(name):
    first, second = made(name), made(name)
    assert first.ndim == (4 if name == "hessian" else 3)
    assert first.dtype == np.float64
    assert np.isfinite(first).all()
    assert np.count_nonzero(first)
    np.testing.assert_array_equal(first, second)


@every_kernel
def test_only_declared_options_are_taken(name):
    assert set(kernels()[name].options) <= set(LEGAL)
    for option, value in LEGAL.items():
        if option not in kernels()[name].options:
            with pytest.raises(ArgumentError, match=f"the kernel '{name}' has no {option}"):
                taps(name, **{option: value})


@every_kernel
def test_every_declared_option_changes_the_taps(name):
    changed = {"sigma": (1.1, 1.1, 1.1), "axis": "D", "neighbours": 26, "amount": 2.0, "offset": (0.0, 3.0, 1.0)}
    for option in kernels()[name].options:
        options = NEEDED.get(name, {}) | {option: (changed | {k: LEGAL[k] for k in LEGAL if k not in changed})[option]}
        if option == "fwhm":
            del options["sigma"]
        assert not np.array_equal(taps(name, **options), made(name)), option


@pytest.mark.parametrize("name", SUMS)
def test_the_sum_says_what_a_constant_becomes(name):
    assert made(name).sum() == pytest.approx(SUMS[name], abs=1e-13)


@every_kernel
def test_the_name_is_that_of_its_module(name):
    assert kernels()[name].name == name


def test_gaussian_is_scipys():
    sigma = (0.5, 1.2, 2.0)
    found = taps("gaussian", sigma=sigma)
    assert found.shape == tuple(2 * int(4 * s + 0.5) + 1 for s in sigma)
    assert_is(found, ndimage.gaussian_filter(impulse(31), sigma))
    found = taps("gaussian", sigma=sigma, truncate=2.5)
    assert found.shape == (3, 7, 11)
    assert_is(found, ndimage.gaussian_filter(impulse(31), sigma, truncate=2.5))


def test_fwhm_is_where_the_gaussian_is_half():
    found = taps("gaussian", fwhm=(6.0, 6.0, 6.0))
    middle = found[found.shape[0] // 2, found.shape[1] // 2]
    assert middle[len(middle) // 2 + 3] / middle.max() == pytest.approx(0.5)


@pytest.mark.parametrize("order", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 1), (3, 4, 0), (0, 0, 0), (1, 5, 2)])
@pytest.mark.parametrize("truncate", [3.0, 4.0])
def test_derivatives_are_scipys(order, truncate):
    found = taps("derivative", sigma=SIGMA, order=order, truncate=truncate)
    expected = response(ndimage.gaussian_filter(impulse(31), SIGMA, order, truncate=truncate), found.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * np.abs(expected).max())


def test_hessian_is_every_second_derivative():
    bank = taps("hessian", sigma=SIGMA)
    for one, pair in zip(bank, ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)), strict=True):
        order = tuple(pair.count(axis) for axis in range(3))
        np.testing.assert_array_equal(one, taps("derivative", sigma=SIGMA, order=order))


def test_log_is_scipys():
    found = taps("log", sigma=SIGMA)
    expected = response(ndimage.gaussian_laplace(impulse(31), SIGMA), found.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * np.abs(expected).max())


def test_dog_is_the_difference_of_scipys():
    for wide in (None, (1.0, 3.0, 2.5)):
        found = taps("dog", sigma=SIGMA, **({} if wide is None else {"sigma2": wide}))
        both = [ndimage.gaussian_filter(impulse(41), one) for one in (SIGMA, wide or tuple(1.6 * s for s in SIGMA))]
        assert_is(found, both[0] - both[1])


def test_a_narrow_gaussian_may_come_second():
    np.testing.assert_array_equal(
        taps("dog", sigma=(2.0,) * 3, sigma2=(1.0,) * 3), -taps("dog", sigma=(1.0,) * 3, sigma2=(2.0,) * 3)
    )


def test_unsharp_adds_what_the_gaussian_takes_away():
    volume = impulse(31)
    for amount in (1.0, 0.4, -1.0):
        assert_is(made("unsharp", amount=amount), volume + amount * (volume - ndimage.gaussian_filter(volume, SIGMA)))


@axes
@pytest.mark.parametrize("name", ("sobel", "prewitt"))
def test_sobel_and_prewitt_are_scipys(name, axis):
    found = taps(name, axis=axis)
    filtered = getattr(ndimage, name)(impulse(7), "DHW".index(axis))
    np.testing.assert_array_equal(found, response(filtered, found.shape))
    np.testing.assert_array_equal(found, taps(name, axis="zyx"["DHW".index(axis)]))


@axes
def test_scharr_and_central_differentiate_a_ramp(axis):
    ramp = np.indices((5, 5, 5))["DHW".index(axis)].astype(float)
    assert ndimage.correlate(ramp, taps("scharr", axis=axis))[2, 2, 2] == 2 * 16**2
    found = ndimage.correlate(ramp**2, taps("central", axis=axis))[1:-1, 1:-1, 1:-1]
    np.testing.assert_array_equal(found, np.gradient(ramp**2)["DHW".index(axis)][1:-1, 1:-1, 1:-1])
    assert taps("central", axis=axis).shape == tuple(3 if one == axis else 1 for one in "DHW")


@pytest.mark.parametrize("name", ("sobel", "prewitt", "scharr", "central"))
def test_a_bank_holds_the_three_axes(name):
    bank = taps(name, axis="all")
    assert bank.shape == (3, 3, 3, 3)
    volume = np.random.default_rng(0).normal(size=(6, 7, 8))
    for one, axis in zip(bank, "DHW", strict=True):
        np.testing.assert_allclose(
            ndimage.correlate(volume, one), ndimage.correlate(volume, taps(name, axis=axis)), atol=1e-13
        )


def test_laplacian_and_box_are_scipys():
    np.testing.assert_array_equal(taps("laplacian"), response(ndimage.laplace(impulse(7)), (3, 3, 3)))
    np.testing.assert_allclose(
        taps("box", size=(3, 5, 1)), response(ndimage.uniform_filter(impulse(9), (3, 5, 1)), (3, 5, 1))
    )
    np.testing.assert_array_equal(taps("meanpool", size=(2, 3, 4)), np.full((2, 3, 4), 1 / 24))


@pytest.mark.parametrize("neighbours", (6, 18, 26))
def test_every_laplacian_is_exact_for_quadratic_functions(neighbours):
    z, y, x = np.indices((3, 3, 3)) - 1.0
    kernel = taps("laplacian", neighbours=neighbours)
    for function, expected in ((z**2, 2), (y**2, 2), (x**2, 2), (x * y, 0), (y * z, 0), (x, 0), (1 + 0 * x, 0)):
        assert (kernel * function).sum() == pytest.approx(expected, abs=1e-14)
    assert np.count_nonzero(kernel) == neighbours + 1


def test_identity_has_its_one_at_the_centre():
    assert taps("identity").tolist() == [[[1.0]]]
    assert taps("identity", size=(4, 3, 1))[1, 1, 0] == 1


def test_a_sphere_holds_the_voxels_whose_centres_lie_in_it():
    ball = taps("sphere", radius=(1.0, 2.0, 3.5))
    z, y, x = np.indices((3, 5, 7)) - np.array([1, 2, 3]).reshape(3, 1, 1, 1)
    inside = z**2 + (y / 2) ** 2 + (x / 3.5) ** 2 <= 1
    np.testing.assert_allclose(ball, inside / inside.sum())
    assert np.count_nonzero(taps("sphere", radius=(1.0,) * 3)) == 7
    assert np.count_nonzero(taps("sphere", radius=(0.3,) * 3)) == 1
    assert np.count_nonzero(taps("sphere", radius=(3.0 - 1e-12,) * 3)) == 123


@pytest.mark.parametrize("offset", [(1.0, -2.0, 0.0), (0.25, -1.5, 2.75), (0.0, 0.0, 0.0), (-0.1, 0.0, 3.0)])
def test_shift_is_scipys(offset):
    volume = np.random.default_rng(0).normal(size=(12, 12, 12))
    shifted = ndimage.correlate(volume, taps("shift", offset=offset))[4:-4, 4:-4, 4:-4]
    np.testing.assert_allclose(shifted, ndimage.shift(volume, offset, order=1)[4:-4, 4:-4, 4:-4], atol=1e-14)


def test_gabor_is_a_wave_under_a_gaussian():
    sigma, wavelength, direction = (2.0, 2.5, 3.0), (8.0, 10.0, 5.0), (1.0, 0.0, 2.0)
    envelope = taps("gaussian", sigma=sigma)
    z, _, x = np.indices(envelope.shape) - np.array(envelope.shape).reshape(3, 1, 1, 1) // 2
    turns = (z / 8 * 1 + x / 5 * 2) / np.sqrt(5)
    for phase in (0.0, 90.0, 30.0):
        found = taps("gabor", sigma=sigma, wavelength=wavelength, direction=direction, phase=phase)
        expected = envelope * np.cos(2 * np.pi * turns - np.radians(phase))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-16)
    assert taps("gabor", sigma=sigma, wavelength=wavelength, phase=90.0).sum() == pytest.approx(0, abs=1e-15)


def test_only_the_direction_of_a_direction_counts():
    options = {"sigma": (1.0,) * 3, "wavelength": (4.0,) * 3}
    for scale in (1e-300, 3.0, 1.7e308):
        found = taps("gabor", **options, direction=(scale, scale, scale))
        np.testing.assert_allclose(found, taps("gabor", **options, direction=(1.0, 1.0, 1.0)), atol=1e-16)


def test_gabor_runs_along_w_unless_said():
    options = {"sigma": (1.0,) * 3, "wavelength": (4.0,) * 3}
    np.testing.assert_array_equal(taps("gabor", **options), taps("gabor", **options, direction=(0.0, 0.0, 7.0)))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gaussian", {}, "the kernel 'gaussian' needs its width"),
        ("log", {}, "the kernel 'log' needs its width"),
        ("gaussian", LEGAL | {}, "has no sigma2"),
        ("gaussian", {"sigma": (1.0,) * 3, "fwhm": (1.0,) * 3}, "either sigma or fwhm"),
        ("box", {}, "needs its size"),
        ("meanpool", {}, "the kernel 'meanpool' needs its size"),
        ("sphere", {}, "needs its radius"),
        ("shift", {}, "needs its offset"),
        ("derivative", {"sigma": (1.0,) * 3}, "needs its order"),
        ("derivative", {"sigma": (1.0,) * 3, "order": (0, 21, 0)}, "has no order 21; legal: at most 20"),
        ("derivative", {"sigma": (0.1,) * 3, "order": (0, 0, 1)}, "needs 2 voxels or more, .* has 1; use a larger"),
        ("gabor", {"sigma": (1.0,) * 3}, "needs its wavelength"),
        (
            "gabor",
            {"sigma": (1.0,) * 3, "wavelength": (1.0,) * 3, "direction": (0.0,) * 3},
            "a direction that is not 0,0,0",
        ),
        ("laplacian", {"neighbours": 8}, "has no 8 neighbours; legal: 6, 18, 26"),
        ("sobel", {"axis": "t"}, "unknown axis 't'; legal: D, H, W"),
        ("gausian", {}, "Did you mean 'gaussian'"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises(ArgumentError, match=message):
        taps(name, **options)


@pytest.mark.parametrize("name", ("gaussian", "log", "sphere", "shift", "box", "identity", "meanpool"))
def test_a_kernel_too_large_is_refused_before_it_is_made(name):
    option = next(one for one in ("sigma", "radius", "offset", "size") if one in kernels()[name].options)
    with pytest.raises(LimitError, match="takes too much memory; legal: at most"):
        taps(name, **{option: (10**6,) * 3})
