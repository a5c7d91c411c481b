"""Sums over samples by correlations: at stride 1 the products of two taps depend on little but the lag between them.

With z_l[q] = x[c, q] x[c', q + l], the sum of products of taps t and t' over a box of outputs is that of z_l over the
box moved by t, l being d(t' - t). So of all pairs with one lag, the one whose taps lie lowest is computed, for all
lags at once by Fourier transforms, and the others differ from it by what leaves the box on one side and enters it on
the other when both taps move one step up an axis: sums over thin slabs at its faces, which `columns` makes.

Transforms add 10 u or so of the largest sum of squares to the rounding, u the unit roundoff of float64: as much as the
plain way does.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lucid_core.algorithms.fft import fast_length
from lucid_core.fitting.columns import gram_of, gram_of_first
from lucid_core.fitting.samples import Array
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.scratch import Scratch

AXES = (-3, -2, -1)


def refuses(problem: ConvProblem) -> bool:
    """Say whether the products of two taps depend on more than their lag: strides break it."""
    return problem.stride != (1, 1, 1)


def box_gram(problem: ConvProblem, values: Array, out: Triple, scratch: Scratch) -> Array:
    """Return the sums of products (P, P) of the terms over ALL outputs of a tile.

    `values` (C/g, d, h, w) are those of one group. The first axes of the work are (t_D, t_H, t_W, t'_D, t'_H, t'_W).
    """
    kernel, share = problem.kernel_size, values.shape[0]
    gram = np.zeros((*kernel, *kernel, share, share))
    _fill_lowest(gram, _lag_sums(problem, values, out))
    for axis in (2, 1, 0):
        if kernel[axis] > 1:
            _move_up(gram, axis, _difference(problem, values, out, axis, scratch))
    _mirror(gram)
    terms = share * problem.taps
    found = gram.transpose(6, 0, 1, 2, 7, 3, 4, 5).reshape(terms, terms)
    return (found + found.T) / 2


def box_moments(problem: ConvProblem, values: Array, targets: Array) -> Array:
    """Return the sums of products (P, T) of the terms and targets (T, d', h', w'), which are 0 at what is no sample."""
    size = _transform(values)
    offsets = _offsets(problem, [range(k) for k in problem.kernel_size])
    spectra = [np.fft.rfftn(channel, size, AXES) for channel in values]
    moments = np.empty((targets.shape[0], values.shape[0], *problem.kernel_size))
    for one, target in zip(moments, targets, strict=True):
        left = np.conj(np.fft.rfftn(target, size, AXES))
        for channel, right in zip(one, spectra, strict=True):
            channel[...] = _inverse(left * right, offsets, size)
    return moments.reshape(targets.shape[0], -1).T


def _lag_sums(problem: ConvProblem, values: Array, out: Triple) -> Array:
    """Return, for each lag (D from 0, H and W from -(k - 1)) and pair of channels, the sum for the lowest taps.

    The tap that is 0 along an axis is t for a lag from 0 and t' for a negative one: its values are those of the box.
    """
    size, share = _transform(values), values.shape[0]
    depth, height, width = problem.kernel_size
    found = np.zeros((share, share, depth, 2 * height - 1, 2 * width - 1))
    for below_h, below_w in itertools.product((False, True), repeat=2):
        ranges = (range(depth), _side(height, below_h), _side(width, below_w))
        offsets = _offsets(problem, ranges)
        if not all(offsets):
            continue
        left_box = (slice(out[0]), slice(None if below_h else out[1]), slice(None if below_w else out[2]))
        right_box = (slice(None), slice(out[1] if below_h else None), slice(out[2] if below_w else None))
        rights = [np.fft.rfftn(channel[right_box], size, AXES) for channel in values]
        place = (
            slice(ranges[1][0] + height - 1, ranges[1][-1] + height),
            slice(ranges[2][0] + width - 1, ranges[2][-1] + width),
        )
        for c, channel in enumerate(values):
            left = np.conj(np.fft.rfftn(channel[left_box], size, AXES))
            for other, right in enumerate(rights):
                found[c, other, :, *place] = _inverse(left * right, offsets, size)
    return found


def _side(k: int, below: bool) -> range:
    return range(1 - k, 0) if below else range(k)


def _offsets(problem: ConvProblem, ranges: Sequence[range]) -> list[list[int]]:
    return [[step * tap for tap in taps] for step, taps in zip(problem.dilation, ranges, strict=True)]


def _transform(values: Array) -> Triple:
    d, h, w = (fast_length(size) for size in values.shape[1:])
    return d, h, w


def _inverse(spectrum: npt.NDArray[np.complex128], lags: list[list[int]], size: Triple) -> Array:
    """Return the inverse transform at some lags alone: axis by axis, only these going on to the next."""
    for axis in (0, 1):
        spectrum = np.take(np.fft.ifft(spectrum, axis=axis), lags[axis], axis=axis, mode="wrap")
    return np.take(np.fft.irfft(spectrum, size[2], axis=2), lags[2], axis=2, mode="wrap")


def _fill_lowest(gram: Array, found: Array) -> None:
    """Put the sum of each lag where its two taps lie lowest."""
    height, width = gram.shape[1:3]
    for h, w in itertools.product(range(1 - height, height), range(1 - width, width)):
        sums = found[..., h + height - 1, w + width - 1]
        gram[0, max(0, -h), max(0, -w), :, max(0, h), max(0, w)] = np.moveaxis(sums, 2, 0)


def _move_up(gram: Array, axis: int, change: Array) -> None:
    """Fill what lies above 0 along an axis at both taps, from one step below.

    Along D that is done for all of gram, before that for its first tap along D; taps are up to date along W, then H.
    """
    count = gram.shape[axis]
    first, second = np.moveaxis(gram, (axis, axis + 3), (0, 1)), np.moveaxis(change, (axis, axis + 3), (0, 1))
    for a, b in itertools.product(range(1, count), repeat=2):
        if axis == 0 and b < a:
            continue
        target, source, step = first[a, b], first[a - 1, b - 1], second[a - 1, b - 1]
        if axis == 0:
            target[...] = source + step
        else:
            target[0] = source[0] + step[0]


def _difference(problem: ConvProblem, values: Array, out: Triple, axis: int, scratch: Scratch) -> Array:
    """Return what enters the box less what leaves it, for all pairs of taps but the last along an axis.

    Along H and W, the first of a pair is the tap 0 along D.
    """
    step, k, share = problem.dilation[axis], problem.kernel_size[axis], values.shape[0]
    kernel, thin = list(problem.kernel_size), list(out)
    kernel[axis], thin[axis] = k - 1, step
    slab = replace(problem, kernel_size=(kernel[0], kernel[1], kernel[2]))
    shape = (thin[0], thin[1], thin[2])
    along = np.moveaxis(values, axis + 1, 0)
    leaving, entering = (np.moveaxis(part, 0, axis + 1) for part in (along[: step * (k - 1)], along[out[axis] :]))
    if axis == 0:
        everywhere = np.ones(shape, np.bool_)
        change = gram_of(slab, entering, everywhere, scratch) - gram_of(slab, leaving, everywhere, scratch)
        first = kernel[0]
    else:
        change = gram_of_first(slab, entering, shape, scratch) - gram_of_first(slab, leaving, shape, scratch)
        first = 1
    return change.reshape(share, first, kernel[1], kernel[2], share, *kernel).transpose(1, 2, 3, 5, 6, 7, 0, 4)


def _mirror(gram: Array) -> None:
    """Fill the pairs whose first tap lies above the second along D: sums of products are symmetric."""
    for a, b in itertools.combinations(range(gram.shape[0]), 2):
        gram[b, :, :, a] = gram[a, :, :, b].transpose(2, 3, 0, 1, 5, 4)


def workspace(problem: ConvProblem, out: Triple) -> int:
    """Return the bytes of the spectra of a tile of shape `out`."""
    voxels = math.prod(fast_length(size) for size in problem.block_shape(out))
    return 8 * (problem.in_channels // problem.groups + 5) * voxels


def cost(problem: ConvProblem, out: Triple, transform: float, gemm: float) -> float:
    """Return predicted seconds for a tile of one group, with these floating-point operations a second."""
    share, made = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    voxels = math.prod(fast_length(size) for size in problem.block_shape(out))
    transforms = 8 * share + made + 1 + 0.6 * (4 * share * share + share * (made + 1))
    slabs = 0.0
    for axis, (k, step, count) in enumerate(zip(problem.kernel_size, problem.dilation, out, strict=True)):
        terms = problem.terms * (k - 1) / k
        pairs = terms * terms * (1 if axis == 0 else 2 / problem.kernel_size[0])
        slabs += 2 * pairs * step * math.prod(out) / count
    return transforms * 2.5 * voxels * math.log2(max(2, voxels)) / transform + slabs / gemm
