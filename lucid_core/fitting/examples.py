"""Examples: tiles of volumes and of what is to be made of them.

An example carries what its outputs read, border included, so that a layer without padding makes them of it.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lucid_core.cutting import cuts
from lucid_core.regions import Region, Triple
from lucid_core.stack import Problem
from lucid_core.turns import in_turn

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Example:
    """One tile."""

    block: Array
    """The padded input (C, d, h, w) that the outputs are computed from."""
    target: Array
    """The outputs wanted, (O, d', h', w')."""
    counted: npt.NDArray[np.bool_]
    """Where they count, (d', h', w')."""


class Examples(Protocol):
    """Examples that are read when they are needed, by several threads at once."""

    def __len__(self) -> int:
        """Return how many there are."""

    def read(self, number: int) -> Example:
        """Return one of them."""


def in_order(examples: Examples, numbers: Iterable[int], threads: int = 1) -> Iterator[Example]:
    """Yield examples by their numbers, several threads reading ahead, `turns.WAITING` examples each."""
    return in_turn(numbers, lambda number, _: examples.read(int(number)), threads)


def inside(problem: Problem) -> Region:
    """Return the output voxels of which nothing is computed from beyond the border; a region without voxels for none.

    With stride s and padding lo, output voxel o of a layer reads the inputs s o - lo to s o - lo + d (k - 1); of a
    stack the steps multiply and the reaches add up.
    """
    ends = [_inside(problem, axis) for axis in range(3)]
    (d, h, w), (d_end, h_end, w_end) = ((low for low, _ in ends), (high for _, high in ends))
    return Region((d, h, w), (d_end, h_end, w_end))


def _inside(problem: Problem, axis: int) -> tuple[int, int]:
    step, low, reach = 1, 0, 0
    for one in problem.problems:
        low += step * one.pads[axis][0]
        reach += step * one.dilation[axis] * (one.kernel_size[axis] - 1)
        step *= one.stride[axis]
    first = -(-low // step)
    last = (problem.size[axis] - 1 - reach + low) // step
    return first, max(first, min(last + 1, problem.out_size[axis]))


def cut(region: Region, tile: Triple) -> Iterator[Region]:
    """Yield the tiles of a region, those at its end smaller."""
    pieces = [
        [(low + start, low + stop) for start, stop in cuts(size, step)]
        for low, size, step in zip(region.start, region.shape, tile, strict=True)
    ]
    for d, h, w in itertools.product(*pieces):
        yield Region((d[0], h[0], w[0]), (d[1], h[1], w[1]))
