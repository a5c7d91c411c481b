"""Exact least squares: the equations against plain loops, the weights against other solvers, and what noise allows."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lucid_core.arguments import layer_arguments
from lucid_core.boundary import Window
from lucid_core.errors import ArgumentError, RunError, ShapeError
from lucid_core.fitting.active import Quadratic, nonnegative
from lucid_core.fitting.conjugate import centre_of, conjugate_gradients, tile_diagonal, tile_product
from lucid_core.fitting.conjugate import workspace as pass_workspace
from lucid_core.fitting.constraints import CONSTRAINTS, project
from lucid_core.fitting.normal import NormalEquations
from lucid_core.fitting.samples import samples
from lucid_core.fitting.solve import solve
from lucid_core.fitting.solve import workspace as solve_workspace
from lucid_core.fitting.tiles import WAYS, cheapest, tile_equations, workspace
from lucid_core.functional import conv3d
from lucid_core.padding import PADDING_MODES
from lucid_core.problem import conv_problem
from lucid_core.regions import Region
from lucid_core.scratch import Scratch
from tests.reference import axis_pads, triple, voxel

EXACT = 1e-12
"""Of the largest sum of squares: what the rounding of sums over a small volume stays below."""


def problem_of(x, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, mode="zeros"):
    layer = layer_arguments(len(x), out_channels, kernel_size, stride, padding, dilation, groups, mode)
    return conv_problem((1, *x.shape), layer, dtype=x.dtype.name)


def tiles_of(problem, x, target, counted=None, cuts=()):
    """Yield the arguments of `tile_equations` for slabs of output planes."""
    ends = [0, *cuts, problem.out_size[0]]
    for start, stop in itertools.pairwise(ends):
        region = Region((start, 0, 0), (stop, *problem.out_size[1:]))
        window = Window(x, problem.input_region(region), problem.padding_mode)
        yield window, target[:, start:stop], None if counted is None else counted[start:stop]


def equations_of(problem, x, target, counted=None, cuts=(), way="auto"):
    total = NormalEquations.of_none(problem)
    for tile in tiles_of(problem, x, target, counted, cuts):
        total += tile_equations(problem, *tile, way=way)
    return total


def terms_read(x, kernel_size, stride, padding, dilation, mode):
    """Return (D', H', W', C, K_D, K_H, K_W): what each output voxel reads, looked up one by one."""
    kernel_size, stride, dilation = triple(kernel_size), triple(stride), triple(dilation)
    pads = axis_pads(padding, kernel_size, dilation)
    axes = list(zip(x.shape[1:], kernel_size, stride, dilation, pads, strict=True))
    out = [(size + lo + hi - step * (k - 1) - 1) // hop + 1 for size, k, hop, step, (lo, hi) in axes]
    read = np.zeros((*out, len(x), *kernel_size))
    for index in np.ndindex(*out, *kernel_size):
        at = [
            voxel(place * hop - lo + tap * step, size, mode)
            for place, tap, (size, _, hop, step, (lo, _)) in zip(index[:3], index[3:], axes, strict=True)
        ]
        if None not in at:
            read[(*index[:3], slice(None), *index[3:])] = x[(slice(None), *at)]
    return read


def smooth(rng, shape, widths):
    """Return noise that boxes of these widths have blurred along D, H, W, with unit variance."""
    x = rng.standard_normal(shape)
    for width in widths:
        for axis in (1, 2, 3):
            x = sum(np.roll(x, shift, axis) for shift in range(width))
    return x / x.std()


@st.composite
def layers(draw):
    """Draw the arguments of a layer and the shape of its input."""
    groups = draw(st.sampled_from((1, 1, 2)))
    size = st.one_of(st.integers(1, 3), st.tuples(*[st.integers(1, 3)] * 3))
    kernel_size, stride = draw(size), draw(st.one_of(st.just(1), size))
    paddings = st.one_of(st.integers(0, 2), st.tuples(*[st.integers(0, 2)] * 3))
    padding = draw(st.one_of(paddings, st.just("same")) if triple(stride) == (1, 1, 1) else paddings)
    dilation = draw(st.one_of(st.just(1), st.integers(1, 2)))
    mode = draw(st.sampled_from(sorted(PADDING_MODES)))
    share, made = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    shape = (groups * share, *draw(st.tuples(*[st.integers(2, 6)] * 3)))
    return shape, groups * made, kernel_size, stride, padding, dilation, groups, mode


@given(layers(), st.sampled_from(WAYS), st.booleans(), st.integers(0, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_the_equations_are_those_of_plain_loops(layer, way, masked, missing, seed):
    shape, made, kernel_size, stride, padding, dilation, groups, mode = layer
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 1, shape)
    try:
        problem = problem_of(x, made, kernel_size, stride, padding, dilation, groups, mode)
    except ShapeError:
        assume(False)
    assume(way == "columns" or problem.stride == (1, 1, 1))
    target = rng.normal(-2, 1, (made, *problem.out_size))
    for array in (x, target)[: missing % 2 + 1] if missing else ():
        array[tuple(rng.integers(0, size) for size in array.shape)] = (np.nan, np.inf, -np.inf)[missing - 1]
    counted = rng.random(problem.out_size) < 0.7 if masked else None
    cut = int(rng.integers(0, problem.out_size[0]))
    found = equations_of(problem, x, target, counted, [cut] if cut else [], way)

    read = terms_read(x, kernel_size, stride, padding, dilation, mode)
    wanted = np.ones(problem.out_size, bool) if counted is None else counted
    kept = wanted & np.isfinite(read).all((3, 4, 5, 6)) & np.isfinite(target).all(0)
    assert (found.count, found.left_out) == (kept.sum(), wanted.sum() - kept.sum())
    rows = read[kept].reshape(found.count, groups, problem.terms)
    values = target[:, kept].T.reshape(found.count, groups, made // groups)
    for group in range(groups if found.count else 0):
        terms, outputs = rows[:, group], values[:, group]
        about, outputs_about = terms - terms.mean(0), outputs - outputs.mean(0)
        limit = EXACT * max(1, (terms**2).sum(0).max())
        np.testing.assert_allclose(found.mean[group], terms.mean(0), atol=1e-13)
        np.testing.assert_allclose(found.target_mean[group], outputs.mean(0), atol=1e-13)
        np.testing.assert_allclose(found.gram[group], about.T @ about, rtol=0, atol=limit)
        np.testing.assert_allclose(found.moments[group], about.T @ outputs_about, rtol=0, atol=limit)
        np.testing.assert_allclose(found.powers[group], (outputs_about**2).sum(0), rtol=0, atol=limit)


@pytest.mark.parametrize(
    ("channels", "kernel_size", "dilation", "out"),
    [(1, 7, 1, (12, 9, 10)), (2, (2, 5, 3), (3, 1, 2), (7, 12, 9)), (3, (1, 4, 1), 2, (5, 6, 7)), (1, 3, 4, (2, 3, 9))],
)
@pytest.mark.parametrize("share", [1.0, 0.95, 0.1])
def test_both_ways_give_the_same_equations(channels, kernel_size, dilation, out, share):
    rng = np.random.default_rng(1)
    extent = [n + d * (k - 1) for n, d, k in zip(out, triple(dilation), triple(kernel_size), strict=True)]
    x = smooth(rng, (channels, *extent), (2, 3)) + 100
    problem = problem_of(x, 2, kernel_size, dilation=dilation)
    target, counted = rng.standard_normal((2, *out)), rng.random(out) < share
    plain, quick = (equations_of(problem, x, target, counted, way=way) for way in WAYS)
    scale = plain.gram[0].diagonal().max()
    for name in ("gram", "moments"):
        assert np.abs(getattr(plain, name) - getattr(quick, name)).max() < 1e-13 * scale
    assert np.abs(plain.mean - quick.mean).max() < 1e-13 * 100
    np.testing.assert_array_equal(quick.gram, quick.gram.transpose(0, 2, 1))


@pytest.mark.parametrize("way", WAYS)
def test_what_no_sample_reads_does_no_harm(way):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 12, 12, 12))
    counted = np.zeros((10, 10, 10), bool)
    counted[2:6, 2:9, 3:8] = True
    problem, target = problem_of(x, 1, 3), rng.standard_normal((1, 10, 10, 10))
    clean = equations_of(problem, x, target, counted, way=way)
    x[:, 9:], target[:, ~counted] = 1e200, np.nan
    dirty = equations_of(problem, x, target, counted, way=way)
    for name, array in clean.to_arrays().items():
        np.testing.assert_array_equal(dirty.to_arrays()[name], array)


def test_the_cheaper_way_is_taken():
    x, many = np.zeros((1, 70, 70, 70), np.float32), np.zeros((16, 40, 40, 40), np.float32)
    choices = {
        "lags": [problem_of(x, 1, 7), problem_of(x, 1, 9), problem_of(x, 1, 5)],
        "columns": [problem_of(x, 1, 3), problem_of(x, 1, 7, stride=2), problem_of(many, 16, 3)],
    }
    for way, problems in choices.items():
        for problem in problems:
            assert cheapest(problem, problem.out_size, math.prod(problem.out_size)) == way
    problem = problem_of(x, 1, 7)
    assert cheapest(problem, problem.out_size, math.prod(problem.out_size) // 10) == "columns"


@pytest.mark.parametrize(("kernel_size", "way"), [(3, "columns"), (5, "lags")])
def test_the_workspace_is_a_bound(kernel_size, way):
    x = np.random.default_rng(3).standard_normal((2, 30, 30, 30))
    problem = problem_of(x, 3, kernel_size)
    target = np.ones((3, *problem.out_size))
    counted = np.random.default_rng(4).random(problem.out_size) < 0.9
    used = peak_bytes(lambda: equations_of(problem, x, target, counted, way=way))
    assert 0.2 < used / workspace(problem, problem.out_size) < 1


def test_the_workspace_of_a_pass_is_a_bound():
    x = np.random.default_rng(3).standard_normal((4, 40, 40, 40))
    problem = problem_of(x, 6, 3)
    weight, target = np.ones((6, 4, 3, 3, 3)), np.ones((6, *problem.out_size))
    (tile,) = tiles_of(problem, x, target)

    def one_pass():
        found = samples(problem, *tile, Scratch())
        centre = tile_diagonal(problem, found).mean
        tile_product(problem, found, centre, weight)

    one_pass()
    assert 0.2 < peak_bytes(one_pass) / pass_workspace(problem, problem.out_size) < 1


@pytest.mark.parametrize("constraints", [(), ("sum1",), ("nonnegative",)], ids="+".join)
def test_the_workspace_of_a_solution_is_a_bound(constraints):
    x, target = np.random.default_rng(3).standard_normal((2, 4, 9, 9, 9))
    problem = problem_of(x, 4, 3, padding=1)
    equations = equations_of(problem, x, target)
    used = peak_bytes(lambda: solve(equations, constraints=constraints))
    assert 0.2 < used / solve_workspace(problem) < 1


def peak_bytes(call):
    """Return the most memory that NumPy holds during a call."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_equations_add_up_and_are_kept():
    rng = np.random.default_rng(5)
    x, target = rng.normal(50, 1, (2, 9, 8, 7)), rng.normal(9, 1, (4, 9, 8, 7))
    problem = problem_of(x, 4, 3, padding=1, groups=2, mode="replicate")
    whole, first, second = (equations_of(problem, x, target, cuts=cuts) for cuts in ((), (3,), (3,)))
    np.testing.assert_allclose(first.gram, whole.gram, rtol=1e-12, atol=1e-10)
    np.testing.assert_array_equal(first.gram, second.gram)
    parts = [tile_equations(problem, *tile) for tile in tiles_of(problem, x, target, cuts=(3,))]
    both = parts[0] + parts[1]
    assert both.count == 9 * 8 * 7 and parts[0].count == 3 * 8 * 7
    for name, array in NormalEquations.from_arrays(both.to_arrays()).to_arrays().items():
        np.testing.assert_array_equal(array, both.to_arrays()[name])
    nothing = NormalEquations.of_none(problem)
    np.testing.assert_array_equal((nothing + both).gram, both.gram)
    assert math.isnan(nothing.loss(np.zeros(nothing.shape)))


def test_equations_of_something_else_are_refused():
    x, y = np.zeros((1, 5, 5, 5)), np.zeros((1, 3, 3, 3))
    one = equations_of(problem_of(x, 1, 3), x, y)
    with pytest.raises(ShapeError, match=r"do not add up: weights of shape \(1, 1, 3, 3, 3\) in 1 groups"):
        one += NormalEquations.of_none(problem_of(x, 2, 3))
    with pytest.raises(ShapeError, match="gram, powers is missing"):
        NormalEquations.from_arrays({k: v for k, v in one.to_arrays().items() if k not in ("gram", "powers")})
    with pytest.raises(ShapeError, match=r"no normal equations of a weight of shape \(1, 1, 3, 3, 3\): mean \(1, 2\)"):
        NormalEquations.from_arrays(one.to_arrays() | {"mean": np.zeros((1, 2))})
    with pytest.raises(ShapeError, match=r"the weight has shape \(27,\)"):
        one.loss(np.zeros(27))
    with pytest.raises(ShapeError, match=r"the target of a tile has shape \(2, 3, 3, 3\)"):
        equations_of(problem_of(x, 1, 3), x, np.zeros((2, 3, 3, 3)))
    with pytest.raises(ShapeError, match=r"from an input of shape \(1, 4, 4, 4\)"):
        tile_equations(problem_of(x, 1, 3), Window(x, Region((0, 0, 0), (5, 5, 5)), "zeros"), np.zeros((1, 2, 2, 2)))
    with pytest.raises(ShapeError, match="must be bool of that shape, not float64"):
        equations_of(problem_of(x, 1, 3), x, y, np.ones((3, 3, 3)))


@pytest.mark.parametrize("bias", [None, np.array([4.0, -1.0])])
def test_the_loss_is_that_of_the_convolution(bias):
    rng = np.random.default_rng(6)
    x, weight = rng.normal(20, 1, (2, 8, 9, 10)), rng.standard_normal((2, 2, 3, 2, 3))
    problem = problem_of(x, 2, (3, 2, 3), stride=(1, 2, 1), padding=1, mode="reflect")
    target = rng.standard_normal((2, *problem.out_size))
    counted = rng.random(problem.out_size) < 0.6
    made = conv3d(x, weight, bias, (1, 2, 1), 1, padding_mode="reflect")
    errors = ((made - target)[:, counted]) ** 2
    equations = equations_of(problem, x, target, counted, cuts=(2, 5))
    np.testing.assert_allclose(equations.squares(weight, bias), errors.sum(1), rtol=1e-12)
    np.testing.assert_allclose(equations.loss(weight, bias), errors.mean(), rtol=1e-12)


@pytest.mark.parametrize(
    ("widths", "kernel_size", "condition"), [((), 5, 2), ((2, 2), 3, 1e3), ((4, 3, 2), 3, 1e5), ((3, 2, 2), 5, 1e7)]
)
@pytest.mark.parametrize("offset", [0, 1000])
def test_a_known_kernel_is_found_however_smooth_the_scan_is(widths, kernel_size, condition, offset):
    rng = np.random.default_rng(7)
    x = smooth(rng, (1, 30, 30, 30), widths) + offset
    weight, bias = rng.standard_normal((1, 1, *[kernel_size] * 3)), np.array([-3.0])
    target = conv3d(x, weight, bias, padding=kernel_size // 2, padding_mode="reflect")
    problem = problem_of(x, 1, kernel_size, padding=kernel_size // 2, mode="reflect")
    found = solve(equations_of(problem, x, target, cuts=(11, 22)))
    assert condition / 10 < found.condition < 100 * condition
    assert np.abs(found.weight - weight).max() < 1e-6
    assert found.bias == pytest.approx(bias, abs=1e-6 * max(1, offset))
    assert found.rank == found.unknowns == kernel_size**3
    assert found.loss < 1e-12 * target.var()


def test_data_far_from_zero_loses_no_digits():
    rng = np.random.default_rng(8)
    x = (1e4 + rng.standard_normal((1, 24, 24, 24))).astype(np.float32)
    weight = rng.standard_normal((1, 1, 3, 3, 3))
    target = conv3d(x.astype(np.float64), weight, padding=1, padding_mode="replicate")
    problem = problem_of(x, 1, 3, padding=1, mode="replicate")
    found = solve(equations_of(problem, x, target, cuts=(7,)))
    assert np.abs(found.weight - weight).max() < 1e-9
    assert found.condition < 30


def test_channels_of_other_units_are_found_alike():
    rng = np.random.default_rng(9)
    x = rng.standard_normal((2, 12, 12, 12)) * np.array([1e-6, 1e5]).reshape(2, 1, 1, 1)
    weight = rng.standard_normal((1, 2, 3, 3, 3)) / np.array([1e-6, 1e5]).reshape(1, 2, 1, 1, 1)
    found = solve(equations_of(problem_of(x, 1, 3), x, conv3d(x, weight)))
    np.testing.assert_allclose(found.weight, weight, rtol=1e-9)
    assert found.rank == 54 and found.condition < 10


def test_noise_leaves_the_error_of_the_least_squares_bound():
    """Errors have the covariance sigma^2 A^-1: their squares in its norm are chi-square, as those of the residuals."""
    rng = np.random.default_rng(10)
    repeats, sigma, terms = 64, 0.3, 27
    x, weight = smooth(rng, (1, 14, 14, 14), (2,)), rng.standard_normal((1, 1, 3, 3, 3))
    exact = conv3d(x, weight)
    target = exact + sigma * rng.standard_normal((repeats, *exact.shape[1:]))
    equations = equations_of(problem_of(x, repeats, 3), x, target)
    found = solve(equations)
    errors = (found.weight - weight).reshape(repeats, terms)
    gram = equations.gram[0] / sigma**2
    squares = np.einsum("op,pq,oq->o", errors, gram, errors)
    left = equations.squares(found.weight, found.bias) / sigma**2
    for values, freedom in ((squares, terms), (left, equations.count - terms - 1)):
        assert abs(values.sum() - repeats * freedom) < 4 * math.sqrt(2 * repeats * freedom)
        assert (np.abs(values - freedom) < 6 * math.sqrt(2 * freedom)).all()
    deviations = np.sqrt(np.diag(np.linalg.inv(gram)))
    scores = errors / deviations
    assert np.abs(scores).max() < 5 and 0.9 < scores.std() < 1.1


def least_squares(x, target, layer, l2, bias):
    """Return weight and bias by `numpy.linalg.lstsq` on the stacked rows of samples and penalties."""
    rows = terms_read(x, *layer).reshape(-1, len(x) * math.prod(triple(layer[0])))
    values = target.reshape(len(target), -1).T
    if bias:
        rows, values = rows - rows.mean(0), values - values.mean(0)
    penalty = math.sqrt(l2 * values.size) * np.eye(rows.shape[1])
    stacked = np.concatenate([rows, penalty]), np.concatenate([values, np.zeros((rows.shape[1], values.shape[1]))])
    return np.linalg.lstsq(*stacked, rcond=1e-10)[0].T


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("l2", [0.0, 1e-3, 0.5])
def test_a_penalty_is_that_of_the_stacked_system(l2, bias):
    rng = np.random.default_rng(11)
    layer = ((3, 1, 2), 1, 1, 1, "symmetric")
    x = rng.normal(2, 1, (2, 5, 6, 5))
    problem = problem_of(x, 3, *layer[:-1], mode=layer[-1])
    target = rng.normal(1, 1, (3, *problem.out_size))
    found = solve(equations_of(problem, x, target), l2, bias=bias)
    np.testing.assert_allclose(found.weight.reshape(3, -1), least_squares(x, target, layer, l2, bias), atol=1e-10)
    assert (found.bias is not None) == bias
    made = conv3d(x, found.weight, found.bias, *layer[1:-1], padding_mode=layer[-1])
    assert found.loss == pytest.approx(((made - target) ** 2).mean(), rel=1e-10)


def test_a_penalty_does_not_depend_on_the_number_of_voxels():
    rng = np.random.default_rng(12)
    x, target = rng.standard_normal((1, 8, 8, 8)), rng.standard_normal((1, 6, 6, 6))
    once = equations_of(problem_of(x, 1, 3), x, target)
    np.testing.assert_allclose(solve(once + once, 0.1).weight, solve(once, 0.1).weight, rtol=1e-10)


def test_what_the_samples_leave_open_is_told_and_small():
    rng = np.random.default_rng(13)
    layer = ((2, 2, 2), 1, 0, 1, "zeros")
    one = rng.normal(700, 3, (1, 6, 6, 6))
    cases = {
        "a constant input": (np.full((1, 6, 6, 6), 1000.1), 0),
        "another constant": (np.full((1, 6, 6, 6), 1 / 3), 0),
        "a channel twice": (np.concatenate([one, one]), 8),
        "a constant channel": (np.concatenate([one, np.full_like(one, 0.1)]), 8),
        "too few voxels": (one[:, :3, :3, :3], 7),
        "planes that are alike": (np.repeat(one[:, :1], 6, axis=1), 4),
    }
    for case, (x, rank) in cases.items():
        target = rng.standard_normal((1, *(n - 1 for n in x.shape[1:])))
        found = solve(equations_of(problem_of(x, 1, 2), x, target, cuts=(1,)))
        assert (found.rank, found.unknowns) == (rank, 8 * len(x)), case
        assert 1 <= found.condition < 1e4, case
        least = least_squares(x, target, layer, 0.0, True) if rank else np.zeros((1, 8))
        np.testing.assert_allclose(found.weight.reshape(1, -1), least, atol=1e-8, err_msg=case)


@pytest.mark.parametrize("way", WAYS)
def test_a_tap_that_reads_nothing_but_padding_tells_nothing(way):
    """Such as beside a single plane; far from zero, its sum of squares about its mean is no exact zero."""
    rng = np.random.default_rng(22)
    x = rng.normal(1000.1, 3, (1, 37, 19, 1)) + rng.standard_normal()
    problem = problem_of(x, 1, (3, 2, 3), padding=(0, 0, 1))
    weight = rng.standard_normal((1, 1, 3, 2, 3)) * np.array([0.0, 1, 0])
    equations = equations_of(problem, x, conv3d(x, weight, padding=(0, 0, 1)), cuts=(3, 17, 24), way=way)
    found = solve(equations)
    assert (found.rank, found.unknowns) == (6, 18)
    np.testing.assert_allclose(found.weight, weight, atol=1e-9)
    without = solve(equations, bias=False)
    assert without.rank == 6
    np.testing.assert_allclose(without.weight, weight, atol=1e-9)


@pytest.mark.parametrize("constraints", [(), ("sum1",)], ids="+".join)
@pytest.mark.parametrize("bias", [True, False])
def test_conjugate_gradients_take_such_taps_too(constraints, bias):
    rng = np.random.default_rng(23)
    x = rng.normal(1000.1, 300, (1, 37, 19, 1))
    problem, target = problem_of(x, 1, (3, 2, 3), padding=(0, 0, 1)), rng.normal(10, 1, (1, 35, 18, 1))
    exact = solve(equations_of(problem, x, target), constraints=constraints, bias=bias)
    found = iterated(problem, tiles_of(problem, x, target, cuts=(3, 17)), constraints=constraints, bias=bias)
    assert found.converged
    np.testing.assert_allclose(found.weight, exact.weight, atol=1e-6)


def test_what_is_no_linear_system_is_refused():
    x, target = np.ones((1, 4, 4, 4)), np.ones((1, 4, 4, 4))
    with pytest.raises(ArgumentError, match=r"is divided by its weights.*legal padding modes: zeros, reflect"):
        equations_of(problem_of(x, 1, 3, padding=1, mode="renormalize"), x, target)
    with pytest.raises(ArgumentError, match="way='lags' needs stride 1"):
        equations_of(problem_of(x, 1, 1, stride=2), x, target[:, ::2, ::2, ::2], way="lags")
    with pytest.raises(ArgumentError, match="unknown way 'lag'"):
        equations_of(problem_of(x, 1, 1), x, target, way="lag")


def test_nothing_to_learn_from_is_refused():
    x, target = np.ones((1, 4, 4, 4)), np.ones((1, 2, 2, 2))
    problem = problem_of(x, 1, 3)
    with pytest.raises(ArgumentError, match="no voxel counts"):
        solve(equations_of(problem, x, target, np.zeros((2, 2, 2), bool)))
    for l2 in (-1, math.nan, math.inf):
        with pytest.raises(ArgumentError, match="l2 must be a finite number from 0 up"):
            solve(equations_of(problem, x, target), l2)
    x[0, 0, 0, 0] = 1e300
    with pytest.raises(RunError, match="pass the largest float64"), np.errstate(over="ignore", invalid="ignore"):
        solve(equations_of(problem, x, target))


# Constraints

LEGAL = [
    names
    for count in range(4)
    for names in itertools.combinations(CONSTRAINTS, count)
    if not {"sum1", "zero-sum"} <= set(names) and not {"nonnegative", "zero-sum"} <= set(names)
]


def check_kept(weight, constraints):
    filters = weight.reshape(len(weight), -1)
    if "nonnegative" in constraints:
        assert (weight >= 0).all()
    if "sum1" in constraints:
        np.testing.assert_allclose(filters.sum(1), 1, atol=1e-12)
    if "zero-sum" in constraints:
        np.testing.assert_allclose(filters.sum(1), 0, atol=1e-12 * max(1, np.abs(filters).max()))
    if "symmetric" in constraints:
        np.testing.assert_allclose(weight, weight[:, :, ::-1, ::-1, ::-1], atol=1e-13 * max(1, np.abs(weight).max()))


def constrained_case(seed=14, made=3):
    rng = np.random.default_rng(seed)
    x = smooth(rng, (2, 10, 10, 10), (2,)) + 5
    problem = problem_of(x, made, (3, 2, 1))
    weight = rng.normal(0.02, 0.2, (made, 2, 3, 2, 1))
    target = conv3d(x, weight) + 0.1 * rng.standard_normal((made, *problem.out_size)) + 2
    return problem, x, target


@pytest.mark.parametrize("constraints", LEGAL, ids="+".join)
@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_constrained_weights_meet_the_conditions_of_the_optimum(constraints, l2):
    """Karush, Kuhn and Tucker: along what the constraints leave free the loss is level, at what they hold it rises."""
    problem, x, target = constrained_case()
    equations = equations_of(problem, x, target)
    found = solve(equations, l2, constraints)
    check_kept(found.weight, constraints)
    filters = found.weight.reshape(3, -1)
    gradient = filters @ equations.gram[0] - equations.moments[0].T + l2 * equations.values * filters
    if "symmetric" in constraints:
        shaped = gradient.reshape(found.weight.shape)
        gradient = ((shaped + shaped[:, :, ::-1, ::-1, ::-1]) / 2).reshape(3, -1)
    limit = 1e-10 * np.abs(equations.moments).max()
    for one, slope in zip(filters, gradient, strict=True):
        held = (one == 0) if "nonnegative" in constraints else np.zeros(one.size, bool)
        level = slope[~held].mean() if {"sum1", "zero-sum"} & set(constraints) else 0.0
        assert np.abs(slope[~held] - level).max(initial=0) < limit
        assert (slope[held] - level > -limit).all()


def test_nonnegative_weights_are_those_of_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    problem, x, target = constrained_case(15, 5)
    found = solve(equations_of(problem, x, target), 0.01, ["nonnegative"])
    rows = terms_read(x, (3, 2, 1), 1, 0, 1, "zeros").reshape(-1, 12)
    values = target.reshape(5, -1).T
    penalty = math.sqrt(0.01 * values.size) * np.eye(12)
    stacked = np.concatenate([rows - rows.mean(0), penalty])
    right = np.concatenate([values - values.mean(0), np.zeros((12, 5))])
    assert 0 < (found.weight == 0).sum() < found.weight.size
    for one, column in zip(found.weight.reshape(5, -1), right.T, strict=True):
        np.testing.assert_allclose(one, optimize.nnls(stacked, column)[0], atol=1e-9)
        np.testing.assert_allclose(one, optimize.lsq_linear(stacked, column, (0, np.inf), tol=1e-14).x, atol=1e-6)


def test_nonnegative_weights_settle_where_the_samples_leave_something_open():
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(21)
    one = smooth(rng, (1, 9, 9, 9), (2,)) + 3
    x = np.concatenate([one, one, np.full_like(one, 7)])
    target = conv3d(x, rng.normal(0.1, 0.3, (1, 3, 3, 3, 3))) + 0.1 * rng.standard_normal((1, 7, 7, 7))
    found = solve(equations_of(problem_of(x, 1, 3), x, target), constraints=["nonnegative"])
    assert (found.rank, found.unknowns) == (27, 81)
    np.testing.assert_allclose(found.weight[:, 0], found.weight[:, 1], atol=1e-3)
    assert (found.weight[:, 2] == 0).all()
    check_kept(found.weight, ["nonnegative"])
    rows = terms_read(x, 3, 1, 0, 1, "zeros").reshape(-1, 81)
    left = optimize.nnls(rows - rows.mean(0), target.ravel() - target.mean())[1]
    assert found.loss == pytest.approx(left**2 / target.size, rel=1e-9)


@pytest.mark.parametrize("constraints", [("nonnegative", "sum1"), ("nonnegative", "sum1", "symmetric"), ("zero-sum",)])
def test_constrained_weights_are_those_of_slsqp(constraints):
    optimize = pytest.importorskip("scipy.optimize")
    problem, x, target = constrained_case(16, 1)
    equations = equations_of(problem, x, target)
    found = solve(equations, constraints=constraints).weight
    sums = {"type": "eq", "fun": lambda w: w.sum() - ("sum1" in constraints)}
    mirrored = np.arange(12).reshape(2, 3, 2, 1)[:, ::-1, ::-1, ::-1].ravel()
    pairs = np.flatnonzero(np.arange(12) < mirrored)
    mirrors = [{"type": "eq", "fun": lambda w: w[pairs] - w[mirrored[pairs]]}] if "symmetric" in constraints else []
    theirs = optimize.minimize(
        lambda w: equations.loss(w.reshape(1, 2, 3, 2, 1), equations.offset(w.reshape(1, 2, 3, 2, 1))),
        np.full(12, 1 / 12),
        method="SLSQP",
        bounds=[(0 if "nonnegative" in constraints else None, None)] * 12,
        constraints=[sums, *mirrors],
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    np.testing.assert_allclose(found.ravel(), theirs.x, atol=1e-4)
    assert equations.loss(found, equations.offset(found)) <= theirs.fun + 1e-10


@given(st.integers(1, 20), st.integers(1, 25), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_the_active_set_meets_its_conditions(size, count, summed, seed):
    """Terms that are much alike, nearly singular too: feasible, level where free, rising where held."""
    rng = np.random.default_rng(seed)
    rows = np.cumsum(rng.standard_normal((count, size)), axis=1)
    rows /= np.linalg.norm(rows, axis=0)
    gram, moment = rows.T @ rows + 1e-10 * np.eye(size), rows.T @ rng.standard_normal(count)
    total = rng.uniform(0.5, 2, size) if summed else None
    point = nonnegative(Quadratic(gram, moment, total, 1.0))
    assert (point >= 0).all()
    slope = gram @ point - moment
    free = point > 0
    if total is not None:
        assert total @ point == pytest.approx(1)
        slope = slope - total * (slope[free] @ total[free]) / (total[free] @ total[free])
    limit = 1e-9 * (1 + np.abs(gram).max() * np.abs(point).max())
    assert np.abs(slope[free]).max(initial=0) < limit
    assert slope[~free].min(initial=0) > -limit


@pytest.mark.parametrize("constraints", LEGAL, ids="+".join)
def test_a_projection_is_the_nearest_that_keeps_the_constraints(constraints):
    """The way from the nearest point turns away from every other legal one (obtuse angles), and it stays put."""
    rng = np.random.default_rng(17)
    weight = rng.standard_normal((4, 2, 3, 2, 3))
    nearest = project(weight, constraints)
    check_kept(nearest, constraints)
    np.testing.assert_allclose(project(nearest, constraints), nearest, atol=1e-14)
    for _ in range(50):
        other = project(rng.standard_normal(weight.shape) * rng.choice([0.1, 1, 10]), constraints)
        assert (((weight - nearest) * (other - nearest)).sum((1, 2, 3, 4)) < 1e-9).all()
    assert project(weight.astype(np.float32), constraints).dtype == np.float32


def test_a_projection_takes_what_is_huge_and_what_is_no_number():
    weight = np.array([1e30, 0, -1e30, 5.0, np.nan, 0, 0, 0]).reshape(2, 1, 1, 2, 2)
    found = project(weight, ["nonnegative", "sum1"])
    assert found[0].ravel().tolist() == [1, 0, 0, 0]
    assert np.isnan(found[1]).all()


def test_constraints_that_leave_nothing_are_refused():
    with pytest.raises(ArgumentError, match="cannot sum to 1 and to 0"):
        project(np.ones((1, 1, 1, 1, 1)), ["zero-sum", "sum1"])
    with pytest.raises(ArgumentError, match="are all 0: give one of"):
        project(np.ones((1, 1, 1, 1, 1)), ["zero-sum", "nonnegative"])
    with pytest.raises(ArgumentError, match=r"unknown constraint 'symetric'.*Did you mean 'symmetric'"):
        project(np.ones((1, 1, 1, 1, 1)), ["symetric"])


def test_a_filter_of_one_weight_keeps_its_sum():
    x, target = np.random.default_rng(18).standard_normal((2, 1, 4, 4, 4))
    equations = equations_of(problem_of(x, 1, 1), x, target)
    for name, value in (("sum1", 1), ("zero-sum", 0)):
        found = solve(equations, constraints=[name])
        assert (found.weight.item(), found.unknowns, found.rank) == (pytest.approx(value), 0, 0)


# Conjugate gradients


def iterated(problem, tiles, *arguments, bias, **options):
    """Run conjugate gradients over tiles."""
    found = [samples(problem, *tile, Scratch()) for tile in tiles]
    equations = NormalEquations.of_none(problem, diagonal=True)
    for one in found:
        equations += tile_diagonal(problem, one)
    centre = centre_of(equations, bias=bias)

    def product(weight):
        return sum(tile_product(problem, one, centre, weight) for one in found)

    return conjugate_gradients(equations, product, *arguments, bias=bias, **options)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("constraints", [(), ("sum1",), ("symmetric", "zero-sum")], ids="+".join)
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_conjugate_gradients_come_to_the_exact_weights(bias, constraints, l2):
    rng = np.random.default_rng(19)
    x = smooth(rng, (2, 9, 9, 8), (2,)) * np.array([1, 30]).reshape(2, 1, 1, 1) + 3
    problem = problem_of(x, 4, (3, 2, 3), (1, 2, 1), 1, 1, 2, "circular")
    target, counted = rng.standard_normal((4, *problem.out_size)), rng.random(problem.out_size) < 0.8
    x[0, 0, 0, 0] = np.nan
    seen, whole = [], equations_of(problem, x, target, counted)
    equations = NormalEquations.of_none(problem, diagonal=True)
    for tile in tiles_of(problem, x, target, counted, (4,)):
        equations += tile_diagonal(problem, samples(problem, *tile, Scratch()))
    np.testing.assert_allclose(equations.gram, np.einsum("gpp->gp", whole.gram), rtol=1e-10)
    np.testing.assert_allclose(equations.moments, whole.moments, atol=1e-12 * np.abs(whole.moments).max())
    found = iterated(
        problem,
        tiles_of(problem, x, target, counted, (4,)),
        l2,
        constraints,
        bias=bias,
        report=lambda *step: seen.append(step),
    )
    exact = solve(whole, l2, constraints, bias=bias)
    assert found.converged and found.residual < 1e-10
    assert [number for number, _ in seen] == list(range(1, found.iterations + 1))
    np.testing.assert_allclose(found.weight, exact.weight, atol=1e-7 * np.abs(exact.weight).max())
    assert found.loss == pytest.approx(exact.loss, rel=1e-8)
    assert bias == (found.bias is not None)
    if bias:
        np.testing.assert_allclose(found.bias, exact.bias, rtol=1e-6)


def test_conjugate_gradients_end_in_time_and_say_so():
    rng = np.random.default_rng(20)
    x, target = smooth(rng, (1, 9, 9, 9), (3, 2)), rng.standard_normal((1, 7, 7, 7))
    problem = problem_of(x, 1, 3)
    (tile,) = (samples(problem, *tile, Scratch()) for tile in tiles_of(problem, x, target))
    equations = tile_diagonal(problem, tile)

    def run(**options):
        return conjugate_gradients(equations, lambda w: tile_product(problem, tile, equations.mean, w), **options)

    short = run(iterations=3)
    assert (short.iterations, short.converged) == (3, False) and short.residual > 1e-10
    assert run(iterations=6).loss < short.loss < equations.powers.sum() / equations.values
    with pytest.raises(ArgumentError, match="do not keep weights nonnegative"):
        run(constraints=["nonnegative"])
    with pytest.raises(ArgumentError, match="l2 must be"):
        run(l2=-1)
    with pytest.raises(ShapeError, match="the diagonal of the gram matrix alone"):
        solve(equations)
    with pytest.raises(ShapeError, match="have all of the gram matrix"):
        conjugate_gradients(equations_of(problem, x, target), lambda w: w)
    with pytest.raises(ArgumentError, match="no voxel counts"):
        conjugate_gradients(NormalEquations.of_none(problem, diagonal=True), lambda w: w)
