"""Every error this project raises on purpose.

Each is a `LucidError` and also the built-in error a caller of a numerical library would catch. A message says
what was given, what would be legal and what to do; the command line prints it as it stands.
"""


class LucidError(Exception):
    """The base of all: a mistake or a limit that the message explains."""


class ArgumentError(LucidError, ValueError):
    """An argument, option or configuration value is not legal."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument has the wrong type, such as a float where an integer belongs."""


class ShapeError(ArgumentError):
    """Shapes, channels or weights do not fit one another."""


class ExtraError(ArgumentError, ImportError):
    """An optional package that was asked for is not installed."""


class InputError(LucidError, OSError):
    """An input is missing or cannot be read."""


class OutputError(LucidError, OSError):
    """The output exists, is not a regular file, or its folder is missing."""


class LimitError(LucidError, MemoryError):
    """The work would pass the memory or disk limit; `least_bytes` of memory would do, where that is known."""

    def __init__(self, message: str, least_bytes: int | None = None) -> None:
        super().__init__(message)
        self.least_bytes = least_bytes


class RunError(LucidError, RuntimeError):
    """Something failed while running."""
