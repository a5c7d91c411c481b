"""The definition, tap by tap: for each tap, multiply a shifted slice of the block by its weight and add.

Works on flat phases (see `lattice`), in chunks that stay in the L2 cache. Best for few channels and depthwise
layers, where a matrix product has nothing to reuse.
"""

import numpy as np

from lucid_core.algorithms import Algorithm, Array, ErrorBound
from lucid_core.boundary import Window
from lucid_core.lattice import flat_phases, lattice, phase_bytes, taps
from lucid_core.machine import CACHE_BYTES, Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch


def chunk(problem: ConvProblem) -> int:
    """Return the flat positions computed at a time: sum, product and the slices read fit the cache together.

    No fewer than that: threads that call NumPy for less work wait for one another's turn with the interpreter.
    """
    return CACHE_BYTES // 4 // np.dtype(problem.dtype).itemsize


class Direct(Algorithm):
    """Tap by tap, two vectorised operations each."""

    name = "direct"
    engine = "numpy"

    def refuses(self, problem: ConvProblem) -> str | None:  # noqa: ARG002 - the definition computes everything
        """Refuse nothing."""
        return None

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """Two operations a tap and flat position, in calls of one chunk."""
        grid = lattice(problem, problem.out_size)
        passes = 2 * problem.batch * problem.out_channels * problem.terms
        calls = -(-grid.length // chunk(problem))
        return passes * (grid.length / rates.elementwise + calls * rates.call)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """One rounding a product, one a sum: no more than K + 2 on any path."""
        return ErrorBound("componentwise", problem.terms + 2)

    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """One channel of flat sums, one chunk of products, and the phases of a strided block."""
        values = lattice(problem, out).flat_size + chunk(problem)
        return values * np.dtype(problem.dtype).itemsize + phase_bytes(problem, out)

    def prepare(self, problem: ConvProblem, weight: Array) -> Array:
        """Flatten the taps: (O, C/g, K)."""
        return weight.reshape(problem.out_channels, -1, problem.taps)

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
        products = scratch.array("products", (chunk(problem),), block.dtype)
        share = problem.out_channels // problem.groups
        for channel, weights in enumerate(prepared):
            first = channel // share * prepared.shape[1]
            for start in range(0, grid.length, chunk(problem)):
                stop = min(start + chunk(problem), grid.length)
                total, product = sums[start:stop], products[: stop - start]
                self._sum(phases[:, first:], offsets, weights, start, total, product)
            result = grid.outputs(sums)
            if bias is None:
                out[channel] = result
            else:
                np.add(result, bias[channel], out=out[channel])

    @staticmethod
    def _sum(
        phases: Array, offsets: list[tuple[int, int]], taps: Array, start: int, total: Array, product: Array
    ) -> None:
        """Sum all channels and taps for the flat positions that begin at `start`."""
        target = total
        for channel, weights in enumerate(taps):
            for (phase, offset), weight in zip(offsets, weights, strict=True):
                at = start + offset
                np.multiply(phases[phase, channel, at : at + total.size], weight, out=target)
                if target is product:
                    np.add(total, product, out=total)
                target = product


ALGORITHM = Direct()
