"""Training on tiles: which outputs lie inside, the units of inputs and targets, and epochs that come again."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid_core as lucid
from lucid_core import nn
from lucid_core.errors import RunError
from lucid_core.fitting.examples import Example, cut, inside
from lucid_core.fitting.scaling import ScaledExamples, Scaling, scaling_for
from lucid_core.fitting.train import Choices, begin, evaluate, train
from lucid_core.functional import layer_of
from lucid_core.losses import mse
from lucid_core.problem import conv_problem
from lucid_core.regions import Region
from lucid_core.stack import stack
from tests.reference import conv3d as oracle

AXIS = st.tuples(
    st.integers(1, 4),  # kernel
    st.integers(1, 3),  # stride
    st.integers(1, 3),  # dilation
    st.integers(0, 3),  # padding
)


def layer(axis, channels=1):
    """Return the arguments of a layer that does the same along all axes."""
    kernel, stride, dilation, padding = axis
    weight = np.ones((channels, 1, kernel, 1, 1), np.float32)
    return layer_of(weight, None, (stride, 1, 1), (padding, 0, 0), (dilation, 1, 1), 1, "zeros")


@given(axes=st.lists(AXIS, min_size=1, max_size=3), size=st.integers(1, 24))
@settings(max_examples=200, deadline=None)
def test_outputs_inside_are_those_that_no_border_reaches(axes, size):
    """A border of NaN, layer by layer, reaches exactly the outputs that are not inside."""
    flags, parts = np.zeros(size), []
    for axis in axes:
        kernel, stride, dilation, padding = axis
        padded = np.pad(flags, padding, constant_values=1)
        reach = dilation * (kernel - 1)
        if len(padded) <= reach:
            return
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach + 1)[::stride, ::dilation]
        flags = windows.max(axis=1)
        parts.append(lambda shape, axis=axis: conv_problem(shape, layer(axis)))
    problem = stack((1, 1, size, 1, 1), parts)
    found = inside(problem)
    expected = np.flatnonzero(flags == 0)
    assert list(range(found.start[0], found.stop[0])) == expected.tolist()


def test_tiles_cover_a_region_once():
    region = Region((1, 0, 2), (6, 4, 9))
    seen = np.zeros((8, 8, 12), int)
    for tile in cut(region, (2, 3, 4)):
        seen[tile.slices] += 1
        assert tile.shape <= (2, 3, 4)
    assert seen[region.slices].min() == seen.max() == 1
    assert seen.sum() == region.voxels


class Memory:
    """Examples that are in memory."""

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def read(self, number):
        return self.examples[number]


def examples(count=6, seed=0, dtype=np.float64, made=1):
    """Return tiles of a smooth relation in units far from 0 and 1."""
    drawn = np.random.default_rng(seed)
    weight = drawn.normal(size=(made, 1, 3, 3, 3)) / 5
    found = []
    for _ in range(count):
        block = (1000 + 50 * drawn.normal(size=(1, 7, 8, 9))).astype(dtype)
        target = (oracle(block[None], weight)[0][0] * 3 + 20 + drawn.normal(size=(made, 5, 6, 7))).astype(dtype)
        counted = drawn.random((5, 6, 7)) < 0.8
        found.append(Example(block, target, counted))
    return Memory(found)


def model(dtype=np.float64, bias=True):
    lucid.manual_seed(3)
    return nn.Sequential(nn.Conv3d(1, 1, 3, bias=bias, dtype=dtype))


@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("constraints", ((), ("sum1",), ("nonnegative",)))
@pytest.mark.parametrize("layers", (1, 2))
def test_scaled_weights_make_the_same_in_other_units(bias, constraints, layers):
    net = model(bias=bias) if layers == 1 else nn.Sequential(*model(bias=bias), nn.ReLU(), *model(bias=bias))
    before = net.state_dict()
    data = examples()
    scaling = scaling_for(net, data, constraints)
    scaling.applied(net)
    example = data.read(0)
    scaled = ScaledExamples(data, scaling).read(0)
    made = net(scaled.block[None])[0] * scaling.y_factor + scaling.y_offset
    net.load_state_dict(before)
    reference = nn.Sequential(*net)(example.block[None])[0]
    np.testing.assert_allclose(made, reference, rtol=1e-9)
    scaling.applied(net)
    scaling.undone(net)
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(value, before[name], rtol=1e-9, atol=1e-9)
    if bias and layers == 1 and not constraints:
        values = np.concatenate([ScaledExamples(data, scaling).read(number).block.ravel() for number in range(6)])
        assert abs(values.mean()) < 1e-9
        assert values.std() == pytest.approx(1)


def test_a_ridge_means_the_true_weights():
    net, scaling = model(), Scaling(10, 4, 5, 2)
    (ridge,) = scaling.ridges(net, "mse", 0.3)
    weight = net[0].weight.data.copy()
    scaling.applied(net)
    scaled = net[0].weight.data
    assert ridge * np.square(scaled).sum() * scaling.unit("mse") == pytest.approx(0.3 * np.square(weight).sum())


def test_a_step_is_that_of_the_mean_over_all_voxels_of_the_batch():
    """The gradient by finite differences of the mean over two tiles, of which different voxels count, with a ridge."""
    data, net = examples(2), model()
    choices = Choices(ridges=(0.1,), batch_size=2, learning_rate=1e-300)
    progress = begin(net, choices)
    next(train(progress, data, Memory([]), choices))
    found = net[0].weight.grad.copy()

    def loss(weight):
        net[0].weight.data = weight
        return evaluate(net, data, mse) + 0.1 * np.square(weight).sum()

    weight = net[0].weight.data.copy()
    for place in itertools.islice(np.ndindex(weight.shape), 0, None, 7):
        step = np.zeros_like(weight)
        step[place] = 1e-4
        difference = (loss(weight + step) - loss(weight - step)) / 2e-4
        assert found[place] == pytest.approx(difference, rel=1e-6)


@pytest.mark.parametrize("loss", ("mse", "l1", "huber"))
def test_epochs_come_again_bit_for_bit_and_get_better(loss):
    runs = []
    for _ in range(2):
        net, data = model(np.float32), examples(8, dtype=np.float32)
        scaling = scaling_for(net, data)
        scaling.applied(net)
        choices = Choices(scaling.loss(loss), learning_rate=0.05, batch_size=3, seed=4)
        progress = begin(net, choices)
        epochs = train(progress, ScaledExamples(data, scaling), ScaledExamples(data, scaling), choices)
        runs.append(([next(epochs) for _ in range(12)], net.state_dict(), progress))
    assert runs[0][0] == runs[1][0]
    for name, value in runs[0][1].items():
        np.testing.assert_array_equal(value, runs[1][1][name])
    curve = runs[0][0]
    assert curve[-1].training < 0.7 * curve[0].training
    best = runs[0][2].best_epoch
    assert best.validation == min(one.validation for one in curve)
    assert runs[0][2].since_best == 12 - best.number


def test_what_is_not_finite_changes_no_weight():
    clean, dirty = examples(2), examples(2)
    dirty.examples[0].block[0, 3, 3, 3] = np.nan
    dirty.examples[1].target[0, 1, 1, 1] = np.inf
    counted = clean.examples[0].counted.copy()
    counted[1:4, 1:4, 1:4] = False
    clean.examples[0] = Example(clean.examples[0].block, clean.examples[0].target, counted)
    clean.examples[1].counted[1, 1, 1] = False
    states = []
    for data in (clean, dirty):
        net, choices = model(), Choices(learning_rate=1e-3)
        progress = begin(net, choices)
        found = next(train(progress, data, Memory([]), choices))
        states.append((found.training, net.state_dict()))
    assert states[0][0] == states[1][0]
    for name, value in states[0][1].items():
        np.testing.assert_array_equal(value, states[1][1][name])


def test_what_cannot_go_on_is_said():
    data, choices = examples(1), Choices(learning_rate=1e300)
    data.examples[0] = Example(data.examples[0].block, data.examples[0].target, np.zeros((5, 6, 7), bool))
    with pytest.raises(RunError, match="no voxel counts"):
        next(train(begin(model(), choices), data, Memory([]), choices))
    epochs = train(begin(model(), choices), examples(3), Memory([]), choices)
    with pytest.raises(RunError, match="lower the learning rate"):
        [next(epochs) for _ in range(4)]
