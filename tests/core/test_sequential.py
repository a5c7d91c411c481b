"""`Sequential`: bit for bit what its layers give one by one, for any layers, tiles and threads; and its shapes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid_core
from lucid_core import compiled, nn
from lucid_core.compute import Filters
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from lucid_core.execute import execute
from lucid_core.geometry import grid_transform
from lucid_core.planner import plan
from lucid_core.problem import conv_problem
from lucid_core.scratch import Scratch
from lucid_core.stack import stack
from lucid_core.tiling import tiles
from lucid_core.volume import ArrayReader, ArrayWriter

MODES = ("zeros", "reflect", "replicate", "circular", "symmetric", "renormalize")
OPERATIONS = (
    nn.ReLU(),
    nn.LeakyReLU(0.2),
    nn.Abs(),
    nn.Clip(-0.5, 0.75),
    nn.Scale(2.0, -0.25),
    nn.Magnitude(),
    nn.Argmax(),
)


def triples(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


def out_size(conv, size):
    """Return the output size of a layer by the formula, None where the layer does not fit."""
    pads = conv.arguments.pads
    if conv.padding_mode in ("reflect", "circular", "symmetric"):
        least = 1 if conv.padding_mode == "reflect" else 0
        if any(max(pad) > n - least for pad, n in zip(pads, size, strict=True)):
            return None
    found = [
        (n + sum(pad) - step * (k - 1) - 1) // stride + 1
        for n, pad, k, stride, step in zip(size, pads, conv.kernel_size, conv.stride, conv.dilation, strict=True)
    ]
    return found if min(found) > 0 else None


@st.composite
def networks(draw):
    """Draw layers that fit one another, and a shape for them."""
    lucid_core.manual_seed(draw(st.integers(0, 99)))
    channels, size = draw(st.integers(1, 3)), list(draw(triples(3, 9)))
    shape = (draw(st.integers(1, 2)), channels, *size)
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            layers.append(draw(st.sampled_from(OPERATIONS)))
            channels = layers[-1].operation.channels(channels)
        groups = channels if draw(st.booleans()) else 1
        conv = nn.Conv3d(
            channels,
            groups * draw(st.integers(1, 2)),
            draw(triples(1, 3)),
            draw(triples(1, 2)),
            draw(triples(0, 3)),
            draw(triples(1, 2)),
            groups,
            padding_mode=draw(st.sampled_from(MODES)),
        )
        found = out_size(conv, size)
        if found:
            if conv.padding_mode == "renormalize":
                conv.weight.data = np.abs(conv.weight.data) + np.float32(0.01)
            layers.append(conv)
            channels, size = conv.out_channels, found
    if draw(st.booleans()):
        layers.append(draw(st.sampled_from(OPERATIONS)))
    return layers, shape


def one_by_one(layers, x, ways):
    """Call each layer, the convolutions with their algorithm and engine."""
    ways = iter(ways)
    for layer in layers:
        if isinstance(layer, nn.Conv3d):
            given_by = (layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
            algorithm, engine = next(ways)
            x = lucid_core.conv3d(x, layer.weight, layer.bias, *given_by, algorithm=algorithm, engine=engine)
        else:
            x = layer(x)
    return x


def problem_of(layers, shape):
    def problem(layer):
        return lambda given: conv_problem(given, layer.arguments, bias=layer.bias is not None)

    return stack(shape, [layer.operation if hasattr(layer, "operation") else problem(layer) for layer in layers])


@settings(max_examples=150)
@given(networks(), st.data())
def test_it_is_its_layers_one_by_one_in_every_tiling(drawn, data):
    layers, shape = drawn
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv3d)]
    if not convolutions:
        assert nn.Sequential(*layers)(x).tobytes() == one_by_one(layers, x, ()).tobytes()
        return
    engine, algorithm = data.draw(st.sampled_from((("numpy", "direct"), ("numpy", "gemm"), ("numba", "direct"))))
    if engine == "numba" and compiled.refusal():
        return
    problem = problem_of(layers, shape)
    ways = [(choice.algorithm, choice.engine) for choice in plan(problem).choices]
    assert nn.Sequential(*layers)(x).tobytes() == one_by_one(layers, x, ways).tobytes()
    threads = data.draw(st.integers(1, 2))
    chosen = plan(problem, tile=data.draw(triples(1, 4)), threads=threads, algorithm=algorithm, engine=engine)
    out, kept = np.full(problem.out_shape, 7, np.float32), x.copy()
    filters = [Filters(layer.weight.data, layer.bias.data) for layer in convolutions]
    execute(chosen, filters, ArrayReader(x), ArrayWriter(out))
    assert x.tobytes() == kept.tobytes()
    assert out.tobytes() == one_by_one(layers, x, [(algorithm, engine)] * len(convolutions)).tobytes()
    for tile in tiles(chosen):
        start, stop = tile.source.start, tile.source.stop
        assert all(0 <= low < high <= size for low, high, size in zip(start, stop, shape[2:], strict=True))
        most = problem.block_shape(chosen.tile)
        assert all(high - low <= count for low, high, count in zip(start, stop, most, strict=True))


def test_its_geometry_is_that_of_its_layers_one_after_another():
    layers = (nn.Conv3d(1, 2, (3, 2, 1), (2, 1, 3)), nn.ReLU(), nn.Conv3d(2, 3, (2, 5, 3), (1, 2, 2), 1, (2, 1, 1)))
    problem = problem_of(layers, (2, 1, 20, 21, 22))
    first, second = problem.problems
    assert problem.out_shape == second.out_shape
    assert problem.padded_shape == first.padded_shape
    assert np.allclose(grid_transform(problem), grid_transform(first) @ grid_transform(second))
    assert problem.stride == (2, 2, 6)
    assert problem.parameters == first.parameters + second.parameters
    assert problem.macs == first.macs + second.macs
    assert problem.halo[0] == (2, 4)


def test_memory_holds_no_volume_between_the_layers(monkeypatch):
    seen = []
    scratch = Scratch.array

    def watched(self, name, shape, dtype):
        seen.append(int(np.prod(shape)))
        return scratch(self, name, shape, dtype)

    monkeypatch.setattr(Scratch, "array", watched)
    net = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 1, 3, padding=1))
    problem = problem_of(list(net), (1, 1, 96, 32, 32))
    chosen = plan(problem, tile=(8, 32, 32), engine="numpy", algorithm="direct")
    filters = [Filters(layer.weight.data, layer.bias.data) for layer in (net[0], net[2])]
    execute(
        chosen, filters, ArrayReader(np.ones(problem.in_shape, np.float32)), ArrayWriter(np.empty(problem.out_shape))
    )
    assert max(seen) == 8 * 10 * 34 * 34
    assert chosen.memory.blocks >= 4 * (8 * 10 * 34 * 34 + 12 * 32 * 32)


class TestModule:
    def test_names_are_those_of_pytorch(self):
        net = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.Sequential(nn.Conv3d(2, 1, 1, bias=False)))
        assert list(net.state_dict()) == ["0.weight", "0.bias", "2.0.weight"]
        assert len(net) == 3
        assert isinstance(net[-1], nn.Sequential)
        assert repr(net).splitlines()[2] == "  (1): ReLU()"

    def test_one_volume_and_float16(self):
        lucid_core.manual_seed(0)
        net = nn.Sequential(nn.Conv3d(1, 2, 2), nn.Abs(), nn.Conv3d(2, 1, 1))
        x = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
        assert net(x).tobytes() == net(x[None])[0].tobytes()
        half = nn.Sequential(nn.Conv3d(1, 2, 2, dtype="float16"), nn.Abs(), nn.Conv3d(2, 1, 1, dtype="float16"))
        found = half(x.astype(np.float16))
        assert found.dtype == np.float16
        assert found.tobytes() == half[2](half[1](half[0](x.astype(np.float16)))).tobytes()

    def test_a_module_of_ones_own_is_called(self):
        class Twice(nn.Module):
            def forward(self, x):
                return 2 * np.asarray(x)

        net = nn.Sequential(nn.Conv3d(1, 1, 1), Twice())
        x = np.ones((1, 1, 2, 2, 2), np.float32)
        assert (net(x) == 2 * net[0](x)).all()

    def test_what_a_subclass_makes_of_its_input_is_kept(self):
        class Seven(nn.Conv3d):
            def forward(self, x):
                return super().forward(x) * 0 + 7

        class Doubled(nn.Sequential):
            def forward(self, x):
                return super().forward(x) * 2

        x = np.ones((1, 2, 2, 2, 2), np.float32)
        assert (nn.Sequential(Seven(2, 1, 1), nn.ReLU())(x) == 7).all()
        assert (nn.Sequential(Doubled(Seven(2, 1, 1)), nn.Conv3d(1, 1, 1))[:1](x) == 14).all()

    def test_attributes_that_are_no_layers_are_left_alone(self):
        net = nn.Sequential(nn.Conv3d(1, 1, 1))
        net.note = "hi"
        assert (len(net), net(np.ones((1, 1, 1, 1, 1), np.float32)).shape) == (1, (1, 1, 1, 1, 1))

    def test_weights_that_were_replaced_say_the_shape(self):
        conv = nn.Conv3d(1, 2, 3)
        conv.weight.data = np.ones((2, 1, 2, 2, 2), np.float32)
        x = np.ones((1, 1, 4, 4, 4), np.float32)
        assert nn.Sequential(conv)(x).shape == conv(x).shape == (1, 2, 3, 3, 3)
        conv.bias.data = np.ones(3, np.float32)
        with pytest.raises(ShapeError, match="bias must have shape"):
            nn.Sequential(conv)(x)

    @pytest.mark.parametrize("layer", ("relu", nn.Conv3d, None))
    def test_what_is_no_module_is_refused(self, layer):
        with pytest.raises(ArgumentTypeError, match="layer 1 must be a Module"):
            nn.Sequential(nn.ReLU(), layer)

    def test_layers_that_do_not_fit_are_refused(self):
        with pytest.raises(ShapeError, match="takes 3 input channels, but the input has 2"):
            nn.Sequential(nn.Conv3d(1, 2, 1), nn.Conv3d(3, 1, 1))(np.ones((1, 1, 2, 2, 2), np.float32))

    def test_renormalizing_layers_need_a_sum(self):
        conv = nn.Conv3d(1, 1, (1, 1, 3), padding=1, padding_mode="renormalize")
        conv.weight.data[...] = [-1, 0, 1]
        with pytest.raises(ArgumentError, match="sums to"):
            nn.Sequential(conv)(np.ones((1, 1, 4, 4, 4), np.float32))


class TestOperations:
    X = np.float32([[-2, np.nan, 3], [1, 4, -4]]).reshape(2, 1, 1, 3)

    @pytest.mark.parametrize(
        ("layer", "wanted"),
        [
            (nn.ReLU(), [[0, np.nan, 3], [1, 4, 0]]),
            (nn.LeakyReLU(0.5), [[-1, np.nan, 3], [1, 4, -2]]),
            (nn.Abs(), [[2, np.nan, 3], [1, 4, 4]]),
            (nn.Clip(-1, 2), [[-1, np.nan, 2], [1, 2, -1]]),
            (nn.Scale(2, 1), [[-3, np.nan, 7], [3, 9, -7]]),
            (nn.Magnitude(), [[np.sqrt(np.float32(5)), np.nan, 5]]),
            (nn.Argmax(), [[1, 0, 0]]),
        ],
    )
    def test_the_result(self, layer, wanted):
        kept = self.X.copy()
        found = layer(self.X)
        assert np.array_equal(found, np.float32(wanted).reshape(-1, 1, 1, 3), equal_nan=True)
        assert np.array_equal(layer(self.X[None])[0], found, equal_nan=True)
        assert np.array_equal(self.X, kept, equal_nan=True)

    def test_nan_is_the_largest_for_argmax(self):
        x = np.float32([1, np.nan, 3, np.nan]).reshape(4, 1, 1, 1)
        assert nn.Argmax()(x).item() == 1

    @pytest.mark.parametrize(
        "make", (lambda: nn.Scale(None), lambda: nn.LeakyReLU("a"), lambda: nn.Clip(1, 0), lambda: nn.Clip(0, np.nan))
    )
    def test_wrong_numbers_are_refused_when_it_is_made(self, make):
        with pytest.raises(ArgumentError, match=r"must be a number|low, then high"):
            make()

    def test_integers_become_floats(self):
        found = nn.LeakyReLU(0.5)(np.int16([[[[-3]]]]))
        assert (found.dtype, found.item()) == (np.float32, -1.5)

    def test_axes_are_checked(self):
        with pytest.raises(ShapeError, match="5 axes"):
            nn.ReLU()(np.ones(3))
