"""Three 1-D passes as operations of torch, slab by slab of planes.

As `separable` does it with NumPy: for filters that are products of 1-D kernels.
"""

from collections.abc import Mapping

import numpy as np

from lucid_core.algorithms import Array, ErrorBound
from lucid_core.algorithms.separable import ALGORITHM as SEPARABLE
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Shape
from lucid_core.tensors import Tensor
from lucid_core.tensors.algorithm import TensorAlgorithm, copying, planes_at_once, slabs, weighted_sum
from lucid_core.tensors.lane import CHUNK_BYTES, Lane


class SeparableTorch(TensorAlgorithm):
    """A pass along D, then H, then W: only the first one reads the halo of planes."""

    name = "separable"

    def unfit(self, problem: ConvProblem) -> str | None:
        """Refuse what the passes of NumPy refuse."""
        return SEPARABLE.refuses(problem)

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """A multiplication and addition a 1-D tap and voxel of each pass, in one call a slab."""
        out, (_, height, width) = problem.out_size, problem.block_shape(problem.out_size)
        d, h, w = problem.kernel_size
        passes = out[0] * (height * width * d + out[1] * width * h + out[1] * out[2] * w)
        planes = planes_at_once(problem, out, height * width, max(CHUNK_BYTES.values()))
        calls = -(-out[0] // planes) * (d + h + w)
        seconds = passes / rates.tensors.elementwise + calls * rates.tensors.call
        return problem.batch * problem.out_channels * seconds + copying(problem, rates)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Keep gamma(K + 2): `factors` admits only taps that leave the passes room for their own roundings."""
        return SEPARABLE.error_bound(problem)

    def buffers(self, problem: ConvProblem, out: Triple) -> Mapping[str, Shape]:
        """Return a slab behind the first pass, and one behind the second."""
        return _buffers(problem, out, max(CHUNK_BYTES.values()))

    def prepare(self, problem: ConvProblem, weight: Array) -> list[list[list[float]]]:
        """Return the 1-D kernels along D, H and W of each output channel, as `separable` has them, as numbers."""
        ends = np.cumsum(problem.kernel_size)[:2]
        return [[kernel.tolist() for kernel in np.split(taps, ends)] for taps in SEPARABLE.prepare(problem, weight)]

    def convolve(
        self,
        problem: ConvProblem,
        prepared: list[list[list[float]]],
        bias: Array | None,
        block: Tensor,
        region: Region,
        target: Tensor,
        lane: Lane,
    ) -> Tensor:
        """Slab by slab and channel by channel."""
        shapes = _buffers(problem, region.shape, lane.chunk_bytes)
        first, second = (lane.tensor(name, shape, problem.dtype) for name, shape in shapes.items())
        made = problem.out_channels // problem.groups
        for slab in slabs(region.shape[0], first.shape[0]):
            count = slab.stop - slab.start
            for channel, (along_d, along_h, along_w) in enumerate(prepared):
                d, h, w = problem.dilation
                voxels = block[channel // made, slab.start :]
                weighted_sum(first[:count], _shifted(voxels, 0, d, count, along_d), along_d)
                weighted_sum(second[:count], _shifted(first[:count], 1, h, region.shape[1], along_h), along_h)
                total = target[channel, slab]
                weighted_sum(total, _shifted(second[:count], 2, w, region.shape[2], along_w), along_w)
                if bias is not None:
                    total.add_(float(bias[channel]))
        return target


def _buffers(problem: ConvProblem, out: Triple, chunk_bytes: int) -> dict[str, Shape]:
    _, height, width = problem.block_shape(out)
    planes = planes_at_once(problem, out, height * width, chunk_bytes)
    return {"first pass": (planes, height, width), "second pass": (planes, out[1], width)}


def _shifted(values: Tensor, axis: int, step: int, count: int, kernel: list[float]) -> list[Tensor]:
    """Return the `count` entries along an axis that each tap of a kernel reads, taps being `step` apart."""
    return [values.narrow(axis, tap * step, count) for tap in range(len(kernel))]


ALGORITHM = SeparableTorch()
