"""What a fit works with, and what came of it: shared by the ways to solve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lucid_cli.fitting.checkpoint import Checkpoint
from lucid_cli.fitting.memory import Memory
from lucid_cli.fitting.model import Model
from lucid_cli.fitting.settings import FitSettings
from lucid_cli.fitting.tiles import Tiles
from lucid_core.events import Observer
from lucid_core.fitting.train import Epoch


@dataclass(frozen=True)
class Work:
    """A model and the tiles that it is fitted to."""

    settings: FitSettings
    model: Model
    training: Tiles
    validation: Tiles
    memory: Memory
    checkpoint: Checkpoint | None
    observe: Observer
    """Is told of output voxels, over all channels."""
    tell: Callable[[Epoch], None]
    """Is told of epochs."""

    @property
    def seed(self) -> int:
        """What draws tiles, their order and the start of weights."""
        return self.settings.seed or 0


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
