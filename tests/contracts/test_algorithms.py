"""What every algorithm promises: the oracle's values within its bound, the same bits for every tiling, NaN as IEEE."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lucid_core import machine
from lucid_core.algorithms import Algorithm, algorithms
from lucid_core.algorithms.gemm import panels
from lucid_core.arguments import layer_arguments
from lucid_core.boundary import Window
from lucid_core.compute import Filters
from lucid_core.execute import execute
from lucid_core.factors import factors
from lucid_core.padding import PADDING_MODES
from lucid_core.planner import plan
from lucid_core.problem import ConvProblem, conv_problem
from lucid_core.regions import Region
from lucid_core.scratch import Scratch
from lucid_core.volume import ArrayReader, ArrayWriter
from tests.reference import UNIT_ROUNDOFF
from tests.reference import conv3d as oracle

MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
every_algorithm = pytest.mark.parametrize("name", list(algorithms()))
NORMWISE = {"fft", "native_torch", "winograd_numba"}
componentwise_algorithms = pytest.mark.parametrize("name", [name for name in algorithms() if name not in NORMWISE])
FACTORED = {"separable", "separable_numba", "separable_torch"}
UNSTRIDED = FACTORED | NORMWISE - {"native_torch"}


@dataclass
class Case:
    """A problem with its data."""

    problem: ConvProblem
    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    arguments: dict

    def compute(self, name, tile=None, threads=1, **where):
        way = algorithms()[name]
        chosen = plan(
            self.problem,
            algorithm=way.name,
            engine=way.engine,
            accuracy="normwise",
            tile=tile,
            threads=threads,
            **where,
        )
        out = np.full(self.problem.out_shape, 7, self.problem.dtype)
        execute(chosen, [Filters(self.weight, self.bias)], ArrayReader(self.x), ArrayWriter(out))
        return out

    def expected(self):
        return oracle(self.x, self.weight, self.bias, **self.arguments)


def make_case(
    seed, batch, channels, out_channels, size, kernel_size, *, dtype="float32", bias=True, factored=False, **arguments
):
    """Draw the data of a case; `factored` makes every filter a product of three 1-D kernels."""
    rng = np.random.default_rng(seed)
    share = channels // arguments.get("groups", 1)
    x = (rng.normal(size=(batch, channels, *size)) * 10.0 ** rng.integers(-3, 4)).astype(dtype)
    if factored:
        axes = [rng.integers(-2, 5, size=(out_channels, taps)) / 8 for taps in kernel_size]
        weight = np.einsum("oi,oj,ok->oijk", *axes)[:, None].astype(dtype)
    else:
        weight = rng.normal(size=(out_channels, share, *kernel_size)).astype(dtype)
    offsets = rng.normal(size=out_channels).astype(dtype) if bias else None
    for array in (x, weight, offsets):
        if array is not None:
            array.flags.writeable = False
    layer = layer_arguments(
        channels,
        out_channels,
        kernel_size,
        arguments.get("stride", 1),
        arguments.get("padding", 0),
        arguments.get("dilation", 1),
        arguments.get("groups", 1),
        arguments.get("padding_mode", "zeros"),
    )
    separable = factors(weight) is not None
    problem = conv_problem(x.shape, layer, bias=bias, dtype=dtype, separable=separable)
    return Case(problem, x, weight, offsets, arguments)


def triples(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


@st.composite
def cases(draw, name="direct", batches=(0, 1, 2), longest=5):
    """Draw a case that the algorithm computes."""
    factored = name in FACTORED or draw(st.booleans())
    groups = draw(st.integers(1, 3))
    channels = groups if factored else groups * draw(st.integers(1, 2))
    out_channels = groups * draw(st.integers(1, 2))
    winograd = name == "winograd_numba"
    kernel_size = (draw(st.integers(1, 4)), 3, 3) if winograd else draw(triples(1, 4))
    stride = (1, 1, 1) if name in UNSTRIDED else draw(st.one_of(st.just((1, 1, 1)), triples(1, 5)))
    unit = stride == (1, 1, 1)
    padding = draw(
        st.one_of(triples(0, 3), st.integers(0, 2), st.sampled_from(("same", "valid") if unit else ("valid",)))
    )
    arguments = {
        "stride": stride,
        "padding": padding,
        "dilation": (draw(st.integers(1, 3)), 1, 1) if winograd else draw(st.one_of(st.just((1, 1, 1)), triples(1, 3))),
        "groups": groups,
        "padding_mode": draw(st.sampled_from(MODES)),
    }
    head = (
        draw(st.integers(0, 2**32)),
        draw(st.sampled_from(batches)),
        channels,
        out_channels,
        draw(triples(1, longest)),
        kernel_size,
    )
    options = {
        "dtype": draw(st.sampled_from(("float32", "float64"))),
        "bias": draw(st.booleans()),
        "factored": factored,
    }
    try:
        case = make_case(*head, **options, **arguments)
    except ValueError:
        assume(False)
    assume(algorithms()[name].refuses(case.problem) is None)
    return case


def tolerance(member, case, sizes, *, tf32=False):
    """Return what the stated bound allows at every voxel, and the oracle's own roundings."""
    bound, problem = member.error_bound(case.problem), case.problem
    bound = bound.with_tf32() if tf32 and member.tensor_cores else bound
    smallest = float(np.finfo(problem.dtype).smallest_normal)
    own = 2.5 * UNIT_ROUNDOFF * sizes + bound.growth * bound.roundings * smallest
    if bound.accuracy == "componentwise":
        assert bound.growth == 1
        return bound.gamma(problem.dtype) * sizes + own
    weights = np.abs(case.weight.astype(np.float64)).sum((1, 2, 3, 4))
    offsets = np.zeros(len(weights)) if case.bias is None else np.abs(case.bias.astype(np.float64))
    largest = largest_near(case, bound.reach)
    return bound.gamma(problem.dtype) * (largest * column(weights) + column(offsets)) + own


def column(values):
    return values[:, None, None, None]


def largest_near(case, reach):
    """Return the largest magnitude (N, O, D', H', W') near every output voxel, over the channels of its group."""
    problem, x = case.problem, np.abs(case.x.astype(np.float64))
    if reach is None:
        return np.full(problem.out_shape, x.max(initial=0))
    padded = np.pad(x, [(0, 0), (0, 0), *problem.pads], mode=PADDING_MODES[problem.padding_mode].numpy)
    padded = np.pad(padded, [(0, 0), (0, 0), *((more, more) for more in reach)])
    field = [size + 2 * more for size, more in zip(problem.block_shape((1, 1, 1)), reach, strict=True)]
    near = np.lib.stride_tricks.sliding_window_view(padded, field, axis=(2, 3, 4)).max((5, 6, 7))
    near = near[(..., *(slice(None, None, step) for step in problem.stride))]
    groups = near.reshape(problem.batch, problem.groups, problem.in_channels // problem.groups, *near.shape[2:]).max(2)
    return np.repeat(groups, problem.out_channels // problem.groups, axis=1)


@every_algorithm
@given(st.data())
@settings(max_examples=120)
def test_meets_the_oracle_within_its_bound(name, data):
    case = data.draw(cases(name))
    values, sizes = case.expected()
    computed = case.compute(name)
    assert computed.shape == values.shape
    assert (np.abs(computed - values) <= tolerance(algorithms()[name], case, sizes)).all()


@every_algorithm
def test_the_bound_also_holds_for_tiny_and_uneven_values(name):
    for scale in (1e-38, 1e-30, 1e30):
        case = make_case(5, 1, 2, 2, (4, 5, 4), (3, 3, 3), groups=2, padding=1, factored=True)
        case.x = (case.x * np.float32(scale)).astype(np.float32)
        case.x[0, :, 1, 2, 1] *= 100
        values, sizes = case.expected()
        assert (np.abs(case.compute(name) - values) <= tolerance(algorithms()[name], case, sizes)).all()


@componentwise_algorithms
@given(st.data())
def test_every_tiling_and_thread_count_gives_the_same_bits(name, data):
    case = data.draw(cases(name, batches=(1, 2), longest=8))
    tile = data.draw(st.tuples(*[st.integers(1, size) for size in case.problem.out_size]))
    whole = case.compute(name, tile=case.problem.out_size)
    assert case.compute(name, tile=tile, threads=data.draw(st.integers(1, 3))).tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", sorted(NORMWISE))
@given(st.data())
def test_every_tiling_keeps_a_normwise_bound(name, data):
    case = data.draw(cases(name, batches=(1, 2), longest=8))
    tile = data.draw(st.tuples(*[st.integers(1, size) for size in case.problem.out_size]))
    values, sizes = case.expected()
    computed = case.compute(name, tile=tile, threads=data.draw(st.integers(1, 3)))
    assert (np.abs(computed - values) <= tolerance(algorithms()[name], case, sizes)).all()


WIDE = {
    "one plane of several panels": make_case(1, 1, 1, 3, (3, 70, 150), (3, 3, 3), padding=1),
    "rows of two panels": make_case(2, 1, 42, 3, (2, 5, 150), (3, 3, 3), padding=1, dtype="float64"),
    "many terms, panels of few rows": make_case(3, 1, 24, 2, (2, 11, 45), (1, 10, 10), padding="same"),
    "a stride and a wide row": make_case(4, 1, 40, 2, (4, 7, 400), (3, 3, 3), stride=(1, 2, 2), dtype="float64"),
    "depthwise": make_case(5, 1, 3, 6, (4, 60, 150), (3, 3, 3), groups=3, padding=1, factored=True),
    "deep": make_case(7, 2, 2, 2, (70, 5, 20), (5, 3, 4), groups=2, padding=2, factored=True),
    "deep, and dilated along it": make_case(8, 1, 1, 1, (61, 4, 33), (4, 2, 3), dilation=(3, 2, 1), factored=True),
    "longer than one chunk": make_case(6, 1, 1, 1, (12, 64, 60), (3, 3, 3), padding=1, factored=True, dtype="float64"),
}


COMPUTED = [
    (name, label)
    for label in WIDE
    for name in algorithms()
    if name not in NORMWISE and not algorithms()[name].refuses(WIDE[label].problem)
]


@pytest.mark.parametrize(("name", "label"), COMPUTED)
def test_every_tiling_of_a_wide_volume_gives_the_same_bits(name, label):
    case = WIDE[label]
    depth, height, width = case.problem.out_size
    whole = case.compute(name, tile=(depth, height, width)).tobytes()
    for threads, tile in enumerate(((1, height, width), (depth, 4, 37), (2, 3, 64), (1, height, 1)), start=1):
        assert case.compute(name, tile=tile, threads=min(threads, 3)).tobytes() == whole, tile


def test_the_wide_volumes_do_have_several_panels():
    one = panels(WIDE["one plane of several panels"].problem)
    assert one.rows < 70
    assert one.width == 150
    assert panels(WIDE["rows of two panels"].problem).width == 75
    assert panels(WIDE["many terms, panels of few rows"].problem).rows == 2
    assert panels(WIDE["a stride and a wide row"].problem).width == 100


@every_algorithm
def test_a_voxel_of_a_wide_volume_is_the_sum_of_its_own_field(name):
    case = WIDE["depthwise"]
    computed = case.compute(name)
    for d, h, w in ((0, 0, 0), (1, 30, 77), (2, 27, 149), (3, 59, 0), (1, 26, 148)):
        field = np.pad(case.x, [(0, 0)] * 2 + [(1, 1)] * 3)[..., d : d + 3, h : h + 3, w : w + 3]
        values, sizes = oracle(field, case.weight, case.bias, groups=case.problem.groups)
        error = np.abs(computed[..., d, h, w] - values[..., 0, 0, 0])
        allowed = tolerance(algorithms()[name], case, 0)
        allowed = (
            allowed[..., d, h, w] if name in NORMWISE else tolerance(algorithms()[name], case, sizes)[..., 0, 0, 0]
        )
        assert (error <= allowed).all()


@every_algorithm
@given(st.data())
def test_nan_and_inf_reach_exactly_the_voxels_whose_field_holds_them(name, data):
    case = data.draw(cases(name, batches=(1,)))
    x = case.x.copy()
    for bad in data.draw(st.lists(st.sampled_from((np.nan, np.inf, -np.inf)), min_size=1, max_size=2)):
        x.reshape(-1)[data.draw(st.integers(0, x.size - 1))] = bad
    weight = case.weight.copy()
    if name not in FACTORED:
        weight.reshape(-1)[:: data.draw(st.integers(1, 4))] = 0
    case.x, case.weight = x, weight
    values, _ = case.expected()
    computed = case.compute(name)
    for pattern in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(pattern(computed), pattern(values))


@every_algorithm
def test_a_zero_weight_times_nan_is_nan(name):
    case = make_case(0, 1, 1, 1, (4, 4, 4), (3, 3, 3), padding=1, bias=False, factored=True)
    case.weight = np.zeros_like(case.weight)
    case.weight[0, 0, 1, 1, 1] = 1
    case.x = np.zeros_like(case.x)
    case.x[0, 0, 0, 0, 0] = np.nan
    assert np.isnan(case.compute(name)).sum() == 8


@every_algorithm
@given(st.data())
def test_a_tile_takes_what_it_says_and_modifies_nothing(name, data):
    case = data.draw(cases(name, batches=(1,)))
    problem, member = case.problem, algorithms()[name]
    region = Region((0, 0, 0), problem.out_size)
    block = np.random.default_rng(0).normal(size=(problem.in_channels, *problem.block_shape(problem.out_size)))
    block = block.astype(problem.dtype)
    block.flags.writeable = False
    prepared = member.prepare(problem, case.weight)
    if isinstance(prepared, np.ndarray):
        prepared.flags.writeable = False
    scratch = Ledger()
    out = np.empty(problem.out_shape[1:], problem.dtype)
    window = Window(block, Region((0, 0, 0), block.shape[1:]), problem.padding_mode)
    member.run(problem, prepared, case.bias, window, region, out, scratch)
    assert sum(scratch.taken.values()) <= member.workspace(problem, problem.out_size)


class Ledger(Scratch):
    """A scratch that notes the bytes of each of its buffers."""

    def __init__(self):
        super().__init__()
        self.taken = {}

    def array(self, name, shape, dtype):
        self.taken[name] = max(self.taken.get(name, 0), math.prod(shape) * np.dtype(dtype).itemsize)
        return super().array(name, shape, dtype)


@every_algorithm
def test_says_what_it_is_in_pure_functions_of_the_problem(name):
    member = algorithms()[name]
    problem = make_case(0, 1, 2, 2, (6, 6, 6), (3, 3, 3), groups=2, factored=True).problem
    assert isinstance(member, Algorithm)
    assert name == member.name + ("" if member.engine == "numpy" else f"_{member.engine}")
    assert member.error_bound(problem) == member.error_bound(problem)
    for dtype, rates in machine.RATES.items():
        assert 0 < member.cost(problem, rates) < 1, dtype
    assert member.workspace(problem, (2, 6, 6)) >= 0
    assert member.refuses(problem) is None


REFUSALS = (
    ("separable", {"factored": False}, "not a product of three 1-D kernels"),
    ("separable", {"factored": True, "stride": 2}, "stride is not 1"),
    ("separable", {"groups": 1, "factored": False}, "sums several input channels"),
    ("separable_numba", {"factored": True, "stride": 2}, "stride is not 1"),
    ("winograd_numba", {"stride": 2}, "it has a stride"),
    ("winograd_numba", {"dilation": (1, 1, 2)}, "a dilation along H or W"),
    ("winograd_numba", {"padding_mode": "zeros", "kernel_size": (3, 3, 5)}, "not 3 x 3 along H and W"),
    ("fft", {"stride": (1, 2, 1)}, "the stride is not 1"),
    ("separable_torch", {"factored": True, "stride": 2}, "stride is not 1"),
    ("native_torch", {"dilation": (1, 1 << 31, 1), "kernel_size": (3, 1, 3)}, "over 2"),
)


@pytest.mark.parametrize(("name", "changes", "reason"), REFUSALS)
def test_a_refusal_is_a_reason(name, changes, reason):
    options = {"groups": 2, "kernel_size": (3, 3, 3)} | changes
    problem = make_case(0, 1, 2, 2, (6, 6, 6), options.pop("kernel_size"), **options).problem
    assert reason in algorithms()[name].refuses(problem)


def test_gemm_refuses_a_panel_over_two_gibibytes():
    layer = layer_arguments(1 << 20, 1, 3, padding=1)
    problem = conv_problem((1, 1 << 20, 20, 20, 20), layer)
    assert "2 GiB" in algorithms()["gemm"].refuses(problem)


@given(sizes=triples(2, 4), seed=st.integers(0, 2**32), data=st.data())
def test_weights_are_separable_only_where_they_factor(sizes, seed, data):
    rng = np.random.default_rng(seed)
    axes = [rng.integers(1, 8, size=(2, size)) * rng.choice((-1, 1), size=(2, size)) / 4 for size in sizes]
    weight = np.einsum("oi,oj,ok->oijk", *axes)[:, None].astype(np.float32)
    split = [np.split(one, np.cumsum(sizes)[:2]) for one in factors(weight)]
    np.testing.assert_allclose([np.einsum("i,j,k->ijk", *one) for one in split], weight[:, 0], rtol=1e-6)
    weight.reshape(-1)[data.draw(st.integers(0, weight.size - 1))] *= -1
    assert factors(weight) is None


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_factors_spend_no_more_than_the_roundings_that_the_passes_spare(dtype):
    axis = np.array([0.25, 0.5, 0.25])
    weight = np.einsum("i,j,k->ijk", axis, axis, axis)[None, None].astype(dtype)
    spare = (27 + 2 - 10) * np.finfo(dtype).eps / 2
    assert factors(weight) is not None
    for share, factor in ((0.9, True), (1.2, False)):
        near = weight.copy()
        near[0, 0, 0, 0, 2] *= 1 + share * spare
        assert (factors(near) is not None) is factor


NO_FACTORS = (
    np.full((1, 1, 3, 3, 3), np.nan),
    np.full((1, 1, 3, 3, 3), np.inf),
    np.ones((1, 2, 3, 3, 3)),
    np.ones((2, 1, 1, 1, 1)),
)


@pytest.mark.parametrize("weight", NO_FACTORS)
@pytest.mark.filterwarnings("error")
def test_weights_that_cannot_gain_from_factors_have_none(weight):
    assert factors(weight) is None
