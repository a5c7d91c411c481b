"""Initial weights, drawn from one generator that `manual_seed` restarts."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.arguments import integer

_generator: Any = None
"""NumPy's random numbers are loaded when the first ones are drawn: most runs have weights of their own."""


def manual_seed(seed: int) -> None:
    """Restart the generator of initial weights: the same seed gives the same layers. `seed` is at least 0."""
    global _generator
    _generator = np.random.default_rng(integer("seed", seed, 0))


def uniform(shape: tuple[int, ...], bound: float, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Draw from U(-bound, bound) in float64, rounded to `dtype`."""
    if _generator is None:
        manual_seed(0)
    drawn: npt.NDArray[Any] = _generator.uniform(-bound, bound, shape).astype(dtype)
    return drawn


def kaiming_bound(fan_in: int) -> float:
    """Return b of the Kaiming uniform start U(-b, b) for ReLU: sqrt(6 / fan_in) (He et al., ICCV 2015)."""
    return math.sqrt(6 / fan_in)
