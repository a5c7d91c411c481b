"""One tile of a plan, from the voxels it was cut for: a convolution, or a stack of them."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy.typing as npt

from lucid_core.algorithms import member
from lucid_core.arguments import LayerArguments
from lucid_core.boundary import Window, fill
from lucid_core.factors import factors
from lucid_core.normalization import Normalization, check_sums
from lucid_core.normalized import divisor
from lucid_core.plan import Choice, Plan
from lucid_core.problem import ConvProblem, conv_problem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch
from lucid_core.stack import Problem, Stack, Stage
from lucid_core.volume import Shape5, VolumeReader

Array = npt.NDArray[Any]


class Filters(NamedTuple):
    """The weight (O, C/g, K_D, K_H, K_W) and bias (O,) of a convolution, in the dtype of the arithmetic."""

    weight: Array
    bias: Array | None = None

    def problem(
        self, shape: Shape5, arguments: LayerArguments, normalization: Normalization | None = None
    ) -> ConvProblem:
        """Return the problem of a layer with these weights for an input of shape (N, C, D, H, W).

        Raises `ShapeError` where they do not fit, `ArgumentError` for filters that sum to 0 and are to be normalised.
        """
        problem = conv_problem(
            shape,
            arguments,
            bias=self.bias is not None,
            dtype=self.weight.dtype.name,
            separable=factors(self.weight) is not None,
            normalization=normalization,
        )
        if problem.normalization is not None:
            check_sums(self.weight)
        return problem


class Convolution:
    """A convolution with its algorithm and prepared weights."""

    def __init__(self, choice: Choice, filters: Filters) -> None:
        self.problem = choice.problem
        self._algorithm = member(choice.algorithm, choice.engine)
        self._prepared = self._algorithm.prepare(choice.problem, filters.weight)
        self._bias = filters.bias
        self._divisor = divisor(choice.problem, self._algorithm, filters.weight)

    def compute(self, window: Window, region: Region, out: Array, scratch: Scratch) -> None:
        """Compute an output region into `out` (O, d, h, w) from the window of what it reads."""
        if self._divisor is None:
            self._algorithm.run(self.problem, self._prepared, self._bias, window, region, out, scratch)
            return
        channels = window.voxels[: self.problem.in_channels]
        values = Window(channels, window.region, window.mode)
        self._algorithm.run(self.problem, self._prepared, None, values, region, out, scratch)
        self._divisor.divide(window, region, self._bias, out, scratch)


class Layers:
    """The convolutions of a stack: each region of a layer's output is computed where the next layer reads it."""

    def __init__(self, stack: Stack, convolutions: Sequence[Convolution]) -> None:
        self._stack = stack
        self._convolutions = convolutions

    def compute(self, window: Window, region: Region, out: Array, scratch: Scratch) -> None:
        """Compute an output region into `out` (O, d, h, w) from the window of what it reads."""
        voxels, origin = window.voxels, self._stack.input_region(region).start
        for operation in self._stack.first:
            voxels = operation.run(voxels)
        shift = [start - first for start, first in zip(window.region.start, origin, strict=True)]
        source = partial(self._source, voxels, shift)
        self._stage(len(self._convolutions) - 1, source, scratch, region, out)

    def _source(self, voxels: Array, shift: Sequence[int], wanted: Region, mode: str) -> Window:
        """Return a window on a region of the input, of which `voxels` is at least what is read."""
        start, stop = (_shifted(end, shift) for end in (wanted.start, wanted.stop))
        return Window(voxels, Region(start, stop), mode)

    def _stage(self, number: int, source: Any, scratch: Scratch, region: Region, out: Array) -> None:
        """Compute a region of the output of a stage."""
        stage, convolution = self._stack.stages[number], self._convolutions[number]
        problem, wanted = stage.problem, stage.problem.input_region(region)
        if number:
            block = scratch.array(f"block {number}", (problem.in_channels, *wanted.shape), problem.dtype)
            earlier = partial(self._stage, number - 1, source, scratch)
            fill(block, wanted, problem.size, problem.padding_mode, earlier)
            window = Window(block, Region((0, 0, 0), wanted.shape), problem.padding_mode)
        else:
            window = source(wanted, problem.padding_mode)
        values = out if _fits(stage, out) else self._beside(number, region.shape, scratch)
        convolution.compute(window, region, values, scratch)
        result: Array = values
        for operation in stage.operations:
            result = operation.run(result)
        if result is not out:
            out[...] = result

    def _beside(self, number: int, shape: Triple, scratch: Scratch) -> Array:
        problem = self._stack.stages[number].problem
        return scratch.array(f"out {number}", (problem.out_channels, *shape), problem.dtype)


def _shifted(place: Triple, by: Sequence[int]) -> Triple:
    d, h, w = (one + step for one, step in zip(place, by, strict=True))
    return d, h, w


def _fits(stage: Stage, out: Array) -> bool:
    """Say whether a convolution can be computed where its stage's output goes."""
    forward = all(step > 0 for step in out.strides)
    return stage.out_channels == stage.problem.out_channels and forward and out.strides[-1] == out.itemsize


def computation(plan: Plan, filters: Sequence[Filters]) -> Convolution | Layers:
    """Prepare the weights of a plan, one pair a convolution."""
    made = [Convolution(choice, one) for choice, one in zip(plan.choices, filters, strict=True)]
    return Layers(plan.problem, made) if isinstance(plan.problem, Stack) else made[0]


def window_on(reader: VolumeReader, batch: int, problem: Problem, source: Region, scratch: Scratch) -> Window:
    """Return what a tile is computed from: a window on the volume where it is in memory, else on a block read."""
    dtype, mode = problem.dtype, problem.padding_mode
    volume = reader.view(batch, dtype) if problem.keeps_input else None
    if volume is not None:
        return Window(volume, source, mode)
    block = scratch.array("read", (problem.block_channels, *source.shape), dtype)
    fill(block, source, problem.size, mode, partial(reader.read, batch))
    return Window(block, Region((0, 0, 0), source.shape), mode)
