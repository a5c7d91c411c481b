"""Sums of products held in registers, along voxels or along channels, whichever takes fewer steps (Numba)."""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from lucid_core import compiled
from lucid_core.boundary import Window
from lucid_core.compiled.strips import Table, lanes
from lucid_core.correlations import Array, Correlation, Part
from lucid_core.lattice import flat_phases, lattice, taps, window_steps
from lucid_core.machine import Rates, vectors
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.scratch import Scratch

BLOCKS = {16: ((1, 9), (2, 6), (3, 3), (4, 2)), 32: ((1, 27), (1, 9), (2, 12), (3, 9), (4, 6))}
"""By the registers there are, the vectors M of the gradient and the terms T that may be summed at once: M * T sums,
M vectors and one of voxels fit. Each pair that is used is compiled, so they are few."""
LATENCY = 4
"""Cycles, of two steps each, from one multiply-add to the next of the same sum."""
VOXEL_LOAD = 1.25
"""Steps to load one voxel and spread it over a vector."""
LINE_LOAD = 3
"""Steps to load a vector that lies in two cache lines."""
ROW_STEPS = 8
"""Steps that a row takes besides its vectors and its terms."""
PACKING = 2
"""Steps to put one number of the gradient in its place among the channels."""
PHASING = 4
"""Steps to put one voxel in its place in a phase."""
PANEL = 1024
"""Outputs of a panel whose gradient should stay in the first cache."""


@dataclass(frozen=True)
class Blocking:
    """M vectors of the gradient and T terms at once; vectors lie along channels or along voxels."""

    total: int
    """Output channels of one group."""
    terms: int
    """Terms (channel, K_D, K_H, K_W) of one group."""
    made: int
    at_once: int
    channels: bool
    lanes: int

    @property
    def parts(self) -> int:
        """How often T terms are summed."""
        return -(-self.terms // self.at_once)

    @property
    def size(self) -> int:
        """Output channels of a block."""
        return self.made * self.lanes if self.channels else self.made

    @cached_property
    def firsts(self) -> Table:
        """First channel of each block, and last the number of channels; the last block may overlap or have fewer."""
        starts = np.arange(-(-self.total // self.size), dtype=np.int64) * self.size
        if not self.channels:
            starts = np.minimum(starts, self.total - self.size)
        return np.append(starts, np.int64(self.total))

    @property
    def sums(self) -> int:
        """Numbers summed at once: whole vectors."""
        return -(-self.at_once * self.size // self.lanes) * self.lanes

    def steps(self, width: int) -> float:
        """Return the steps, a multiply-add each or what takes as long, for an output of one group in a row of `width`.

        Multiply-adds and loads go on at the same time; most vectors along voxels begin within a cache line.
        """
        load, vectors = (VOXEL_LOAD, width) if self.channels else (LINE_LOAD, -(-width // self.lanes))
        step = max(self.made * self.at_once, self.made + load * self.at_once, 2 * LATENCY)
        row = self.parts * (vectors * step + ROW_STEPS + self.at_once)
        packing = PACKING * self.size if self.channels else 0.0
        return (len(self.firsts) - 1) * (row / width + packing)


@lru_cache(maxsize=256)
def blocking(problem: ConvProblem, width: int) -> Blocking:
    """Choose the blocks for rows of `width` outputs: those of the fewest steps."""
    vector, total = lanes(np.dtype(problem.dtype).itemsize), problem.out_channels // problem.groups
    found = vectors()
    pairs = BLOCKS[32 if found and found.count >= 32 else 16]
    ways = [
        Blocking(total, problem.terms, made, at_once, channels, vector)
        for channels, (made, at_once) in itertools.product((False, True), pairs)
        if (made <= -(-total // vector) if channels else made <= total and width >= vector)
    ]
    phasing = PHASING * problem.in_channels // problem.groups * math.prod(problem.stride) * (problem.stride[2] > 1)
    return min(ways, key=lambda way: way.steps(width) + (0 if way.channels else phasing))


class DirectNumba(Correlation):
    """The micro-kernels of `lucid_core.compiled.products`."""

    engine = "numba"

    def refuses(self) -> str | None:
        """Refuse nothing but a machine without Numba."""
        return compiled.refusal()

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """Each output's multiply-adds, the block packed and the gradient read."""
        steps = blocking(problem, problem.out_size[2]).steps(problem.out_size[2]) * problem.groups
        outputs = problem.batch * math.prod(problem.out_size)
        moved = math.prod(problem.padded_shape) + outputs * problem.out_channels
        return outputs * steps / rates.fma + moved / rates.pack

    def correlate(self, problem: ConvProblem, part: Part, scratch: Scratch) -> npt.NDArray[np.float64]:
        """Sum all terms of every block, panel by panel."""
        from lucid_core.compiled.correlate import correlate_channels, correlate_voxels

        out = (part.grad.shape[1], part.grad.shape[2], part.grad.shape[3])
        blocks = blocking(problem, out[2])
        voxels, steps, offsets = _reading(problem, part.window, out, blocks, scratch)
        rows = max(1, PANEL // out[2])
        sums = np.zeros((problem.groups, len(blocks.firsts) - 1, blocks.parts, blocks.sums))
        arguments = (
            part.grad.dtype.type(0),
            (0,) * blocks.made,
            (0,) * blocks.at_once,
            part.grad.ctypes.data,
            part.grad.strides[:3],
            voxels,
            steps,
            out,
            rows,
            blocks.firsts,
            offsets,
            sums,
        )
        if blocks.channels:
            packed = scratch.array("packed", (min(rows, out[1]) * out[2], blocks.size), part.grad.dtype)
            packed.fill(0)
            correlate_channels(*arguments, packed)
        else:
            correlate_voxels(*arguments)
        return _arranged(problem, blocks, sums)

    def totals(self, grad: Array) -> npt.NDArray[np.float64]:
        """Sum row by row, or plane by plane where rows follow one another."""
        from lucid_core.compiled.correlate import channel_totals

        channels, depth, height, width = grad.shape
        rows = (depth, height, width)
        if grad.strides[2] == width * grad.itemsize:
            rows = (depth, 1, height * width)
        sums = np.zeros(channels)
        channel_totals(grad.dtype.type(0), grad.ctypes.data, grad.strides[:3], rows, sums)
        return sums


def _reading(
    problem: ConvProblem, window: Window, out: Triple, blocks: Blocking, scratch: Scratch
) -> tuple[int, tuple[int, int, int, int], Table]:
    """Return where the voxels begin, the steps between those of groups, outputs and vectors, and those of terms.

    Vectors along voxels whose stride is not 1 lie in its phases; else the block is read as it is.
    """
    share = problem.in_channels // problem.groups
    if problem.stride[2] > 1 and not blocks.channels:
        grid = lattice(problem, out)
        firsts, found = taps(problem, grid)
        phases = flat_phases(window.block(scratch), grid, firsts, problem.stride, scratch)
        size, (by_phase, by_channel, _) = phases.itemsize, phases.strides
        by_tap = np.array([phase * by_phase + offset * size for phase, offset in found], np.int64)
        by_output = [size * math.prod(grid.shape[1:]), size * grid.shape[2], 0]
        start = phases.ctypes.data
    else:
        block = _block(window, scratch)
        size, start = block.itemsize, block.ctypes.data
        by_channel, *steps = block.strides
        along, by_output = window_steps(problem, steps, out)
        places = (
            step * np.arange(count, dtype=np.int64) for step, count in zip(along, problem.kernel_size, strict=True)
        )
        d, h, w = places
        by_tap = (d[:, None, None] + h[:, None] + w).reshape(-1)
    terms = (np.arange(share, dtype=np.int64)[:, None] * by_channel + by_tap).reshape(-1)
    surplus = np.full(blocks.parts * blocks.at_once - len(terms), terms[-1])
    offsets = np.concatenate([terms, surplus]).reshape(blocks.parts, blocks.at_once)
    last = by_output[2] if blocks.channels else blocks.lanes * size
    return start, (share * by_channel, by_output[0], by_output[1], last), offsets


def _block(window: Window, scratch: Scratch) -> Array:
    """Return the padded block (C, d, h, w): a view of the voxels where it lies inside them."""
    ends = zip(window.region.start, window.region.stop, window.size, strict=True)
    if all(start >= 0 and stop <= size for start, stop, size in ends):
        return window.voxels[(slice(None), *window.region.slices)]
    return window.block(scratch)


def _arranged(problem: ConvProblem, blocks: Blocking, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Put the sums (groups, blocks, parts, T M) in their places (O, C/g, K_D, K_H, K_W)."""
    groups, count, parts, _ = sums.shape
    found = sums[..., : blocks.at_once * blocks.size].reshape(groups, count, parts * blocks.at_once, blocks.size)
    found = found[:, :, : blocks.terms].swapaxes(2, 3)
    arranged = np.empty((groups, blocks.total, blocks.terms))
    for block, first in enumerate(blocks.firsts[:-1]):
        kept = min(blocks.size, blocks.total - first)
        arranged[:, first : first + kept] = found[:, block, :kept]
    return arranged.reshape(problem.out_channels, -1, *problem.kernel_size)


CORRELATION = DirectNumba()
