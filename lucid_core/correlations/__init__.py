"""The ways to sum the weight's gradient, one a module: each has a `CORRELATION` that is a `Correlation`.

gw[o, c, t] = sum over volumes n and outputs p of grad[n, o, p] x[n, c, s p + d t], x with its border. A zero of the
border takes part like any voxel: 0 * NaN is NaN, as in the convolution.

A member sums the part that a box of outputs gives, with fewer than `RUN` products one after another in the
arithmetic's dtype and everything else in float64. So a gradient is within gamma(RUN) of the sum of |grad||x|,
gamma(n) = n u / (1 - n u), and a few u of float64, whatever the size of the volumes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.boundary import Window
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem
from lucid_core.registry import members
from lucid_core.scratch import Scratch

Array = npt.NDArray[Any]
RUN = 4096
"""Products that may be summed in the arithmetic's dtype."""


@dataclass(frozen=True)
class Part:
    """A box of outputs of one volume: their gradient, and what they read."""

    grad: Array
    """The gradient (O, d, h, w), of any strides, in the arithmetic's dtype."""
    window: Window
    """The padded input that they read."""


class Correlation(ABC):
    """One way to sum products of the output's gradient and the input."""

    engine: str

    @abstractmethod
    def refuses(self) -> str | None:
        """Return why this cannot run here, or None."""

    @abstractmethod
    def cost(self, problem: ConvProblem, rates: Rates) -> float:
        """Return the predicted seconds on one core."""

    @abstractmethod
    def correlate(self, problem: ConvProblem, part: Part, scratch: Scratch) -> npt.NDArray[np.float64]:
        """Return the sums (O, C/g, K_D, K_H, K_W) of one part."""

    @abstractmethod
    def totals(self, grad: Array) -> npt.NDArray[np.float64]:
        """Return the sum (O,) of each channel of a gradient (O, d, h, w), all in float64."""


def correlations() -> dict[str, Correlation]:
    """Return every way by its engine."""
    return {module.CORRELATION.engine: module.CORRELATION for module in members(__name__).values()}
