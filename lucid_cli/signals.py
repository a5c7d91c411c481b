"""Signals that end a run: once, and at moments when it can clean up."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
"""Signals that end a run."""


class Interrupted(BaseException):
    """A signal that ends the run; what is cleaned up on an error is cleaned up first."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def watch() -> None:
    """Let these signals raise `KeyboardInterrupt` or `Interrupted`, unless the program was started to ignore them."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


@contextmanager
def held() -> Iterator[None]:
    """Let a signal wait until the block ends: what forks a process must not be cut short."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Let signals in again, in a process that was forked while they were held."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """End the run once; the signals that follow must not cut the cleaning short."""
    for other in ENDING:
        signal.signal(other, _heard)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Interrupted(number)


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: Python complains of a signal that came before it was ignored."""
