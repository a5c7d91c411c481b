"""Right before fast: a result is compared with the definition, in float64, at sampled output voxels.

Nothing here is the engine's: borders come from `numpy.pad`, sums from `math.fsum`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import RunError
from lucid_core.padding import PADDING_MODES
from lucid_core.problem import ConvProblem

Array = npt.NDArray[Any]
SAMPLES = 200
PEER_TOLERANCE = 1e-3
"""What the result of a peer may differ by, as a share of sum |x||w| + |b|: peers state no bound."""
OWN_ERROR = 2.0**-52
"""Share of sum |x||w| + |b| that the sums here may be wrong by: one rounding a product, one of the sum."""


@dataclass(frozen=True)
class Truth:
    """The exact values of some output voxels."""

    shape: tuple[int, ...]
    places: Array
    """(samples, 5): n, o, d, h, w; the corners first."""
    values: Array
    sizes: Array
    """sum |x||w| + |b| at each."""
    largest: float
    """A bound of `sizes` over all output voxels: what a normwise error is measured by."""

    def check(self, name: str, result: Array, share: float, *, normwise: bool = False) -> float:
        """Return how far a result is from the truth, as a share of its size; raise `RunError` beyond `share`."""
        if result.shape != self.shape:
            raise RunError(f"{name} is wrong: its result has shape {result.shape}, not {self.shape}")
        found = result[tuple(self.places.T)].astype(np.float64)
        sizes = np.full_like(self.sizes, self.largest) if normwise else self.sizes
        allowed = (share + OWN_ERROR) * sizes
        away = np.nan_to_num(np.abs(found - self.values), nan=math.inf)
        worst = int(np.argmax(away - allowed))
        if (away > allowed).any():
            raise RunError(
                f"{name} is wrong: {found[worst]:.9g} at output voxel {self.places[worst].tolist()} "
                f"(N, C, D, H, W) instead of {self.values[worst]:.9g}, over {share:.2g} of sum |x||w| + |b|"
            )
        return float(np.divide(away, sizes, out=np.zeros_like(sizes), where=sizes > 0).max(initial=0.0))


def truth(problem: ConvProblem, x: Array, weight: Array, bias: Array | None) -> Truth:
    """Compute some output voxels by the definition."""
    places = _places(problem)
    mode: Any = PADDING_MODES[problem.padding_mode].numpy
    beyond = {"constant_values": -1} if mode == "constant" else {}
    axes = [
        np.pad(np.arange(size), pads, mode, **beyond) for size, pads in zip(problem.size, problem.pads, strict=True)
    ]
    offsets = np.zeros(problem.out_channels) if bias is None else bias.astype(np.float64)
    terms = [np.append(_products(problem, x, weight, axes, place), offsets[place[1]]) for place in places.tolist()]
    filters = np.abs(weight.astype(np.float64)).sum(axis=(1, 2, 3, 4))
    return Truth(
        problem.out_shape,
        places,
        np.array([math.fsum(one) for one in terms]),
        np.array([math.fsum(np.abs(one)) for one in terms]),
        float(np.abs(x).max() * filters.max() + np.abs(offsets).max()),
    )


def _places(problem: ConvProblem) -> Array:
    """Return the voxels to look at: the eight corners of a volume, where borders meet, and random ones."""
    places = np.random.default_rng(1).integers(0, problem.out_shape, (SAMPLES, 5))
    corners = np.indices((2, 2, 2)).reshape(3, 8).T
    places[:8, 2:] = corners * (np.array(problem.out_size) - 1)
    return places


def _products(problem: ConvProblem, x: Array, weight: Array, axes: list[Array], place: list[int]) -> Array:
    """Return the products that one output voxel sums, in float64."""
    n, channel, *at = place
    share = weight.shape[1]
    first = channel // (problem.out_channels // problem.groups) * share
    taken = [
        axis[o * stride :][: dilation * (k - 1) + 1 : dilation]
        for axis, o, stride, dilation, k in zip(
            axes, at, problem.stride, problem.dilation, problem.kernel_size, strict=True
        )
    ]
    field = x[n][np.ix_(np.arange(first, first + share), *taken)].astype(np.float64)
    for axis, one in enumerate(taken, start=1):
        np.moveaxis(field, axis, 0)[one < 0] = 0.0
    return (field * weight[channel]).ravel()
