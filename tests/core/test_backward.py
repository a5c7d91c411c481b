"""Layers backwards: against torch.autograd and finite differences, alone and in a `Sequential`, and what they keep."""

import copy
import importlib.util
import pickle
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid_core as lucid
from lucid_core import losses, nn, optim
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
MODES = ("zeros", "reflect", "replicate", "circular")
OPERATIONS = {
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.25),
    "abs": nn.Abs(),
    "clip": nn.Clip(-1, 2),
    "scale": nn.Scale(-1.5, 0.25),
    "magnitude": nn.Magnitude(),
}


def in_torch(layer, x):
    """Return what a layer makes of a tensor, computed by torch, whose parameters are `layer.tensors`."""
    import torch

    if isinstance(layer, nn.Sequential):
        for one in layer:
            x = in_torch(one, x)
        return x
    if isinstance(layer, nn.Conv3d):
        theirs = torch.nn.Conv3d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            dtype=getattr(torch, layer.dtype.name),
        )
        for name, parameter in layer.named_parameters():
            getattr(theirs, name).data = torch.from_numpy(parameter.data.copy())
        layer.twin = dict(theirs.named_parameters())
        return theirs(x)
    return {
        nn.ReLU: torch.relu,
        nn.LeakyReLU: lambda y: torch.nn.functional.leaky_relu(y, layer.operation.slope),
        nn.Abs: torch.abs,
        nn.Clip: lambda y: torch.clamp(y, layer.operation.low, layer.operation.high),
        nn.Scale: lambda y: layer.operation.factor * y + layer.operation.offset,
        nn.Magnitude: lambda y: torch.linalg.vector_norm(y, dim=-4, keepdim=True),
    }[type(layer)](x)


def convolutions(layer):
    """Yield the convolutions of a layer."""
    if isinstance(layer, nn.Conv3d):
        yield layer
    elif isinstance(layer, nn.Sequential):
        for one in layer:
            yield from convolutions(one)


def numbers(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def small_net(dtype=np.float64):
    """Return layers in layers, of 2 channels, for at least 4 voxels an axis."""
    lucid.manual_seed(1)
    inner = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1, padding_mode="reflect", dtype=dtype), nn.LeakyReLU(0.2))
    first = nn.Conv3d(2, 3, 2, dtype=dtype)
    last = nn.Conv3d(4, 2, (2, 1, 3), 2, (1, 0, 1), groups=2, bias=False, dtype=dtype)
    return nn.Sequential(nn.Scale(0.5, 0.1), first, inner, last, nn.Clip(-0.6, 0.6))


@st.composite
def nets(draw):
    """Draw layers that fit one another, some of them in a `Sequential` inside, and a shape for them."""
    lucid.manual_seed(draw(st.integers(0, 99)))
    triples = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * 3))  # noqa: E731
    channels, size = draw(st.integers(1, 3)), triples(6, 9)
    shape = (*draw(st.sampled_from(((), (1,), (2,)))), channels, *size)
    layers = []
    for _ in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from((1, channels)))
        out = groups * draw(st.integers(1, 2))
        kernel, padding, bias = triples(1, 2), triples(0, 1), draw(st.booleans())
        stride, mode = draw(st.sampled_from((1, 1, 2))), draw(st.sampled_from(MODES))
        conv = nn.Conv3d(channels, out, kernel, stride, padding, 1, groups, bias, padding_mode=mode, dtype=np.float64)
        if min((n + 2 * p - k) // stride + 1 for n, p, k in zip(size, padding, kernel, strict=True)) < 2:
            break
        size = [(n + 2 * p - k) // stride + 1 for n, p, k in zip(size, padding, kernel, strict=True)]
        operation = draw(st.sampled_from(list(OPERATIONS.values())))
        channels = operation.operation.channels(out)
        layers += draw(st.sampled_from(([conv, operation], [nn.Sequential(conv, operation)])))
    return nn.Sequential(*layers), shape


@needs_torch
@pytest.mark.torch
@settings(max_examples=30)
@given(nets())
def test_a_net_as_torch_differentiates_it(drawn):
    import torch

    net, shape = drawn
    x = numbers(shape)
    theirs = torch.from_numpy(x).requires_grad_()
    expected = in_torch(net, theirs)
    grad = numbers(expected.shape, seed=1)
    expected.backward(torch.from_numpy(grad))
    result = net(x)
    np.testing.assert_allclose(result, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(net.backward(grad), theirs.grad.numpy(), rtol=1e-10, atol=1e-10)
    for layer in convolutions(net):
        for name, parameter in layer.named_parameters():
            assert parameter.grad.dtype == parameter.dtype
            np.testing.assert_allclose(parameter.grad, layer.twin[name].grad.numpy(), rtol=1e-10, atol=1e-10)


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_as_torch_differentiates_them_at_their_kinks(name, dtype):
    import torch

    special = [0.0, -0.0, -1, 2, np.nan, np.inf, -np.inf, -1.5, 2.5, 0.5]
    x = np.array([[a, b] for a in special for b in (*special[:2], 1, np.nan, np.inf)], dtype).T.reshape(2, 1, 5, -1)
    theirs = torch.from_numpy(x.copy()).requires_grad_()
    expected = in_torch(OPERATIONS[name], theirs)
    grad = numbers(expected.shape, dtype)
    grad.reshape(-1)[:7] = np.nan
    expected.backward(torch.from_numpy(grad))
    kept = x.copy(), grad.copy()
    found = OPERATIONS[name].gradient(x, grad)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, theirs.grad.numpy(), rtol=4 * np.finfo(dtype).eps)
    assert (x.tobytes(), grad.tobytes()) == tuple(one.tobytes() for one in kept)
    assert OPERATIONS[name].gradient(x[None], grad[None]).tobytes() == found.tobytes()


@pytest.mark.parametrize(
    ("name", "slopes"),
    (
        ("relu", (0, 0, 0, 1, 1, 1)),
        ("leaky_relu", (0.25, 0.25, 0.25, 1, 1, 0.25)),
        ("abs", (-1, -1, 0, 1, 1, 0)),
        ("clip", (0, 1, 1, 1, 0, 0)),
        ("scale", (-1.5,) * 6),
    ),
)
def test_the_slope_of_an_operation(name, slopes):
    x = np.float32([-3, -1, 0, 2, 3, np.nan]).reshape(1, 1, 1, 6)
    if name == "relu":
        slopes = (*slopes[:5], 1)
    assert OPERATIONS[name].gradient(x, np.full_like(x, 2)).ravel().tolist() == [2 * slope for slope in slopes]


def test_the_slope_of_a_length_is_a_unit_vector_and_0_at_0():
    x = np.array([[3.0, 0], [4, 0]]).reshape(2, 1, 1, 2)
    found = nn.Magnitude().gradient(x, np.full((1, 1, 1, 2), 5.0))
    assert found.reshape(2, 2).tolist() == [[3, 0], [4, 0]]


def test_labels_have_no_gradient():
    layer = nn.Argmax()
    layer(np.ones((2, 1, 1, 1)))
    with pytest.raises(ArgumentError, match="argmax has no gradient, labels being whole numbers"):
        layer.backward(np.ones((1, 1, 1, 1)))


def test_finite_differences_of_a_net():
    net, x = small_net(), numbers((2, 2, 5, 6, 5))
    grad = numbers(net(x).shape, seed=1)
    above = net.backward(grad)
    step = 1e-6
    numbers_of = [(x, above), *((parameter.data, parameter.grad) for parameter in net.parameters())]
    for array, gradient in numbers_of:
        for index in np.random.default_rng(2).integers(array.size, size=12):
            at, ends = np.unravel_index(index, array.shape), []
            kept = array[at]
            for sign in (1, -1):
                array[at] = kept + sign * step
                ends.append((net.forward(x) * grad).sum())
            array[at] = kept
            assert gradient[at] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6, abs=1e-7)


def test_gradients_add_up_until_they_are_forgotten():
    net, x = small_net(), numbers((1, 2, 5, 5, 5))
    grad = numbers(net(x).shape, seed=1)
    first = net.backward(grad)
    once = [parameter.grad.copy() for parameter in net.parameters()]
    assert net.backward(grad).tobytes() == first.tobytes()
    for parameter, one in zip(net.parameters(), once, strict=True):
        np.testing.assert_array_equal(parameter.grad, 2 * one)
    net.zero_grad()
    assert [parameter.grad for parameter in net.parameters()] == [None] * 5
    net(x)
    net.backward(grad)
    for parameter, one in zip(net.parameters(), once, strict=True):
        np.testing.assert_array_equal(parameter.grad, one)


def test_one_volume_is_a_batch_of_one():
    net, x = small_net(), numbers((1, 2, 5, 5, 5))
    grad = numbers(net(x).shape, seed=1)
    batch = net.backward(grad)
    net(x[0])
    assert net.backward(grad[0]).tobytes() == batch.tobytes()


def test_values_spare_the_second_computation(monkeypatch):
    net, x = small_net(), numbers((1, 2, 5, 5, 5))
    layers = [net[0], net[1], net[2][0], net[2][1], net[3], net[4]]
    values = net.values(x)
    assert [value.shape for value in values[1:]] == [
        layer.forward(value).shape for layer, value in zip(layers, values, strict=False)
    ]
    np.testing.assert_allclose(values[-1], net(x), rtol=1e-12)
    grad = numbers(values[-1].shape, seed=1)
    expected = net.gradient(x, grad)
    grads = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    for kind in (nn.Conv3d, nn.Scale, nn.LeakyReLU, nn.Clip):
        monkeypatch.setattr(kind, "forward", None)
    assert net.gradient(x, grad, values).tobytes() == expected.tobytes()
    assert [one.grad.tobytes() for one in net.parameters()] == [one.tobytes() for one in grads]
    net.zero_grad()
    net.add_gradients(x, grad, values)
    assert [one.grad.tobytes() for one in net.parameters()] == [one.tobytes() for one in grads]


def test_values_of_another_net_are_refused():
    net, x = small_net(), numbers((1, 2, 5, 5, 5))
    with pytest.raises(ArgumentError, match=r"values must be x and the results of 6 layers, as .*, not 6 arrays"):
        net.gradient(x, net(x), net.values(x)[1:])


def test_no_layers_pass_the_gradient_on():
    net, x = nn.Sequential(), numbers((1, 1, 2, 2, 2))
    assert net(x) is x
    assert net.backward(x + 1).tolist() == (x + 1).tolist()
    net.add_gradients(x, x)


class TestRequiresGrad:
    def test_it_is_said_for_one_or_for_all(self):
        net = small_net()
        assert all(parameter.requires_grad for parameter in net.parameters())
        assert net.requires_grad_(False) is net
        assert not any(parameter.requires_grad for parameter in net.parameters())
        net.requires_grad_()
        assert all(parameter.requires_grad for parameter in net.parameters())
        assert not nn.Parameter([1.0], requires_grad=False).requires_grad
        with pytest.raises(ArgumentTypeError, match="requires_grad must be True or False, not 'no'"):
            net[1].weight.requires_grad = "no"

    def test_what_does_not_require_it_has_none_and_the_rest_is_the_same(self):
        net, x = small_net(), numbers((1, 2, 5, 5, 5))
        grad = numbers(net(x).shape, seed=1)
        expected = net.backward(grad)
        kept = net[3].weight.grad
        net.zero_grad()
        net[1].requires_grad_(False)
        net[2][0].weight.requires_grad = False
        net(x)
        assert net.backward(grad).tobytes() == expected.tobytes()
        assert [name for name, one in net.named_parameters() if one.grad is not None] == ["2.0.bias", "3.weight"]
        assert net[3].weight.grad.tobytes() == kept.tobytes()

    def test_nothing_below_the_lowest_that_requires_it_is_computed(self, monkeypatch):
        net, x = small_net(), numbers((1, 2, 5, 5, 5))
        values = net.values(x)
        net.gradient(x, values[-1], values)
        kept = net[3].weight.grad
        net.zero_grad()
        net[1].requires_grad_(False)
        net[2].requires_grad_(False)
        for kind in (nn.LeakyReLU, nn.Scale):
            monkeypatch.setattr(kind, "gradient", None)
        monkeypatch.setattr(nn.Conv3d, "gradient", None)
        net.add_gradients(x, values[-1], values)
        assert net[3].weight.grad.tobytes() == kept.tobytes()
        assert net[1].weight.grad is None
        net[3].requires_grad_(False)
        monkeypatch.setattr(nn.Clip, "gradient", None)
        net.add_gradients(x, values[-1], values)

    def test_the_gradient_of_the_input_is_computed_where_it_is_asked_for(self, monkeypatch):
        asked = []

        def watched(*arrays, wanted, **arguments):
            asked.append(set(wanted))
            return lucid.conv3d_backward(*arrays, wanted=wanted, **arguments)

        monkeypatch.setattr("lucid_core.nn.conv.conv3d_backward", watched)
        x = numbers((1, 1, 3, 3, 3))
        net = pair()
        values = net.values(x)
        net.gradient(x, values[-1], values)
        net.add_gradients(x, values[-1], values)
        both = {"weight", "bias"}
        assert asked == [{"x"} | both, {"x"} | both, {"x"} | both, both]

    def test_it_does_not_keep_a_parameter_from_being_an_array(self):
        layer, x = nn.Conv3d(1, 1, 2), np.ones((1, 2, 2, 2), np.float32)
        assert lucid.conv3d(x, layer.weight, layer.bias).tobytes() == layer(x).tobytes()


class TestWhatIsKept:
    def test_the_input_is_kept_and_no_copy(self):
        layer, x = nn.Conv3d(1, 1, 1, bias=False, dtype=np.float64), np.ones((1, 1, 1, 2))
        layer(x)
        x[...] = 3
        layer.backward(np.ones((1, 1, 1, 2)))
        assert layer.weight.grad.item() == 6

    def test_nothing_but_the_shape_where_no_parameter_requires_grad(self):
        layer = nn.Conv3d(2, 1, 2).requires_grad_(False)
        x = numbers((2, 3, 3, 3), np.float32)
        grad = numbers(layer(x).shape, np.float32, 1)
        alive = weakref.ref(x)
        del x
        assert alive() is None
        found = layer.backward(grad)
        assert (found.shape, found.dtype) == ((2, 3, 3, 3), np.float32)
        layer.add_gradients(found, grad)
        assert layer.weight.grad is None
        assert found.tobytes() == layer.requires_grad_().gradient(np.ones((2, 3, 3, 3), np.float32), grad).tobytes()

    def test_a_weight_that_requires_grad_too_late_says_so(self):
        layer, x = nn.Conv3d(1, 1, 2), numbers((1, 2, 2, 2), np.float32)
        layer.weight.requires_grad = False
        result = layer(x)
        layer.backward(result)
        assert (layer.weight.grad, layer.bias.grad.item()) == (None, result.item())
        layer.weight.requires_grad = True
        with pytest.raises(ArgumentError, match=r"only since the last call, .*: call it again"):
            layer.backward(result)

    @pytest.mark.parametrize("layer", (small_net(), small_net()[1], nn.ReLU()), ids=lambda one: type(one).__name__)
    def test_until_the_next_call_and_in_no_copy(self, layer):
        x = numbers((1, 2, 5, 5, 5))
        result = layer(x)
        for other in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
            assert other.forward(x).tobytes() == result.tobytes()
            with pytest.raises(ArgumentError, match="and there was none: call the layer first"):
                other.backward(result)
        alive = weakref.ref(x)
        del x
        assert alive() is not None
        layer(numbers((1, 2, 4, 4, 4)))
        assert alive() is None

    def test_a_call_that_failed_leaves_nothing(self):
        layer, x = nn.Conv3d(2, 1, 1), np.ones((1, 2, 1, 1, 1), np.float32)
        layer(x)
        with pytest.raises(ShapeError):
            layer(x[:, :1])
        with pytest.raises(ArgumentError, match="backward of Conv3d is of its last call, and there was none"):
            layer.backward(np.ones((1, 1, 1, 1, 1), np.float32))

    def test_a_net_keeps_nothing_in_its_layers(self):
        net, x = small_net(), numbers((1, 2, 5, 5, 5))
        one_by_one = nn.Sequential(net, Shift())
        net.backward(net(x))
        one_by_one.backward(one_by_one(x))
        net.values(x)
        for layer in (*net, *net[2], one_by_one[1]):
            with pytest.raises(ArgumentError, match="there was none"):
                layer.backward(np.ones(1))

    def test_an_input_that_is_a_parameter_is_not_one_of_the_layer(self):
        layer = nn.Conv3d(1, 1, 1)
        layer(nn.Parameter(np.ones((1, 1, 1, 1), np.float32)))
        assert list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("layer", (small_net(), small_net()[1], nn.ReLU()), ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(
    ("change", "kind", "words"),
    (
        (lambda grad: grad[:, :, 1:], ShapeError, "grad .*shape"),
        (lambda grad: grad.astype(np.float32), ArgumentTypeError, "grad has dtype float32"),
    ),
)
def test_a_gradient_that_does_not_fit_is_refused(layer, change, kind, words):
    with pytest.raises(kind, match=words):
        layer.backward(change(layer(numbers((1, 2, 5, 5, 5)))))


def test_dask_is_refused_by_backward():
    da = pytest.importorskip("dask.array")
    x = np.ones((1, 2, 5, 5, 5))
    for layer in (small_net(), small_net()[1], small_net()[1].requires_grad_(False), nn.ReLU()):
        result = layer(da.from_array(x, chunks=4))
        for grad in (result, result.compute()):
            with pytest.raises(ArgumentTypeError, match=r"is an array of dask, .* give (x|grad)\.compute\(\)"):
                layer.backward(grad)
        layer(x)
        with pytest.raises(ArgumentTypeError, match=r"grad is an array of dask, .* give grad\.compute\(\)"):
            layer.backward(result)


def test_renormalizing_layers_have_no_gradient():
    layer, x = nn.Conv3d(1, 1, 3, padding=1, padding_mode="renormalize"), np.ones((1, 3, 3, 3), np.float32)
    with pytest.raises(ArgumentError, match="renormalize"):
        layer.backward(layer(x))


def test_integers_and_float16():
    layer = nn.Conv3d(1, 1, 2)
    x = np.arange(8, dtype=np.int16).reshape(1, 2, 2, 2)
    found = layer.backward(np.ones_like(layer(x)))
    assert found.dtype == layer.weight.grad.dtype == np.float32
    np.testing.assert_array_equal(layer.weight.grad.ravel(), x.ravel())
    half = nn.Sequential(nn.Conv3d(1, 1, 2, dtype="float16"), nn.ReLU())
    assert half.backward(half(x.astype(np.float16))).dtype == half[0].weight.grad.dtype == np.float16


class Shift(nn.Module):
    """A layer of one's own, with a parameter."""

    def __init__(self):
        self.by = nn.Parameter([0.5])

    def forward(self, x):
        return np.asarray(x) + self.by.data

    def gradient(self, x, grad):
        self.by.add_grad([np.sum(grad)])
        return grad


class TestModulesOfOnesOwn:
    X = numbers((1, 1, 3, 3, 3))

    def test_one_with_a_gradient_learns_in_a_net(self):
        net = nn.Sequential(nn.Conv3d(1, 1, 2, dtype=np.float64), Shift(), nn.Abs())
        result = net(self.X)
        net.backward(np.ones_like(result))
        assert net[1].by.grad.tolist() == net[0].bias.grad.tolist()
        net[1].by.requires_grad = False
        net.zero_grad()
        net.add_gradients(self.X, np.ones_like(result))
        assert net[1].by.grad is None

    def test_one_without_says_what_is_missing(self):
        class Twice(nn.Module):
            def forward(self, x):
                return 2 * np.asarray(x)

        net = nn.Sequential(nn.Conv3d(1, 1, 1, dtype=np.float64), Twice())
        for call in (net.backward, lambda grad: net.add_gradients(self.X, grad)):
            with pytest.raises(ArgumentError, match=r"Twice has no gradient: write .* gradient\(self, x, grad\)"):
                call(net(self.X))

    @pytest.mark.parametrize("base", (nn.Conv3d, nn.Sequential, nn.ReLU, Shift))
    def test_one_that_changes_a_forward_does_not_inherit_its_gradient(self, base):
        class Changed(base):
            def forward(self, x):
                return super().forward(x) * 2

        layer = Changed(1, 1, 1) if base is nn.Conv3d else Changed()
        for call in (layer.gradient, layer.add_gradients):
            with pytest.raises(ArgumentError, match="Changed has no gradient"):
                call(self.X, self.X)

    def test_one_that_changes_a_gradient_is_asked_for_it(self):
        class Clipped(nn.Conv3d):
            def gradient(self, x, grad):
                return super().gradient(x, np.clip(grad, -1, 1))

        class Doubled(nn.Sequential):
            def gradient(self, x, grad):
                return super().gradient(x, 2 * grad)

        conv = Clipped(1, 1, 1, dtype=np.float64)
        conv.add_gradients(self.X, np.full_like(self.X, 9))
        assert conv.bias.grad.item() == self.X.size
        conv.zero_grad()
        nn.Sequential(Doubled(conv)).add_gradients(self.X, np.full_like(self.X, 0.25))
        assert conv.bias.grad.item() == self.X.size / 2


class TestParameter:
    def test_a_gradient_is_a_copy_in_the_dtype_of_the_parameter(self):
        parameter, grad = nn.Parameter(np.zeros(2, np.float32)), np.array([1.0, 2.0])
        assert parameter.grad is None
        parameter.add_grad(grad)
        grad[...] = 0
        assert (parameter.grad.dtype, parameter.grad.tolist()) == (np.float32, [1, 2])

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(ShapeError, match=r"grad must have the shape \(2,\) of its parameter, not \(1,\)"):
            nn.Parameter([1.0, 2.0]).add_grad([1.0])
        with pytest.raises(ArgumentTypeError, match="a parameter of dtype int64 has no gradient; legal: floats"):
            nn.Parameter([1]).add_grad([1])


def learned(net, x, target, steps):
    """Yield the loss before each step of Adam."""
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    for _ in range(steps):
        values = net.values(x)
        loss, gradient = losses.mse(values[-1], target)
        optimizer.zero_grad()
        net.add_gradients(x, gradient, values)
        optimizer.step()
        yield loss


def pair():
    lucid.manual_seed(5)
    layers = nn.Conv3d(1, 3, 3, padding=1, dtype=np.float64), nn.LeakyReLU(0.1), nn.Conv3d(3, 1, 3, dtype=np.float64)
    return nn.Sequential(*layers)


def test_a_net_learns_a_filter():
    x = numbers((2, 1, 8, 8, 8))
    target = lucid.conv3d(x, numbers((1, 1, 3, 3, 3), seed=3) / 5)
    found = list(learned(pair(), x, target, 60))
    assert found[-1] < 0.05 * found[0]


@needs_torch
@pytest.mark.torch
def test_a_net_learns_step_by_step_as_in_torch():
    import torch

    x = numbers((2, 1, 8, 8, 8))
    target = lucid.conv3d(x, numbers((1, 1, 3, 3, 3), seed=3) / 5)
    net = pair()
    first = torch.nn.Conv3d(1, 3, 3, padding=1, dtype=torch.float64)
    last = torch.nn.Conv3d(3, 1, 3, dtype=torch.float64)
    theirs = torch.nn.Sequential(first, torch.nn.LeakyReLU(0.1), last)
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.02)
    for loss in learned(net, x, target, 30):
        expected = torch.nn.functional.mse_loss(theirs(torch.from_numpy(x)), torch.from_numpy(target))
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        assert loss == pytest.approx(expected.item(), rel=1e-9)
    for name, array in net.state_dict().items():
        np.testing.assert_allclose(array, theirs.state_dict()[name].numpy(), rtol=1e-9, atol=1e-9)
