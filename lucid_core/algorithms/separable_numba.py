"""Three 1-D passes with their sums in registers, plane by plane in the cache (Numba).

As `separable` does it with NumPy: for filters that are products of 1-D kernels.
"""

import numpy as np

from lucid_core import compiled
from lucid_core.algorithms import Algorithm, Array, ErrorBound
from lucid_core.algorithms.separable import ALGORITHM as SEPARABLE
from lucid_core.boundary import Window
from lucid_core.compiled.blocking import blocking
from lucid_core.compiled.prices import packing, storing, strips, sweeping
from lucid_core.compiled.strips import Strip, Vectors, flat_table, lanes, strip, vector_table
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch


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
        vector, blocks = lanes(np.dtype(problem.dtype).itemsize), blocking(1)
        height, width, rows = one.out[0], _pitch(one, vector), one.shape[5]
        d, h, w = problem.kernel_size
        passes = zip((rows * width, height * width, height * one.out[1]), (w, h, d), strict=True)
        seconds = sum(sweeping(rates, blocks, values // vector, (taps, 1, 1)) for values, taps in passes)
        count = strips(problem, one) * problem.out_channels // problem.groups
        return count * (packing(rates, rows, width) + seconds) + storing(problem, rates)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Keep gamma(K + 2): `factors` admits only taps that leave the passes room for their own roundings."""
        return ErrorBound("componentwise", problem.terms + 2)

    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """Two planes and the planes that are summed along D."""
        shapes = _shapes(problem, _strip(problem, out))
        return sum(int(np.prod(shape)) for shape in shapes.values()) * np.dtype(problem.dtype).itemsize

    def prepare(self, problem: ConvProblem, weight: Array) -> Array:
        """Return the factors (O, K_D + K_H + K_W)."""
        return SEPARABLE.prepare(problem, weight)

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
        buffers = {name: scratch.array(name, shape, out.dtype) for name, shape in _shapes(problem, one).items()}
        height, width = one.out[0], _pitch(one, lanes(out.dtype.itemsize))
        itemsize, columns = (
            out.dtype.itemsize,
            blocking(1, vectors_along=one.vectors(lanes(out.dtype.itemsize))).columns,
        )
        table = _outputs(one, width, out.strides[2], itemsize, columns)
        passes(
            out.dtype.type(0),
            (0,) * columns,
            window.voxels.ctypes.data,
            window.voxels.strides[:3],
            window.positions,
            window.inside,
            one.shape[5],
            buffers["packed"],
            buffers["smooth"],
            buffers["ring"],
            (height, width),
            region.shape,
            one.out,
            one.spacing,
            out.ctypes.data,
            out.strides[:3],
            tuple(flat_table(rows * width // lanes(itemsize), itemsize, columns) for rows in (one.shape[5], height)),
            table.starts,
            table.targets,
            buffers["sums"],
            one.streamed(out),
            _offsets(problem, width, buffers["ring"], itemsize),
            np.array(prepared),
            problem.out_channels // problem.groups,
            np.zeros(problem.out_channels, out.dtype) if bias is None else np.array(bias),
        )


def _strip(problem: ConvProblem, out: Triple) -> Strip:
    return strip(problem, out, _passes, _ring)


def _ring(_: ConvProblem, one: Strip) -> float:
    """Return the values of the planes that are summed along D; a quarter, as these may fill the next cache too."""
    return one.shape[2] * one.out[0] * one.shape[6] / 4


def _passes(problem: ConvProblem, one: Strip) -> float:
    """Return the work of one plane in multiplications; those along W read unaligned vectors and cost two."""
    d, h, w = problem.kernel_size
    height, across = one.out
    return one.shape[5] * one.shape[6] * (2 * w + 4) + height * one.shape[6] * h + height * across * d


def _outputs(one: Strip, width: int, row_step: int, itemsize: int, together: int) -> Vectors:
    """Lay the vectors of the last pass: along the output rows, or, where rows are short, over all of a buffer."""
    if one.buffered(lanes(itemsize)):
        table = flat_table(one.out[0] * width // lanes(itemsize), itemsize, together)
        return Vectors(table, table)
    return vector_table(one, row_step, 1, itemsize, together, width)


def _offsets(problem: ConvProblem, width: int, ring: Array, itemsize: int) -> tuple[Array, ...]:
    """Return where the taps along W, H and D read, in bytes; along D for each place of the first plane in the ring."""
    d, h, w = (np.arange(taps, dtype=np.int64) for taps in problem.kernel_size)
    turns = (np.arange(len(ring))[:, None] + d) % len(ring)
    return w * problem.dilation[2] * itemsize, h * problem.dilation[1] * width * itemsize, turns * ring.strides[0]


def _pitch(one: Strip, vector: int) -> int:
    """Return the values from a row to the next: whole vectors, so that the passes along H and D read aligned ones."""
    return (-(-one.shape[6] // vector) | 1) * vector


def _shapes(problem: ConvProblem, one: Strip) -> dict[str, tuple[int, ...]]:
    """Return the shape of each buffer.

    Rows and planes are an odd number of vectors apart, or those that a pass reads at once would share cache sets.
    """
    vector = lanes(np.dtype(problem.dtype).itemsize)
    width, rows = _pitch(one, vector), one.shape[5]
    plane = (one.out[0] * width // vector | 1) * vector
    return {
        "packed": (rows * width + one.reach[2],),
        "smooth": (rows * width,),
        "ring": (one.shape[2], plane),
        "sums": (1, plane) if one.buffered(vector) else (0, 0),
    }


ALGORITHM = SeparableNumba()
