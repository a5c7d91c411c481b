"""The normal equations of one tile, by the cheaper of two ways.

`columns` gathers what every sample reads; `lags` computes a whole box of outputs by their lags, less what does
not count, which is gathered. Which one follows from predicted seconds: the smallest box that holds the samples, how
many they are, and the layer.

A tile gives the same bits on every run with the same BLAS held to one thread. Others give other bits: the rounding of
the sums depends on how volumes are cut into tiles, and on the order in which these are added.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.blas import single_threaded
from lucid_core.boundary import Window
from lucid_core.errors import ArgumentError
from lucid_core.fitting import columns, lags
from lucid_core.fitting.normal import NormalEquations, equations_bytes, rounded, weight_shape
from lucid_core.fitting.samples import Array, Flags, Samples, box_of, samples, samples_bytes
from lucid_core.machine import rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.registry import choose
from lucid_core.scratch import Scratch

WAYS = ("columns", "lags")


def tile_equations(
    problem: ConvProblem,
    window: Window,
    target: npt.NDArray[Any],
    counted: Flags | None = None,
    scratch: Scratch | None = None,
    *,
    way: str = "auto",
) -> NormalEquations:
    """Return the normal equations of a tile of a volume, for `+=` to add to those of the others.

    `window` is of the padded input that the tile is computed from (`ConvProblem.input_region`), `target` (O, d, h, w)
    what its outputs are to be, and `counted` (d, h, w) bool says which voxels count, None for all. A voxel that reads
    or should be a NaN or infinity in any channel is left out, and counted as such. Sums are of float64, whatever the
    data. `way` is "auto", "columns" or, at stride 1, "lags".

    Raises `ShapeError` where the shapes do not fit, `ArgumentError` for a normalised convolution or an illegal way.
    """
    if choose("way", way, ("auto", *WAYS)) == "lags" and lags.refuses(problem):
        raise ArgumentError(f"way='lags' needs stride 1, not {problem.stride}; use 'columns' or 'auto'")
    scratch = scratch or Scratch()
    found = samples(problem, window, target, counted, scratch)
    with single_threaded():
        parts = [_of_group(problem, found, group, way, scratch) for group in range(problem.groups)]
    gram, moments, powers, mean, target_mean = (np.stack(part) for part in zip(*parts, strict=True))
    shape = weight_shape(problem)
    return NormalEquations(shape, found.count, found.left_out, mean, target_mean, gram, moments, powers)


def workspace(problem: ConvProblem, out: Triple) -> int:
    """Return the bytes `tile_equations` takes for a tile of shape `out`, its result included, its arguments not."""
    panel = 16 * (problem.terms + problem.out_channels + 1) * columns.panel_columns(problem.terms)
    spectra = 0 if lags.refuses(problem) else lags.workspace(problem, out)
    return samples_bytes(problem, out) + panel + spectra + 4 * equations_bytes(problem)


def cheapest(problem: ConvProblem, out: Triple, count: int) -> str:
    """Return the way that takes less predicted time for a tile of shape `out` where `count` voxels are samples."""
    if lags.refuses(problem):
        return "columns"
    speed, terms = rates("float64"), problem.terms
    row = terms * (terms + 2 * (problem.out_channels // problem.groups + 1)) / speed.gemm + terms / speed.gather
    whole = lags.cost(problem, out, 2 * speed.fft, speed.gemm) + (math.prod(out) - count) * row
    return "lags" if whole < count * row else "columns"


def _of_group(
    problem: ConvProblem, found: Samples, group: int, way: str, scratch: Scratch
) -> tuple[Array, Array, Array, Array, Array]:
    """Return gram, moments, powers, mean and target mean of a group."""
    share, made = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    channels, outputs = slice(group * share, (group + 1) * share), slice(group * made, (group + 1) * made)
    values, targets = found.values[channels], np.concatenate([found.targets[:1], found.targets[1:][outputs]])
    gram, moments = _sums(problem, values, targets, found.kept, way, scratch)
    count = max(1, found.count)
    sums, target_sums = moments[:, 0], np.array([one.sum() for one in targets[1:]])
    squares = np.diag(gram).copy()
    gram -= np.outer(sums, sums) / count
    moments = moments[:, 1:] - np.outer(sums / count, target_sums)
    (still,) = rounded(np.diag(gram)[np.newaxis], squares[np.newaxis], weight_shape(problem))
    gram[still], gram[:, still], moments[still] = 0.0, 0.0, 0.0
    powers = np.array([np.vdot(one, one) for one in targets[1:]]) - target_sums**2 / count
    mean = np.repeat(found.centre[channels], problem.taps) + sums / count
    return gram, moments, np.maximum(powers, 0.0), mean, found.target_centre[outputs] + target_sums / count


def _sums(
    problem: ConvProblem, values: Array, targets: Array, kept: Flags, way: str, scratch: Scratch
) -> tuple[Array, Array]:
    """Return the sums of products of terms (P, P), and of terms and targets (P, T), over the samples."""
    outputs, inputs = box_of(problem, kept)
    values, targets, kept = values[(slice(None), *inputs)], targets[(slice(None), *outputs)], kept[outputs]
    out: Triple = kept.shape[0], kept.shape[1], kept.shape[2]
    chosen = cheapest(problem, out, int(np.count_nonzero(kept))) if way == "auto" else way
    if chosen == "columns":
        return columns.sums(problem, values, targets, kept, scratch)
    gram = lags.box_gram(problem, values, out, scratch)
    if not kept.all():
        gram -= columns.gram_of(problem, values, ~kept, scratch)
    return gram, lags.box_moments(problem, values, targets)
