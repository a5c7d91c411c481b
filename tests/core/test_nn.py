"""The layer: its arguments, its start, its state, and what a `Parameter` is."""

import math

import numpy as np
import pytest

import lucid_core as lucid
import lucid_core.nn as nn
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError


def test_a_layer_is_its_functional_call():
    lucid.manual_seed(3)
    layer = nn.Conv3d(4, 6, (3, 2, 1), (1, 2, 1), (2, 1, 0), (1, 1, 2), 2, True, "replicate")
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6, 7)).astype(np.float32)
    values = lucid.conv3d(x, layer.weight, layer.bias, (1, 2, 1), (2, 1, 0), (1, 1, 2), 2, "replicate")
    assert layer(x).tobytes() == layer.forward(x).tobytes() == values.tobytes()
    assert layer(x[0]).tobytes() == values[0].tobytes()


def test_arguments_are_kept_as_triples():
    layer = nn.Conv3d(2, 4, 3, stride=2, padding=(0, 1, 2), dilation=[1, 2, 1], groups=2)
    assert (layer.in_channels, layer.out_channels, layer.groups) == (2, 4, 2)
    assert (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == (
        (3,) * 3,
        (2,) * 3,
        (0, 1, 2),
        (1, 2, 1),
    )
    assert (layer.padding_mode, layer.device, layer.dtype) == ("zeros", "cpu", np.dtype(np.float32))
    assert nn.Conv3d(1, 1, 2, padding="same").padding == "same"


@pytest.mark.parametrize(
    ("arguments", "text"),
    (
        ({"padding": 1}, "1, 16, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1)"),
        ({"dilation": 2}, "1, 16, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(0, 0, 0), dilation=(2, 2, 2)"),
        ({"bias": False}, "1, 16, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(0, 0, 0), bias=False"),
    ),
)
def test_repr(arguments, text):
    layer = nn.Conv3d(1, 16, 3, **arguments)
    assert layer.extra_repr() == text
    assert repr(layer) == f"Conv3d({text})"


def test_repr_shows_all_that_differs_from_the_default():
    layer = nn.Conv3d(4, 8, 3, padding="same", dilation=2, groups=4, bias=False, padding_mode="reflect")
    assert layer.extra_repr().endswith("padding=same, dilation=(2, 2, 2), groups=4, bias=False, padding_mode=reflect")


def test_weights_start_kaiming_uniform():
    lucid.manual_seed(0)
    layer = nn.Conv3d(8, 64, (3, 4, 5), groups=2)
    fan_in = 4 * 60
    for values, bound in ((layer.weight.data, math.sqrt(6 / fan_in)), (layer.bias.data, 1 / math.sqrt(fan_in))):
        assert 0.9 * bound < np.abs(values).max() <= np.float32(bound)
        assert abs(values.std() - bound / math.sqrt(3)) < 0.15 * bound
        assert abs(values.mean()) < 0.3 * bound


def test_the_seed_makes_the_same_layers_again():
    layers = []
    for seed in (7, 7, 8):
        lucid.manual_seed(seed)
        layers.append([nn.Conv3d(2, 3, 3).state_dict() for _ in range(2)])
    for first, again in zip(*layers[:2], strict=True):
        assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert layers[0][0]["weight"].tobytes() != layers[0][1]["weight"].tobytes()
    assert layers[0][0]["weight"].tobytes() != layers[2][0]["weight"].tobytes()


@pytest.mark.parametrize(("seed", "words"), ((-1, "seed must be at least 0, not -1"), ("a", "seed must be an integer")))
def test_a_wrong_seed(seed, words):
    with pytest.raises(ArgumentError, match=words):
        lucid.manual_seed(seed)


def test_the_same_draw_in_every_dtype():
    drawn = []
    for dtype in ("float16", np.float32, np.dtype(np.float64)):
        lucid.manual_seed(1)
        layer = nn.Conv3d(2, 2, 2, dtype=dtype)
        assert layer.weight.dtype == layer.bias.dtype == layer.dtype == np.dtype(dtype)
        drawn.append(layer.weight.data)
    np.testing.assert_array_equal(drawn[0], drawn[2].astype(np.float16))
    np.testing.assert_array_equal(drawn[1], drawn[2].astype(np.float32))


def test_the_dtype_of_a_layer_is_native():
    layer = nn.Conv3d(1, 1, 1, dtype=">f4")
    assert layer.dtype.isnative
    assert layer.weight.dtype.isnative


def test_parameters_in_their_order():
    layer = nn.Conv3d(1, 2, 3)
    assert [name for name, _ in layer.named_parameters()] == list(layer.state_dict()) == ["weight", "bias"]
    assert list(layer.parameters()) == [layer.weight, layer.bias]
    bare = nn.Conv3d(1, 2, 3, bias=False)
    assert bare.bias is None
    assert list(bare.state_dict()) == ["weight"]
    assert list(bare.parameters()) == [bare.weight]


class Pair(nn.Module):
    """A layer of two layers."""

    def __init__(self):
        self.first, self.second = nn.Conv3d(1, 2, 1), nn.Conv3d(2, 1, 1, bias=False)

    def forward(self, x):
        return self.second(self.first(x))


def test_parameters_of_layers_inside():
    pair, other = Pair(), Pair()
    assert list(pair.state_dict()) == ["first.weight", "first.bias", "second.weight"]
    assert list(pair.parameters()) == [pair.first.weight, pair.first.bias, pair.second.weight]
    other.load_state_dict(pair.state_dict())
    x = np.ones((1, 2, 2, 2), np.float32)
    assert other(x).tobytes() == pair(x).tobytes()


def test_state_round_trip():
    first, second = nn.Conv3d(2, 3, 2), nn.Conv3d(2, 3, 2)
    state = first.state_dict()
    second.load_state_dict(state)
    state["weight"][...] = 0
    assert second.weight.data.tobytes() == first.weight.data.tobytes()
    assert first.weight.data.any()
    assert second.bias.data.tobytes() == first.bias.data.tobytes()


def test_loading_keeps_the_dtype_of_the_layer_and_takes_a_copy():
    layer = nn.Conv3d(1, 1, 1, dtype=np.float64)
    weight = np.full((1, 1, 1, 1, 1), 2, np.float32)
    layer.load_state_dict({"weight": weight, "bias": nn.Parameter([1.0])})
    weight[...] = 9
    assert layer.weight.dtype == np.float64
    assert layer(np.ones((1, 1, 1, 1))).item() == 3


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    (
        ({"weight": np.zeros((1, 1, 2, 2, 2))}, ArgumentError, r"missing \['bias'\], unknown \[\]"),
        (
            {"kernel": 0},
            ArgumentError,
            r"missing \['bias', 'weight'\], unknown \['kernel'\]; legal: exactly \['weight', 'bias'\]",
        ),
        ([1, 2], ArgumentTypeError, "state_dict must be a mapping of names to arrays, not list"),
        ({"weight": np.zeros((1, 1, 2, 2, 2)), "bias": ["a"]}, ArgumentTypeError, "bias has dtype <U1; legal: real"),
        (
            {"weight": np.zeros((1, 1, 2, 2, 2)), "bias": np.zeros(2)},
            ShapeError,
            r"bias has shape \(2,\), the layer needs \(1,\)",
        ),
    ),
)
def test_a_state_that_does_not_fit_changes_nothing(state, kind, words):
    layer = nn.Conv3d(1, 1, 2)
    before = layer.state_dict()
    with pytest.raises(kind, match=words):
        layer.load_state_dict(state)
    for name, value in before.items():
        assert layer.state_dict()[name].tobytes() == value.tobytes()


REFUSED = {
    "in_channels": ({"in_channels": 0}, ArgumentError, "in_channels must be at least 1, not 0"),
    "out_channels": ({"out_channels": 2.0}, ArgumentTypeError, r"out_channels must be an integer, not 2\.0"),
    "groups": ({"groups": 3}, ShapeError, "groups=3 does not divide in_channels=4; legal: 1, 2"),
    "kernel_size": ({"kernel_size": (3, 0, 3)}, ArgumentError, "kernel_size along H must be at least 1, not 0"),
    "kernel_size of 2": ({"kernel_size": (3, 3)}, ArgumentError, r"kernel_size must be one integer or three .*not 2"),
    "stride": ({"stride": 0}, ArgumentError, "stride must be at least 1, not 0"),
    "padding": ({"padding": -1}, ArgumentError, "padding must be at least 0, not -1"),
    "padding same": ({"padding": "same", "stride": 2}, ArgumentError, "padding='same' needs stride 1"),
    "dilation": ({"dilation": 1.5}, ArgumentTypeError, r"dilation must be an integer, not 1\.5"),
    "padding_mode": ({"padding_mode": "mirror"}, ArgumentError, "'mirror' is called 'reflect' here"),
    "bias": ({"bias": "maybe"}, ArgumentTypeError, "bias must be True or False, not 'maybe'"),
    "device": ({"device": "gpu"}, ArgumentError, "unknown device 'gpu'; legal: auto, cpu"),
    "dtype int": (
        {"dtype": np.int32},
        ArgumentError,
        "dtype 'int32' is not a float of the layer; legal: float16, float32",
    ),
    "dtype text": ({"dtype": "float33"}, ArgumentTypeError, "dtype 'float33' is not known; legal: float16, float32"),
    "dtype object": ({"dtype": object}, ArgumentError, "dtype 'object' is not a float of the layer"),
}


@pytest.mark.parametrize(("changes", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused_when_built(changes, kind, words):
    with pytest.raises(kind, match=words):
        nn.Conv3d(**({"in_channels": 4, "out_channels": 2, "kernel_size": 3} | changes))


def test_a_refused_layer_draws_no_weights():
    lucid.manual_seed(0)
    expected = nn.Conv3d(1, 1, 2).weight.data
    lucid.manual_seed(0)
    with pytest.raises(ArgumentTypeError, match="bias must be True or False"):
        nn.Conv3d(1, 1, 2, bias=1)
    assert nn.Conv3d(1, 1, 2).weight.data.tobytes() == expected.tobytes()


def test_a_parameter_serves_as_an_array():
    parameter = nn.Parameter([[1.0, 2.0]])
    assert np.asarray(parameter) is parameter.data
    assert (parameter.shape, parameter.dtype, parameter.ndim, parameter.size, len(parameter)) == (
        (1, 2),
        float,
        2,
        2,
        1,
    )
    assert np.asarray(parameter, np.float32).dtype == np.float32
    copied = np.array(parameter)
    copied[...] = 0
    assert parameter.data.tolist() == [[1.0, 2.0]]
    assert "array([[1., 2.]])" in repr(parameter)


def test_a_parameter_is_not_the_array_it_was_made_of():
    data = np.ones(2)
    parameter = nn.Parameter(data)
    data[...] = 0
    assert parameter.data.tolist() == [1.0, 1.0]


def test_a_parameter_of_another_dtype_needs_a_copy():
    parameter = nn.Parameter([1.0])
    assert parameter.__array__(np.float64, copy=False) is parameter.data
    assert not np.shares_memory(parameter.__array__(copy=True), parameter.data)
    with pytest.raises(ValueError, match=r"cannot be viewed as .*without a copy"):
        parameter.__array__(np.float32, copy=False)


def test_a_module_finds_the_parameters_among_its_attributes():
    class Scale(nn.Module):
        def __init__(self):
            self.name = "scale"
            self.factor = nn.Parameter([2.0])

        def forward(self, x):
            return np.asarray(x) * self.factor.data

    module = Scale()
    assert dict(module.named_parameters()) == {"factor": module.factor}
    assert module([3.0]).tolist() == [6.0]
    assert repr(module) == "Scale()"
