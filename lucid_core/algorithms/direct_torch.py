"""The definition, tap by tap, as operations of torch: each multiplies a shifted view of the block and adds it.

For few channels: a device reads and writes the sums once a tap, which its cache allows faster than voxels come to it.
Works on slabs of planes that stay in the cache, on the channels of all groups at a time.
"""

import math
from collections.abc import Mapping

import numpy as np

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
from lucid_core.tensors.lane import CHUNK_BYTES, Constant, Lane

Weights = list[list[float]] | Constant
"""Of each output channel of a group the weights of its terms: numbers, or tensors (groups, 1, 1, 1) of all groups."""


class DirectTorch(TensorAlgorithm):
    """One operation a tap, channel by channel of a group."""

    name = "direct"

    def unfit(self, problem: ConvProblem) -> str | None:  # noqa: ARG002 - the definition computes everything
        """Refuse nothing."""
        return None

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """A multiplication and addition a tap and voxel, in one call a slab for the channels of all groups."""
        planes = _planes(problem, problem.out_size, max(CHUNK_BYTES.values()))
        made = problem.out_channels // problem.groups
        calls = -(-problem.out_size[0] // planes) * problem.terms * made * problem.batch
        operations = math.prod(problem.out_shape) * problem.terms
        return operations / rates.tensors.elementwise + calls * rates.tensors.call + copying(problem, rates)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """At most one rounding a product and one a sum: no more than K + 2 on any path."""
        return ErrorBound("componentwise", problem.terms + 2)

    def buffers(self, problem: ConvProblem, out: Triple) -> Mapping[str, Shape]:  # noqa: ARG002
        """Take nothing: the sums stand where the output goes."""
        return {}

    def prepare(self, problem: ConvProblem, weight: Array) -> Weights:
        """Return the weights of each output channel as numbers, which need no copy to the device, or of all groups."""
        if problem.groups == 1:
            rows: list[list[float]] = weight.reshape(problem.out_channels, problem.terms).tolist()
            return rows
        by_tap = weight.reshape(problem.groups, -1, problem.terms).transpose(1, 2, 0)
        return Constant(np.ascontiguousarray(by_tap)[..., np.newaxis, np.newaxis, np.newaxis])

    def convolve(
        self,
        problem: ConvProblem,
        prepared: Weights,
        bias: Array | None,
        block: Tensor,
        region: Region,
        target: Tensor,
        lane: Lane,
    ) -> Tensor:
        """Sum in the order of (channel, K_D, K_H, K_W), then add the bias; the groups side by side."""
        groups, every = problem.groups, windows(problem, block, region.shape)
        of_groups = every.unflatten(0, (groups, -1)).movedim(0, 4)
        totals = target.unflatten(0, (groups, -1))
        rows = prepared.on(lane) if isinstance(prepared, Constant) else prepared
        offsets = None if bias is None else lane.constant(bias).view(groups, -1, 1, 1, 1)
        for slab in slabs(region.shape[0], _planes(problem, region.shape, lane.chunk_bytes)):
            views = tap_views(of_groups[..., slab, :, :])
            for channel, weights in enumerate(rows):
                total = totals[:, channel, slab]
                weighted_sum(total, views, weights)
                if offsets is not None:
                    total.add_(offsets[:, channel])
        return target


def _planes(problem: ConvProblem, out: Triple, chunk_bytes: int) -> int:
    return planes_at_once(problem, out, problem.groups * math.prod(out[1:]), chunk_bytes)


ALGORITHM = DirectTorch()
