"""The definition, tap by tap, as operations of torch: each multiplies a shifted view of the block and adds it.

For few channels: a device reads and writes the sums once a tap, which its cache allows faster than voxels come to it.
Works on slabs of planes that stay in the cache.
"""

import math
from collections.abc import Mapping

from lucid_core.algorithms import Array, ErrorBound
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Shape
from lucid_core.tensors import Tensor
from lucid_core.tensors.algorithm import (
    TensorAlgorithm,
    copying,
    planes_at_once,
    slabs,
    tap_views,
    weighted_sum,
    windows,
)
from lucid_core.tensors.lane import CHUNK_BYTES, Lane


class DirectTorch(TensorAlgorithm):
    """One operation a tap, channel by channel."""

    name = "direct"

    def unfit(self, problem: ConvProblem) -> str | None:  # noqa: ARG002 - the definition computes everything
        """Refuse nothing."""
        return None

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """A multiplication and addition a tap and voxel, in one call a slab."""
        out = problem.out_size
        planes = planes_at_once(problem, out, math.prod(out[1:]), max(CHUNK_BYTES.values()))
        calls = -(-out[0] // planes) * problem.terms * problem.out_channels * problem.batch
        operations = math.prod(problem.out_shape) * problem.terms
        return operations / rates.tensors.elementwise + calls * rates.tensors.call + copying(problem, rates)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """At most one rounding a product and one a sum: no more than K + 2 on any path."""
        return ErrorBound("componentwise", problem.terms + 2)

    def buffers(self, problem: ConvProblem, out: Triple) -> Mapping[str, Shape]:  # noqa: ARG002
        """Take nothing: the sums stand where the output goes."""
        return {}

    def prepare(self, problem: ConvProblem, weight: Array) -> list[list[float]]:
        """Return the weights of each output channel as numbers, which need no copy to the device."""
        rows: list[list[float]] = weight.reshape(problem.out_channels, problem.terms).tolist()
        return rows

    def convolve(
        self,
        problem: ConvProblem,
        prepared: list[list[float]],
        bias: Array | None,
        block: Tensor,
        region: Region,
        target: Tensor,
        lane: Lane,
    ) -> None:
        """Sum in the order of (channel, K_D, K_H, K_W), then add the bias."""
        depth, *plane = region.shape
        every = windows(problem, block, region.shape)
        planes = planes_at_once(problem, region.shape, math.prod(plane), lane.chunk_bytes)
        share, made = problem.in_channels // problem.groups, problem.out_channels // problem.groups
        for group in range(problem.groups):
            of_group = every[group * share : (group + 1) * share]
            for slab in slabs(depth, planes):
                views = tap_views(of_group[..., slab, :, :])
                for channel in range(group * made, (group + 1) * made):
                    total = target[channel, slab]
                    weighted_sum(total, views, prepared[channel])
                    if bias is not None:
                        total.add_(float(bias[channel]))


ALGORITHM = DirectTorch()
