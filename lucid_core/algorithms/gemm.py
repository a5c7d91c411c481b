"""A matrix product over panels of gathered voxels (im2col, one small panel at a time).

A panel is a rectangle of output voxels of one D plane, gathered into the columns of a matrix whose rows are the
terms (channel, K_D, K_H, K_W) of their sums; one product with the weights gives all output channels. The columns
stay in the cache, and no volume of columns ever exists.

A BLAS sums in an order that depends on the shape of the product and on the place of a column in it. So every
product of a problem has the same shape, and an output voxel always has the same column: panels lie on a grid
fixed by the whole output (`Panels`), never by the tile. A tile that holds part of a panel computes all its columns.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lucid_core.algorithms import Algorithm, Array, ErrorBound
from lucid_core.boundary import Window
from lucid_core.lattice import window_steps
from lucid_core.machine import CACHE_BYTES, Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch


@dataclass(frozen=True)
class Panels:
    """The grid of panels over an output: `planes` x `rows` x `width` voxels each."""

    rows: int
    width: int
    planes: int = 1

    @property
    def shape(self) -> Triple:
        """Voxels of a panel along D, H, W."""
        return self.planes, self.rows, self.width

    @property
    def columns(self) -> int:
        """Columns of the matrix of one panel."""
        return math.prod(self.shape)


def panels(problem: ConvProblem) -> Panels:
    """Choose the panels of a problem: as many columns as the cache holds, from 128 to 4096."""
    _, height, width = problem.out_size
    most = CACHE_BYTES // (problem.terms * np.dtype(problem.dtype).itemsize)
    target = min(max(most, 128), 4096)
    pieces = -(-width // target)
    width = -(-width // pieces)
    return Panels(min(height, max(1, target // width)), width)


class Gemm(Algorithm):
    """Gather a panel, multiply by the weights."""

    name = "gemm"
    engine = "numpy"

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse a kernel that makes one panel larger than its use: over 2 GiB of columns."""
        columns = problem.terms * panels(problem).columns * np.dtype(problem.dtype).itemsize
        return "one panel of columns would take over 2 GiB" if columns > 1 << 31 else None

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """The products at the rate their rows allow, the gathering, and the calls."""
        panel = panels(problem)
        depth, height, width = problem.out_size
        count = depth * -(-height // panel.rows) * -(-width // panel.width) * problem.groups * problem.batch
        rows = problem.out_channels // problem.groups
        speed = rates.gemm * rows / (rows + rates.gemm_rows)
        columns = count * panel.columns
        seconds = 2 * rows * problem.terms * columns / speed + problem.terms * columns / rates.gather
        stored = math.prod(problem.out_shape) * (1 / rates.elementwise + 1 / rates.store)
        return seconds + stored + 12 * count * rates.call

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Hold in any order of summation, fused or not: gamma(K + 2)."""
        return ErrorBound("componentwise", problem.terms + 2)

    def workspace(self, problem: ConvProblem, out: Triple) -> int:  # noqa: ARG002 - panels do not follow the tile
        """One panel of columns and its products."""
        rows = problem.terms + problem.out_channels // problem.groups
        return rows * panels(problem).columns * np.dtype(problem.dtype).itemsize

    def prepare(self, problem: ConvProblem, weight: Array) -> Array:
        """Make one matrix a group: (g, O/g, terms)."""
        return np.ascontiguousarray(weight.reshape(problem.groups, -1, problem.terms))

    def run(
        self,
        problem: ConvProblem,
        prepared: Array,
        bias: Array | None,
        window: Window,
        region: Region,
        out: Array,
        scratch: Scratch,
    ) -> None:
        """Go over the panels that meet the region, group by group and plane by plane."""
        panel, block = panels(problem), window.block(scratch)
        columns = scratch.array("columns", (problem.terms, panel.columns), block.dtype)
        sums = scratch.array("sums", (prepared.shape[1], panel.columns), block.dtype)
        gathered = columns.reshape(-1, *problem.kernel_size, *panel.shape)
        results = sums.reshape(-1, *panel.shape)
        windows = _windows(problem, block, region.shape)
        share, made = gathered.shape[0], results.shape[0]
        meetings = list(panel_meetings(panel, region))
        for group, weights in enumerate(prepared):
            taken = windows[group * share : (group + 1) * share]
            target = out[group * made : (group + 1) * made]
            offset = 0 if bias is None else bias[group * made : (group + 1) * made, None, None, None]
            for inside, outputs in meetings:
                gathered[..., *inside] = taken[..., *outputs]
                np.matmul(weights, columns, out=sums)
                np.add(results[:, *inside], offset, out=target[:, *outputs])


def _windows(problem: ConvProblem, block: Array, out: Triple) -> Array:
    """View a block (C, d, h, w) as the voxels of every tap and output: (C, K_D, K_H, K_W, d', h', w')."""
    channel, *steps = block.strides
    taps, outputs = window_steps(problem, steps, out)
    shape = (block.shape[0], *problem.kernel_size, *out)
    return as_strided(block, shape, (channel, *taps, *outputs), writeable=False)


Box = tuple[slice, slice, slice]


def panel_meetings(panel: Panels, region: Region) -> Iterator[tuple[Box, Box]]:
    """Yield, for each panel that meets the region, the box in the panel and the same one in the region."""
    axes = [_axis_meetings(*axis) for axis in zip(panel.shape, region.start, region.stop, strict=True)]
    for d, h, w in itertools.product(*axes):
        yield (d[0], h[0], w[0]), (d[1], h[1], w[1])


def _axis_meetings(size: int, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
    for first in range(start - start % size, stop, size):
        low, high = max(first, start), min(first + size, stop)
        yield slice(low - first, high - first), slice(low - start, high - start)


ALGORITHM = Gemm()
