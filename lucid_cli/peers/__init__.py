"""Libraries that also convolve, one a module: each has a `PEER` that is a `Peer`, imported only to be timed.

What every member promises: a call computes the whole output in the arithmetic of the problem, on the threads it was
given; what can be made once (a model, a session, packed weights) is made by `prepare` and not timed.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy.typing as npt

from lucid_core.problem import ConvProblem
from lucid_core.registry import members

Array = npt.NDArray[Any]


class Peer(ABC):
    """Another library."""

    name: str
    packages: tuple[str, ...]
    """What has to be installed; the first is the library itself."""

    @abstractmethod
    def refuses(self, problem: ConvProblem) -> str | None:
        """Return why this library cannot compute the problem, or None."""

    @abstractmethod
    def prepare(
        self, problem: ConvProblem, x: Array, weight: Array, bias: Array | None, threads: int
    ) -> Callable[[], Array]:
        """Return a function that convolves x (N, C, D, H, W)."""

    def missing(self) -> str | None:
        """Return why this library cannot be used here, or None. Imports nothing."""
        absent = [package for package in self.packages if find_spec(package) is None]
        if not absent:
            return None
        if self.packages[0] in absent:
            return "not installed"
        return f"it needs {' and '.join(absent)} to be installed too"

    def load(self, module: str = "") -> ModuleType:
        """Import the library or one of its modules."""
        return importlib.import_module(module or self.packages[0])


def peers() -> dict[str, Peer]:
    """Return every peer by name."""
    return {module.PEER.name: module.PEER for module in members(__name__).values()}
