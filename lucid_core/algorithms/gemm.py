"""A matrix product over panels of gathered voxels (im2col, one small panel at a time).

A panel is a rectangle of output voxels of one D plane, gathered into the columns of a matrix whose rows are the
terms (channel, K_D, K_H, K_W) of their sums; one product with the weights gives all output channels. The columns
stay in the cache, and no volume of columns ever exists.

A BLAS sums in an order that depends on the shape of the product and on the place of a column in it. So every
product of a problem has the same shape, and an output voxel always has the same column: panels lie on a grid
fixed by the whole output (`Panels`), never by the tile. A tile that holds part of a panel computes all its columns.
"""

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
    """The grid of panels over the H and W of an output: `rows` x `width` voxels each."""

    rows: int
    width: int

    @property
    def columns(self) -> int:
        """Columns of the matrix of one panel."""
        return self.rows * self.width


def panels(problem: ConvProblem) -> Panels:
    """Choose the panels of a problem: as many columns as the cache holds, from 128 to 4096."""
    return cut_panels(problem, CACHE_BYTES, 128, 4096)


def cut_panels(problem: ConvProblem, column_bytes: int, least: int, most: int) -> Panels:
    """Return panels with as many columns as take so many bytes, from the least to the most."""
    _, height, width = problem.out_size
    target = min(max(column_bytes // (problem.terms * np.dtype(problem.dtype).itemsize), least), most)
    width = -(-width // -(-width // target))
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
        gathered = columns.reshape(-1, *problem.kernel_size, panel.rows, panel.width)
        results = sums.reshape(-1, panel.rows, panel.width)
        windows = _windows(problem, block, region.shape)
        share, made = gathered.shape[0], results.shape[0]
        meetings = list(panel_meetings(panel, region))
        for group, weights in enumerate(prepared):
            taken = windows[group * share : (group + 1) * share]
            target = out[group * made : (group + 1) * made]
            offset = 0 if bias is None else bias[group * made : (group + 1) * made, None, None]
            for plane in range(region.shape[0]):
                for inside, outputs in meetings:
                    gathered[..., *inside] = taken[..., plane, *outputs]
                    np.matmul(weights, columns, out=sums)
                    np.add(results[:, *inside], offset, out=target[:, plane, *outputs])


def _windows(problem: ConvProblem, block: Array, out: Triple) -> Array:
    """View a block (C, d, h, w) as the voxels of every tap and output: (C, K_D, K_H, K_W, d', h', w')."""
    channel, *steps = block.strides
    taps, outputs = window_steps(problem, steps, out)
    shape = (block.shape[0], *problem.kernel_size, *out)
    return as_strided(block, shape, (channel, *taps, *outputs), writeable=False)


Rectangle = tuple[slice, slice]


def panel_meetings(panel: Panels, region: Region) -> Iterator[tuple[Rectangle, Rectangle]]:
    """Yield, for each panel that meets the region, the rectangle in the panel and the same one in the region."""
    for rows in _axis_meetings(panel.rows, region.start[1], region.stop[1]):
        for columns in _axis_meetings(panel.width, region.start[2], region.stop[2]):
            yield (rows[0], columns[0]), (rows[1], columns[1])


def _axis_meetings(size: int, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
    for first in range(start - start % size, stop, size):
        low, high = max(first, start), min(first + size, stop)
        yield slice(low - first, high - first), slice(low - start, high - start)


ALGORITHM = Gemm()
