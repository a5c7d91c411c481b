"""Three 1-D passes with their sums in registers, plane by plane in the cache (Numba).

As `separable` does it with NumPy: for filters that are products of 1-D kernels.
"""

import numpy as np

from lucid_core import compiled
from lucid_core.algorithms import Algorithm, Array, ErrorBound
from lucid_core.algorithms.separable import ALGORITHM as SEPARABLE
from lucid_core.algorithms.separable import factored
from lucid_core.boundary import Window
from lucid_core.compiled.blocking import Blocking, blocking
from lucid_core.compiled.prices import packing, storing, strips, sweeping
from lucid_core.compiled.strips import Strip, Vectors, flat_table, lanes, plane_table, strip, vector_table
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch, size_of

MOVED_PLANES = 8
"""Planes of a stack, besides those still read, that are filled before these move to its beginning: at least so many."""


class SeparableNumba(Algorithm):
    """A pass along W, then H, then D."""

    name = "separable"
    engine = "numba"

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse what the passes of NumPy refuse, and a machine without Numba."""
        return compiled.refusal() or SEPARABLE.refuses(problem)

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """Packing, and the three passes over every plane of every strip, for each output channel."""
        one = _strip(problem, problem.out_size)
        vector = lanes(np.dtype(problem.dtype).itemsize)
        height, width, rows = one.out[0], _pitch(one, vector), one.shape[5]
        d, h, w = problem.kernel_size
        values = rows * width, height * width, height * one.out[1]
        blockings = _blockings(problem, one, problem.out_size[0])
        seconds = sum(
            sweeping(rates, block, count // block.rows // vector, (taps, taps, 1))
            for block, count, taps in zip(blockings, values, (w, h, d), strict=True)
        )
        count = strips(problem, one) * problem.out_channels // problem.groups
        return count * (packing(rates, rows, width) + seconds) + storing(problem, rates)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Keep gamma(K + 2): `factors` admits only taps that leave the passes room for their own roundings."""
        return ErrorBound("componentwise", problem.terms + 2)

    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """Two planes, and the stack of those that are summed along D."""
        return size_of(_shapes(problem, _strip(problem, out), out[0]), problem.dtype)

    def prepare(self, problem: ConvProblem, weight: Array) -> Array:
        """Return the factors (O, K_D + K_H + K_W)."""
        return factored(problem, weight)

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
        """Strip by strip, channel by channel, plane by plane."""
        from lucid_core.compiled.passes import passes

        one = _strip(problem, region.shape)
        buffers = scratch.arrays(_shapes(problem, one, region.shape[0]), out.dtype)
        itemsize = out.dtype.itemsize
        height, width = one.out[0], _pitch(one, lanes(itemsize))
        w, h, d = _blockings(problem, one, region.shape[0])
        along_w, along_h = (
            plane_table(rows, width, block.rows, itemsize, block.columns)
            for rows, block in ((one.shape[5], w), (height, h))
        )
        table = _outputs(one, width, out.strides[2], itemsize, d.columns)
        passes(
            out.dtype.type(0),
            *(((0,) * block.rows, (0,) * block.columns) for block in (w, h, d)),
            window.voxels.ctypes.data,
            window.voxels.strides[:3],
            window.positions,
            window.inside,
            one.shape[5],
            buffers["packed"],
            buffers["smooth"],
            buffers["stack"],
            width,
            region.shape,
            one.out,
            one.spacing,
            out.ctypes.data,
            out.strides[:3],
            (along_w, along_h),
            table.starts,
            table.targets,
            buffers["sums"],
            one.streamed(out),
            _offsets(problem, width, buffers["stack"], itemsize),
            np.array(prepared),
            problem.out_channels // problem.groups,
            np.zeros(problem.out_channels, out.dtype) if bias is None else np.array(bias),
        )


def _strip(problem: ConvProblem, out: Triple) -> Strip:
    return strip(problem, out, _passes, _planes)


def _planes(_: ConvProblem, one: Strip) -> float:
    """Return the values of the planes that the passes along W and H work on: packed, smooth, and one of the stack."""
    return 3 * one.shape[5] * one.shape[6]


def _blockings(problem: ConvProblem, one: Strip, depth: int) -> tuple[Blocking, Blocking, Blocking]:
    """Return what the passes along W, H and D compute at once; along H and D, neighbours share what they read."""
    height = one.out[0]
    shared_h = min(problem.kernel_size[1], height) if problem.dilation[1] == 1 else 1
    shared_d = max(1, min(problem.kernel_size[0], depth // one.spacing))
    vector = lanes(np.dtype(problem.dtype).itemsize)
    width = _pitch(one, vector) // vector
    counts = one.shape[5] * width, height * width, one.vectors(vector)
    w, h, d = (blocking(1, rows, count // rows) for rows, count in zip((1, shared_h, shared_d), counts, strict=True))
    return w, h, d


def _passes(problem: ConvProblem, one: Strip) -> float:
    """Return the work of one plane in multiplications; those along W read unaligned vectors, and cost two."""
    d, h, w = problem.kernel_size
    height, across = one.out
    return one.shape[5] * one.shape[6] * (2 * w + 4) + height * one.shape[6] * h + height * across * d


def _outputs(one: Strip, width: int, row_step: int, itemsize: int, together: int) -> Vectors:
    """Lay the vectors of the last pass: along the output rows, or, where rows are short, over all of a buffer."""
    if one.buffered(lanes(itemsize)):
        table = flat_table(one.out[0] * width // lanes(itemsize), itemsize, together)
        return Vectors(table, table)
    return vector_table(one, row_step, 1, itemsize, together, width)


def _offsets(problem: ConvProblem, width: int, stack: Array, itemsize: int) -> tuple[Array, ...]:
    """Return where the taps along W, H and D read, in bytes."""
    d, h, w = (np.arange(taps, dtype=np.int64) for taps in problem.kernel_size)
    return w * problem.dilation[2] * itemsize, h * problem.dilation[1] * width * itemsize, d * stack.strides[0]


def _pitch(one: Strip, vector: int) -> int:
    """Return the values from a row to the next: whole vectors, so that the passes along H and D read aligned ones."""
    return (-(-one.shape[6] // vector) | 1) * vector


def _shapes(problem: ConvProblem, one: Strip, depth: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each buffer.

    Rows and planes are an odd number of vectors apart, or those that a pass reads at once would share cache sets.
    """
    vector = lanes(np.dtype(problem.dtype).itemsize)
    width, rows = _pitch(one, vector), one.shape[5]
    together = _blockings(problem, one, depth)[2].rows
    kept = problem.kernel_size[0] + together - 2
    plane = (one.out[0] * width // vector | 1) * vector
    return {
        "packed": (rows * width + one.reach[2],),
        "smooth": (rows * width,),
        "stack": (kept + max(kept, MOVED_PLANES), plane),
        "sums": (together, plane) if one.buffered(vector) else (0, 0),
    }


ALGORITHM = SeparableNumba()
