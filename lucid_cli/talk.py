"""What goes to stdout and stderr. Neither, closed or broken, may spoil an output."""

import io
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from lucid_core.errors import OutputError

CLOSED_PIPE = 141
"""Exit code when the reader of stdout has gone, as shells report SIGPIPE."""


def say(line: str) -> None:
    """Print words to stderr; where nobody listens, go on."""
    if sys.stderr is None:  # closed; print would take stdout instead
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


@contextmanager
def silent() -> Iterator[None]:
    """Keep what libraries warn of in a damaged file to themselves: what matters of it is an error of ours."""
    import numpy as np

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def show_trace(error: BaseException) -> None:
    """Print the traceback of an error where `--debug` asks for it."""
    if "--debug" in sys.argv:
        say("".join(traceback.format_exception(error)).rstrip())


def data(text: str) -> None:
    """Print data to stdout; where the reader has gone, leave with `CLOSED_PIPE`.

    Raises `OutputError` where stdout cannot take them, as on a full disk.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed
        raise OutputError(f"stdout: {error.strerror}") from error


def _leave() -> NoReturn:
    """Leave with `CLOSED_PIPE`, so that nothing more is said to the reader of stdout that has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(CLOSED_PIPE) from None


class DataPipe(io.RawIOBase):
    """Bytes to stdout; where the reader has gone, the program is left with `CLOSED_PIPE`."""

    def writable(self) -> bool:
        """Say yes."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of stdout."""
        return sys.stdout.fileno()

    def write(self, data: Any) -> int:
        """Write all of the bytes."""
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            _leave()
        return len(data)
