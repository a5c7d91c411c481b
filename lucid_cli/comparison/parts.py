"""What a comparison of two volumes finds of each of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SAME, DIFFERS, NOT_COMPARED, IGNORED = "same", "differs", "not compared", "ignored"
"""Verdicts on a part."""


@dataclass(frozen=True)
class Part:
    """The verdict on one part."""

    verdict: str
    lines: tuple[str, ...] = ()
    """What differs and by how much, or why nothing is compared, in words."""
    found: Mapping[str, Any] = field(default_factory=dict)
    """The same in numbers, by name."""


def judged(differences: list[str], found: Mapping[str, Any] | None = None) -> Part:
    """Return the verdict on a part of which these lines say what differs."""
    return Part(DIFFERS if differences else SAME, tuple(differences), found or {})
