"""Sums over samples the plain way: the values that every sample reads, gathered into the columns of a matrix.

A panel is a box of output voxels; its columns hold the terms (channel, K_D, K_H, K_W) of their sums (as in
`lucid_core.algorithms.gemm`). The product of a panel with itself is symmetric, and NumPy has BLAS compute half of it.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lucid_core.fitting.samples import Array, Flags
from lucid_core.lattice import window_steps
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.scratch import Scratch


def panel_columns(terms: int) -> int:
    """Return how many columns a panel has at most: so many that adding up its product costs little beside it."""
    return min(max(2 * terms, 1024), 4096)


def sums(problem: ConvProblem, values: Array, targets: Array, kept: Flags, scratch: Scratch) -> tuple[Array, Array]:
    """Return the sums of products (P, P) of the terms of the kept outputs, and those of terms and targets (P, T).

    `values` (C/g, d, h, w) are those of one group, `targets` (T, d', h', w').
    """
    terms = values.shape[0] * problem.taps
    gram, moments = np.zeros((terms, terms)), np.zeros((terms, targets.shape[0]))
    for columns, rows in panels(problem, values, targets, kept, scratch):
        gram += columns @ columns.T
        moments += columns @ rows.T
    return gram, moments


def gram_of(problem: ConvProblem, values: Array, kept: Flags, scratch: Scratch) -> Array:
    """Return the first of `sums` alone."""
    none = np.empty((0, *kept.shape))
    return sums(problem, values, none, kept, scratch)[0]


def gram_of_first(problem: ConvProblem, values: Array, out: Triple, scratch: Scratch) -> Array:
    """Return the sums of products (P_0, P) of the terms at the first tap along D with all terms, over all outputs."""
    share, (_, height, width) = values.shape[0], problem.kernel_size
    gram = np.zeros((share * height * width, share * problem.taps))
    none = np.empty((0, *out))
    for columns, _ in panels(problem, values, none, np.ones(out, np.bool_), scratch):
        by_tap = columns.reshape(share, problem.kernel_size[0], height * width, columns.shape[1])
        gram += by_tap[:, 0].reshape(gram.shape[0], columns.shape[1]) @ columns.T
    return gram


def panels(
    problem: ConvProblem, values: Array, targets: Array, kept: Flags, scratch: Scratch
) -> Iterator[tuple[Array, Array]]:
    """Yield the columns (P, n) of the kept outputs of each panel, and their targets (T, n)."""
    out: Triple = kept.shape[0], kept.shape[1], kept.shape[2]
    taken = _windows(problem, values, out)
    terms = math.prod(taken.shape[:4])
    for box in boxes(out, panel_columns(terms)):
        chosen = kept[box].ravel()
        if not chosen.any():
            continue
        source = taken[(..., *box)]
        columns: Array = scratch.array("columns", (terms, chosen.size), np.float64).view(np.float64)
        columns.reshape(source.shape)[...] = source
        rows = targets[(slice(None), *box)].reshape(targets.shape[0], chosen.size)
        if not chosen.all():
            columns, rows = np.compress(chosen, columns, axis=1), np.compress(chosen, rows, axis=1)
        yield columns, rows


def boxes(out: Triple, most: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield boxes of at most `most` voxels that make up a box, in C order; rows along W are cut last."""
    width = min(out[2], most)
    height = min(out[1], most // width)
    depth = min(out[0], most // (width * height))
    cuts = [range(0, count, step) for count, step in zip(out, (depth, height, width), strict=True)]
    for d, h, w in itertools.product(*cuts):
        yield slice(d, d + depth), slice(h, h + height), slice(w, w + width)


def _windows(problem: ConvProblem, values: Array, out: Triple) -> Array:
    """View values (C/g, d, h, w) as those of every tap and output: (C/g, K_D, K_H, K_W, d', h', w')."""
    channel, *steps = values.strides
    taps, outputs = window_steps(problem, steps, out)
    shape = (values.shape[0], *problem.kernel_size, *out)
    return as_strided(values, shape, (channel, *taps, *outputs), writeable=False)
