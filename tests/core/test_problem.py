"""A problem: what follows from shapes alone."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_core.arguments import integer, layer_arguments, triple
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from lucid_core.problem import ConvProblem, conv_problem
from lucid_core.regions import Region

PROBLEM = ConvProblem(
    2, 4, 6, (9, 8, 7), (3, 2, 4), (2, 1, 3), ((1, 1), (0, 1), (3, 3)), (1, 2, 1), 2, "zeros", True, "float64"
)


def test_counts():
    assert PROBLEM.taps == 24
    assert PROBLEM.terms == 48
    assert PROBLEM.padded_size == (11, 9, 13)
    assert PROBLEM.out_size == (5, 7, 4)
    assert PROBLEM.in_shape == (2, 4, 9, 8, 7)
    assert PROBLEM.padded_shape == (2, 4, 11, 9, 13)
    assert PROBLEM.out_shape == (2, 6, 5, 7, 4)
    assert PROBLEM.parameters == 6 * 48 + 6
    assert dataclasses.replace(PROBLEM, bias=False).parameters == 6 * 48
    assert PROBLEM.macs == 2 * 6 * 5 * 7 * 4 * 48


def test_geometry():
    assert PROBLEM.halo == ((1, 1), (0, 2), (3, 0))
    assert PROBLEM.centre_shift == (0.0, 1.0, -1.5)
    assert PROBLEM.block_shape((1, 1, 1)) == (3, 3, 4)
    assert PROBLEM.block_shape((5, 7, 4)) == (11, 9, 13)


def test_the_input_of_an_output_region():
    assert PROBLEM.input_region(Region((0, 0, 0), (5, 7, 4))) == Region((-1, 0, -3), (10, 9, 10))
    assert PROBLEM.input_region(Region((1, 2, 3), (2, 4, 4))) == Region((1, 2, 6), (4, 6, 10))


@given(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 3)] * 3), st.integers(0, 3))
def test_the_output_fills_the_padded_input(sizes, steps, pad):
    (size, kernel), (stride, dilation, _) = sizes, steps
    try:
        layer = layer_arguments(1, 1, kernel, stride, pad, dilation)
        problem = conv_problem((1, 1, size, size, size), layer)
    except ShapeError:
        assert dilation * (kernel - 1) + 1 > size + 2 * pad
        return
    whole = problem.input_region(Region((0, 0, 0), problem.out_size))
    assert whole.start == (-pad,) * 3
    assert size + pad - stride < whole.stop[0] <= size + pad


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "pads"),
    (((3, 4, 1), 1, ((1, 1), (1, 2), (0, 0))), ((2, 3, 4), (1, 2, 3), ((0, 1), (2, 2), (4, 5)))),
)
def test_same_pads_keep_the_size(kernel_size, dilation, pads):
    layer = layer_arguments(1, 1, kernel_size, 1, "same", dilation)
    assert layer.pads == pads
    assert conv_problem((1, 1, 5, 6, 7), layer).out_size == (5, 6, 7)


def test_same_with_a_stride_is_for_named_kernels_only():
    layer = layer_arguments(1, 1, 4, 2, "same", strided_same=True)
    assert layer.pads == ((1, 2),) * 3
    assert conv_problem((1, 1, 8, 9, 10), layer).out_size == (4, 5, 5)
    with pytest.raises(ArgumentError, match=r"padding='same' needs stride 1, not \(2, 2, 2\)"):
        layer_arguments(1, 1, 4, 2, "same")


def test_checked_arguments_are_plain():
    layer = layer_arguments(np.int64(2), 4, [1, 2, 3], np.uint8(2), (1, 1, 0), 1, 2)
    assert (layer.in_channels, layer.kernel_size, layer.stride, layer.padding) == (2, (1, 2, 3), (2, 2, 2), (1, 1, 0))
    assert all(type(value) is int for value in (layer.in_channels, *layer.stride))


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    (
        (True, ArgumentTypeError, "n must be an integer, not True"),
        (1.0, ArgumentTypeError, r"n must be an integer, not 1\.0"),
        ("1", ArgumentTypeError, "n must be an integer, not '1'"),
        (None, ArgumentTypeError, "n must be an integer, not None"),
        (1, ArgumentError, "n must be at least 2, not 1"),
    ),
)
def test_what_is_no_integer(value, kind, words):
    with pytest.raises(kind, match=words):
        integer("n", value, 2)
    with pytest.raises(kind, match=words.replace("n must", "n along H must")):
        triple("n", (2, value, 2), 2)


def test_integers_and_triples():
    assert integer("n", np.int8(5), 5) == 5
    assert integer("n", 2**62, 1) == 2**62
    with pytest.raises(ArgumentError, match=r"n must be at most 2\*\*62"):
        integer("n", 2**62 + 1, 1)
    assert triple("n", 4, 1) == (4, 4, 4)
    assert triple("n", [1, 2, 3], 1) == (1, 2, 3)
    for wrong in ((), (1, 1), (1, 1, 1, 1)):
        with pytest.raises(ArgumentError, match=f"n must be one integer or three .*not {len(wrong)}"):
            triple("n", wrong, 1)


def test_an_input_that_does_not_fit_is_refused():
    layer = layer_arguments(2, 1, 3)
    with pytest.raises(ShapeError, match=r"takes 2 input channels, but the input has 3 \(shape \(1, 3, 9, 9, 9\)"):
        conv_problem((1, 3, 9, 9, 9), layer)
    with pytest.raises(ShapeError, match=r"larger than the padded input along H: .*the input has 2 \+ 0 \+ 0 = 2"):
        conv_problem((1, 2, 9, 2, 9), layer)
    with pytest.raises(ShapeError, match="no voxels along W"):
        conv_problem((1, 2, 9, 9, 0), layer)


def test_regions():
    region = Region((1, 2, 3), (4, 4, 4))
    assert region.shape == (3, 2, 1)
    assert region.voxels == 6
    assert np.zeros((5, 5, 5))[region.slices].shape == (3, 2, 1)
