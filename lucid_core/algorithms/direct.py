"""The definition, tap by tap: for each tap, multiply a shifted slice of the block by its weight and add.

Works on flat phases (see `lattice`), in chunks that stay in the L2 cache; at stride 1 one call takes all taps.
Best for few channels and depthwise layers, where a matrix product has nothing to reuse.
"""

import numpy as np

from lucid_core.algorithms import Algorithm, Array, ErrorBound
from lucid_core.boundary import Window
from lucid_core.lattice import Lattice, flat_phases, lattice, phase_bytes, taps
from lucid_core.machine import CACHE_BYTES, Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch
from lucid_core.weighted import weighted_sums


def chunk(problem: ConvProblem) -> int:
    """Return the flat positions computed at a time: sum, product and the slices read fit the cache together.

    No fewer than that: threads that call NumPy for less work wait for one another's turn with the interpreter.
    """
    return CACHE_BYTES // 4 // np.dtype(problem.dtype).itemsize


class Direct(Algorithm):
    """Tap by tap: all at once at stride 1, else by two vectorised operations each."""

    name = "direct"
    engine = "numpy"

    def refuses(self, problem: ConvProblem) -> str | None:  # noqa: ARG002 - the definition computes everything
        """Refuse nothing."""
        return None

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """One weighted product, or two operations, a tap and flat position, in calls of one chunk."""
        grid = lattice(problem, problem.out_size)
        chunks, positions = -(-grid.length // chunk(problem)), grid.length * problem.terms
        if problem.stride == (1, 1, 1):
            seconds = positions / rates.weighted + chunks * rates.call
        else:
            seconds = 2 * (positions / rates.elementwise + problem.terms * chunks * rates.call)
        return problem.batch * problem.out_channels * seconds

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """One rounding a product, one a sum: no more than K + 2 on any path."""
        return ErrorBound("componentwise", problem.terms + 2)

    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """One channel of flat sums, one chunk of products, and the phases of a strided block."""
        values = lattice(problem, out).flat_size + chunk(problem)
        return values * np.dtype(problem.dtype).itemsize + phase_bytes(problem, out)

    def prepare(self, problem: ConvProblem, weight: Array) -> Array:  # noqa: ARG002 - as they are
        """Take the weights as they are."""
        return weight

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
        """Sum in the order of (channel, K_D, K_H, K_W), then add the bias."""
        block = window.block(scratch)
        grid = lattice(problem, region.shape)
        firsts, offsets = taps(problem, grid)
        phases = flat_phases(block, grid, firsts, problem.stride, scratch)
        sums = scratch.array("sums", (grid.flat_size,), block.dtype)
        product = scratch.array("product", (chunk(problem),), block.dtype)
        share = problem.out_channels // problem.groups
        for channel, weights in enumerate(prepared):
            first = channel // share * prepared.shape[1]
            for start in range(0, grid.length, chunk(problem)):
                total = sums[start : min(start + chunk(problem), grid.length)]
                if problem.stride == (1, 1, 1):
                    weighted_sums(phases[0, first:].reshape(-1)[start:], weights, _spreads(problem, grid), total)
                else:
                    self._sum(phases[:, first:, start:], offsets, weights, total, product[: total.size])
            result = grid.outputs(sums)
            if bias is None:
                out[channel] = result
            else:
                np.add(result, bias[channel], out=out[channel])

    @staticmethod
    def _sum(phases: Array, offsets: list[tuple[int, int]], weights: Array, total: Array, product: Array) -> None:
        """Sum all channels and taps for the flat positions that begin at the first of `phases`."""
        target = total
        for channel, filter_taps in enumerate(weights.reshape(len(weights), -1)):
            for (phase, at), weight in zip(offsets, filter_taps, strict=True):
                np.multiply(phases[phase, channel, at : at + total.size], weight, out=target)
                if target is product:
                    np.add(total, product, out=total)
                target = product


def _spreads(problem: ConvProblem, grid: Lattice) -> tuple[int, int, int, int]:
    """Return the flat positions between neighbouring channels, and taps along D, H and W, at stride 1."""
    depth, height, width = grid.shape
    d, h, w = problem.dilation
    return depth * height * width, d * height * width, h * width, w


ALGORITHM = Direct()
