"""The ways to convolve, one a module: each has an `ALGORITHM` that is an `Algorithm`.

What every member promises, and the tests in `tests/contracts` check on each:

* `refuses`, `cost`, `workspace` and `error_bound` are pure functions of the problem: no data, no side effect.
* `run` computes one tile from a window of its padded input, in the dtype of the arithmetic, and modifies neither.
* Each output voxel is summed in an order that depends on the problem alone: not on the tile, its place in the
  tile, or the thread. So every tiling gives the same bits.
* A zero of the padding, and a zero weight, take part like any number: 0 * NaN is NaN.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.boundary import Window
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.registry import members
from lucid_core.scratch import Scratch

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ErrorBound:
    """How far a result may be from the exact sum, u being the unit roundoff of the arithmetic.

    `componentwise`: |error| <= gamma(roundings) * (sum |x||w| + |b|) at every voxel, gamma(n) = n u / (1 - n u)
    (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), plus `roundings` smallest normals.

    `normwise`: |error| <= growth * gamma(roundings) * (max |x| * sum |w| + |b|), with the maximum over the receptive
    field of the voxel widened by `reach` voxels along D, H, W (None: over the whole input), plus growth * `roundings`
    smallest normals.
    """

    accuracy: str
    roundings: int
    growth: float = 1.0
    reach: Triple | None = (0, 0, 0)
    products: float = 0.0
    """Relative error of each product besides its rounding: gamma(roundings) becomes (1 + p)(1 + gamma) - 1."""

    def gamma(self, dtype: npt.DTypeLike) -> float:
        """Return the factor growth * gamma(roundings) for an arithmetic dtype."""
        share = self.roundings * float(np.finfo(dtype).eps) / 2
        share /= 1 - share
        return self.growth * (share + self.products + share * self.products)

    def with_tf32(self) -> "ErrorBound":
        """Return the bound where tensor cores multiply TF32 numbers, of 11 significant bits.

        A factor is rounded to the nearest of them or, as tensor cores read float32 themselves, cut off: relatively
        d <= 2**-10 each, so 2 d + d**2 a product, which is then exact in float32. Their sums may be cut off too, which
        doubles the error of each rounding.
        """
        return replace(self, roundings=2 * self.roundings, products=2.0**-9 + 2.0**-20)


class Algorithm(ABC):
    """One way to convolve."""

    name: str
    engine: str
    tensor_cores: bool = False
    """Whether its products are those of tensor cores where TF32 is asked for."""

    @abstractmethod
    def refuses(self, problem: ConvProblem) -> str | None:
        """Return why this algorithm cannot compute the problem within its bound, or None."""

    @abstractmethod
    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """Return the predicted seconds on one core."""

    @abstractmethod
    def error_bound(self, problem: ConvProblem) -> ErrorBound:
        """Return the stated bound."""

    @abstractmethod
    def workspace(self, problem: ConvProblem, out: Triple) -> int:
        """Return the bytes `run` takes from its scratch for a tile of shape `out`."""

    @abstractmethod
    def prepare(self, problem: ConvProblem, weight: Array) -> Any:
        """Return the weights (O, C/g, K_D, K_H, K_W) in the form `run` wants, made once for all tiles."""

    @abstractmethod
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
        """Compute the output `region` from the `window` of its padded input into `out` (O, d, h, w)."""


def algorithms() -> dict[str, Algorithm]:
    """Return every algorithm by the name of its module: its own, followed by its engine where that is not NumPy."""
    return {name: module.ALGORITHM for name, module in members(__name__).items()}


def algorithm_names() -> list[str]:
    """Return the names of the algorithms; one may be of several engines."""
    return sorted({one.name for one in algorithms().values()})


def member(name: str, engine: str) -> Algorithm:
    """Return the algorithm of this name that runs on this engine."""
    return next(one for one in algorithms().values() if (one.name, one.engine) == (name, engine))
