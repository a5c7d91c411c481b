"""Padded blocks as flat arrays, in which every tap of a kernel is one offset.

With stride s, the voxels a tap reads are s apart. A block is therefore split into its phases: the voxels whose
index leaves the same remainder by the stride, one phase an array. In the flat index of a phase, output position
p reads tap t at p + offset(t), whatever kernel, stride and dilation: one contiguous slice for a whole run of
outputs. Positions between the end of a row of outputs and the start of the next are computed and thrown away.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.scratch import Scratch


@dataclass(frozen=True)
class Lattice:
    """The flat phases of one block, and the outputs among their positions."""

    shape: Triple
    """Voxels of each phase along D, H, W."""
    out: Triple
    """Output voxels along D, H, W."""

    @property
    def length(self) -> int:
        """Flat positions from the first output voxel to the last."""
        d, h, w = self.out
        return ((d - 1) * self.shape[1] + h - 1) * self.shape[2] + w

    @property
    def flat_size(self) -> int:
        """Values to allocate for flat positions, so that `outputs` can view them."""
        return self.out[0] * self.shape[1] * self.shape[2]

    def outputs(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the output voxels (d, h, w) among flat positions, as a view of (d * H * W,)."""
        d, h, w = self.out
        return flat[: self.flat_size].reshape(d, *self.shape[1:])[:, :h, :w]


def lattice(problem: ConvProblem, out: Triple) -> Lattice:
    """Lay out the phases of a problem for an output box of shape `out`."""
    d, h, w = (count + axis[-1][0] for count, axis in zip(out, steps(problem), strict=True))
    return Lattice((d, h, w), out)


def taps(problem: ConvProblem, grid: Lattice) -> tuple[tuple[Triple, ...], list[tuple[int, int]]]:
    """Return the first voxel (D, H, W) of each phase, and the phase and flat offset of each tap (K_D, K_H, K_W)."""
    _, h, w = grid.shape
    phases: dict[Triple, int] = {}
    found = []
    for (step_d, first_d), (step_h, first_h), (step_w, first_w) in itertools.product(*steps(problem)):
        phase = phases.setdefault((first_d, first_h, first_w), len(phases))
        found.append((phase, (step_d * h + step_h) * w + step_w))
    return tuple(phases), found


def steps(problem: ConvProblem) -> list[list[tuple[int, int]]]:
    """Return, for each axis and tap along it, how many outputs further it reads and in which phase."""
    return [
        [divmod(tap * dilation, stride) for tap in range(k)]
        for k, dilation, stride in zip(problem.kernel_size, problem.dilation, problem.stride, strict=True)
    ]


def window_steps(problem: ConvProblem, steps: Sequence[int], out: Triple) -> tuple[list[int], list[int]]:
    """Return the steps between taps and between outputs of a block whose axes D, H, W have these steps.

    An axis of one entry has no step: a stride or dilation that is never taken may be of any size.
    """
    taps = [
        step * dilation if count > 1 else 0
        for step, dilation, count in zip(steps, problem.dilation, problem.kernel_size, strict=True)
    ]
    outputs = [
        step * stride if count > 1 else 0 for step, stride, count in zip(steps, problem.stride, out, strict=True)
    ]
    return taps, outputs


def flat_phases(
    block: npt.NDArray[Any],
    grid: Lattice,
    phases: tuple[Triple, ...],
    stride: Triple,
    scratch: Scratch,
    *,
    blank: bool = False,
) -> npt.NDArray[Any]:
    """Return the phases (P, C, flat) of a padded block (C, d, h, w); with stride 1 a view of the block itself.

    Positions that no output reads are zeros where `blank`, else left as the scratch has them.
    """
    channels = block.shape[0]
    if stride == (1, 1, 1):
        return block.reshape(1, channels, math.prod(grid.shape))
    split = scratch.array("phases", (len(phases), channels, *grid.shape), block.dtype)
    if blank:
        split.fill(0)
    for phase, first in zip(split, phases, strict=True):
        d, h, w = (slice(start, None, step) for start, step in zip(first, stride, strict=True))
        part = block[:, d, h, w][:, : grid.shape[0], : grid.shape[1], : grid.shape[2]]
        phase[:, : part.shape[1], : part.shape[2], : part.shape[3]] = part
    return split.reshape(len(phases), channels, math.prod(grid.shape))


def phase_bytes(problem: ConvProblem, out: Triple) -> int:
    """Return the memory that `flat_phases` takes for an output box of shape `out`."""
    if problem.stride == (1, 1, 1):
        return 0
    count = math.prod(len({first for _, first in axis}) for axis in steps(problem))
    values = count * problem.in_channels * math.prod(lattice(problem, out).shape)
    return values * np.dtype(problem.dtype).itemsize
