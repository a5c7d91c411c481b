"""The convolution of torch itself: cuDNN on a GPU, oneDNN on the CPU.

They choose by shape, and may transform (Winograd, FFT) or sum in an order that follows from the tile, so it is admitted
with accuracy "normwise" only. A tile whose result is not finite is computed by the definition, so that NaN and Inf
stand where they belong. Voxels keep their channels first: putting them last and back costs more than it gains, on an
NVIDIA H200 with TF32 and 16, 32, 64 channels 3.67, 2.29, 2.46 ms where these take 2.03, 1.17, 1.23 (without TF32 and by
groups, channels last are slower even where they need not be moved).
"""

import math
from collections.abc import Mapping

from lucid_core.algorithms import Array, ErrorBound
from lucid_core.algorithms.direct_torch import ALGORITHM as DIRECT
from lucid_core.algorithms.direct_torch import Weights
from lucid_core.algorithms.fft import ALGORITHM as FFT
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Shape
from lucid_core.tensors import Tensor, library
from lucid_core.tensors.algorithm import TensorAlgorithm, copying
from lucid_core.tensors.lane import Constant, Lane

VECTOR = 16
"""Channels that oneDNN puts beside one another."""
LARGEST_STEP = (1 << 31) - 1
"""Strides and dilations that the libraries take."""


class NativeTorch(TensorAlgorithm):
    """One call a tile."""

    name = "native"
    tensor_cores = True

    def unfit(self, problem: ConvProblem) -> str | None:
        """Refuse steps that the libraries have no numbers for."""
        if max(*problem.stride, *problem.dilation) > LARGEST_STEP:
            return "a stride or dilation is over 2**31 - 1"
        return None

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """The products at the rate that the channels of a group allow."""
        known, rows = rates.tensors, problem.out_channels // problem.groups
        speed = known.native * rows / (rows + known.gemm_rows)
        stored = math.prod(problem.out_shape) / known.elementwise
        return 2 * problem.macs / speed + stored + problem.batch * known.call + copying(problem, rates)

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Grant what transforms of the whole volume would need, as `fft` states it, and K + 2 roundings."""
        bound = FFT.error_bound(problem)
        return ErrorBound("normwise", bound.roundings + problem.terms + 2, bound.growth, None)

    def buffers(self, problem: ConvProblem, out: Triple) -> Mapping[str, Shape]:
        """Return what torch takes by itself: the block, and the result twice, with channels in vectors."""
        channels, made = (-(-one // VECTOR) * VECTOR for one in (problem.in_channels, problem.out_channels))
        return {"native block": (channels, *problem.block_shape(out)), "native result": (2 * made, *out)}

    def prepare(self, problem: ConvProblem, weight: Array) -> tuple[Constant, Weights]:
        """Keep the weights, for torch and for the definition."""
        return Constant(weight), DIRECT.prepare(problem, weight)

    def convolve(
        self,
        problem: ConvProblem,
        prepared: tuple[Constant, Weights],
        bias: Array | None,
        block: Tensor,
        region: Region,
        target: Tensor,
        lane: Lane,
    ) -> Tensor:
        """Call torch; where the result is not finite, or its sum overflows, the definition."""
        torch = library()
        weights, values = prepared[0].on(lane), block[None]
        offsets = None if bias is None else lane.constant(bias)
        stride = [step if count > 1 else 1 for step, count in zip(problem.stride, region.shape, strict=True)]
        dilation = [step if k > 1 else 1 for step, k in zip(problem.dilation, problem.kernel_size, strict=True)]
        found = torch.nn.functional.conv3d(values, weights, offsets, stride, 0, dilation, problem.groups)[0]
        if not math.isfinite(float(found.sum())):
            return DIRECT.convolve(problem, prepared[1], bias, block, region, target, lane)
        return found if found.is_contiguous() else target.copy_(found)


ALGORITHM = NativeTorch()
