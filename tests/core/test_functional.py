"""The contract of `conv3d` as a function: what it takes, what it returns, and what it refuses in which words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lucid_core as lucid
from lucid_core import compiled
from lucid_core.arguments import layer_arguments
from lucid_core.errors import ArgumentError, ArgumentTypeError, LimitError, LucidError, ShapeError
from lucid_core.problem import conv_problem
from tests.reference import conv3d as oracle


def volume(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


X = volume(2, 4, 5, 6, 7)
W = volume(6, 2, 3, 2, 3, seed=1)
B = volume(6, seed=2)


def gamma(terms, dtype):
    share = (terms + 2) * float(np.finfo(dtype).eps) / 2
    return share / (1 - share)


def test_zeros_makes_float32():
    assert lucid.zeros(2, 1, 3, 4, 5).shape == lucid.zeros((2, 1, 3, 4, 5)).shape == (2, 1, 3, 4, 5)
    assert lucid.zeros(1).dtype == np.float32
    assert lucid.zeros([2, 2], dtype=np.float64).dtype == np.float64
    assert not lucid.zeros(3, 3).any()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "dilation", "expected"),
    (
        (5, 3, 1, 0, 1, 3),
        (5, 3, 2, 1, 1, 3),
        (6, 3, 2, 1, 1, 3),
        (7, 3, 1, 2, 3, 5),
        (5, 1, 1, 0, 1, 5),
        (5, 1, 7, 0, 9, 1),
        (8, 4, 3, 0, 2, 1),
        (9, 2, 2, 1, 4, 4),
    ),
)
def test_output_size(size, kernel, stride, pad, dilation, expected):
    x, w = np.zeros((1, 1, size, size, size)), np.zeros((1, 1, kernel, kernel, kernel))
    assert lucid.conv3d(x, w, None, stride, pad, dilation).shape == (1, 1) + (expected,) * 3


def test_sizes_of_three_are_d_h_w():
    values = lucid.conv3d(X, W, B, (1, 2, 3), (2, 0, 1), (1, 2, 1), groups=2)
    expected, sizes = oracle(X, W, B, (1, 2, 3), (2, 0, 1), (1, 2, 1), 2)
    assert values.shape == expected.shape == (2, 6, 7, 2, 3)
    assert (np.abs(values - expected) <= gamma(36, np.float32) * sizes).all()


@pytest.mark.parametrize(
    ("padding", "size"), (("same", (5, 6, 7)), ("valid", (3, 5, 5)), (0, (3, 5, 5)), ((1, 0, 1), (5, 5, 7)))
)
def test_named_padding(padding, size):
    assert lucid.conv3d(X, W, groups=2, padding=padding).shape == (2, 6, *size)


def test_same_puts_the_odd_voxel_at_the_high_end():
    x = np.arange(1.0, 5).reshape(1, 1, 1, 1, 4)
    np.testing.assert_array_equal(lucid.conv3d(x, np.ones((1, 1, 1, 1, 2)), padding="same").ravel(), [3, 5, 7, 4])


def test_correlates_without_flipping():
    x = np.arange(1.0, 5).reshape(1, 1, 1, 1, 4)
    weight = np.array([1.0, 10, 100]).reshape(1, 1, 1, 1, 3)
    np.testing.assert_array_equal(lucid.conv3d(x, weight).ravel(), [321, 432])


PROMOTED = {
    "int8": "float32",
    "uint8": "float32",
    "int16": "float32",
    "uint16": "float32",
    "int32": "float64",
    "uint32": "float64",
    "int64": "float64",
    "uint64": "float64",
    "bool": "float32",
    "float32": "float32",
    "float64": "float64",
}


@pytest.mark.parametrize(("given", "result"), PROMOTED.items())
@pytest.mark.parametrize("order", "<>")
def test_dtype_of_the_result(given, result, order):
    x = (np.arange(64).reshape(1, 1, 4, 4, 4) % 2).astype(np.dtype(given).newbyteorder(order))
    values = lucid.conv3d(x, np.ones((1, 1, 2, 2, 2), result))
    assert values.dtype == np.dtype(result)
    assert values.dtype.isnative
    np.testing.assert_array_equal(values, np.full((1, 1, 3, 3, 3), 4))


def test_float16_is_computed_in_float32_and_returned_as_float16():
    x, w = np.full((1, 1, 1, 1, 3), 4096, np.float16), np.ones((1, 1, 1, 1, 3), np.float16)
    x[..., 1], w[..., 2] = 1, -1
    values = lucid.conv3d(x, w)
    assert values.dtype == np.float16
    assert values.item() == 1
    np.testing.assert_array_equal(lucid.conv3d(x, w.astype(np.float32)), values)
    assert lucid.conv3d(x, w, np.ones(1, np.float16)).item() == 2


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_sum_too_large_for_float16_is_inf():
    x = np.full((1, 1, 1, 1, 3), 6e4, np.float16)
    assert np.isposinf(lucid.conv3d(x, np.ones((1, 1, 1, 1, 3), np.float16)).item())


@pytest.mark.parametrize(("given", "result"), (("int16", "float32"), ("int32", "float64")))
def test_integer_weights_go_with_integers_of_their_dtype(given, result):
    x, w = np.full((1, 1, 1, 1, 2), 3, given), np.full((1, 1, 1, 1, 2), 2, given)
    values = lucid.conv3d(x, w, np.ones(1, given))
    assert values.dtype == result
    assert values.item() == 13


def test_integers_beyond_float32_are_exact():
    x = np.full((1, 1, 1, 1, 2), 2**40 + 1)
    assert lucid.conv3d(x, np.ones((1, 1, 1, 1, 2))).item() == 2**41 + 2


needs_numba = pytest.mark.skipif(compiled.refusal() is not None, reason=str(compiled.refusal()))


def layouts():
    """Yield views that hold the same values in different memory."""
    plain = X[:, :, :3, :4, :5].copy()
    wide = np.zeros((4, 8, 9, 8, 10), np.float32)
    wide[::2, ::2, ::3, ::2, ::2] = plain
    shifted = np.zeros(plain.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(plain.shape)
    shifted[...] = plain
    frozen = plain.copy()
    frozen.flags.writeable = False
    return plain, {
        "Fortran": np.asfortranarray(plain),
        "strided": wide[::2, ::2, ::3, ::2, ::2],
        "negative strides": np.ascontiguousarray(plain[:, ::-1, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1, ::-1],
        "transposed": np.ascontiguousarray(plain.transpose(4, 3, 2, 1, 0)).transpose(4, 3, 2, 1, 0),
        "big-endian": plain.astype(">f4"),
        "misaligned": shifted,
        "read-only": frozen,
    }


@pytest.mark.parametrize("layout", layouts()[1])
@pytest.mark.parametrize(
    "options",
    ({"algorithm": "direct"}, {"algorithm": "gemm"}, {}, pytest.param({"engine": "numba"}, marks=needs_numba)),
)
def test_the_layout_of_x_changes_no_bit(layout, options):
    plain, others = layouts()
    values = lucid.conv3d(others[layout], W, B, groups=2, padding=1, **options)
    assert values.tobytes() == lucid.conv3d(plain, W, B, groups=2, padding=1, **options).tobytes()
    assert values.flags.c_contiguous
    assert values.flags.writeable


@pytest.mark.parametrize("algorithm", ("direct", "gemm"))
def test_the_layout_of_the_weights_changes_no_bit(algorithm):
    plain = lucid.conv3d(X, W, B, groups=2, algorithm=algorithm).tobytes()
    flipped = np.ascontiguousarray(W[::-1, :, ::-1])[::-1, :, ::-1]
    for weight in (np.asfortranarray(W), W.astype(">f4"), flipped):
        bias = np.repeat(B, 2)[::2].astype(">f4")
        assert lucid.conv3d(X, weight, bias, groups=2, algorithm=algorithm).tobytes() == plain


def test_zero_strides():
    x = np.broadcast_to(np.float32(3), (1, 2, 4, 4, 4))
    weight = np.broadcast_to(np.float32(2), (3, 2, 3, 3, 3))
    np.testing.assert_array_equal(
        lucid.conv3d(x, weight, np.broadcast_to(np.float32(1), 3)), np.full((1, 3, 2, 2, 2), 325)
    )


@pytest.mark.parametrize("algorithm", ("direct", "gemm", "auto"))
def test_inputs_are_neither_modified_nor_shared(algorithm):
    x, w, b = X.copy(), W.copy(), B.copy()
    values = lucid.conv3d(x, w, b, groups=2, algorithm=algorithm)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(w, W)
    np.testing.assert_array_equal(b, B)
    assert not any(np.shares_memory(values, array) for array in (x, w, b))
    x = np.ones((1, 1, 2, 2, 2), np.float32)
    assert not np.shares_memory(lucid.conv3d(x, np.ones((1, 1, 1, 1, 1), np.float32)), x)


def test_an_empty_batch_gives_an_empty_result():
    values = lucid.conv3d(X[:0], W, B, groups=2)
    assert values.shape == (0, 6, 3, 5, 5)
    assert values.dtype == np.float32


def test_one_volume_without_a_batch_axis():
    values = lucid.conv3d(X[1], W, B, groups=2)
    assert values.shape == (6, 3, 5, 5)
    assert values.tobytes() == lucid.conv3d(X[1:], W, B, groups=2).tobytes()


def test_a_kernel_of_one_voxel_mixes_channels():
    weight = W[:, :, :1, :1, :1].repeat(2, axis=1)
    expected = np.einsum("ncdhw,oc->nodhw", X.astype(np.float64), weight[:, :, 0, 0, 0])
    np.testing.assert_allclose(lucid.conv3d(X, weight), expected, atol=1e-5)


def test_nested_lists_are_arrays():
    assert lucid.conv3d(np.ones((1, 1, 2, 2, 2)).tolist(), np.ones((1, 1, 2, 2, 2)).tolist(), [1.0]).item() == 9


def test_numpy_integers_and_lists_are_sizes():
    expected = lucid.conv3d(X, W, None, (2, 2, 2), (1, 1, 1), (1, 2, 1), 2)
    given = lucid.conv3d(X, W, None, np.int64(2), [1, 1, 1], [np.int8(1), 2, 1], np.uint8(2))
    assert given.tobytes() == expected.tobytes()


@pytest.mark.parametrize("algorithm", ("auto", "direct", "gemm"))
@pytest.mark.parametrize("threads", (None, 0, 1, 3))
def test_choices_do_not_change_what_is_computed(algorithm, threads):
    values = lucid.conv3d(X, W, B, groups=2, algorithm=algorithm, engine="numpy", accuracy="normwise", threads=threads)
    expected, sizes = oracle(X, W, B, groups=2)
    assert (np.abs(values - expected) <= gamma(36, np.float32) * sizes).all()


def test_no_warning_for_what_ieee_gives(recwarn):
    x = np.full((1, 1, 2, 2, 2), 3e38, np.float32)
    x[..., 0, 0] = np.nan
    lucid.conv3d(x, np.full((1, 1, 2, 2, 2), 9, np.float32))
    assert not recwarn.list


REFUSED = {
    "x of 3 axes": ({"x": X[0, 0]}, ShapeError, r"x must have 5 axes .* not 3: its shape is \(5, 6, 7\)"),
    "x of 6 axes": ({"x": X[None]}, ShapeError, r"x must have 5 axes .* not 6"),
    "channels": ({"x": X[:, :3]}, ShapeError, r"takes 4 input channels, but the input has 3 \(shape \(2, 3, 5, 6, 7\)"),
    "groups, in": ({"groups": 4}, ShapeError, "groups=4 does not divide out_channels=6; legal: 1, 2"),
    "groups 0": ({"groups": 0}, ArgumentError, "groups must be at least 1, not 0"),
    "groups 1.0": ({"groups": 1.0}, ArgumentTypeError, r"groups must be an integer, not 1\.0"),
    "weight of 4 axes": ({"weight": W[0]}, ShapeError, r"weight must have 5 axes .*not 4: its shape is \(2, 3, 2, 3\)"),
    "no output channels": ({"weight": W[:0]}, ArgumentError, "out_channels must be at least 1, not 0"),
    "a kernel of 0": ({"weight": W[:, :, :0]}, ArgumentError, "kernel_size along D must be at least 1, not 0"),
    "bias too long": ({"bias": volume(7)}, ShapeError, r"bias must have shape \(6,\), .* not \(7,\)"),
    "bias of 2 axes": ({"bias": volume(6, 1)}, ShapeError, r"bias must have shape \(6,\), .* not \(6, 1\)"),
    "weight in float64": (
        {"weight": W.astype(np.float64)},
        ArgumentTypeError,
        "weight has dtype float64 and x has dtype float32; legal for weight: float32",
    ),
    "bias in float64": ({"bias": B.astype(np.float64)}, ArgumentTypeError, "bias has dtype float64 .*float32"),
    "integer weights": ({"weight": np.ones(W.shape, int)}, ArgumentTypeError, "weight has dtype int64"),
    "float32 weights of int32": ({"x": np.ones(X.shape, np.int32)}, ArgumentTypeError, "legal for weight: float64"),
    "complex x": (
        {"x": X.astype(np.complex64)},
        ArgumentTypeError,
        "cannot convolve values of dtype complex64; legal: ",
    ),
    "text x": ({"x": X.astype(str)}, ArgumentTypeError, "cannot convolve values of dtype <U"),
    "object x": ({"x": X.astype(object)}, ArgumentTypeError, "cannot convolve values of dtype object"),
    "wider than float64": ({"x": X.astype(np.longdouble)}, ArgumentTypeError, "cannot convolve values of dtype "),
    "stride 0": ({"stride": 0}, ArgumentError, "stride must be at least 1, not 0"),
    "stride -1 along H": ({"stride": (1, -1, 1)}, ArgumentError, "stride along H must be at least 1, not -1"),
    "stride True": ({"stride": True}, ArgumentTypeError, "stride must be an integer, not True"),
    "stride 1.5": ({"stride": 1.5}, ArgumentTypeError, r"stride must be an integer, not 1\.5"),
    "stride of 2": (
        {"stride": [1, 1]},
        ArgumentError,
        r"stride must be one integer or three \(D, H, W\), not 2: \[1, 1\]",
    ),
    "stride nested": ({"stride": (1, (1,), 1)}, ArgumentTypeError, r"stride along H must be an integer, not \(1,\)"),
    "stride None": ({"stride": None}, ArgumentTypeError, "stride must be an integer, not None"),
    "stride '2'": ({"stride": "2"}, ArgumentTypeError, "stride must be an integer, not '2'"),
    "dilation 0": ({"dilation": 0}, ArgumentError, "dilation must be at least 1, not 0"),
    "dilation 2**62": (
        {"dilation": 2**62},
        ShapeError,
        f"larger than the padded input along D: it spans {2**63 + 1} voxels .*the input has 5 \\+ 0 \\+ 0 = 5",
    ),
    "padding -1": ({"padding": -1}, ArgumentError, "padding must be at least 0, not -1"),
    "padding nan": ({"padding": float("nan")}, ArgumentTypeError, "padding must be an integer, not nan"),
    "padding 'full'": ({"padding": "full"}, ArgumentError, "padding must be .*'same' or 'valid', not 'full'"),
    "padding of 6": ({"padding": (1,) * 6}, ArgumentError, r"padding must be one integer or three \(D, H, W\), not 6"),
    "same with a stride": (
        {"padding": "same", "stride": (1, 2, 1)},
        ArgumentError,
        r"padding='same' needs stride 1, not \(1, 2, 1\).*\(1, 0, 1\)",
    ),
    "reflect too wide": (
        {"padding": (0, 0, 7), "padding_mode": "reflect"},
        ShapeError,
        "padding 7 along W is too wide for padding_mode='reflect': the axis has 7 voxels, so at most 6",
    ),
    "circular too wide": (
        {"padding": (6, 0, 0), "padding_mode": "circular"},
        ShapeError,
        "padding 6 along D is too wide for padding_mode='circular': the axis has 5 voxels, so at most 5",
    ),
    "a kernel too large": (
        {"x": X[..., :2]},
        ShapeError,
        r"the kernel is larger than the padded input along W: it spans 3 voxels, the input has 2 \+ 0 \+ 0 = 2",
    ),
    "a dilated kernel too large": (
        {"dilation": (3, 1, 1)},
        ShapeError,
        r"along D: it spans 7 voxels \(dilation 3 \* \(3 - 1\)",
    ),
    "no voxels": ({"x": X[:, :, :, :0], "padding": 3}, ShapeError, "the input has no voxels along H"),
    "mirror": (
        {"padding_mode": "mirror"},
        ArgumentError,
        "padding_mode 'mirror' is called 'reflect' here; legal: zeros, ",
    ),
    "edge": ({"padding_mode": "edge"}, ArgumentError, "padding_mode 'edge' is called 'replicate' here"),
    "nearest": ({"padding_mode": "nearest"}, ArgumentError, "padding_mode 'nearest' is called 'replicate' here"),
    "wrap": ({"padding_mode": "wrap"}, ArgumentError, "padding_mode 'wrap' is called 'circular' here"),
    "constant": ({"padding_mode": "constant"}, ArgumentError, "padding_mode 'constant' is called 'zeros' here"),
    "zeroes": ({"padding_mode": "zeroes"}, ArgumentError, "unknown padding_mode 'zeroes'.*Did you mean 'zeros'"),
    "algorithm": (
        {"algorithm": "gem"},
        ArgumentError,
        "unknown algorithm 'gem'; legal: auto, direct, .*Did you mean 'gemm'",
    ),
    "engine": ({"engine": "nunpy"}, ArgumentError, "unknown engine 'nunpy'.*Did you mean 'numpy'"),
    "accuracy": ({"accuracy": "normvise"}, ArgumentError, "unknown accuracy 'normvise'.*Did you mean 'normwise'"),
    "an algorithm that refuses": (
        {"algorithm": "separable"},
        ArgumentError,
        "algorithm 'separable' cannot compute this: an output channel sums several input channels.*; use 'auto'",
    ),
    "threads -1": ({"threads": -1}, ArgumentError, "threads must be at least 0, not -1"),
    "threads True": ({"threads": True}, ArgumentTypeError, "threads must be an integer, not True"),
}


@pytest.mark.parametrize(("changes", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused_in_words(changes, kind, words):
    arguments = {"x": X, "weight": W, "bias": B, "groups": 2} | changes
    with pytest.raises(kind, match=words) as caught:
        lucid.conv3d(**arguments)
    assert isinstance(caught.value, LucidError)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TypeError) is (kind is ArgumentTypeError)


def test_wrong_arguments_are_refused_before_any_work(monkeypatch):
    def fail(*args, **options):
        raise AssertionError("work began")

    monkeypatch.setattr("lucid_core.functional.execute", fail)
    with pytest.raises(ArgumentError, match="unknown accuracy"):
        lucid.conv3d(X, W, groups=2, accuracy="best")


@given(
    size=st.integers(1, 6),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    pad=st.integers(0, 3),
    dilation=st.integers(1, 3),
)
def test_the_problem_and_the_result_agree_on_the_shape(size, kernel, stride, pad, dilation):
    x, w = np.zeros((1, 1, size, 3, 3), np.float32), np.zeros((2, 1, kernel, 1, 1), np.float32)
    layer = layer_arguments(1, 2, (kernel, 1, 1), (stride, 1, 1), (pad, 0, 0), (dilation, 1, 1))
    if dilation * (kernel - 1) >= size + 2 * pad:
        with pytest.raises(ShapeError, match="larger than the padded input along D"):
            conv_problem(x.shape, layer)
    else:
        values = lucid.conv3d(x, w, None, (stride, 1, 1), (pad, 0, 0), (dilation, 1, 1))
        starts = range(-pad, size + pad - dilation * (kernel - 1), stride)
        assert conv_problem(x.shape, layer).out_shape == values.shape == (1, 2, len(starts), 3, 3)


@pytest.mark.parametrize("algorithm", ["direct", "gemm"])
def test_a_stride_and_a_dilation_that_are_never_taken_may_be_huge(algorithm):
    x, w = np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2))
    assert lucid.conv3d(x, w, stride=2**62, algorithm=algorithm).item() == 8
    assert lucid.conv3d(x, w[..., :1, :1, :1], stride=3, dilation=2**62, algorithm=algorithm).item() == 1


def test_an_output_beyond_memory_is_refused_in_words():
    with pytest.raises(LimitError, match="does not fit into memory"):
        lucid.conv3d(np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 1, 1, 1)), padding=2**62)


def test_a_ragged_list_is_no_array():
    with pytest.raises(ArgumentTypeError, match="x is no array of numbers"):
        lucid.conv3d([[1, 2], [3]], np.ones((1, 1, 1, 1, 1)))


def test_integer_weights_are_promoted_with_x():
    x = np.arange(27, dtype=np.int16).reshape(1, 1, 3, 3, 3)
    found = lucid.conv3d(x, np.ones((1, 1, 3, 3, 3), np.int16))
    assert (found.dtype, found.item()) == (np.float32, 351)


@pytest.mark.parametrize("algorithm", ("direct", "gemm", "separable"))
def test_rows_of_one_voxel_that_lie_apart(algorithm):
    """A column cut out of a volume: its voxels do not follow one another in memory."""
    x, weight = volume(1, 1, 5, 9, 4)[..., 1:2], np.ones((1, 1, 3, 3, 1), np.float32)
    values = lucid.conv3d(x, weight, algorithm=algorithm, engine="numpy", threads=1)
    expected = lucid.conv3d(np.ascontiguousarray(x), weight, algorithm=algorithm, engine="numpy", threads=1)
    np.testing.assert_array_equal(values, expected)
