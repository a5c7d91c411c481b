"""Against `torch.nn.Conv3d`: the same values in float64, the same refusals, the same `repr`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid_core as lucid
import lucid_core.nn as nn
from tests.reference import conv3d as oracle

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths"),
]

MODES = ("zeros", "reflect", "replicate", "circular")


def size(low, high):
    return st.one_of(st.integers(low, high), st.tuples(*[st.integers(low, high)] * 3))


@st.composite
def layers(draw):
    """Draw the arguments of a layer, most of them legal, and the shape of its input.

    Negative pads come with zeros only: in the other modes torch crops the volume, which is no convolution argument.
    """
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    mode = draw(st.sampled_from((*MODES, *MODES, "edge")))
    sizes = st.one_of(size(0, 3), size(0, 3), size(-1 if mode == "zeros" else 0, 2))
    arguments = {
        "in_channels": groups * draw(st.integers(1, 2)) + draw(st.sampled_from((0, 0, 0, 0, 1))),
        "out_channels": groups * draw(st.integers(1, 3)) + draw(st.sampled_from((0, 0, 0, 0, 1))),
        "kernel_size": draw(size(1, 4)),
        "stride": draw(st.one_of(st.just(1), size(1, 4))),
        "padding": draw(st.one_of(sizes, st.sampled_from(("same", "valid", "full")))),
        "dilation": draw(st.one_of(st.just(1), size(1, 3))),
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": mode,
    }
    channels = arguments["in_channels"] + draw(st.sampled_from((0, 0, 0, 0, 0, 1)))
    spatial = draw(st.tuples(*[st.integers(1, 7)] * 3))
    batch = draw(st.sampled_from(((), (1,), (2,))))
    return arguments, (*batch, channels, *spatial)


def twin(ours, theirs):
    """Give our layer the weights of theirs."""
    ours.load_state_dict({name: value.detach().numpy() for name, value in theirs.state_dict().items()})


def attempt(function, *errors):
    """Return the function's result and None, or None and the error."""
    try:
        return function(), None
    except errors as error:
        return None, error


@given(layers())
@settings(max_examples=400)
def test_the_same_values_and_the_same_refusals(layer):
    arguments, shape = layer
    x = np.random.default_rng(0).normal(size=shape)
    state = {}

    def theirs():
        module = torch.nn.Conv3d(**arguments, dtype=torch.float64)
        state.update({name: value.detach().numpy() for name, value in module.state_dict().items()})
        return module(torch.from_numpy(x)).detach().numpy()

    def ours():
        module = nn.Conv3d(**arguments, dtype=np.float64)
        if state:
            module.load_state_dict(state)
        return module(x), module

    expected, refusal = attempt(theirs, RuntimeError, ValueError)
    result, our_refusal = attempt(ours, ValueError)
    assert (refusal is None) == (our_refusal is None), (refusal, our_refusal)
    if refusal is None:
        values, module = result
        assert values.shape == expected.shape
        np.testing.assert_allclose(values, expected, rtol=0, atol=bound(x, module))


def bound(x, module):
    """Return what two correct float64 results may differ by, at the voxel of the largest sum |x||w| + |b|."""
    weight = np.abs(module.weight.data)
    terms = weight[0].size + 2
    largest = np.abs(x).max() * weight.reshape(len(weight), -1).sum(axis=1).max() + 1
    return 2 * terms * 2.0**-53 * largest


@given(layers(), st.sampled_from((np.nan, np.inf, -np.inf)), st.integers(0, 10**6))
@settings(max_examples=100)
def test_nan_and_inf_in_the_same_places(layer, bad, at):
    arguments, shape = layer
    x = np.random.default_rng(0).normal(size=shape)
    x.reshape(-1)[at % x.size] = bad
    try:
        theirs, ours = torch.nn.Conv3d(**arguments, dtype=torch.float64), nn.Conv3d(**arguments, dtype=np.float64)
        expected = theirs(torch.from_numpy(x)).detach().numpy()
    except (RuntimeError, ValueError):
        return
    twin(ours, theirs)
    values = ours(x)
    for pattern in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(pattern(values), pattern(expected))


def test_the_border_of_zeros_is_real_zeros():
    weight = np.full((1, 1, 3, 3, 3), np.inf)
    values = lucid.conv3d(np.ones((1, 1, 4, 4, 4)), weight, padding=1)
    expected = torch.nn.functional.conv3d(
        torch.ones(1, 1, 4, 4, 4, dtype=torch.float64), torch.from_numpy(weight), padding=1
    )
    np.testing.assert_array_equal(np.isnan(values), expected.isnan().numpy())
    assert np.isnan(values).sum() == 4**3 - 2**3


@given(layers())
def test_the_oracle_agrees(layer):
    arguments, shape = layer
    if len(shape) == 4:
        return
    x = np.random.default_rng(1).normal(size=shape)
    try:
        module = torch.nn.Conv3d(**arguments, dtype=torch.float64)
        expected = module(torch.from_numpy(x)).detach().numpy()
    except (RuntimeError, ValueError):
        return
    state = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    geometry = {name: arguments[name] for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
    values, sizes = oracle(x, state["weight"], state.get("bias"), **geometry)
    assert (np.abs(values - expected) <= (state["weight"][0].size + 4) * 2.0**-53 * sizes).all()


FUNCTIONAL = {
    "weight of another dtype": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2), np.float32), None, {}),
    "x of another dtype": (np.ones((1, 1, 3, 3, 3), np.float32), np.ones((1, 1, 2, 2, 2)), None, {}),
    "bias of another dtype": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), np.ones(1, np.float32), {}),
    "bias too long": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), np.ones(2), {}),
    "bias of 2 axes": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), np.ones((1, 1)), {}),
    "weight of 4 axes": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 2, 2, 2)), None, {}),
    "x of 3 axes": (np.ones((3, 3, 3)), np.ones((1, 1, 2, 2, 2)), None, {}),
    "negative padding": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), None, {"padding": -1}),
    "stride 0": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), None, {"stride": 0}),
    "dilation 0": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), None, {"dilation": 0}),
    "a stride of two": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), None, {"stride": (1, 1)}),
    "a float stride": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), None, {"stride": 1.5}),
    "kernel of 0": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 0, 2, 2)), None, {}),
    "groups 0": (np.ones((1, 1, 3, 3, 3)), np.ones((1, 1, 2, 2, 2)), None, {"groups": 0}),
}


@pytest.mark.parametrize(("x", "weight", "bias", "arguments"), FUNCTIONAL.values(), ids=FUNCTIONAL)
def test_both_refuse(x, weight, bias, arguments):
    tensors = [None if array is None else torch.from_numpy(array) for array in (x, weight, bias)]
    with pytest.raises((RuntimeError, ValueError, TypeError), match=r".+"):
        torch.nn.functional.conv3d(*tensors, **arguments)
    with pytest.raises(ValueError, match=r".+"):
        lucid.conv3d(x, weight, bias, **arguments)


@pytest.mark.parametrize("dtype", (np.float16, np.float32, np.float64))
def test_the_dtype_of_the_result_is_that_of_torch(dtype):
    x, w = np.ones((1, 2, 4, 4, 4), dtype), np.ones((3, 2, 2, 2, 2), dtype)
    expected = torch.nn.functional.conv3d(torch.from_numpy(x), torch.from_numpy(w)).numpy()
    values = lucid.conv3d(x, w)
    assert values.dtype == expected.dtype
    np.testing.assert_array_equal(values, expected)


def test_an_empty_batch_as_torch():
    x, w = np.ones((0, 2, 4, 4, 4)), np.ones((3, 2, 2, 2, 2))
    expected = torch.nn.functional.conv3d(torch.from_numpy(x), torch.from_numpy(w)).numpy()
    assert lucid.conv3d(x, w).shape == expected.shape


REPRESENTATIONS = (
    {},
    {"padding": 1},
    {"padding": "same", "dilation": 2, "groups": 2, "bias": False, "padding_mode": "reflect"},
    {"padding": "valid"},
    {"stride": (1, 2, 3), "padding": (0, 1, 2)},
    {"dilation": (1, 2, 1)},
    {"groups": 4},
    {"bias": False},
    {"padding_mode": "replicate"},
    {"padding_mode": "circular", "stride": 2, "padding": 2, "groups": 4, "bias": False, "dilation": 3},
)


@pytest.mark.parametrize("arguments", REPRESENTATIONS, ids=str)
@pytest.mark.parametrize("kernel_size", (3, (1, 2, 3)))
def test_the_same_repr(arguments, kernel_size):
    """torch leaves out a padding of 0; here the first five arguments are always shown."""
    ours, theirs = (library.Conv3d(4, 8, kernel_size, **arguments) for library in (nn, torch.nn))
    stride = f"stride={theirs.stride}"
    shown = stride if "padding" in arguments else f"{stride}, padding=(0, 0, 0)"
    assert ours.extra_repr() == theirs.extra_repr().replace(stride, shown)
    assert repr(ours) == repr(theirs).replace(stride, shown)


def test_state_dicts_are_exchanged():
    ours, theirs = nn.Conv3d(2, 4, 3, groups=2), torch.nn.Conv3d(2, 4, 3, groups=2)
    twin(ours, theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(
        {name: torch.from_numpy(value) for name, value in nn.Conv3d(2, 4, 3, groups=2).state_dict().items()}
    )
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(ours(x), oracle(x, ours.weight.data, ours.bias.data, groups=2)[0], atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_the_same_network(mode):
    def network(library):
        return library.Sequential(
            library.Conv3d(2, 6, 3, padding=1, padding_mode=mode),
            library.ReLU(),
            library.Sequential(library.Conv3d(6, 6, (1, 2, 3), stride=(2, 1, 1), groups=3), library.LeakyReLU(0.1)),
            library.Conv3d(6, 3, 2, padding=1, dilation=2, padding_mode=mode, bias=False),
        )

    ours, theirs = network(nn), network(torch.nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in ours.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(2, 2, 9, 10, 11)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).numpy(), rtol=1e-4, atol=1e-5)
