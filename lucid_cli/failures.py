"""What an error is to the user: an exit code and a line."""

import resource

from lucid_core.errors import ArgumentError, InputError, LimitError, LucidError, OutputError, ShapeError
from lucid_core.units import format_bytes

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
MEANINGS = {
    0: "all done",
    1: "failed while running, or volumes that are compared differ",
    2: "wrong usage",
    3: "an input cannot be read",
    4: "the output cannot be written there",
    5: "shapes or weights do not fit",
    6: "over the memory or disk limit",
    7: "some of several inputs failed",
    129: "hung up",
    130: "interrupted",
    143: "terminated",
}
"""What the exit codes mean."""
LEAST_ADDRESS_SPACE = 192 << 20
"""With less, libraries fail while they are loaded, and a BLAS may wait for memory for ever."""
MOST_CHARACTERS = 1500
"""A line that is longer repeats what somebody else made long: its middle is left out."""


def check_address_space() -> None:
    """Raise `LimitError` where `ulimit -v` leaves too little for the libraries."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < LEAST_ADDRESS_SPACE:
        raise LimitError(
            f"the address space of this process is limited to {format_bytes(soft)} (ulimit -v); "
            f"legal: at least {format_bytes(LEAST_ADDRESS_SPACE)}"
        )


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    if _is_want_of_memory(error):
        return 6
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def message(error: BaseException) -> str:
    """Return an error as one line; what is not ours names its type, so that it can be reported."""
    text = str(error)
    if _is_want_of_memory(error):
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        text = f"out of memory ({what}); {_address_space()}"
    elif not isinstance(error, LucidError):
        text = f"{type(error).__name__}: {error} (an unexpected failure; --debug shows where)"
    return shortened("; ".join([" ".join(text.split()), *getattr(error, "__notes__", ())]))


def shortened(text: str) -> str:
    """Return a text without its middle where it is very long."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[: MOST_CHARACTERS // 2]} [...] {text[-MOST_CHARACTERS // 3 :]}"


def _is_want_of_memory(error: BaseException) -> bool:
    """Say whether an error that is not ours comes from too little memory: libraries and threads need it to start."""
    if isinstance(error, LucidError):
        return False
    if isinstance(error, MemoryError):
        return True
    signs = ("cannot allocate memory", "can't start new thread", "failed to map segment")
    return isinstance(error, (ImportError, OSError, RuntimeError)) and any(sign in str(error).lower() for sign in signs)


def _address_space() -> str:
    """Say what there is to take, and how to take less."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return "give a lower --max-memory, or fewer --threads"
    return f"the address space of this process is limited to {format_bytes(soft)} (ulimit -v): raise that"


def looks_like(start: bytes) -> str:
    """Say what a file with these first bytes is that is none of the format it is named after."""
    if not start:
        return ": it is empty"
    if start.startswith(b"vers"):
        return "; it looks like a Git LFS pointer: fetch the real file with 'git lfs pull'"
    return f": it begins with {start[:4]!r}"
