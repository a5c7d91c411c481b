"""Normalised convolution: s(M X) / s(M) written out with the oracle, for every algorithm that may compute it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lucid_core import conv3d
from lucid_core.algorithms import algorithms
from lucid_core.compute import Filters
from lucid_core.errors import ArgumentError, ShapeError
from lucid_core.execute import execute
from lucid_core.factors import factors
from lucid_core.masked import MaskedReader
from lucid_core.normalization import Normalization
from lucid_core.padding import RENORMALIZE
from lucid_core.planner import plan
from lucid_core.volume import ArrayReader, ArrayWriter
from tests.contracts.test_algorithms import FACTORED, NORMWISE, cases, componentwise_algorithms, every_algorithm
from tests.reference import conv3d as oracle

OUTSIDE = -7.5


def run(case, mask, normalization, name, tile=None, threads=1):
    """Compute a case, normalised, by one algorithm."""
    problem = replace(case.problem, normalization=normalization)
    way = algorithms()[name]
    chosen = plan(problem, algorithm=way.name, engine=way.engine, accuracy="normwise", tile=tile, threads=threads)
    out = np.full(problem.out_shape, 7, problem.dtype)
    reader = ArrayReader(case.x)
    if normalization.of_voxels:
        reader = MaskedReader(reader, normalization, ArrayReader(mask[None, None]) if normalization.mask else None)
    execute(chosen, [Filters(case.weight, case.bias)], reader, ArrayWriter(out))
    return out


def expected(case, mask, normalization):
    """Return s(M X) / s(M) + bias in float64, and what a result may be off by."""
    counts = np.ones(case.x.shape, bool)
    if normalization.mask:
        counts &= (np.nan_to_num(mask) != 0)[None, None]
    if normalization.missing:
        counts &= ~np.isnan(case.x)
    problem = case.problem
    arguments = case.arguments
    if not normalization.of_voxels:
        arguments = arguments | {"padding_mode": "zeros"}
    values = np.where(counts, case.x, 0)
    above, above_size = oracle(values, case.weight, None, **arguments)
    below, below_size = oracle(counts.astype(float), case.weight, None, **arguments)
    unit = float(np.finfo(problem.dtype).eps) / 2
    gamma = (problem.terms + 2) * unit / (1 - (problem.terms + 2) * unit)
    bias = np.zeros(problem.out_channels) if case.bias is None else case.bias.astype(float)
    bias = bias[:, None, None, None]
    with np.errstate(all="ignore"):
        y = above / below
        room = np.maximum(np.abs(below) - gamma * below_size, 0)
        bound = (gamma * above_size + np.abs(y) * gamma * below_size) / room + 2 * unit * (np.abs(y) + np.abs(bias))
        bound += 1e3 * float(np.finfo(problem.dtype).tiny) / room
    y = np.where(below == 0, np.nan, y + bias)
    if normalization.mask:
        y = np.where(nearest_inside(case, mask), y, OUTSIDE)
    return y, np.where(np.isnan(bound), np.inf, bound)


def nearest_inside(case, mask):
    """Say for each output voxel, by its centre in the padded mask, whether a voxel nearest to it is inside."""
    problem = case.problem
    inside = (np.nan_to_num(mask) != 0).astype(float)
    mode = case.arguments["padding_mode"]
    halves = [step * (taps - 1) / 2 for step, taps in zip(problem.dilation, problem.kernel_size, strict=True)]
    box = np.zeros([int(2 * half) + 1 for half in halves])
    box[np.ix_(*[sorted({int(np.floor(half)), int(np.ceil(half))}) for half in halves])] = 1
    names = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}
    padded = np.pad(inside, problem.pads, names.get(mode, mode))
    found, _ = oracle(padded[None, None], box[None, None], None, problem.stride)
    return found[0] > 0


@st.composite
def masked(draw, name):
    """Draw a case that has a size, filters that do not sum to 0, a mask with NaN in it, and missing voxels."""
    case = draw(cases(name, batches=(1, 2)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    weight = np.abs(case.weight) + (0 if name in FACTORED else 0.1) if draw(st.booleans()) else case.weight
    sums = weight.sum(axis=(1, 2, 3, 4), dtype=float)
    keep = (np.abs(sums) > 0.05 * np.abs(weight).sum(axis=(1, 2, 3, 4)))[:, None, None, None, None]
    weight = np.where(keep, weight, np.ones_like(weight)).astype(weight.dtype)
    mask = rng.choice([0, 0, 1, 0.25, -2, np.nan], size=case.x.shape[2:])
    separable = factors(weight) is not None
    assume(separable or name not in FACTORED)
    problem = replace(case.problem, separable=separable)
    x = np.where(rng.random(case.x.shape) < 0.3, np.nan, case.x).astype(case.x.dtype)
    return replace(case, x=x, weight=weight, problem=problem), mask


HOWS = (Normalization(True, False, OUTSIDE), Normalization(False, True), Normalization(True, True, OUTSIDE))


@componentwise_algorithms
@pytest.mark.parametrize("how", HOWS, ids=("mask", "missing", "both"))
@settings(max_examples=20)
@given(data=st.data())
def test_it_is_the_quotient_of_two_convolutions(name, how, data):
    case, mask = data.draw(masked(name))
    if not how.missing:
        case = replace(case, x=np.nan_to_num(case.x, nan=3.0))
        case.x[:, :, np.nan_to_num(mask) == 0] = data.draw(st.sampled_from((np.nan, np.inf, 5.0)))
    found = run(case, mask, how, name)
    y, bound = expected(case, mask, how)
    sure = np.isfinite(bound)
    assert (np.isnan(found) == np.isnan(y))[sure].all()
    assert (np.abs(found - y) <= bound)[sure & ~np.isnan(y)].all()
    tile = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    again = run(case, mask, how, name, tile, data.draw(st.integers(1, 2)))
    assert again.tobytes() == found.tobytes()


@every_algorithm
@settings(max_examples=20)
@given(data=st.data())
def test_borders_are_left_out(name, data):
    case, _ = data.draw(masked(name))
    case = replace(case, x=np.nan_to_num(case.x, nan=2.0), problem=replace(case.problem, padding_mode="zeros"))
    how = Normalization()
    found = run(case, None, how, name)
    y, bound = expected(case, None, how)
    bound *= 1 if name not in NORMWISE else 1e4
    sure = np.isfinite(bound)
    assert (np.isnan(found) == np.isnan(y))[sure].all()
    assert (np.abs(found - y) <= bound)[sure & ~np.isnan(y)].all()
    if name not in NORMWISE:
        tile = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
        assert run(case, None, how, name, tile, 2).tobytes() == found.tobytes()


def test_a_normwise_algorithm_is_refused_where_voxels_are_looked_at():
    x, weight = np.ones((1, 9, 9, 9), np.float32), np.ones((1, 1, 9, 9, 9), np.float32)
    with pytest.raises(ArgumentError, match=r"s\(M\) may be small"):
        conv3d(x, weight, algorithm="fft", accuracy="normwise", nan="renormalize")


class TestConv3d:
    X = np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)
    MEAN = np.ones((1, 1, 3, 3, 3), np.float32)

    def test_constants_stay_inside_any_mask(self):
        mask = np.random.default_rng(0).random((3, 4, 5)) < 0.5
        found = conv3d(np.full_like(self.X, 4), self.MEAN, padding=1, mask=mask, outside=np.nan)[0]
        assert (found[mask] == 4).all()
        assert np.isnan(found[~mask]).all()

    def test_missing_voxels_are_filled_in_and_nothing_else_is_nan(self):
        x = self.X.copy()
        x[0, 0, 0, 0] = np.nan
        found = conv3d(x, self.MEAN, padding=1, padding_mode="replicate", nan="renormalize")
        assert np.isfinite(found).all()
        x[...] = np.nan
        assert np.isnan(conv3d(x, self.MEAN, padding=1, nan="renormalize")).all()

    def test_pooling_takes_what_is_inside_each_block(self):
        mask = np.zeros((2, 2, 4))
        mask[0, 0, 0] = mask[1, 1, 1] = 1
        x = np.arange(16, dtype=np.float64).reshape(1, 2, 2, 4)
        found = conv3d(x, np.ones((1, 1, 2, 2, 2)), stride=2, mask=mask, outside=-1)
        assert found.ravel().tolist() == [(x[0, 0, 0, 0] + x[0, 1, 1, 1]) / 2, -1]

    def test_a_bias_is_added_behind_the_quotient(self):
        found = conv3d(np.full_like(self.X, 4), self.MEAN, np.float32([10]), padding=1, padding_mode=RENORMALIZE)
        assert (found == 14).all()

    @pytest.mark.parametrize(
        "options", ({"mask": np.ones((3, 4, 5))}, {"nan": "renormalize"}, {"padding_mode": RENORMALIZE})
    )
    def test_a_sum_of_zero_is_refused(self, options):
        weight = np.stack([np.ones((1, 1, 1, 3)), np.float64([[[[-1, 0, 1]]]])]).astype(np.float32)
        with pytest.raises(ArgumentError, match="filter 1 of 2 sums to 0"):
            conv3d(self.X, weight, **options)

    @pytest.mark.parametrize("mask", (np.ones((5, 4, 3)), np.ones((1, 3, 4, 5)), np.ones((3, 4, 5), complex), "abc"))
    def test_a_wrong_mask_is_refused(self, mask):
        with pytest.raises(ShapeError, match=r"mask must hold numbers of shape \(3, 4, 5\)"):
            conv3d(self.X, self.MEAN, mask=mask)

    def test_an_unknown_treatment_is_refused(self):
        with pytest.raises(ArgumentError, match="unknown nan 'ignore'"):
            conv3d(self.X, self.MEAN, nan="ignore")

    def test_a_cut_kernel_that_cancels_is_nan(self):
        x, weight = np.arange(1, 7, dtype=np.float32).reshape(1, 1, 1, 6), np.float32([[[[[-1, 1, 1]]]]])
        for options in ({"padding_mode": RENORMALIZE}, {"mask": np.ones((1, 1, 6))}):
            found = conv3d(x, weight, padding=(0, 0, 1), **options).ravel()
            assert np.isnan(found).tolist() == [False] * 5 + [True]

    def test_the_smallest_number_is_inside_a_mask(self):
        mask = np.full((3, 4, 5), 1e-300)
        assert np.isfinite(conv3d(self.X, self.MEAN, padding=1, mask=mask, outside=np.nan)).all()

    @pytest.mark.parametrize("outside", ("abc", None, [1, 2], True, 1e300))
    def test_a_wrong_value_outside_is_refused(self, outside):
        with pytest.raises(ArgumentError, match="outside must be"):
            conv3d(self.X, self.MEAN, mask=np.ones((3, 4, 5)), outside=outside)
