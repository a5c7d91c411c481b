"""Winograd's F(2,3) along H and W: 16 products for 2 x 2 outputs instead of 36, for 3 x 3 kernels along these (Numba).

The error scales with the largest voxel near by and not with the sum at the voxel, so it is admitted with accuracy
"normwise" only. A tile with NaN, Inf or numbers so large that a transform could overflow is computed by `direct`.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from lucid_core import compiled
from lucid_core.algorithms import Algorithm, Array, ErrorBound
from lucid_core.algorithms.direct_numba import ALGORITHM as DIRECT
from lucid_core.boundary import Window
from lucid_core.compiled.blocking import Blocking, blocking
from lucid_core.compiled.prices import packing, storing, strips, sweeping
from lucid_core.compiled.strips import Strip, flat_table, lanes, strip, strip_taps
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch, size_of

GROWTH = 81.0
"""(3 * 3/2 * 2)^2: the product of the largest row sums of the transforms of outputs, taps and voxels, for two axes."""
TAPS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
"""Transform of three taps."""


class WinogradNumba(Algorithm):
    """The micro-kernel over transformed strips."""

    name = "winograd"
    engine = "numba"

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse kernels that are not 3 along H and W, strides, and dilation along these."""
        if problem.kernel_size[1:] != (3, 3):
            return "the kernel is not 3 x 3 along H and W"
        if problem.stride != (1, 1, 1) or problem.dilation[1:] != (1, 1):
            return "it has a stride, or a dilation along H or W"
        return compiled.refusal()

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """Packing and transforming every plane of every strip, sixteen products for every block, and the way back."""
        one, blocks = _strip(problem, problem.out_size), _blocking(problem)
        rows, tiles = one.channels * one.shape[5], one.out[0] * one.out[1] // 4
        vectors = -(-tiles // lanes(np.dtype(problem.dtype).itemsize))
        sweep = 16 * sweeping(rates, blocks, vectors, (one.channels * problem.kernel_size[0], 1, 1))
        transform = one.channels * 16 * tiles / (1.5 * rates.pack)
        back = blocks.channels * 16 * tiles / (1.5 * rates.pack)
        plane = packing(rates, rows, one.shape[6]) + transform + (len(blocks.firsts) - 1) * (sweep + back)
        return strips(problem, one) * plane + storing(problem, rates)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Let every transform and product round once a term; see `GROWTH`."""
        return ErrorBound("normwise", problem.terms // 9 + 14, GROWTH, (0, 1, 1))

    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """The transformed strip and the products of one block; or what `direct` takes."""
        return size_of(_shapes(problem, _strip(problem, out)), problem.dtype) + DIRECT.workspace(problem, out)

    def prepare(self, problem: ConvProblem, weight: Array) -> Any:
        """Transform the weights, in float64, to (groups, blocks, 16, terms, M); with them those of `direct`.

        Last comes the largest magnitude of voxels for which nothing overflows, 0 where the weights are not finite.
        """
        blocks = _blocking(problem)
        with np.errstate(all="ignore"):
            exact = np.einsum("ih,jw,ocdhw->ijocd", TAPS, TAPS, weight.astype(np.float64))
            transformed = exact.reshape(16, problem.groups, blocks.total, -1)[:, :, blocks.members].astype(weight.dtype)
            most = np.abs(weight.astype(np.float64)).sum((1, 2, 3, 4)).max()
            largest_number = float(np.finfo(weight.dtype).max)
            limit = largest_number / (4 * GROWTH * max(most, 1.0)) if most <= largest_number else 0.0
        arranged = np.ascontiguousarray(transformed.transpose(1, 2, 0, 4, 3))
        return arranged, DIRECT.prepare(problem, weight), limit

    def run(
        self,
        problem: ConvProblem,
        prepared: Any,
        bias: Array | None,
        window: Window,
        region: Region,
        out: Array,
        scratch: Scratch,
    ) -> None:
        """Strip by strip, plane by plane, or by `direct` where the voxels are not fit for it."""
        from lucid_core.compiled.winograd import winograd

        weights, spare, limit = prepared
        if not largest(window) < limit:
            return DIRECT.run(problem, spare, bias, window, region, out, scratch)
        one, blocks = _strip(problem, region.shape), _blocking(problem)
        buffers = scratch.arrays(_shapes(problem, one), out.dtype)
        starts, offsets = _tables(problem, one)
        width = lanes(out.itemsize)
        offset = np.zeros(problem.out_channels, out.dtype) if bias is None else bias
        winograd(
            out.dtype.type(0),
            (0,) * blocks.channels,
            (0,) * blocks.columns,
            window.voxels.ctypes.data,
            window.voxels.strides[:3],
            window.positions,
            window.inside,
            buffers["packed"],
            buffers["along"],
            buffers["strip"][:-width].reshape(16, one.channels, one.shape[2], one.out[0] // 2, one.out[1] // 2),
            buffers["products"],
            buffers["edge"],
            region.shape,
            one.out,
            one.spacing,
            out.ctypes.data,
            out.strides[:3],
            starts,
            offsets,
            weights.ctypes.data,
            np.ascontiguousarray(offset.reshape(problem.groups, -1)[:, blocks.members]),
            blocks.firsts,
        )


def largest(window: Window) -> float:
    """Return the largest magnitude among the voxels that a window may read, Inf or NaN where one is not finite."""
    from lucid_core.compiled import winograd

    voxels = window.voxels
    box = [slice(max(int(at.min()), 0), max(int(at.max()), 0) + 1) for at in window.positions]
    read = voxels[(slice(None), *box)]
    integer = np.int32 if voxels.dtype == np.float32 else np.int64
    bits = winograd.largest(integer(0), read.ctypes.data, read.strides[:3], read.shape, integer(np.iinfo(integer).max))
    return float(np.array([bits], integer).view(voxels.dtype)[0])


@lru_cache(maxsize=256)
def _strip(problem: ConvProblem, out: Triple) -> Strip:
    """Choose the strips of a tile: of even height and width, and at least one vector of tiles wide."""
    vector = lanes(np.dtype(problem.dtype).itemsize)
    height, width = (size + size % 2 for size in out[1:])
    return strip(problem, (out[0], height, max(width, 2 * vector)), _transforming, _transformed, 2)


def _transformed(_: ConvProblem, one: Strip) -> float:
    """Return the values of a transformed strip, sixteen for four voxels; a quarter: these may fill the next cache."""
    return one.channels * one.shape[2] * one.out[0] * one.out[1]


def _transforming(_: ConvProblem, one: Strip) -> float:
    """Return the work of transforming a plane, in values."""
    return one.channels * one.shape[5] * (one.shape[6] + 16)


def _blocking(problem: ConvProblem) -> Blocking:
    return blocking(problem.out_channels // problem.groups)


def _shapes(problem: ConvProblem, one: Strip) -> dict[str, tuple[int, ...]]:
    """Return the shape of each buffer."""
    width = lanes(np.dtype(problem.dtype).itemsize)
    down, across = one.out[0] // 2, one.out[1] // 2
    vectors = -(-down * across // width)
    return {
        "packed": (2 * down + 2, 2 * across + 2),
        "along": (2 * down + 2, 4, across),
        "strip": (16 * one.channels * one.shape[2] * down * across + width,),
        "products": (16, _blocking(problem).channels, vectors * width),
        "edge": one.out,
    }


@lru_cache(maxsize=64)
def _tables(problem: ConvProblem, one: Strip) -> tuple[Array, Array]:
    """Return the byte offsets of the vectors of a plane, and of the terms for each place of the first plane."""
    itemsize = np.dtype(problem.dtype).itemsize
    planes, size = one.shape[2], one.out[0] * one.out[1] // 4 * itemsize
    places = (np.arange(planes)[:, None, None] + [step for step, _ in strip_taps(problem)[0]]) % planes
    offsets = (np.arange(one.channels)[:, None] * planes + places) * size
    vectors = -(-(one.out[0] * one.out[1] // 4) // lanes(itemsize))
    return flat_table(vectors, itemsize, _blocking(problem).columns), offsets.reshape(planes, -1).astype(np.int64)


ALGORITHM = WinogradNumba()
