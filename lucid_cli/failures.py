"""What an error is to the user: an exit code and a line."""

from lucid_core.errors import ArgumentError, InputError, LimitError, LucidError, OutputError, ShapeError

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ShapeError, 5),
    (ArgumentError, 2),
    (InputError, 3),
    (OutputError, 4),
    (LimitError, 6),
    (MemoryError, 6),
    (Exception, 1),
)
"""The first class that fits an error gives the exit code."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def message(error: BaseException) -> str:
    """Return an error as one line; what is not ours names its type, so that it can be reported."""
    text = str(error)
    if not isinstance(error, LucidError):
        text = f"{type(error).__name__}: {error} (an unexpected failure; --debug shows where)"
    return "; ".join([" ".join(text.split()), *getattr(error, "__notes__", ())])
