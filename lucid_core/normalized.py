"""Dividing by s(M): what a normalised convolution does to the result of the plain one (see `normalization`)."""

import itertools
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lucid_core.algorithms import Algorithm
from lucid_core.boundary import Window
from lucid_core.masked import zero_unless
from lucid_core.normalization import Normalization
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region
from lucid_core.scratch import Scratch

Array = npt.NDArray[Any]


CANCELLED = 2.0**-40
"""A sum below this share of the sum of magnitudes is 0."""


class Divisor(Protocol):
    """Divides an output region (O, d, h, w) of the plain convolution by s(M), and adds the bias."""

    def divide(self, window: Window, region: Region, bias: Array | None, out: Array, scratch: Scratch) -> None:
        """Change `out` in place; `window` is what it was computed from."""


def divisor(problem: ConvProblem, algorithm: Algorithm, weight: Array) -> Divisor | None:
    """Return what divides the result of a problem with this weight (O, C/g, K_D, K_H, K_W), None for a plain one."""
    if problem.normalization is None:
        return None
    if problem.of_mask is None:
        return BorderSums(problem, weight)
    return MaskSums(problem, problem.of_mask, problem.normalization, algorithm, weight)


class BorderSums:
    """Sums of the weights that lie inside the volume, for every way a kernel is cut by the borders."""

    def __init__(self, problem: ConvProblem, weight: Array) -> None:
        inside, self._runs = [], []
        for axis in range(3):
            taps, runs = _cut_kernels(problem, axis)
            inside.append(taps)
            self._runs.append(runs)
        exact = weight.sum(axis=1, dtype=np.float64)
        places: dict[bytes, int] = {}
        self._filter = [places.setdefault(taps.tobytes(), len(places)) for taps in exact]
        distinct = np.array([exact[self._filter.index(one)] for one in range(len(places))])
        sums, sizes = (
            np.einsum("oijk,ai,bj,ck->oabc", one, *inside, optimize=True) for one in (distinct, np.abs(distinct))
        )
        self._sums = np.where(np.abs(sums) > CANCELLED * sizes, sums, np.nan).astype(problem.dtype)

    def divide(self, window: Window, region: Region, bias: Array | None, out: Array, scratch: Scratch) -> None:  # noqa: ARG002
        """Divide runs of rows that are cut alike, each along W by the sums there."""
        d_runs, h_runs, w_runs = (
            _within(runs, start, stop) for runs, start, stop in zip(self._runs, region.start, region.stop, strict=True)
        )
        along_w = np.concatenate([np.full(stop - start, kind) for start, stop, kind in w_runs])
        for channel, number in enumerate(self._filter):
            for d, h in itertools.product(d_runs, h_runs):
                rows = out[channel, d[0] : d[1], h[0] : h[1]]
                rows /= self._sums[number, d[2], h[2], along_w]
            if bias is not None:
                out[channel] += bias[channel]


def _cut_kernels(problem: ConvProblem, axis: int) -> tuple[Array, list[tuple[int, int, int]]]:
    """Return the ways (ways, K) the borders cut a kernel along an axis, and the runs of outputs cut in each.

    Of each run: its first output, one past its last, and the number of the way.
    """
    taps, dilation, size = problem.kernel_size[axis], problem.dilation[axis], problem.size[axis]
    starts = np.arange(problem.out_size[axis]) * problem.stride[axis] - problem.pads[axis][0]
    first = np.clip(-(starts // dilation), 0, taps)
    stop = np.clip((size - 1 - starts) // dilation + 1, 0, taps)
    codes, ways = np.unique(first * (taps + 1) + stop, return_inverse=True)
    tap = np.arange(taps)
    inside = (tap >= codes[:, np.newaxis] // (taps + 1)) & (tap < codes[:, np.newaxis] % (taps + 1))
    edges = [0, *(np.flatnonzero(np.diff(ways)) + 1).tolist(), len(ways)]
    return inside.astype(np.float64), [(start, end, int(ways[start])) for start, end in itertools.pairwise(edges)]


def _within(runs: list[tuple[int, int, int]], start: int, stop: int) -> list[tuple[int, int, int]]:
    """Return the parts of runs between two outputs, counted from the first of them."""
    cut = [(max(low, start) - start, min(high, stop) - start, way) for low, high, way in runs]
    return [one for one in cut if one[0] < one[1]]


class MaskSums:
    """The convolution of M, computed for each tile beside that of M X by the same algorithm."""

    def __init__(
        self, problem: ConvProblem, of_mask: ConvProblem, how: Normalization, algorithm: Algorithm, weight: Array
    ) -> None:
        self._problem = problem
        self._of_mask = of_mask
        self._how = how
        self._algorithm = algorithm
        summed = weight if how.missing else weight.sum(axis=1, keepdims=True, dtype=np.float64).astype(weight.dtype)
        self._prepared = algorithm.prepare(of_mask, summed)
        self._cancels = bool((summed < 0).any())
        """Whether s(M) may be 0 where s(M X) is not; else the quotient is NaN by itself."""

    def divide(self, window: Window, region: Region, bias: Array | None, out: Array, scratch: Scratch) -> None:
        """Divide plane by plane, and set what lies outside the mask; what nothing is known of is NaN."""
        first = self._problem.in_channels
        counts = Window(window.voxels[first : first + self._of_mask.in_channels], window.region, window.mode)
        sums = scratch.array("sums of weights", out.shape, out.dtype)
        self._algorithm.run(self._of_mask, self._prepared, None, counts, region, sums, scratch)
        for d in range(out.shape[1]):
            for channel, (plane, weights) in enumerate(zip(out[:, d], sums[:, d], strict=True)):
                plane /= weights
                if self._cancels:
                    np.copyto(plane, np.nan, where=weights == 0)
                if bias is not None:
                    plane += bias[channel]
            if self._how.mask:
                self._set_outside(out[:, d], self._inside(window.voxels[-1], d, out.shape[2:]))

    def _set_outside(self, planes: Array, inside: npt.NDArray[np.bool_]) -> None:
        """Set the outputs (O, h, w) of a plane that lie outside the mask."""
        if self._how.outside == 0 and planes.strides[-1] == planes.itemsize:
            zero_unless(planes, inside)
        else:
            np.copyto(planes, self._how.outside, where=~inside)

    def _inside(self, mask: Array, d: int, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Say for a plane of outputs whether a voxel nearest to the centre of each lies inside the padded mask."""
        problem = self._problem
        centres = [step * (taps - 1) for step, taps in zip(problem.dilation, problem.kernel_size, strict=True)]
        nearest = [
            self._at(mask, d, shape, at) for at in itertools.product(*({one // 2, -(-one // 2)} for one in centres))
        ]
        return nearest[0] if len(nearest) == 1 else np.logical_or.reduce(nearest)

    def _at(self, mask: Array, d: int, shape: tuple[int, ...], at: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Say for a plane of outputs whether the voxel `at` places from the first that each reads is inside."""
        stride = self._problem.stride
        h, w = (
            slice(start, start + (count - 1) * step + 1, step)
            for start, count, step in zip(at[1:], shape, stride[1:], strict=True)
        )
        inside: npt.NDArray[np.bool_] = mask[d * stride[0] + at[0], h, w] != 0
        return inside
