"""What the doctor found."""

from dataclasses import dataclass

OK, NOTE, PROBLEM, FAILED = "ok", "note", "problem", "failed"
"""Whether something is well, is missing but not needed, may be in the way, or is broken."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    text: str
    status: str = OK
    advice: str = ""
    """What to do about it."""
