"""Where output voxels lie: a linear ramp stays the same ramp in world coordinates under the new affine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_core import conv3d
from lucid_core.arguments import layer_arguments
from lucid_core.geometry import affine_of, grid_transform, is_usable, rescale, scaled, spacing_of
from lucid_core.problem import conv_problem

GRADIENT, LEVEL = np.array([1.3, -0.7, 2.1]), 11.0
COS, SIN = np.cos(0.4), np.sin(0.4)
AFFINES = {
    "straight": np.array([[1.5, 0, 0, -20], [0, 2, 0, 5], [0, 0, 3, 7], [0, 0, 0, 1]]),
    "flipped": np.array([[-1.5, 0, 0, 90], [0, 2, 0, 5], [0, 0, -3, 7], [0, 0, 0, 1]]),
    "oblique": np.array([[COS, -2 * SIN, 0, 3], [SIN, 2 * COS, 0, -8], [0, 0, 1.2, 40], [0, 0, 0, 1]]),
    "permuted": np.array([[0, 0, 3, 1.5], [-2, 0, 0, 2.5], [0, 1.5, 0, -3.5], [0, 0, 0, 1]]),
    "sheared": np.array([[1.5, 0.4, -0.3, 0], [0, 2, 0.6, 0], [0.2, 0, 3, 0], [0, 0, 0, 1]]),
}


def ramp(affine, size):
    """Return the volume (D, H, W) of gradient . world + level at the voxels that an affine places."""
    z, y, x = np.indices(size)
    world = np.einsum("ij,j...->i...", affine, np.stack([x, y, z, np.ones(size)]))[:3]
    return np.einsum("i,i...->...", GRADIENT, world) + LEVEL


def symmetric_kernel(size):
    """Return taps that sum to 1 and are the same from both ends of every axis."""
    axes = [np.minimum(np.arange(taps), np.arange(taps)[::-1]) + 1.0 for taps in size]
    kernel = np.einsum("i,j,k->ijk", *axes)
    return kernel / kernel.sum()


def inside(problem):
    """Say for each output voxel whether all the voxels it sees lie in the volume."""
    axes = []
    for axis, count in enumerate(problem.out_size):
        first = np.arange(count) * problem.stride[axis] - problem.pads[axis][0]
        last = first + problem.dilation[axis] * (problem.kernel_size[axis] - 1)
        axes.append((first >= 0) & (last < problem.size[axis]))
    return np.einsum("i,j,k->ijk", *axes).astype(bool)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@given(
    kernel_size=st.tuples(*[st.integers(1, 4)] * 3),
    stride=st.tuples(*[st.integers(1, 4)] * 3),
    padding=st.one_of(st.just("valid"), st.just("same"), st.tuples(*[st.integers(0, 3)] * 3)),
    dilation=st.tuples(*[st.integers(1, 3)] * 3),
    mode=st.sampled_from(("zeros", "replicate")),
)
@settings(max_examples=40)
def test_a_ramp_stays_where_it_is(affine, kernel_size, stride, padding, dilation, mode):
    stride = (1, 1, 1) if padding == "same" else stride
    layer = layer_arguments(1, 1, kernel_size, stride, padding, dilation, 1, mode)
    x = ramp(affine, (12, 11, 13))
    problem = conv_problem((1, 1, *x.shape), layer)
    values = conv3d(x[None], symmetric_kernel(kernel_size)[None, None], None, stride, padding, dilation, 1, mode)[0]
    expected = ramp(affine @ grid_transform(problem), values.shape)
    seen = inside(problem)
    assert seen.any()
    np.testing.assert_allclose(values[seen], expected[seen], rtol=0, atol=1e-12 * np.abs(x).max())


@given(st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.integers(0, 2)] * 3))
def test_the_spacing_is_that_of_the_new_affine(stride, padding):
    problem = conv_problem((1, 1, 9, 9, 9), layer_arguments(1, 1, (2, 3, 1), stride, padding))
    for affine in AFFINES.values():
        np.testing.assert_allclose(spacing_of(affine @ grid_transform(problem)), scaled(spacing_of(affine), problem))


def test_the_transform_is_in_the_order_of_the_affine():
    problem = conv_problem((1, 1, 9, 9, 9), layer_arguments(1, 1, (3, 2, 1), (1, 2, 3), (0, 1, 2)))
    expected = [[3, 0, 0, -2], [0, 2, 0, -0.5], [0, 0, 1, 1], [0, 0, 0, 1]]
    np.testing.assert_array_equal(grid_transform(problem), expected)


def test_spacing_of():
    assert spacing_of(AFFINES["straight"]) == (3.0, 2.0, 1.5)
    assert spacing_of(AFFINES["permuted"]) == (3.0, 1.5, 2.0)
    np.testing.assert_allclose(spacing_of(AFFINES["oblique"]), (1.2, 2.0, 1.0))
    assert spacing_of(np.float32(AFFINES["flipped"])) == (3.0, 2.0, 1.5)


def test_affine_of():
    np.testing.assert_array_equal(affine_of((3.0, 2.0, 1.5)), np.diag([1.5, 2, 3, 1]))


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_rescale_keeps_directions_and_origin(affine):
    before = affine.copy()
    made = rescale(affine, (1.0, 4.0, 0.5))
    np.testing.assert_allclose(spacing_of(made), (1.0, 4.0, 0.5))
    np.testing.assert_array_equal(made[:, 3], affine[:, 3])
    np.testing.assert_allclose(made[:3, :3] / (0.5, 4.0, 1.0), affine[:3, :3] / spacing_of(affine)[::-1])
    np.testing.assert_array_equal(affine, before)


def test_rescale_leaves_a_step_of_zero():
    np.testing.assert_array_equal(rescale(np.diag([0.0, 1, 1, 1]), (2.0, 2.0, 2.0)), np.diag([0.0, 2, 2, 1]))


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_proper_affine_is_usable_at_every_scale(affine):
    for factor in (1e-6, 1.0, 1e6):
        assert is_usable(affine @ np.diag([factor, factor, factor, 1]))


@pytest.mark.parametrize(
    "affine",
    (
        np.full((4, 4), np.nan),
        np.diag([1, np.inf, 1, 1]),
        np.diag([1.0, 0, 1, 1]),
        np.array([[1.0, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        np.zeros((4, 4)),
    ),
)
def test_what_places_no_voxels_is_not_usable(affine):
    assert not is_usable(affine)
