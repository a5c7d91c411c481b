"""Convolutions one after another as one problem: shapes and geometry, no data.

A `Stack` has what a `ConvProblem` has, of all its convolutions together, so that tiles are cut, outputs placed and
reports written for it in the same way. A region of its output is followed back through every layer, so that a tile
reads the halos of all of them added up, and no intermediate volume exists.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lucid_core.elementwise import Operation
from lucid_core.padding import border_reach
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple


@dataclass(frozen=True)
class Stage:
    """A convolution, and the elementwise operations behind it."""

    problem: ConvProblem
    operations: tuple[Operation, ...] = ()

    @property
    def out_channels(self) -> int:
        """Channels behind the operations."""
        count = self.problem.out_channels
        for operation in self.operations:
            count = operation.channels(count)
        return count


@dataclass(frozen=True)
class Stack:
    """Stages one after another; `first` are operations before the first convolution."""

    stages: tuple[Stage, ...]
    first: tuple[Operation, ...] = ()
    in_channels: int = 1
    """Of the input, before `first`."""

    @property
    def batch(self) -> int:
        """Volumes."""
        return self._first.batch

    @property
    def dtype(self) -> str:
        """Dtype of the arithmetic, the same in all layers."""
        return self._first.dtype

    @property
    def size(self) -> Triple:
        """Input voxels along D, H, W."""
        return self._first.size

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.stages[-1].out_channels

    @property
    def out_size(self) -> Triple:
        """Output voxels along D, H, W."""
        return self.stages[-1].problem.out_size

    @property
    def in_shape(self) -> tuple[int, int, int, int, int]:
        """Shape (N, C, D, H, W) of the input."""
        return (self.batch, self.in_channels, *self.size)

    @property
    def padded_shape(self) -> tuple[int, int, int, int, int]:
        """Shape (N, C, D, H, W) of the padded input of the first convolution."""
        return self._first.padded_shape

    @property
    def out_shape(self) -> tuple[int, int, int, int, int]:
        """Shape (N, C, D, H, W) of the output."""
        return (self.batch, self.out_channels, *self.out_size)

    @property
    def parameters(self) -> int:
        """Numbers in all weights and biases."""
        return sum(problem.parameters for problem in self.problems)

    @property
    def taps(self) -> int:
        """Voxels of the largest kernel."""
        return max(problem.taps for problem in self.problems)

    @property
    def macs(self) -> int:
        """Multiplications and additions of the definitions."""
        return sum(problem.macs for problem in self.problems)

    @property
    def stride(self) -> Triple:
        """Step in the input from output to output voxel: the product of all strides."""
        d, h, w = (math.prod(one.stride[axis] for one in self.problems) for axis in range(3))
        return d, h, w

    @property
    def halo(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Input voxels that a tile needs below and above those its own outputs start at: the halos added up."""
        d, h, w = (
            (
                int(self._added(axis, [one.halo[axis][0] for one in self.problems])),
                int(self._added(axis, [one.halo[axis][1] for one in self.problems])),
            )
            for axis in range(3)
        )
        return d, h, w

    @property
    def centre_shift(self) -> tuple[float, float, float]:
        """Input index that output voxel 0 is centred on, per axis: b = b1 + s1 (b2 + s2 (b3 + ...))."""
        d, h, w = (self._added(axis, [one.centre_shift[axis] for one in self.problems]) for axis in range(3))
        return d, h, w

    def _added(self, axis: int, lengths: list[int] | list[float]) -> float:
        """Add up lengths along an axis, one a layer, each in that layer's own input voxels, in those of the input."""
        step, total = 1, 0.0
        for problem, length in zip(self.problems, lengths, strict=True):
            total += step * length
            step *= problem.stride[axis]
        return total

    @property
    def block_channels(self) -> int:
        """Channels of what a tile reads."""
        return self.in_channels

    @property
    def padding_mode(self) -> str:
        """Of what a tile reads, which lies inside the volume."""
        return "zeros"

    @property
    def keeps_input(self) -> bool:
        """Whether nothing is changed in place in what is read, so that it may be a view of the caller's array."""
        return not self.first

    @property
    def problems(self) -> tuple[ConvProblem, ...]:
        """The convolutions."""
        return tuple(stage.problem for stage in self.stages)

    @property
    def _first(self) -> ConvProblem:
        return self.stages[0].problem

    def block_shape(self, out: Triple) -> Triple:
        """Return the most input voxels that an output box of shape `out` is computed from."""
        return self.boxes(out)[0]

    def boxes(self, out: Triple) -> list[Triple]:
        """Return the most voxels of the input, and of the output of each stage, for an output box of shape `out`."""
        boxes = [out]
        for problem in reversed(self.problems):
            ends = zip(problem.size, problem.block_shape(boxes[0]), problem.pads, strict=True)
            d, h, w = (
                min(size, count + border_reach(max(pads), size, problem.padding_mode)) for size, count, pads in ends
            )
            boxes.insert(0, (d, h, w))
        return boxes

    def input_region(self, out: Region) -> Region:
        """Return the input voxels that an output region is computed from: a box inside the volume."""
        for problem in reversed(self.problems):
            out = problem.reads(out)
        return out

    def planes_read(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first and one past the last D plane that output planes are computed from."""
        source = self.input_region(Region((start, 0, 0), (stop, 1, 1)))
        return source.start[0], source.stop[0]

    def work(self, out: Triple) -> float:
        """Return the work that an output box of shape `out` takes, halos included, in any unit: the products summed."""
        boxes = self.boxes(out)[1:]
        return sum(
            problem.out_channels * problem.terms * math.prod(box)
            for problem, box in zip(self.problems, boxes, strict=True)
        )


Problem = ConvProblem | Stack
"""What is planned and executed."""


Shape5 = tuple[int, int, int, int, int]
Layer = Operation | Callable[[Shape5], ConvProblem]
"""An operation, or what makes the problem of a convolution for its input (N, C, D, H, W)."""


def stack(in_shape: Shape5, layers: Iterable[Layer]) -> Stack:
    """Join layers, at least one of them a convolution, for an input of this shape.

    Raises `ShapeError` where a convolution does not take what the layers before it make.
    """
    first: list[Operation] = []
    stages: list[Stage] = []
    shape = in_shape
    for layer in layers:
        if not isinstance(layer, Operation):
            stages.append(Stage(layer(shape)))
            shape = stages[-1].problem.out_shape
            continue
        if stages:
            stages[-1] = Stage(stages[-1].problem, (*stages[-1].operations, layer))
        else:
            first.append(layer)
        shape = (shape[0], layer.channels(shape[1]), *shape[2:])
    return Stack(tuple(stages), tuple(first), in_shape[1])
