"""A matrix product over panels of gathered voxels, as operations of torch.

As `gemm` does it with NumPy, on a grid of panels that follows from the whole output alone: every product of a problem
has one shape, and a voxel always has the same column, so that cuBLAS and MKL sum it in the same order in every tile.
Panels are larger, as a device needs much work a call.
"""

import itertools
from collections.abc import Mapping

import numpy as np

from lucid_core.algorithms import Array, ErrorBound
from lucid_core.algorithms.gemm import Panels, cut_panels, panel_meetings
from lucid_core.machine import Rates
from lucid_core.pages import aligned
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Shape
from lucid_core.tensors import Tensor, library
from lucid_core.tensors.algorithm import TensorAlgorithm, copying, windows
from lucid_core.tensors.lane import Constant, Lane

COLUMN_BYTES = 32 << 20
"""Columns of a panel that are aimed at."""
LEAST_COLUMNS, MOST_COLUMNS = 1 << 10, 1 << 16


def panels(problem: ConvProblem) -> Panels:
    """Choose the panels of a problem: as much of a plane as has the columns that are aimed at."""
    return cut_panels(problem, COLUMN_BYTES, LEAST_COLUMNS, MOST_COLUMNS)


class GemmTorch(TensorAlgorithm):
    """Gather a panel, multiply by the weights."""

    name = "gemm"
    tensor_cores = True

    def unfit(self, problem: ConvProblem) -> str | None:
        """Refuse a kernel that makes one panel larger than its use: over 2 GiB of columns."""
        columns = problem.terms * panels(problem).columns * np.dtype(problem.dtype).itemsize
        return "one panel of columns would take over 2 GiB" if columns > 1 << 31 else None

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """The products at the rate their rows allow, the gathering, and three calls a panel."""
        panel, known = panels(problem), rates.tensors
        depth, height, width = problem.out_size
        count = problem.groups * problem.batch * depth * -(-height // panel.rows) * -(-width // panel.width)
        rows, columns = problem.out_channels // problem.groups, count * panel.columns
        speed = known.gemm * rows / (rows + known.gemm_rows)
        seconds = 2 * rows * problem.terms * columns / speed + problem.terms * columns / known.gather
        return seconds + rows * columns / known.elementwise + 3 * count * known.call + copying(problem, rates)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Hold in any order of summation, fused or not: gamma(K + 2)."""
        return ErrorBound("componentwise", problem.terms + 2)

    def buffers(self, problem: ConvProblem, out: Triple) -> Mapping[str, Shape]:  # noqa: ARG002 - panels do not follow
        """Return one panel of columns and its products."""
        columns = panels(problem).columns
        return {"columns": (problem.terms, columns), "sums": (problem.out_channels // problem.groups, columns)}

    def prepare(self, problem: ConvProblem, weight: Array) -> Constant:
        """Make one matrix a group: (g, O/g, terms)."""
        matrices = aligned((problem.groups, problem.out_channels // problem.groups, problem.terms), weight.dtype)
        matrices[...] = weight.reshape(matrices.shape)
        return Constant(matrices)

    def convolve(
        self,
        problem: ConvProblem,
        prepared: Constant,
        bias: Array | None,
        block: Tensor,
        region: Region,
        target: Tensor,
        lane: Lane,
    ) -> Tensor:
        """Go over the panels that meet the region, group by group."""
        torch, panel = library(), panels(problem)
        shapes = self.buffers(problem, region.shape)
        columns, sums = (lane.tensor(name, shape, problem.dtype) for name, shape in shapes.items())
        gathered = columns.view(-1, *problem.kernel_size, panel.rows, panel.width)
        results = sums.view(-1, panel.rows, panel.width)
        every = windows(problem, block, region.shape)
        share, made = gathered.shape[0], results.shape[0]
        offsets = None if bias is None else lane.constant(bias).view(problem.groups, made, 1, 1)
        meetings = list(panel_meetings(panel, region))
        for group, weights in enumerate(prepared.on(lane)):
            taken = every[group * share : (group + 1) * share]
            outputs = target[group * made : (group + 1) * made]
            for plane, (inside, outside) in itertools.product(range(region.shape[0]), meetings):
                gathered[(..., *inside)].copy_(taken[(..., plane, *outside)])
                torch.mm(weights, columns, out=sums)
                if offsets is None:
                    outputs[(slice(None), plane, *outside)].copy_(results[(..., *inside)])
                else:
                    torch.add(results[(..., *inside)], offsets[group], out=outputs[(slice(None), plane, *outside)])
        return target


ALGORITHM = GemmTorch()
