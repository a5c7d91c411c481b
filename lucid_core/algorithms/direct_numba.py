"""The definition with its sums in registers: strips of packed voxels times blocks of output channels (Numba).

Serves every layer: many channels, few channels, depthwise, 1x1x1.
"""

from functools import lru_cache

import numpy as np

from lucid_core import compiled
from lucid_core.algorithms import Algorithm, Array, ErrorBound
from lucid_core.boundary import Window
from lucid_core.compiled.blocking import Blocking, blocking
from lucid_core.compiled.prices import packing, storing, strips, sweeping
from lucid_core.compiled.strips import Strip, Vectors, lanes, strip, strip_taps, vector_table
from lucid_core.machine import RATES, Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch, size_of


class DirectNumba(Algorithm):
    """The micro-kernel over packed strips."""

    name = "direct"
    engine = "numba"

    def refuses(self, problem: ConvProblem) -> str | None:  # noqa: ARG002 - the definition computes everything
        """Refuse nothing but a machine without Numba."""
        return compiled.refusal()

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """Packing every plane of every strip once, its terms for every block, and the store."""
        one = _strip(problem, problem.out_size)
        return strips(problem, one) * _plane(problem, one, rates) + storing(problem, rates)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """One rounding a fused product: no more than K + 2 on any path."""
        return ErrorBound("componentwise", problem.terms + 2)

    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """One strip and, for short rows, the sums of one block."""
        return size_of(_shapes(problem, _strip(problem, out)), problem.dtype)

    def prepare(self, problem: ConvProblem, weight: Array) -> tuple[Array, bool]:
        """Put the weights of a block beside one another: (groups, blocks, terms, M); and say whether all are finite."""
        blocks = _blocking(problem)
        grouped = weight.reshape(problem.groups, blocks.total, problem.terms)
        firsts = blocks.firsts[:-1]
        arranged = np.empty((problem.groups, len(firsts), problem.terms, blocks.channels), weight.dtype)
        for block, first in enumerate(firsts):
            arranged[:, block] = grouped[:, first : first + blocks.channels].swapaxes(1, 2)
        return arranged, bool(np.isfinite(weight).all())

    def run(
        self,
        problem: ConvProblem,
        prepared: tuple[Array, bool],
        bias: Array | None,
        window: Window,
        region: Region,
        out: Array,
        scratch: Scratch,
    ) -> None:
        """Strip by strip, group by group, block by block."""
        from lucid_core.compiled.convolve import convolve

        one = _strip(problem, region.shape)
        blocks = _blocking(problem, one)
        buffers = scratch.arrays(_shapes(problem, one), out.dtype)
        table, offsets, taps = _tables(problem, one, out.strides[2])
        weights, finite = prepared
        offset = np.zeros(problem.out_channels, out.dtype) if bias is None else bias
        convolve(
            out.dtype.type(0),
            (0,) * blocks.channels,
            (0,) * blocks.rows,
            (0,) * blocks.columns,
            window.voxels.ctypes.data,
            window.voxels.strides[:3],
            window.positions,
            window.inside,
            problem.stride,
            tuple(np.array(axis, np.int64) for axis in one.phases),
            buffers["strip"][: one.size].reshape(one.shape),
            region.shape,
            one.out,
            one.spacing,
            out.ctypes.data,
            out.strides[:3],
            table.starts,
            table.targets,
            buffers["sums"],
            one.streamed(out),
            offsets,
            problem.kernel_size,
            taps,
            finite and _may_skip(problem),
            weights.ctypes.data,
            np.ascontiguousarray(offset.reshape(problem.groups, -1)[:, blocks.members]),
            blocks.firsts,
        )


def _strip(problem: ConvProblem, out: Triple) -> Strip:
    return strip(problem, out, _work)


def _work(problem: ConvProblem, one: Strip) -> float:
    return _plane(problem, one, RATES[problem.dtype])


def _plane(problem: ConvProblem, one: Strip, rates: Rates) -> float:
    """Return the seconds of one plane of a strip."""
    blocks, vectors = _blocking(problem, one), one.vectors(_lanes(problem))
    rows = one.size // one.shape[2] // one.shape[6]
    kernel = (problem.terms, *problem.kernel_size[1:])
    sweep = sweeping(rates, blocks, -(-vectors // blocks.rows), kernel)
    return packing(rates, rows, one.shape[6]) + (len(blocks.firsts) - 1) * sweep


def _blocking(problem: ConvProblem, one: Strip | None = None) -> Blocking:
    """Choose the blocks; rows are computed together where the strip lets neighbours read the same voxels."""
    rows = vectors = 1
    if one:
        if problem.stride[1] == problem.dilation[1] == 1 and not one.buffered(_lanes(problem)):
            rows = min(problem.kernel_size[1], one.out[0])
        vectors = one.vectors(_lanes(problem))
    return blocking(problem.out_channels // problem.groups, rows, vectors)


def _may_skip(problem: ConvProblem) -> bool:
    """Say whether taps along D and H may be left out where they read zeros of the border.

    That follows from the problem alone: sums of the one kind store a zero as +0, those of the other as they find it.
    With one output channel, a tile decides how many rows are computed together, and little would be saved.
    """
    several = problem.out_channels > problem.groups
    return several and problem.padding_mode == "zeros" and any(map(any, problem.pads[:2]))


def _lanes(problem: ConvProblem) -> int:
    return lanes(np.dtype(problem.dtype).itemsize)


def _shapes(problem: ConvProblem, one: Strip) -> dict[str, tuple[int, ...]]:
    """Return the shape of each buffer of a strip."""
    width = _lanes(problem)
    return {
        "strip": (one.size + width,),
        "sums": (_blocking(problem).channels, one.flat(width) * width) if one.buffered(width) else (0, 0),
    }


@lru_cache(maxsize=64)
def _tables(problem: ConvProblem, one: Strip, row_step: int) -> tuple[Vectors, Array, tuple[Array, ...]]:
    """Return the vectors, where each term reads, and the step and phase of each tap along D and H."""
    itemsize, blocks = np.dtype(problem.dtype).itemsize, _blocking(problem, one)
    steps = strip_taps(problem)
    phases = one.phases
    taps = tuple(np.array([(step, phases[axis].index(phase)) for step, phase in steps[axis]]) for axis in range(2))
    table = vector_table(one, row_step, blocks.rows, itemsize, blocks.columns)
    return table, one.offsets(steps) * itemsize, taps


ALGORITHM = DirectNumba()
