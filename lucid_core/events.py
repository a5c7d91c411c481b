"""What a run tells while it goes on. An observer is any function that takes an event."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Output voxels (over batch, channels and space) written so far, and in all."""

    done: int
    total: int


@dataclass(frozen=True)
class Seconds:
    """Time spent reading and padding, computing, and writing, each summed over threads."""

    read: float
    compute: float
    write: float


Event = Progress | Seconds
Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Observe nothing."""
