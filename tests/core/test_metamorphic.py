"""Relations between results that hold for every input: bit for bit, or within twice the error bound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid_core
from lucid_core import compiled
from lucid_core.padding import PADDING_MODES
from tests.reference import axis_pads
from tests.reference import conv3d as oracle

without_numba = pytest.mark.skipif(compiled.refusal() is not None, reason=str(compiled.refusal()))
algorithms = pytest.mark.parametrize("algorithm", ("direct", "gemm", pytest.param("direct numba", marks=without_numba)))
seeds = st.integers(0, 2**32)
modes = st.sampled_from(list(PADDING_MODES))
AXES = (2, 3, 4)


def conv3d(*arrays, algorithm="auto", **arguments):
    """Convolve by an algorithm, on the engine named after it or else on NumPy."""
    name, _, engine = algorithm.partition(" ")
    return lucid_core.conv3d(*arrays, algorithm=name, engine=engine or "numpy", **arguments)


def volume(seed, *shape, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def layer(seed, groups=1, dtype=np.float32, kernel_size=(3, 2, 3), size=(5, 6, 7)):
    """Return x, weight and bias."""
    x = volume(seed, 2, 2 * groups, *size, dtype=dtype)
    return x, volume(seed + 1, 3 * groups, 2, *kernel_size, dtype=dtype), volume(seed + 2, 3 * groups, dtype=dtype)


def assert_bits(first, second):
    assert first.dtype == second.dtype
    assert first.shape == second.shape
    assert first.tobytes() == second.tobytes()


def assert_close(first, second, x, weight, bias=None, parts=2, **arguments):
    """Two results of one sum: each within gamma(K + 2) * (sum |x||w| + |b|) of it."""
    share = parts * (weight[0].size + 4) * float(np.finfo(x.dtype).eps) / 2
    absolute = (None if one is None else np.abs(one).astype(np.float64) for one in (x, weight, bias))
    sizes = conv3d(*absolute, **arguments)
    assert first.shape == second.shape
    assert (np.abs(first.astype(float) - second) <= share * sizes * 1.01).all()


@algorithms
@given(seed=seeds, mode=modes)
def test_the_same_bits_again(algorithm, seed, mode):
    x, w, b = layer(seed)
    first = conv3d(x, w, b, padding=1, padding_mode=mode, algorithm=algorithm)
    conv3d(volume(seed, 1, 2, 9, 9, 9), w, b, algorithm=algorithm)
    assert_bits(first, conv3d(x, w, b, padding=1, padding_mode=mode, algorithm=algorithm))


@algorithms
@given(seed=seeds, power=st.integers(-40, 40))
def test_scaling_by_a_power_of_two_scales_the_result(algorithm, seed, power):
    x, w, _ = layer(seed)
    factor = np.float32(2.0**power)
    assert_bits(conv3d(x * factor, w, algorithm=algorithm), conv3d(x, w, algorithm=algorithm) * factor)
    assert_bits(conv3d(x, w * factor, algorithm=algorithm), conv3d(x, w, algorithm=algorithm) * factor)


@algorithms
@given(seed=seeds)
def test_negation(algorithm, seed):
    x, w, b = layer(seed)
    values = conv3d(x, w, b, algorithm=algorithm)
    np.testing.assert_array_equal(conv3d(-x, w, -b, algorithm=algorithm), -values)
    np.testing.assert_array_equal(conv3d(x, -w, -b, algorithm=algorithm), -values)


@algorithms
@given(seed=seeds, size=st.tuples(*[st.integers(1, 4)] * 3), mode=modes, data=st.data())
def test_a_delta_shifts(algorithm, seed, size, mode, data):
    """The identity is the delta at the tap that "same" centres on."""
    x = volume(seed, 2, 1, 5, 6, 7)
    w = np.zeros((1, 1, *size), np.float32)
    tap = [data.draw(st.integers(0, taps - 1)) for taps in size]
    w[(0, 0, *tap)] = 1
    pads = axis_pads("same", size, (1, 1, 1))
    padded = np.pad(x, [(0, 0), (0, 0), *pads], mode=PADDING_MODES[mode].numpy)
    start_d, start_h, start_w = tap
    shifted = padded[:, :, start_d : start_d + 5, start_h : start_h + 6, start_w : start_w + 7]
    values = conv3d(x, w, padding="same", padding_mode=mode, algorithm=algorithm)
    np.testing.assert_array_equal(values, shifted)
    if all(low == at for (low, _), at in zip(pads, tap, strict=True)):
        np.testing.assert_array_equal(values, x)


@algorithms
@given(seed=seeds)
def test_a_volume_of_zeros_gives_the_bias(algorithm, seed):
    x, w, b = layer(seed)
    values = conv3d(np.zeros_like(x), w, b, algorithm=algorithm)
    np.testing.assert_array_equal(values, np.broadcast_to(b[None, :, None, None, None], values.shape))
    assert not conv3d(np.zeros_like(x), w, algorithm=algorithm).any()


@algorithms
@given(seed=seeds, mode=modes, groups=st.integers(1, 2))
def test_small_integers_are_exact(algorithm, seed, mode, groups):
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 10, size=(1, 2 * groups, 4, 5, 4))
    w, b = rng.integers(-9, 10, size=(2 * groups, 2, 3, 3, 2)), rng.integers(-9, 10, size=2 * groups)
    single = [array.astype(np.float32) for array in (x, w, b)]
    values = conv3d(*single, padding=1, groups=groups, padding_mode=mode, algorithm=algorithm)
    expected, _ = oracle(x, w, b, padding=1, groups=groups, padding_mode=mode)
    np.testing.assert_array_equal(values, expected)


@algorithms
@given(seed=seeds, data=st.data())
def test_a_voxel_changes_only_what_sees_it(algorithm, seed, data):
    x, w, b = layer(seed)
    at = [data.draw(st.integers(0, size - 1)) for size in x.shape[2:]]
    changed = x.copy()
    changed[(0, slice(None), *at)] += np.float32(1e6)
    before, after = (conv3d(one, w, b, padding=1, algorithm=algorithm) for one in (x, changed))
    seen = np.zeros(before.shape, bool)
    seen[(0, slice(None), *(slice(max(p + 2 - k, 0), p + 2) for p, k in zip(at, w.shape[2:], strict=True)))] = True
    np.testing.assert_array_equal(before[~seen], after[~seen])
    assert (before[seen] != after[seen]).all()


@given(seed=seeds, mode=modes)
def test_linear_in_x_and_in_w(seed, mode):
    x, w, _ = layer(seed, dtype=np.float64)
    y, v, _ = layer(seed + 3, dtype=np.float64)
    options = {"padding": 1, "padding_mode": mode}
    together, apart = conv3d(x + y, w, **options), conv3d(x, w, **options) + conv3d(y, w, **options)
    assert_close(together, apart, np.abs(x) + np.abs(y), w, **options)
    together, apart = conv3d(x, w + v, **options), conv3d(x, w, **options) + conv3d(x, v, **options)
    assert_close(together, apart, x, np.abs(w) + np.abs(v), **options)


@algorithms
@given(seed=seeds)
def test_the_bias_is_a_constant_shift(algorithm, seed):
    x, w, b = layer(seed)
    shifted = conv3d(x, w, algorithm=algorithm) + b[None, :, None, None, None]
    if algorithm == "direct numba":  # its sums begin at the bias
        assert_close(conv3d(x, w, b, algorithm=algorithm), shifted, x, w, b)
    else:
        assert_bits(conv3d(x, w, b, algorithm=algorithm), shifted)


@given(seed=seeds, stride=st.tuples(*[st.integers(1, 4)] * 3), mode=modes)
def test_a_stride_takes_every_nth_voxel(seed, stride, mode):
    x, w, b = layer(seed)
    options = {"padding": 1, "padding_mode": mode}
    dense = conv3d(x, w, b, **options, algorithm="direct")
    taken = dense[(..., *(slice(None, None, step) for step in stride))]
    assert_bits(conv3d(x, w, b, stride, **options, algorithm="direct"), np.ascontiguousarray(taken))
    assert_close(conv3d(x, w, b, stride, **options, algorithm="gemm"), taken, x, w, b, stride=stride, **options)


@algorithms
@given(seed=seeds, dilation=st.tuples(*[st.integers(1, 3)] * 3), mode=modes)
def test_a_dilation_is_a_kernel_with_zeros_between_its_taps(algorithm, seed, dilation, mode):
    x, w, b = layer(seed, size=(7, 5, 8))
    spread = np.zeros((*w.shape[:2], *(d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True))), w.dtype)
    spread[(..., *(slice(None, None, step) for step in dilation))] = w
    options = {"padding": 1, "padding_mode": mode, "algorithm": algorithm}
    dilated, stuffed = conv3d(x, w, b, dilation=dilation, **options), conv3d(x, spread, b, **options)
    assert_close(dilated, stuffed, x, spread, b, **options)


@algorithms
@given(seed=seeds, groups=st.integers(1, 3))
def test_groups_are_parts_side_by_side(algorithm, seed, groups):
    x, w, b = layer(seed, groups)
    values = conv3d(x, w, b, groups=groups, algorithm=algorithm)
    parts = [
        conv3d(x[:, 2 * g : 2 * g + 2], w[3 * g : 3 * g + 3], b[3 * g : 3 * g + 3], algorithm=algorithm)
        for g in range(groups)
    ]
    assert_bits(values, np.concatenate(parts, axis=1))
    dense = np.zeros((3 * groups, 2 * groups, *w.shape[2:]), w.dtype)
    for g in range(groups):
        dense[3 * g : 3 * g + 3, 2 * g : 2 * g + 2] = w[3 * g : 3 * g + 3]
    assert_close(values, conv3d(x, dense, b, algorithm=algorithm), x, dense, b)


@given(seed=seeds, order=st.permutations(range(3)))
def test_channels_in_another_order(seed, order):
    x, w, b = volume(seed, 1, 3, 5, 5, 5), volume(seed + 1, 3, 3, 2, 2, 2), volume(seed + 2, 3)
    values = conv3d(x, w, b, algorithm="direct")
    assert_bits(conv3d(x, w[order], b[order], algorithm="direct"), values[:, order])
    assert_close(conv3d(x[:, order], w[:, order], b), values, x, w, b)


@given(seed=seeds, order=st.permutations(AXES), mode=modes)
def test_axes_in_another_order(seed, order, mode):
    x, w, b = layer(seed)
    sizes = {"stride": (1, 2, 3), "padding": (2, 1, 0), "dilation": (1, 2, 1)}
    turned = {name: tuple(size[axis - 2] for axis in order) for name, size in sizes.items()}
    values = conv3d(x.transpose(0, 1, *order), w.transpose(0, 1, *order), b, **turned, padding_mode=mode)
    expected = conv3d(x, w, b, **sizes, padding_mode=mode).transpose(0, 1, *order)
    assert_close(values, expected, x.transpose(0, 1, *order), w.transpose(0, 1, *order), b, **turned, padding_mode=mode)


@given(seed=seeds, axis=st.sampled_from(AXES), mode=modes)
def test_flipping_x_and_the_kernel_flips_the_result(seed, axis, mode):
    x, w, b = layer(seed)
    options = {"padding": 1, "padding_mode": mode}
    flipped = conv3d(np.flip(x, axis), np.flip(w, axis), b, **options)
    expected = np.flip(conv3d(x, w, b, **options), axis)
    assert_close(flipped, expected, np.flip(x, axis), np.flip(w, axis), b, **options)


@algorithms
@given(seed=seeds, mode=modes, pads=st.tuples(*[st.integers(0, 4)] * 3), stride=st.integers(1, 2))
def test_a_padding_mode_is_an_explicit_pad(algorithm, seed, mode, pads, stride):
    x, w, b = layer(seed)
    padded = np.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in pads)], mode=PADDING_MODES[mode].numpy)
    values = conv3d(x, w, b, stride, pads, padding_mode=mode, algorithm=algorithm)
    assert_bits(values, conv3d(padded, w, b, stride, algorithm=algorithm))


@algorithms
@given(seed=seeds, mode=modes, dilation=st.integers(1, 2))
def test_same_is_an_explicit_pad(algorithm, seed, mode, dilation):
    x, w, b = layer(seed)
    pads = axis_pads("same", w.shape[2:], (dilation,) * 3)
    padded = np.pad(x, [(0, 0), (0, 0), *pads], mode=PADDING_MODES[mode].numpy)
    values = conv3d(x, w, b, padding="same", dilation=dilation, padding_mode=mode, algorithm=algorithm)
    assert_bits(values, conv3d(padded, w, b, dilation=dilation, algorithm=algorithm))
    assert_bits(conv3d(x, w, b, padding="valid"), conv3d(x, w, b, padding=0))


@given(seed=seeds, axis=st.sampled_from(AXES), shift=st.integers(1, 6))
def test_a_circular_shift_moves_through(seed, axis, shift):
    x, w, b = layer(seed)
    options = {"padding": "same", "padding_mode": "circular", "algorithm": "direct"}
    shifted = conv3d(np.roll(x, shift, axis), w, b, **options)
    assert_bits(shifted, np.roll(conv3d(x, w, b, **options), shift, axis))


@algorithms
@given(seed=seeds)
def test_a_batch_is_its_volumes_one_by_one(algorithm, seed):
    x, w, b = volume(seed, 3, 2, 5, 6, 7), volume(seed + 1, 4, 2, 3, 3, 3), volume(seed + 2, 4)
    values = conv3d(x, w, b, padding=1, algorithm=algorithm)
    for n in range(3):
        assert_bits(values[n], conv3d(x[n], w, b, padding=1, algorithm=algorithm))
        assert_bits(values[n : n + 1], conv3d(x[n : n + 1], w, b, padding=1, algorithm=algorithm))


@algorithms
@given(seed=seeds, threads=st.integers(2, 3))
@settings(max_examples=20)
def test_threads_change_no_bit(algorithm, seed, threads):
    x, w, b = volume(seed, 1, 3, 9, 20, 21), volume(seed + 1, 4, 3, 3, 3, 3), volume(seed + 2, 4)
    first, second = (conv3d(x, w, b, padding=1, algorithm=algorithm, threads=count) for count in (1, threads))
    assert_bits(first, second)


@algorithms
@given(seed=seeds, cut=st.integers(1, 3))
def test_input_channels_can_be_summed_in_parts(algorithm, seed, cut):
    x, w = volume(seed, 1, 4, 5, 5, 5), volume(seed + 1, 3, 4, 3, 3, 3)
    parts = conv3d(x[:, :cut], w[:, :cut], algorithm=algorithm) + conv3d(x[:, cut:], w[:, cut:], algorithm=algorithm)
    assert_close(conv3d(x, w, algorithm=algorithm), parts, x, w)


@given(seed=seeds, stride=st.tuples(*[st.integers(1, 3)] * 3))
def test_the_adjoint(seed, stride):
    """<K x, y> = <x, K' y>: K' is the transposed, flipped kernel over y spread by the stride, fully padded."""
    x, w, _ = layer(seed, dtype=np.float64)
    values = conv3d(x, w, None, stride)
    y = volume(seed + 5, *values.shape, dtype=np.float64)
    spread = np.zeros((*y.shape[:2], *(n - k + 1 for n, k in zip(x.shape[2:], w.shape[2:], strict=True))))
    ends = (slice(0, (count - 1) * step + 1, step) for count, step in zip(y.shape[2:], stride, strict=True))
    spread[(..., *ends)] = y
    back = conv3d(spread, np.flip(w, AXES).swapaxes(0, 1), padding=tuple(k - 1 for k in w.shape[2:]))
    assert back.shape == x.shape
    size = (conv3d(np.abs(x), np.abs(w), None, stride) * np.abs(y)).sum()
    assert abs((values * y).sum() - (x * back).sum()) <= 1e-13 * size


@given(seed=seeds)
def test_two_kernels_in_turn_are_one_larger_kernel(seed):
    x, first, second = (volume(seed + n, 1, 1, *[size] * 3, dtype=np.float64) for n, size in enumerate((8, 3, 2)))
    joined = conv3d(first, np.flip(second, AXES), padding=1)
    assert joined.shape == (1, 1, 4, 4, 4)
    twice = conv3d(conv3d(x, first), second)
    sizes = conv3d(conv3d(np.abs(x), np.abs(first)), np.abs(second))
    assert (np.abs(conv3d(x, joined) - twice) <= 100 * 2.0**-53 * sizes).all()
