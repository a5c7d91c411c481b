"""The gradients for weight and bias: parts of the sum, one a box of outputs, added in the order of the boxes.

The boxes follow from the problem alone and are added in float64, so that the bits do not depend on the threads.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lucid_core import compiled, machine
from lucid_core.compute import window_on
from lucid_core.correlations import RUN, Correlation, Part, correlations
from lucid_core.cutting import cuts
from lucid_core.planner import START_SECONDS
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch
from lucid_core.turns import in_turn
from lucid_core.volume import ArrayReader, VolumeReader

Array = npt.NDArray[Any]
Item = TypeVar("Item")
PART_BYTES = 8 << 20
"""Memory of what one box reads, and of its gradient, that is aimed below."""
MOST_BYTES = 64 << 20
"""Memory of a box from which on it is cut, though it then reads mostly what others do."""
LEAST_EXTENTS = 2
"""Outputs of a box along an axis, in extents of the kernel, that are else not cut."""
PART_MACS = 1 << 29
"""Multiplications of a box that are aimed below, so that there is one for every thread."""
LEAST_OUTPUTS = 4096
"""Outputs of a box that are worth a sum of their own."""


def weight_gradient(
    problem: ConvProblem, x: Array, grad: Array, engine: str = "auto", threads: int = 1
) -> npt.NDArray[np.float64]:
    """Return the gradient (O, C/g, K_D, K_H, K_W) for the weights, from x (N, C, D, H, W) and grad (N, O, D', H', W').

    Both may be of any dtype and strides; products are those of the problem's dtype, in the error bound of
    `lucid_core.correlations`.
    """
    way = chosen(problem, engine)
    voxels, grads = ArrayReader(x), ArrayReader(grad)

    def part(item: tuple[int, Region], scratch: Scratch) -> npt.NDArray[np.float64]:
        batch, out = item
        with np.errstate(all="ignore"):
            window = window_on(voxels, batch, problem, problem.input_region(out), scratch)
            return way.correlate(problem, Part(_read(grads, batch, problem, out, scratch), window), scratch)

    shape = (problem.out_channels, problem.in_channels // problem.groups, *problem.kernel_size)
    return _added(itertools.product(range(problem.batch), boxes(problem)), part, shape, threads)


def bias_gradient(problem: ConvProblem, grad: Array, engine: str = "auto", threads: int = 1) -> npt.NDArray[np.float64]:
    """Return the gradient (O,) for the bias: the sums of grad (N, O, D', H', W'), of any dtype and strides."""
    way, grads = chosen(problem, engine), ArrayReader(grad)
    depth, height, width = problem.out_size
    step = max(1, PART_BYTES // (problem.out_channels * height * width * np.dtype(problem.dtype).itemsize))

    def part(item: tuple[int, tuple[int, int]], scratch: Scratch) -> npt.NDArray[np.float64]:
        batch, (start, stop) = item
        out = Region((start, 0, 0), (stop, height, width))
        with np.errstate(all="ignore"):
            return way.totals(_read(grads, batch, problem, out, scratch))

    return _added(itertools.product(range(problem.batch), cuts(depth, step)), part, (problem.out_channels,), threads)


def _added(
    items: Iterable[Item],
    part: Callable[[Item, Scratch], npt.NDArray[np.float64]],
    shape: tuple[int, ...],
    threads: int,
) -> npt.NDArray[np.float64]:
    """Return the sum of the parts of all items, added in their order."""
    total, listed = np.zeros(shape), list(items)
    with np.errstate(all="ignore"):
        for sums in in_turn(listed, part, max(1, min(threads, len(listed)))):
            total += sums
    return total


def chosen(problem: ConvProblem, engine: str) -> Correlation:
    """Return the way to sum: that of the engine asked for, else compiled kernels where they are worth loading."""
    ways = correlations()
    if engine == "numba":
        compiled.require()
    if engine != "auto":
        return ways[engine]
    rates = machine.rates(problem.dtype)
    plain, fast = ways["numpy"], ways["numba"]
    saved = plain.cost(problem, rates) - fast.cost(problem, rates)
    worth = saved > START_SECONDS * max(problem.batch, 1)
    return fast if worth and not fast.refuses() and compiled.importable() else plain


def _read(reader: VolumeReader, batch: int, problem: ConvProblem, out: Region, scratch: Scratch) -> Array:
    """Return a box of the gradient (O, d, h, w), a view where its dtype and layout allow."""
    whole = reader.view(batch, problem.dtype)
    if whole is not None:
        return whole[(slice(None), *out.slices)]
    block = scratch.array("read grad", (problem.out_channels, *out.shape), problem.dtype)
    reader.read(batch, out, block)
    return block


def boxes(problem: ConvProblem) -> Iterator[Region]:
    """Yield boxes of outputs that cover all of them once: whole planes where they are small enough, then rows."""
    sizes = [cuts(size, step) for size, step in zip(problem.out_size, box_shape(problem), strict=True)]
    for (d, d_end), (h, h_end), (w, w_end) in itertools.product(*sizes):
        yield Region((d, h, w), (d_end, h_end, w_end))


def box_shape(problem: ConvProblem) -> Triple:
    """Choose the outputs of one box along D, H, W."""
    depth, height, width = problem.out_size
    shape = [depth, height, -(-width // -(-width // RUN))]
    for extents in (LEAST_EXTENTS, 0):
        for axis in range(3):
            extent = problem.dilation[axis] * (problem.kernel_size[axis] - 1) + 1
            least = max(1, extents * extent // problem.stride[axis])
            while (half := -(-shape[axis] // 2)) >= least and half < shape[axis] and _is_large(problem, shape, extents):
                shape[axis] = half
    return shape[0], shape[1], shape[2]


def _is_large(problem: ConvProblem, shape: list[int], extents: int) -> bool:
    """Say whether a box of so many outputs is worth cutting: it takes much memory, or long."""
    outputs = math.prod(shape)
    read = problem.in_channels * math.prod(problem.block_shape((shape[0], shape[1], shape[2])))
    size = (read + problem.out_channels * outputs) * np.dtype(problem.dtype).itemsize
    heavy = outputs > LEAST_OUTPUTS and outputs * problem.parameters > PART_MACS
    return size > PART_BYTES or heavy if extents else size > MOST_BYTES
