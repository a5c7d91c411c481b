"""What a run tells while it goes on. An observer is any function that takes an event."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Output voxels (over batch, channels and space) written so far, and in all."""

    done: int
    total: int


Observer = Callable[[Progress], None]


def ignore(event: Progress) -> None:
    """Observe nothing."""
