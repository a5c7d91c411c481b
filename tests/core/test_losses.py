"""Losses: the value and the gradient by plain loops and by torch, for the voxels that count."""

import importlib.util
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_core import losses
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError

LOSSES = {"mse": losses.mse, "l1": losses.l1, "huber": losses.huber}
PLAIN = {
    "mse": (lambda d: d * d, lambda d: 2 * d),
    "l1": (abs, lambda d: (d > 0) - (d < 0)),
    "huber": (lambda d: d * d / 2 if abs(d) <= 1 else abs(d) - 0.5, lambda d: max(-1.0, min(1.0, d))),
}
"""Term and derivative of one difference."""
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")


@st.composite
def arrays(draw):
    """Draw an output, a target, a weight or None, and the weight in the output's shape."""
    batch = draw(st.sampled_from(((), (1,), (2,))))
    shape = (*batch, draw(st.integers(1, 3)), *draw(st.tuples(*[st.integers(1, 5)] * 3)))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    output, target = 1.5 * random.normal(size=(2, *shape))
    output[random.random(shape) < 0.1] = target[random.random(shape) < 0.1] = 1.0
    kind = draw(st.sampled_from((None, "voxels", "values")))
    weight = None if kind is None else random.random(shape[-3:] if kind == "voxels" else shape) < 0.6
    full = np.ones(shape, bool) if weight is None else np.broadcast_to(weight, shape)
    return output.astype(draw(st.sampled_from(("f4", "f8", ">f4")))), target, weight, full


def plain(name, output, target, weight):
    """Return the sum over what counts, and its gradient, by loops over Python floats."""
    term, derivative = PLAIN[name]
    differences = {i: float(output[i]) - float(target[i]) for i in np.ndindex(output.shape) if weight[i]}
    gradient = np.zeros(output.shape)
    for i, difference in differences.items():
        gradient[i] = derivative(difference)
    return math.fsum(map(term, differences.values())), gradient


@pytest.mark.parametrize("name", LOSSES)
@given(arrays())
def test_value_and_gradient_by_the_definition(name, drawn):
    output, target, weight, full = drawn
    if not full.any():
        with pytest.raises(ArgumentError, match="no voxel counts"):
            LOSSES[name](output, target, weight)
        return
    total, gradient = plain(name, output, target, full)
    value, found = LOSSES[name](output, target, weight)
    assert type(value) is float
    assert value == pytest.approx(total / full.sum(), rel=1e-14)
    assert found.dtype == output.dtype.newbyteorder("=")
    assert losses.counted(output, weight) == full.sum()
    np.testing.assert_allclose(found, gradient / full.sum(), rtol=1e-6 if found.dtype == "f4" else 1e-15)


@pytest.mark.parametrize("name", LOSSES)
@given(arrays())
def test_tiles_add_up_to_the_whole(name, drawn):
    output, target, weight, full = drawn
    count = losses.counted(output, weight)
    if not count:
        return
    whole = LOSSES[name](output, target, weight)
    tiles = [slice(0, 1), slice(1, None)]
    parts = [LOSSES[name](output[..., at], target[..., at], full[..., at], count) for at in tiles]
    assert sum(part.value for part in parts) == pytest.approx(whole.value, rel=1e-14)
    assert np.array_equal(np.concatenate([part.gradient for part in parts], -1), whole.gradient)
    sums = [LOSSES[name](output[..., at], target[..., at], full[..., at], 1).value for at in tiles]
    assert sum(sums) / count == pytest.approx(whole.value, rel=1e-14)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("bad", (np.nan, np.inf))
def test_what_does_not_count_is_not_looked_at(name, bad):
    output, target = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 5, 6))
    weight = np.zeros((4, 5, 6), bool)
    weight[1:3] = True
    clean = LOSSES[name](output, target, weight)
    output[..., ~weight] = bad
    target[0, ..., ~weight] = bad
    found = LOSSES[name](output, target, weight)
    assert found.value == clean.value
    assert np.array_equal(found.gradient, clean.gradient)
    assert not found.gradient[..., ~weight].any()


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_memory_and_the_blocks_change_no_gradient(name):
    output, target = np.random.default_rng(0).normal(size=(2, 2, 3, 17, 19, 23)).astype(np.float32)
    assert output.size > 2 * losses.BLOCK
    value, gradient = LOSSES[name](output, target)
    turned = LOSSES[name](np.asfortranarray(output), target[:, ::-1].copy()[:, ::-1])
    assert turned.value == pytest.approx(value, rel=1e-14)
    assert np.array_equal(turned.gradient, gradient)
    assert value == pytest.approx(plain(name, output, target, np.ones_like(output))[0] / output.size, rel=1e-13)


def test_targets_of_other_dtypes():
    output = np.float32([[[[0.5, 3]]]])
    for dtype in ("u1", "i8", "f8", "f2", "?"):
        target = np.array([[[[1, 0]]]], dtype)
        value, gradient = losses.mse(output, target)
        assert (value, gradient.dtype, gradient.tolist()) == (4.625, np.float32, [[[[-0.5, 3]]]])
    value, gradient = losses.mse(output.astype(np.float16), target)
    assert (value, gradient.dtype) == (4.625, np.float16)


def test_a_sum_beyond_float32_and_an_infinite_one():
    assert losses.mse(np.full((1, 1, 1, 2), 1e30, np.float32), np.zeros((1, 1, 1, 2))).value == pytest.approx(1e60)
    assert losses.mse(np.full((1, 1, 1, 2), 1e200), np.zeros((1, 1, 1, 2))).value == math.inf
    assert math.isnan(losses.l1(np.full((1, 1, 1, 2), np.nan), np.zeros((1, 1, 1, 2))).value)


X = np.zeros((1, 2, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    (
        ((X, X[:, :1]), ShapeError, r"target must have the shape \(1, 2, 2, 2\) of output, not \(1, 1, 2, 2\)"),
        ((X[0], X[0]), ShapeError, r"output must have 5 axes \(N, C, D, H, W\), or 4 .*, not 3"),
        ((X.astype(int), X), ArgumentTypeError, "output has dtype int64; legal: float16, float32, float64"),
        ((X, X.astype(complex)), ArgumentTypeError, "target has dtype complex128; legal: real numbers"),
        ((X, X, X), ArgumentTypeError, "weight must be True or False at each voxel, not float64: give weight != 0"),
        ((X, X, X[0, 0] == 0), ShapeError, r"weight must have shape \(2, 2, 2\) \(D, H, W\), or \(1, 2, 2, 2\)"),
        ((X, X, X[0] != 0), ArgumentError, "no voxel counts"),
        ((X, X, None, 0), ArgumentError, "count must be at least 1, not 0"),
    ),
)
def test_what_does_not_fit_is_refused(arguments, kind, words):
    with pytest.raises(kind, match=words):
        losses.mse(*arguments)


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize("name", LOSSES)
@given(arrays(), st.booleans())
def test_equal_to_torch(name, drawn, bad):
    import torch

    output, target, weight, full = drawn
    output, target = output.astype(output.dtype.newbyteorder("=")), target.astype(output.dtype.newbyteorder("="))
    if bad:
        output.reshape(-1)[-1] = np.nan
    if not full.any():
        return
    theirs = torch.from_numpy(output).requires_grad_()
    inside = torch.from_numpy(full.copy())
    function = getattr(torch.nn.functional, f"{name}_loss")
    expected = function(theirs[inside], torch.from_numpy(target)[inside])
    expected.backward()
    value, gradient = LOSSES[name](output, target, weight)
    close = 1e-14 if output.dtype == np.float64 else 1e-6
    assert value == pytest.approx(expected.item(), rel=close, nan_ok=True)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=close)


def test_a_delta_is_another_unit():
    output, target = np.random.default_rng(0).normal(0, 3, (2, 1, 2, 3, 4, 5))
    scaled, plain = losses.huber(output / 0.3, target / 0.3), losses.huber(output, target, delta=0.3)
    assert plain.value == pytest.approx(scaled.value * 0.3**2)
    np.testing.assert_allclose(plain.gradient, scaled.gradient * 0.3)
    with pytest.raises(ArgumentError, match="above 0"):
        losses.huber(output, target, delta=0)
