"""Arrays as volumes: what is viewed, what is copied, and which types are computed in."""

import numpy as np
import pytest

from lucid_core.errors import ArgumentTypeError
from lucid_core.regions import Region
from lucid_core.volume import ArrayReader, ArrayWriter, arithmetic_dtype, promoted

REGION = Region((1, 0, 2), (3, 2, 4))


@pytest.mark.parametrize(
    ("given", "computed", "returned"),
    (
        ("float16", "float32", "float16"),
        ("float32", "float32", "float32"),
        (">f4", "float32", "float32"),
        ("float64", "float64", "float64"),
        ("bool", "float32", "float32"),
        ("int8", "float32", "float32"),
        ("uint16", "float32", "float32"),
        ("int32", "float64", "float64"),
        ("uint64", "float64", "float64"),
    ),
)
def test_types(given, computed, returned):
    assert (arithmetic_dtype(given), promoted(given)) == (np.dtype(computed), np.dtype(returned))


@pytest.mark.parametrize("given", ("longdouble", "complex64", "U3", "O", "M8[s]"))
def test_what_is_no_real_number_of_64_bits_is_refused(given):
    for function in (arithmetic_dtype, promoted):
        with pytest.raises(ArgumentTypeError, match=r"cannot convolve values of dtype .*; legal: float16, float32"):
            function(given)


def test_an_array_is_viewed_where_its_rows_lie_in_one_piece():
    x = np.arange(2 * 3 * 4 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 4, 5)
    for array in (x, x[:, ::2, 1:, ::-1], x[..., 2:], x.transpose(0, 2, 1, 3, 4), x[..., 3:4][..., ::-1]):
        view = ArrayReader(array).view(1, np.float32)
        assert np.shares_memory(view, x)
        np.testing.assert_array_equal(view, array[1])
    for array in (x[..., ::-1], x[..., ::2], x.transpose(0, 1, 2, 4, 3), x.astype(">f4"), x.astype(np.float64)):
        assert ArrayReader(array).view(1, np.float32) is None


def test_reading_and_writing_a_region():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 5))
    reader, out = ArrayReader(x), np.zeros_like(x)
    block = np.empty((3, *REGION.shape))
    reader.read(1, REGION, block)
    np.testing.assert_array_equal(block, x[1][:, 1:3, 0:2, 2:4])
    assert reader.shape == x.shape
    writer = ArrayWriter(out)
    writer.write(1, REGION, writer.encode(1, REGION, block))
    np.testing.assert_array_equal(writer.view(1, REGION), block)
    assert np.count_nonzero(out) == block.size
