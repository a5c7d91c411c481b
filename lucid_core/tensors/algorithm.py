"""What the algorithms of the engine torch share: a padded block goes up, the output comes down."""

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lucid_core import tensors
from lucid_core.algorithms import Algorithm, Array
from lucid_core.boundary import Window
from lucid_core.lattice import window_steps
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch, Shape, size_of
from lucid_core.tensors import Tensor
from lucid_core.tensors.lane import Lane, lane_of

BLOCK, OUT = "block on the device", "out on the device"
MOST_ELEMENTS = (1 << 31) - 1
"""A tensor of a tile has no more: kernels of a GPU count elements in 32 bits."""


class TensorAlgorithm(Algorithm):
    """One way to convolve on a device."""

    engine = "torch"

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse what this way cannot compute, and a machine without torch."""
        return tensors.refusal() or self.unfit(problem)

    @abstractmethod
    def unfit(self, problem: ConvProblem) -> str | None:
        """Return why this way cannot compute the problem within its bound, or None."""

    @abstractmethod
    def buffers(self, problem: ConvProblem, out: Triple) -> Mapping[str, Shape]:
        """Return the most that is taken on the device for a tile, beside its padded block and output."""

    @abstractmethod
    def convolve(
        self,
        problem: ConvProblem,
        prepared: Any,
        bias: Array | None,
        block: Tensor,
        region: Region,
        target: Tensor,
        lane: Lane,
    ) -> Tensor:
        """Return the output `region` (O, d, h, w) of its padded `block` (C, d, h, w): `target`, or memory of torch."""

    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """Add up the buffers."""
        return size_of(self.buffers(problem, out), problem.dtype)

    def elements(self, problem: ConvProblem, out: Triple) -> int:
        """Return the elements of the largest tensor of a tile."""
        block = problem.in_channels * math.prod(problem.block_shape(out))
        return max(block, problem.out_channels * math.prod(out), *map(math.prod, self.buffers(problem, out).values()))

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
        """Copy the block to the device, compute, and copy the result back; on the CPU nothing is copied."""
        lane = lane_of(scratch)
        target, block = lane.target(out), lane.upload(window)
        with lane.turn():
            found = self.convolve(problem, prepared, bias, block, region, target, lane)
        lane.download(found, out)


def copying(problem: ConvProblem, rates: Rates) -> float:
    """Return the seconds that copies to the device and back take."""
    return (math.prod(problem.in_shape) + math.prod(problem.out_shape)) / rates.tensors.copy


def windows(problem: ConvProblem, block: Tensor, out: Triple) -> Tensor:
    """View a block (C, d, h, w) as the voxels of every tap and output: (C, K_D, K_H, K_W, d', h', w')."""
    channel, *steps = block.stride()
    taps, outputs = window_steps(problem, steps, out)
    shape = (block.shape[0], *problem.kernel_size, *out)
    return block.as_strided(shape, (channel, *taps, *outputs), block.storage_offset())


def tap_views(every: Tensor) -> list[Tensor]:
    """Return of what `windows` gives the outputs (d', h', w') that each tap reads, in the order of the taps."""
    shape, steps = every.shape[4:], every.stride()
    first = every.storage_offset()
    places = itertools.product(
        *(
            range(0, count * step, step) if step else [0] * count
            for count, step in zip(every.shape[:4], steps[:4], strict=True)
        )
    )
    return [every.as_strided(shape, steps[4:], first + sum(place)) for place in places]


def planes_at_once(problem: ConvProblem, out: Triple, voxels: int, chunk_bytes: int) -> int:
    """Return how many planes of `voxels` each are worked on at a time."""
    return min(out[0], max(1, chunk_bytes // (voxels * _itemsize(problem))))


def slabs(depth: int, planes: int) -> Iterator[slice]:
    """Yield slices of so many planes each."""
    return (slice(start, min(start + planes, depth)) for start in range(0, depth, planes))


def weighted_sum(target: Tensor, views: Iterable[Tensor], weights: Iterable[float] | Iterable[Tensor]) -> None:
    """Put into `target` the views times their weights, numbers or tensors, added one after another."""
    first = True
    for view, weight in zip(views, weights, strict=True):
        if first:
            tensors.library().mul(view, weight, out=target)
            first = False
        elif isinstance(weight, float):
            target.add_(view, alpha=weight)
        else:
            target.addcmul_(view, weight)


def _itemsize(problem: ConvProblem) -> int:
    return 8 if problem.dtype == "float64" else 4
