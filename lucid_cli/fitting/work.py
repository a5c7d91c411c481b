"""What is fitted, and what came of it: shared by the ways to solve and the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lucid_cli.fitting.memory import Memory
from lucid_cli.fitting.model import Model
from lucid_cli.fitting.pairs import Pair
from lucid_cli.fitting.settings import FitSettings
from lucid_cli.fitting.tiles import Tiles
from lucid_core.fitting.train import Epoch


@dataclass(frozen=True)
class Job:
    """What is fitted, checked as far as headers tell."""

    settings: FitSettings
    pairs: list[Pair]
    model: Model
    final: Path
    """Where the weights go."""
    suffix: str
    pages: dict[str, Path]
    """Where report and plot go, by the option."""
    training: Tiles
    validation: Tiles
    memory: Memory
    solver: str
    warnings: tuple[str, ...]

    @property
    def shown(self) -> str:
        """How progress is shown."""
        return "none" if self.settings.quiet else self.settings.progress


@dataclass(frozen=True)
class Fitted:
    """The model that was learned, and how."""

    model: Model
    training: float
    """Loss of the weights over the voxels they were learned from."""
    validation: float | None
    facts: dict[str, Any]
    """What else the report says of the solver."""
    curve: Sequence[Epoch] = ()
    warnings: tuple[str, ...] = field(default_factory=tuple)
