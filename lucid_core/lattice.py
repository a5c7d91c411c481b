"""Padded blocks as flat arrays, in which every tap of a kernel is one offset.

With stride s, the voxels a tap reads are s apart. A block is therefore split into its phases: the voxels whose
index leaves the same remainder by the stride, one phase an array. In the flat index of a phase, output position
p reads tap t at p + offset(t), whatever kernel, stride and dilation: one contiguous slice for a whole run of
outputs. Positions between the end of a row of outputs and the start of the next are computed and thrown away.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.scratch import Scratch


@dataclass(frozen=True)
class Lattice:
    """Where the taps of a kernel stand in the flat phases of one block."""

    phases: tuple[Triple, ...]
    """First voxel (D, H, W) of each phase in the block."""
    shape: Triple
    """Voxels of each phase along D, H, W."""
    taps: tuple[tuple[int, int], ...]
    """Phase and flat offset of each tap, in the order of the kernel's (K_D, K_H, K_W)."""
    out: Triple
    """Output voxels along D, H, W."""

    @property
    def length(self) -> int:
        """Flat positions from the first output voxel to the last."""
        d, h, w = self.out
        return ((d - 1) * self.shape[1] + h - 1) * self.shape[2] + w

    def outputs(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the output voxels (d, h, w) among flat positions, as a view of (d * H * W,)."""
        d, h, w = self.out
        return flat[: d * self.shape[1] * self.shape[2]].reshape(d, *self.shape[1:])[:, :h, :w]

    @property
    def flat_size(self) -> int:
        """Values to allocate for flat positions, so that `outputs` can view them."""
        return self.out[0] * self.shape[1] * self.shape[2]


def lattice(problem: ConvProblem, out: Triple) -> Lattice:
    """Lay out the taps of a problem for an output box of shape `out`."""
    steps = [
        [divmod(tap * dilation, stride) for tap in range(k)]
        for k, dilation, stride in zip(problem.kernel_size, problem.dilation, problem.stride, strict=True)
    ]
    d, h, w = (count + max(step for step, _ in axis) for count, axis in zip(out, steps, strict=True))
    phases: dict[Triple, int] = {}
    taps = []
    for (step_d, first_d), (step_h, first_h), (step_w, first_w) in itertools.product(*steps):
        phase = phases.setdefault((first_d, first_h, first_w), len(phases))
        taps.append((phase, (step_d * h + step_h) * w + step_w))
    return Lattice(tuple(phases), (d, h, w), tuple(taps), out)


def flat_phases(block: npt.NDArray[Any], grid: Lattice, stride: Triple, scratch: Scratch) -> npt.NDArray[Any]:
    """Return the phases (P, C, flat) of a padded block (C, d, h, w); with stride 1 a view of the block itself."""
    channels = block.shape[0]
    if stride == (1, 1, 1):
        return block.reshape(1, channels, math.prod(grid.shape))
    split = scratch.array("phases", (len(grid.phases), channels, *grid.shape), block.dtype)
    for phase, first in zip(split, grid.phases, strict=True):
        d, h, w = (slice(start, None, step) for start, step in zip(first, stride, strict=True))
        part = block[:, d, h, w][:, : grid.shape[0], : grid.shape[1], : grid.shape[2]]
        phase[:, : part.shape[1], : part.shape[2], : part.shape[3]] = part
    return split.reshape(len(grid.phases), channels, math.prod(grid.shape))


def phase_bytes(problem: ConvProblem, out: Triple) -> int:
    """Return the memory that `flat_phases` takes for an output box of shape `out`."""
    if problem.stride == (1, 1, 1):
        return 0
    grid = lattice(problem, out)
    return len(grid.phases) * problem.in_channels * math.prod(grid.shape) * np.dtype(problem.dtype).itemsize
