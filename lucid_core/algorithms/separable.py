"""Three 1-D passes, for filters that are products of 1-D kernels: Gaussian, box, and what else is found to be.

K_D + K_H + K_W taps replace K_D * K_H * K_W. Whether the weights factor is found from their taps (see `factors`).
"""

import numpy as np

from lucid_core.algorithms import Algorithm, Array, ErrorBound
from lucid_core.algorithms.direct import chunk
from lucid_core.boundary import Window
from lucid_core.factors import factors
from lucid_core.lattice import lattice
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch
from lucid_core.weighted import weighted_sums


class Separable(Algorithm):
    """A pass along D, then H, then W, of the flat block: only the first one reads the halo of planes."""

    name = "separable"
    engine = "numpy"

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse filters that do not factor, sums over channels and strides."""
        if problem.in_channels != problem.groups:
            return "an output channel sums several input channels"
        if problem.stride != (1, 1, 1):
            return "the stride is not 1"
        return None if problem.separable else "the kernel is not a product of three 1-D kernels"

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """One product a 1-D tap and flat position, in three calls a chunk."""
        length = int(np.prod((problem.out_size[0], *problem.block_shape(problem.out_size)[1:])))
        calls = 3 * -(-length // chunk(problem))
        seconds = sum(problem.kernel_size) * length / rates.weighted + calls * rates.call
        return problem.batch * problem.out_channels * seconds

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Keep gamma(K + 2): `factors` admits only taps that leave the passes room for their own roundings."""
        return ErrorBound("componentwise", problem.terms + 2)

    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """Two flat blocks without the halo of planes."""
        return 2 * int(np.prod((out[0], *problem.block_shape(out)[1:]))) * np.dtype(problem.dtype).itemsize

    def prepare(self, problem: ConvProblem, weight: Array) -> Array:
        """Return the factors (O, K_D + K_H + K_W), the magnitude in that of D, so that sums that fit do not overflow.

        `factored` leaves it in that of W; what moves is a power of two, which rounds nothing.
        """
        split = factored(problem, weight)
        size_d, _, size_w = problem.kernel_size
        _, exponents = np.frexp(np.abs(split[:, -size_w:]).max(axis=1, keepdims=True))
        split[:, :size_d] = np.ldexp(split[:, :size_d], exponents)
        split[:, -size_w:] = np.ldexp(split[:, -size_w:], -exponents)
        return split

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
        """Pass by pass over the whole flat block; each position sums its taps in order."""
        block = window.block(scratch)
        flat = block.reshape(block.shape[0], -1)
        grid = lattice(problem, region.shape)
        plane = block.shape[2] * block.shape[3]
        spreads = [step * dilation for step, dilation in zip((plane, block.shape[3], 1), problem.dilation, strict=True)]
        buffers = [scratch.array(name, (region.shape[0] * plane,), block.dtype) for name in ("first", "second")]
        share, ends = problem.out_channels // problem.groups, np.cumsum(problem.kernel_size)[:2]
        for channel, taps in enumerate(prepared):
            values = flat[channel // share]
            for kernel, spread, target in zip(np.split(taps, ends), spreads, (*buffers, buffers[0]), strict=True):
                values = _pass(values, kernel, spread, target, chunk(problem))
            np.add(grid.outputs(buffers[0]), 0 if bias is None else bias[channel], out=out[channel])


def factored(problem: ConvProblem, weight: Array) -> Array:
    """Return the 1-D kernels (O, K_D + K_H + K_W) of the weights of a problem that says they are separable."""
    split = factors(weight)
    if split is None:
        raise ValueError(f"the problem says its weights are separable, but they are not: {problem}")
    return split


def _pass(values: Array, kernel: Array, spread: int, target: Array, count: int) -> Array:
    """Correlate flat values with a 1-D kernel whose taps are `spread` positions apart, `count` positions at a time."""
    length = max(values.size - (kernel.size - 1) * spread, 0)
    for start in range(0, length, count):
        weighted_sums(values[start:], kernel, (spread,), target[start : min(start + count, length)])
    return target[:length]


ALGORITHM = Separable()
