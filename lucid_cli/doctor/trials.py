"""Checks that may crash or take long, run one after the other in a process of their own."""

import multiprocessing
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from lucid_cli.doctor.findings import FAILED, NOTE, Finding
from lucid_cli.failures import message
from lucid_cli.signals import ENDING
from lucid_core.errors import ExtraError, LucidError

Checks = dict[str, Callable[[], str]]
"""What returns a few words, or raises an error, by its name."""


class NotPossibleError(LucidError):
    """A check cannot be made here, which is no failure."""


def outcomes(checks: Checks, seconds: float, slow: str) -> list[Finding]:
    """Run all checks; `slow` is the advice where one has no result after so many seconds in all."""
    found: list[Finding] = []
    end = time.monotonic() + seconds
    while len(found) < len(checks):
        left = dict(list(checks.items())[len(found) :])
        process, pipe = _started(left)
        try:
            found += _received(left, process, pipe, end, slow)
        finally:
            process.kill()
            process.join()
            pipe.close()
    return found


def _started(checks: Checks) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("fork")
    pipe, there = context.Pipe()
    process = context.Process(target=_run, args=(checks, there))
    process.start()
    there.close()
    return process, pipe


def _run(checks: Checks, pipe: Connection) -> None:
    """Send what comes of each check; the parent alone is interrupted, and ends this process."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for name, check in checks.items():
        with suppress(BrokenPipeError):
            pipe.send(_outcome(name, check))


def _outcome(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, check())
    except (ExtraError, NotPossibleError) as error:
        return Finding(name, f"not tried: {message(error)}", NOTE)
    except Exception as error:
        return Finding(name, message(error), FAILED, "report this, with all that is printed here")


def _received(checks: Checks, process: BaseProcess, pipe: Connection, end: float, slow: str) -> list[Finding]:
    """Return what comes until the time is over, or until the process crashes, which ends with the check that did."""
    found: list[Finding] = []
    for name in checks:
        try:
            if not pipe.poll(max(0.0, end - time.monotonic())):
                return found + [Finding(one, "no result yet", NOTE, slow) for one in list(checks)[len(found) :]]
            found.append(pipe.recv())
        except EOFError:
            process.join()
            return [*found, Finding(name, f"crashed ({_ending(process.exitcode or 0)})", FAILED, "report this")]
    return found


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
