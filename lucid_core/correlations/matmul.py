"""Matrix products over flat positions: for each tap, the gradient (O/g, n) times the voxels (n, C/g) it reads.

In the flat phases of `lattice`, an output position p reads tap t at p + offset(t). With the gradient laid into the
same rows, zeros in the gaps between them, a tap is one product of two views, whatever kernel, stride and dilation;
nothing is gathered.
"""

import math

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from lucid_core.correlations import RUN, Array, Correlation, Part
from lucid_core.lattice import Lattice, flat_phases, lattice, taps, window_steps
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.scratch import Scratch


class Matmul(Correlation):
    """One product a tap and run of positions, all groups in one call."""

    engine = "numpy"

    def refuses(self) -> str | None:
        """Refuse nothing."""
        return None

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """The products at the rate their rows allow, and their calls."""
        rows = problem.out_channels // problem.groups
        speed = rates.gemm * rows / (rows + rates.gemm_rows)
        calls = -(-math.prod(problem.out_size) // RUN) * problem.taps * problem.batch
        return 2 * problem.macs / speed + calls * (2 + problem.groups) * rates.call

    def correlate(self, problem: ConvProblem, part: Part, scratch: Scratch) -> npt.NDArray[np.float64]:
        """Sum run by run, tap by tap; where voxels are not finite, again without the gaps."""
        groups, block = problem.groups, part.window.block(scratch)
        grid = lattice(problem, (part.grad.shape[1], part.grad.shape[2], part.grad.shape[3]))
        firsts, offsets = taps(problem, grid)
        phases = flat_phases(block, grid, firsts, problem.stride, scratch)
        voxels = phases.reshape(len(firsts), groups, -1, phases.shape[2])
        grad = _flat(part.grad, grid, scratch).reshape(groups, -1, grid.flat_size)
        sums = np.zeros((len(offsets), groups, grad.shape[1], voxels.shape[2]))
        for start in range(0, grid.length, RUN):
            stop = min(start + RUN, grid.length)
            run = grad[:, :, start:stop]
            for total, (phase, offset) in zip(sums, offsets, strict=True):
                total += run @ voxels[phase, :, :, start + offset : stop + offset].swapaxes(1, 2)
        if not np.isfinite(sums).all():
            return _exactly(problem, part.grad, block)
        terms = np.moveaxis(sums, 0, -1)
        return terms.reshape(problem.out_channels, -1, *problem.kernel_size)

    def totals(self, grad: Array) -> npt.NDArray[np.float64]:
        """Sum by NumPy."""
        sums: npt.NDArray[np.float64] = grad.sum(axis=(1, 2, 3), dtype=np.float64)
        return sums


def _flat(grad: Array, grid: Lattice, scratch: Scratch) -> Array:
    """Return the gradient (O, d, h, w) at the flat positions of a lattice: (O, flat), zeros in the gaps."""
    flat = scratch.array("grad", (len(grad), grid.flat_size), grad.dtype)
    if grid.shape[1:] != grid.out[1:]:
        flat.fill(0)
    for channel, values in zip(flat, grad, strict=True):
        grid.outputs(channel)[...] = values
    return flat


def _exactly(problem: ConvProblem, grad: Array, block: Array) -> npt.NDArray[np.float64]:
    """Return the sums of outputs alone: a zero in a gap times a voxel that is not finite is NaN, and none of them.

    The sums that are finite are the same to their bound.
    """
    out, share = grad.shape[1:], len(block) // problem.groups
    channel, *steps = block.strides
    by_tap, by_output = window_steps(problem, steps, (out[0], out[1], out[2]))
    shape = (len(block), *problem.kernel_size, *out)
    windows = as_strided(block, shape, (channel, *by_tap, *by_output), writeable=False)
    sums = np.empty((len(grad), share, *problem.kernel_size))
    for group, rows in enumerate(np.split(np.arange(len(grad)), problem.groups)):
        voxels, values = windows[group * share : (group + 1) * share], grad[rows].astype(np.float64)
        for tap in np.ndindex(*problem.kernel_size):
            seen = voxels[(slice(None), *tap)].astype(np.float64)
            sums[(rows, slice(None), *tap)] = np.einsum("odhw,cdhw->oc", values, seen)
    return sums


CORRELATION = Matmul()
