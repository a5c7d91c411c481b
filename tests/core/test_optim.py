"""Optimizers: by the published algorithms in plain loops, step by step as in torch, and their state."""

import importlib.util
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_core import optim
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from lucid_core.nn import Conv3d, Parameter

HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
STEPS = 8

rates = st.sampled_from((0.0, 1e-3, 0.02, 0.3, 1.0))
decays = st.sampled_from((0.0, 1e-4, 0.1))
fractions = st.one_of(st.just(0.0), st.floats(0, 0.999))


@st.composite
def descents(draw):
    """Draw the arguments of SGD."""
    arguments = {"lr": draw(rates), "momentum": draw(fractions), "weight_decay": draw(decays)}
    if arguments["momentum"] and draw(st.booleans()):
        return arguments | {"nesterov": True}
    return arguments | {"dampening": draw(fractions)}


# Were the second of betas near 0, a step could be any multiple of lr, and the rounding errors with it.
adams = st.fixed_dictionaries(
    {
        "lr": rates,
        "betas": st.tuples(fractions, st.floats(0.5, 0.999)),
        "eps": st.sampled_from((1e-8, 1e-3)),
        "weight_decay": decays,
    }
)
optimizers = st.one_of(st.tuples(st.just("SGD"), descents()), st.tuples(st.just("Adam"), adams))


def started(dtype=np.float64):
    """Return three parameters, and gradients for each step: the second has none at times, the third has one number."""
    random = np.random.default_rng(0)
    shapes = ((2, 1, 3), (4,), ())
    parameters = [Parameter(random.normal(size=shape).astype(dtype)) for shape in shapes]
    grads = [[random.normal(size=shape).astype(dtype) for shape in shapes] for _ in range(STEPS)]
    for step in (0, 3):
        grads[step][1] = None
    return parameters, grads


def walk(optimizer, grads):
    """Yield the parameters after each step."""
    for step in grads:
        optimizer.zero_grad()
        for parameter, grad in zip(optimizer.parameters, step, strict=True):
            if grad is not None:
                parameter.add_grad(grad)
        optimizer.step()
        yield [parameter.data for parameter in optimizer.parameters]


def slope(at):
    """Return the derivative of sum(cos(k t)), of one list of numbers."""
    return [-k * math.sin(k * t) for k, t in enumerate(at, 1)]


class TestByThePublishedAlgorithm:
    START = (0.3, -0.8, 0.45)

    def ours(self, optimizer):
        parameter = optimizer.parameters[0]
        for _ in range(STEPS):
            optimizer.zero_grad()
            parameter.add_grad(slope(parameter.data))
            optimizer.step()
            yield parameter.data

    def test_adam_of_kingma_and_ba(self):
        rate, first, second, eps = 0.07, 0.8, 0.95, 1e-6
        theta, m, v = list(self.START), [0.0] * 3, [0.0] * 3
        optimizer = optim.Adam([Parameter(self.START)], rate, (first, second), eps)
        for t, found in enumerate(self.ours(optimizer), 1):
            g = slope(theta)
            for i in range(3):
                m[i] = first * m[i] + (1 - first) * g[i]
                v[i] = second * v[i] + (1 - second) * g[i] ** 2
                theta[i] -= rate * (m[i] / (1 - first**t)) / (math.sqrt(v[i] / (1 - second**t)) + eps)
            np.testing.assert_allclose(found, theta, rtol=1e-13)

    def test_classical_momentum_of_sutskever(self):
        rate, momentum = 0.05, 0.9
        theta, v = list(self.START), [0.0] * 3
        for found in self.ours(optim.SGD([Parameter(self.START)], rate, momentum)):
            v = [momentum * speed - rate * g for speed, g in zip(v, slope(theta), strict=True)]
            theta = [t + speed for t, speed in zip(theta, v, strict=True)]
            np.testing.assert_allclose(found, theta, rtol=1e-13)

    def test_the_parameter_of_nesterov_is_where_the_published_one_takes_its_gradient(self):
        rate, momentum = 0.05, 0.9
        theta, v = list(self.START), [0.0] * 3
        for found in self.ours(optim.SGD([Parameter(self.START)], rate, momentum, nesterov=True)):
            ahead = [t + momentum * speed for t, speed in zip(theta, v, strict=True)]
            v = [momentum * speed - rate * g for speed, g in zip(v, slope(ahead), strict=True)]
            theta = [t + speed for t, speed in zip(theta, v, strict=True)]
            ahead = [t + momentum * speed for t, speed in zip(theta, v, strict=True)]
            np.testing.assert_allclose(found, ahead, rtol=1e-13)

    def test_plain_descent_with_decay(self):
        theta = list(self.START)
        for found in self.ours(optim.SGD([Parameter(self.START)], 0.1, weight_decay=0.3)):
            theta = [t - 0.1 * (g + 0.3 * t) for t, g in zip(theta, slope(theta), strict=True)]
            np.testing.assert_allclose(found, theta, rtol=1e-13)


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize(("dtype", "close"), ((np.float64, 1e-14), (np.float32, 8 * 2.0**-23)))
@given(optimizers)
def test_step_by_step_as_torch(dtype, close, drawn):
    import torch

    name, arguments = drawn
    parameters, grads = started(dtype)
    theirs = [torch.from_numpy(parameter.data.copy()).requires_grad_() for parameter in parameters]
    expected = getattr(torch.optim, name)(theirs, **arguments)
    largest = [np.abs(parameter.data).max() for parameter in parameters]
    for step, found in zip(grads, walk(getattr(optim, name)(parameters, **arguments), grads), strict=True):
        for tensor, grad in zip(theirs, step, strict=True):
            tensor.grad = None if grad is None else torch.from_numpy(np.array(grad))
        expected.step()
        for number, (ours, tensor) in enumerate(zip(found, theirs, strict=True)):
            largest[number] = max(largest[number], np.abs(ours).max())
            assert ours.dtype == dtype
            np.testing.assert_allclose(ours, tensor.detach().numpy(), rtol=0, atol=close * largest[number])


@pytest.mark.parametrize("suffix", (".npz", None))
@given(optimizers)
def test_a_state_goes_on_where_it_was(suffix, drawn):
    name, arguments = drawn
    parameters, grads = started()
    first = getattr(optim, name)(parameters, **arguments)
    list(walk(first, grads[:4]))
    state = first.state_dict()
    again = [Parameter(parameter.data) for parameter in parameters]
    second = getattr(optim, name)(again, lr=0.5)
    if suffix:
        with io.BytesIO() as file:
            np.savez(file, **state)
            file.seek(0)
            second.load_state_dict(np.load(file))
    else:
        second.load_state_dict(state)
    for ours, theirs in zip(walk(second, grads[4:]), walk(first, grads[4:]), strict=True):
        assert all(one.tobytes() == other.tobytes() for one, other in zip(ours, theirs, strict=True))
    assert {key: type(value) for key, value in second.state_dict().items()} == {
        key: type(value) for key, value in first.state_dict().items()
    }
    assert second.lr == arguments["lr"]


def test_a_state_is_a_copy():
    parameters, grads = started()
    optimizer = optim.Adam(parameters)
    list(walk(optimizer, grads[:1]))
    optimizer.state_dict()["exp_avg.0"][...] = 7
    assert not (optimizer.state_dict()["exp_avg.0"] == 7).any()
    assert "exp_avg.1" not in optimizer.state_dict(), "a parameter that had no gradient has no state"


def test_a_gradient_changed_in_place_changes_no_momentum():
    parameter = Parameter([1.0])
    optimizer = optim.SGD([parameter], 0.1, momentum=0.5)
    parameter.add_grad([1.0])
    optimizer.step()
    parameter.grad[...] = 9
    assert optimizer.state_dict()["momentum_buffer.0"] == 1


@pytest.mark.parametrize("make", (lambda p: optim.SGD(p, 0.1, 0.9), optim.Adam))
def test_parameters_without_a_gradient_are_left_alone(make):
    layer = Conv3d(1, 1, 2)
    before = layer.state_dict()
    optimizer = make(layer.parameters())
    optimizer.step()
    assert all(layer.state_dict()[name].tobytes() == before[name].tobytes() for name in before)
    layer.bias.add_grad([1.0])
    optimizer.step()
    assert layer.state_dict()["weight"].tobytes() == before["weight"].tobytes()
    assert layer.bias.data < before["bias"]
    optimizer.zero_grad()
    assert layer.bias.grad is None


def test_float16_is_computed_in_float32():
    half, single = (Parameter(np.array([1.0, -2.0], dtype)) for dtype in ("f2", "f4"))
    grads = np.float16([1e-4, -3e-5])
    for parameter in (half, single):
        parameter.add_grad(grads)
        optim.Adam([parameter], lr=0.125).step()
    assert half.dtype == np.float16
    assert half.data.tolist() == single.data.astype(np.float16).tolist() != [1.0, -2.0]


def test_a_step_keeps_the_array_it_was_given():
    data = np.ones(2)
    data.flags.writeable = False
    parameter = Parameter(data)
    parameter.data = data
    parameter.add_grad(np.ones(2))
    optim.SGD([parameter], 0.5).step()
    assert (data.tolist(), parameter.data.tolist()) == ([1, 1], [0.5, 0.5])


def test_a_parameter_given_twice_moves_once():
    parameter = Parameter([1.0])
    parameter.add_grad([1.0])
    optim.SGD([parameter, parameter], 0.25).step()
    assert parameter.data == 0.75


def test_a_rate_can_be_changed_between_steps():
    parameter = Parameter([1.0])
    optimizer = optim.SGD([parameter], 0.25)
    optimizer.lr = 0.5
    parameter.add_grad([1.0])
    optimizer.step()
    assert parameter.data == 0.5


P = [Parameter([1.0, 2.0])]


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    (
        (lambda: optim.SGD([], 0.1), ArgumentError, "there are no parameters"),
        (lambda: optim.SGD(P[0], 0.1), ArgumentTypeError, r"such as layer\.parameters\(\), not Parameter"),
        (lambda: optim.SGD([np.ones(2)], 0.1), ArgumentTypeError, r"of lucid_core\.nn\.Parameter, not ndarray"),
        (lambda: optim.SGD([Parameter([1])], 0.1), ArgumentTypeError, "dtype int64 cannot learn"),
        (lambda: optim.SGD(P, -1), ArgumentError, "lr must be at least 0 and below inf, not -1"),
        (lambda: optim.SGD(P, np.nan), ArgumentError, "lr must be at least 0"),
        (lambda: optim.SGD(P, "1"), ArgumentTypeError, "lr must be a number, not '1'"),
        (lambda: optim.SGD(P, 1, True), ArgumentTypeError, "momentum must be a number, not True"),
        (lambda: optim.SGD(P, 1, nesterov=1), ArgumentTypeError, "nesterov must be True or False, not 1"),
        (lambda: optim.SGD(P, 1, nesterov=True), ArgumentError, "nesterov needs a momentum and dampening 0"),
        (lambda: optim.SGD(P, 1, 0.5, 0.5, nesterov=True), ArgumentError, r"not momentum=0\.5, dampening=0\.5"),
        (lambda: optim.Adam(P, betas=0.9), ArgumentTypeError, r"betas must be two numbers, such as .*, not 0\.9"),
        (lambda: optim.Adam(P, betas=(0.9, 1)), ArgumentError, "the second of betas must be at least 0 and below 1"),
        (lambda: optim.Adam(P, eps=-1e-8), ArgumentError, "eps must be at least 0"),
        (lambda: optim.Adam(P, weight_decay=np.inf), ArgumentError, "weight_decay must be .* below inf, not inf"),
    ),
)
def test_wrong_arguments_are_refused(make, kind, words):
    with pytest.raises(kind, match=words):
        make()


ADAM = {"lr": 0.5, "betas": (0.5, 0.5), "eps": 0.0, "weight_decay": 0.0}
KEPT = {"step.0": 2, "exp_avg.0": np.ones(2), "exp_avg_sq.0": np.ones(2)}


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    (
        ([1], ArgumentTypeError, "state_dict must be a mapping of names to values, not list"),
        ({"lr": 0.5}, ArgumentError, r"missing \['betas', 'eps', 'weight_decay'\], unknown \[\]"),
        (ADAM | {"momentum": 1}, ArgumentError, r"Adam of 1 parameters: missing \[\], unknown \['momentum'\]"),
        (ADAM | {"exp_avg.1": np.ones(2)}, ArgumentError, r"unknown \['exp_avg\.1'\]"),
        (ADAM | {"step.0": 2}, ArgumentError, r"missing \['exp_avg\.0', 'exp_avg_sq\.0'\]"),
        (ADAM | KEPT | {"step.0": 0}, ArgumentError, r"step\.0 must be at least 1, not 0"),
        (ADAM | KEPT | {"exp_avg.0": np.ones(3)}, ShapeError, r"exp_avg\.0 has shape \(3,\), and its parameter \(2,\)"),
        (ADAM | KEPT | {"exp_avg.0": [1, 2]}, ArgumentTypeError, r"exp_avg\.0 has dtype int64; legal: floats"),
        (ADAM | KEPT | {"lr": -1.0}, ArgumentError, r"lr must be at least 0 and below inf, not -1\.0"),
    ),
)
def test_a_state_that_does_not_fit_changes_nothing(state, kind, words):
    optimizer = optim.Adam([Parameter([1.0, 2.0])])
    before = optimizer.state_dict()
    with pytest.raises(kind, match=words):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict() == before


def test_a_gradient_of_another_shape_is_refused():
    parameter = Parameter([1.0, 2.0])
    parameter.grad = np.ones(1)
    with pytest.raises(ShapeError, match=r"grad has shape \(1,\), and its parameter \(2,\)"):
        optim.SGD([parameter], 0.1).step()
