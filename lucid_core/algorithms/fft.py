"""The convolution theorem: transform a block, multiply, transform back (NumPy's FFT, overlap-save).

The work hardly grows with the kernel, so it wins for large dense ones. Its error scales with the largest voxel near by,
so it is admitted with accuracy "normwise" only. A tile with NaN, Inf, or numbers so large that a transform could
overflow is computed by the definition.
"""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np

from lucid_core.algorithms import Algorithm, Array, ErrorBound, member
from lucid_core.boundary import Window
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch

LEAST_OUTPUTS = 64
"""Outputs along an axis of one block: fewer compute little but their halo, more do not fit the caches."""
AXES = (-3, -2, -1)
MANY = 1 << 16
"""Length from which on numbers without large prime factors are too far apart to be looked for one by one."""


class _Weights:
    """The weights (O, C/g, K_D, K_H, K_W) and what is made of them when it is needed."""

    def __init__(self, problem: ConvProblem, weight: Array) -> None:
        self.weight = weight
        with np.errstate(all="ignore"):
            most = float(np.abs(weight.astype(np.float64)).sum((1, 2, 3, 4)).max())
        largest = float(np.finfo(weight.dtype).max)
        self.limit = largest / (4 * max(most, 1.0) * _padded_values(problem)) if most <= largest else 0.0
        self.spectra = cache(self._spectra)
        self.spare = cache(lambda: _spare(problem).prepare(problem, weight))
        self._dilation = problem.dilation

    def _spectra(self, size: Triple) -> Array:
        """Return the conjugate spectra (O, C/g, ...) of the weights, dilated, for transforms of a size."""
        spread = np.zeros((*self.weight.shape[:2], *size), self.weight.dtype)
        steps = zip(self._dilation, self.weight.shape[2:], strict=True)
        taps = tuple(slice(0, step * (k - 1) + 1, step if k > 1 else None) for step, k in steps)
        spread[(..., *taps)] = self.weight
        return np.conj(np.fft.rfftn(spread, axes=AXES))


class Fft(Algorithm):
    """Block by block: one transform an input channel, one back an output channel."""

    name = "fft"
    engine = "numpy"

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse strides, and weights whose spectra are larger than their use: over 1 GiB."""
        if problem.stride != (1, 1, 1):
            return "the stride is not 1"
        return "the spectra of the weights would take over 1 GiB" if _spectra_bytes(problem) > 1 << 30 else None

    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """The transforms of all blocks and of the weights, and the products of the spectra."""
        size, outputs = _block(problem, problem.out_size)
        blocks = problem.batch * math.prod(-(-n // o) for n, o in zip(problem.out_size, outputs, strict=True))
        values = math.prod(size)
        pairs = problem.out_channels * problem.in_channels // problem.groups
        transform = 2.5 * values * math.log2(values) / rates.fft
        products = 8 * pairs * values / rates.elementwise
        return blocks * ((problem.in_channels + problem.out_channels) * transform + products) + pairs * transform

    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Bound the transforms by Higham (2002), theorem 24.2, in the Euclidean norm of all the voxels."""
        values = _padded_values(problem)
        return ErrorBound(
            "normwise", 12 * math.ceil(math.log2(values)) + problem.terms // problem.taps + 8, values**0.5, None
        )

    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """The spectra of one block and of the weights, the sum of products, and what the definition takes instead."""
        values = math.prod(_block(problem, out)[0])
        own = (problem.in_channels // problem.groups + 4) * values * 2 * _complex_bytes(problem.dtype)
        return own + _spectra_bytes(problem) + _spare(problem).workspace(problem, out)

    def prepare(self, problem: ConvProblem, weight: Array) -> _Weights:
        """Keep the weights: their spectra follow from the blocks of a tile."""
        return _Weights(problem, weight)

    def run(
        self,
        problem: ConvProblem,
        prepared: Any,
        bias: Array | None,
        window: Window,
        region: Region,
        out: Array,
        scratch: Scratch,
    ) -> None:
        """Go over the blocks of the tile; or leave it to the definition where the voxels are not fit for it."""
        block = window.block(scratch)
        if not max(block.max(), -block.min()) < prepared.limit:
            spare = _spare(problem)
            return spare.run(problem, prepared.spare(), bias, window, region, out, scratch)
        size, outputs = _block(problem, region.shape)
        for first in itertools.product(*(range(0, n, o) for n, o in zip(region.shape, outputs, strict=True))):
            last = [min(f + o, n) for f, o, n in zip(first, outputs, region.shape, strict=True)]
            target = out[(slice(None), *map(slice, first, last))]
            extent = problem.block_shape((target.shape[1], target.shape[2], target.shape[3]))
            source = block[(slice(None), *(slice(f, f + e) for f, e in zip(first, extent, strict=True)))]
            _correlate(problem, prepared.spectra(size), bias, source, size, target)


def _correlate(
    problem: ConvProblem, spectra: Array, bias: Array | None, source: Array, size: Triple, target: Array
) -> None:
    """Correlate one padded block (C, d, h, w) into its outputs (O, d', h', w'), by transforms of a size."""
    share, made = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    inside = tuple(slice(0, count) for count in target.shape[1:])
    for group in range(problem.groups):
        voxels = np.fft.rfftn(source[group * share : (group + 1) * share], size, AXES)
        for channel in range(group * made, (group + 1) * made):
            total = voxels[0] * spectra[channel, 0]
            for one in range(1, share):
                total += voxels[one] * spectra[channel, one]
            offset = 0 if bias is None else bias[channel]
            np.add(np.fft.irfftn(total, size, AXES)[inside], offset, out=target[channel], casting="same_kind")


def _block(problem: ConvProblem, out: Triple) -> tuple[Triple, Triple]:
    """Return the size of the transforms of a tile of shape `out`, and the outputs of one block."""
    sizes, outputs = [], []
    for count, k, dilation in zip(out, problem.kernel_size, problem.dilation, strict=True):
        extent = dilation * (k - 1)
        least = max(LEAST_OUTPUTS, extent)
        size = fast_length(-(-count // max(1, count // least)) + extent)
        sizes.append(size)
        outputs.append(size - extent)
    return (sizes[0], sizes[1], sizes[2]), (outputs[0], outputs[1], outputs[2])


def fast_length(least: int) -> int:
    """Return the smallest even number from `least` on that has no prime factor over 7, for many a power of two."""
    if least > MANY:
        return 1 << (least - 1).bit_length()
    length = least + least % 2
    while True:
        rest = length
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2


def _padded_values(problem: ConvProblem) -> int:
    return math.prod(fast_length(size) for size in problem.padded_size)


def _spectra_bytes(problem: ConvProblem) -> int:
    values = math.prod(_block(problem, problem.out_size)[0])
    pairs = problem.out_channels * problem.in_channels // problem.groups
    return 2 * pairs * values * _complex_bytes(problem.dtype)


@cache
def _complex_bytes(dtype: str) -> int:
    """Return the bytes of a number of a spectrum, halved as that of real numbers is: NumPy 1 computes in float64."""
    return np.fft.rfft(np.zeros(2, dtype)).itemsize // 2


def _spare(problem: ConvProblem) -> Algorithm:
    """Return the definition, on the engine that can run it."""
    fast = member("direct", "numba")
    return fast if fast.refuses(problem) is None else member("direct", "numpy")


ALGORITHM = Fft()
