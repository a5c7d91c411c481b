"""The gradient for the input: the convolution's adjoint, itself computed by convolutions of the engine.

Position q of the padded input is read by the outputs p and taps t with s p + d t = q. So the positions that leave one
remainder r by the stride s, a *phase*, see only the taps with d t = r mod s, which are s / gcd(s, d) apart; the
gradient at these positions is a convolution of stride 1 and dilation d / gcd(s, d) of the output's gradient with those
taps, flipped, and with input and output channels exchanged. Each phase is planned and executed like any convolution,
and stored with a step. What stands in a border is then added to the voxel it was copied from (`fold`).

(Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, section 4.)
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.arrays import empty
from lucid_core.compute import Filters
from lucid_core.execute import execute
from lucid_core.factors import factors
from lucid_core.padding import source_index
from lucid_core.planner import plan
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region
from lucid_core.volume import ArrayReader, ArrayWriter

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class AxisPhase:
    """The positions of one phase along one axis, and the convolution that makes their gradient."""

    stored: slice
    """Where the positions lie in the result."""
    taps: slice
    dilation: int
    read: slice
    """Part of the output's gradient that they are made from."""
    pads: tuple[int, int]


def axis_phases(problem: ConvProblem, axis: int, first: int, count: int) -> list[AxisPhase]:
    """Return the phases of an axis that have a gradient, of `count` padded positions from `first` on."""
    kernel, stride = problem.kernel_size[axis], problem.stride[axis]
    dilation, outputs = problem.dilation[axis], problem.out_size[axis]
    apart = stride // math.gcd(stride, dilation)
    step = dilation * apart // stride
    found = []
    for tap in range(min(kernel, apart)):
        last = tap + (kernel - 1 - tap) // apart * apart
        shift, remainder = divmod(dilation * last, stride)
        at = (remainder - first) % stride
        wanted = len(range(at, count, stride))
        low = shift - (first + at) // stride
        high = wanted + (last - tap) // apart * step - low - outputs
        read = slice(max(-low, 0), outputs + min(high, 0))
        if wanted and read.start < read.stop:
            pads = max(low, 0), max(high, 0)
            found.append(AxisPhase(slice(at, count, stride), slice(tap, kernel, apart), step, read, pads))
    return found


def input_gradient(
    problem: ConvProblem, grad: Array, weight: Array, engine: str = "auto", threads: int | None = None
) -> Array:
    """Return the gradient (N, C, D, H, W) for the input, from that of the output (N, O, D', H', W').

    `grad` may be of any dtype; `weight` (O, C/g, K_D, K_H, K_W) is in the arithmetic's, as is the result. Each of its
    voxels is within gamma(K + B + 2) of the sum of |grad||weight|, K = O/g K_D K_H K_W and B the positions of the
    border it stands at.
    """
    folds = problem.padding_mode != "zeros"
    (low_d, _), (low_h, _), (low_w, _) = problem.pads
    d, h, w = problem.size
    box = Region((low_d, low_h, low_w), (low_d + d, low_h + h, low_w + w))
    if folds:
        box = Region((0, 0, 0), problem.padded_size)
    result = empty((problem.batch, problem.in_channels, *box.shape), np.dtype(problem.dtype))
    with np.errstate(all="ignore"):
        if np.isfinite(weight).all():
            _by_phases(problem, grad, weight, box, result, engine, threads)
        else:
            _tap_by_tap(problem, grad, weight, box, result)
        return fold(result, problem) if folds else result


def _by_phases(
    problem: ConvProblem, grad: Array, weight: Array, box: Region, result: Array, engine: str, threads: int | None
) -> None:
    """Compute the gradient of a box of padded positions, phase by phase."""
    phases = [axis_phases(problem, axis, box.start[axis], box.shape[axis]) for axis in range(3)]
    if math.prod(map(len, phases)) < math.prod(map(min, zip(problem.stride, box.shape, strict=True))):
        result.fill(0)  # some phase has no tap, or no output that reads it
    turned = transposed(weight, problem.groups)
    for d, h, w in itertools.product(*phases):
        source = grad[:, :, d.read, h.read, w.read]
        taken = np.ascontiguousarray(turned[:, :, d.taps, h.taps, w.taps][:, :, ::-1, ::-1, ::-1])
        adjoint = ConvProblem(
            problem.batch,
            problem.out_channels,
            problem.in_channels,
            source.shape[2:],
            taken.shape[2:],
            pads=(d.pads, h.pads, w.pads),
            dilation=(d.dilation, h.dilation, w.dilation),
            groups=problem.groups,
            dtype=problem.dtype,
            separable=factors(taken) is not None,
        )
        target = result[:, :, d.stored, h.stored, w.stored]
        writer = ArrayWriter(target) if w.stored.step == 1 else SteppedWriter(target)
        execute(plan(adjoint, engine=engine, threads=threads), [Filters(taken)], ArrayReader(source), writer)


class SteppedWriter:
    """Stores into an array (N, C, D, H, W) whose voxels lie apart: every thread its own; implements `VolumeWriter`."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def view(self, batch: int, region: Region) -> Array | None:  # noqa: ARG002
        """Offer no memory: algorithms store voxels that follow one another."""
        return None

    def encode(self, batch: int, region: Region, block: Array) -> None:
        """Store the block."""
        self._array[(batch, slice(None), *region.slices)] = block

    def write(self, batch: int, region: Region, encoded: None) -> None:
        """Do nothing more."""


def transposed(weight: Array, groups: int) -> Array:
    """Return a weight (O, C/g, K_D, K_H, K_W) with the channels exchanged: (C, O/g, K_D, K_H, K_W)."""
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    return grouped.reshape(-1, *grouped.shape[2:])


def _tap_by_tap(problem: ConvProblem, grad: Array, weight: Array, box: Region, result: Array) -> None:
    """Add what each tap of each output gives to the positions it reads.

    The zeros around the output's gradient that a convolution multiplies are none of the sum, and NaN with a weight that
    is not finite.
    """
    result.fill(0)
    turned, groups = transposed(weight, problem.groups), problem.groups
    values = grad.astype(result.dtype, copy=False)
    for tap in itertools.product(*map(range, problem.kernel_size)):
        ends = [_outputs_of(problem, axis, tap[axis], box) for axis in range(3)]
        if not all(count for _, count, _ in ends):
            continue
        outputs = tuple(slice(first, first + count) for first, count, _ in ends)
        places = tuple(
            slice(at, at + (count - 1) * stride + 1, stride)
            for (_, count, at), stride in zip(ends, problem.stride, strict=True)
        )
        d, h, w = tap
        matrices = turned[:, :, d, h, w].reshape(1, groups, -1, turned.shape[1])
        taken = values[:, :, *outputs]
        products = matrices @ taken.reshape(len(taken), groups, turned.shape[1], -1)
        result[:, :, *places] += products.reshape(len(taken), -1, *taken.shape[2:])


def _outputs_of(problem: ConvProblem, axis: int, tap: int, box: Region) -> tuple[int, int, int]:
    """Return the first output whose tap reads in the box, how many do, and where in the box the first reads."""
    stride, shift = problem.stride[axis], problem.dilation[axis] * tap
    first = max(0, -((shift - box.start[axis]) // stride))
    last = min(problem.out_size[axis] - 1, (box.stop[axis] - 1 - shift) // stride)
    return first, max(0, last - first + 1), first * stride + shift - box.start[axis]


def fold(padded: Array, problem: ConvProblem) -> Array:
    """Add the border of `padded` (N, C, D, H, W) to the voxels it was copied from, and return what lies inside it.

    The border is added in place.
    """
    for axis, (size, (low, _)) in enumerate(zip(problem.size, problem.pads, strict=True), start=2):
        along = np.moveaxis(padded, axis, 0)
        for at in _border(low, size, len(along)):
            source = source_index(at - low, size, problem.padding_mode)
            if source is not None:
                along[low + source] += along[at]
        padded = np.moveaxis(along[low : low + size], 0, axis)
    return np.ascontiguousarray(padded)


def _border(low: int, size: int, length: int) -> Iterator[int]:
    return itertools.chain(range(low), range(low + size, length))
