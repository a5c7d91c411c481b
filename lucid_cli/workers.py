"""Files at once: worker processes that take tasks one after the other, within one budget of memory and threads.

A worker is forked, so that it starts at once with every library loaded. One that crashes or is killed costs its file
only: another one takes its place. Where the run is ended, the workers clean up first.
"""

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import NoReturn

from lucid_cli.budget import memory_limit
from lucid_cli.report import bare_item
from lucid_cli.settings import Settings
from lucid_cli.signals import held, release
from lucid_cli.single import Outcome, Task
from lucid_cli.talk import show_trace
from lucid_core import machine
from lucid_core.errors import RunError
from lucid_core.events import Observer, Progress
from lucid_core.units import ByteSize, format_bytes

EVENT_SECONDS = 0.1
"""Least time between two events that a worker passes on."""
WAIT_SECONDS = 1.0
"""Time after which the board is looked at where no worker says anything."""
CLEANING_SECONDS = 30.0
"""Time that a worker has to clean up before it is killed."""
PRIVATE_BYTES = 24 << 20
"""What a forked worker comes to hold by itself of the memory that it shares at first."""
CRASHED = 1
"""Exit code of a file whose worker has crashed."""

Carry = Callable[[Task, Observer, Callable[[str], None]], Outcome]
"""Carries out a task in a worker, with an observer and with what takes words for people."""


@dataclass(frozen=True)
class Told:
    """What a worker says of a task before its outcome: words, or an event."""

    task: Task
    what: str | Progress


@dataclass(frozen=True)
class Ended:
    """The outcome of a task."""

    task: Task
    outcome: Outcome


def shared(settings: Settings, jobs: int) -> Settings:
    """Return the settings of each of so many workers: its share of the memory and of the threads."""
    limit, threads = memory_limit(settings), settings.threads or machine.cores()
    if jobs > 1:
        settings = replace(settings, threads=max(1, threads // jobs))
    if limit is None or jobs == 1:
        return settings
    common = machine.resident_bytes() or 0
    share = max(1, min(limit, common + (limit - common) // jobs - PRIVATE_BYTES))
    return replace(settings, max_memory=ByteSize(share, format_bytes(share)))


def at_once(tasks: list[Task], carry: Carry, jobs: int) -> Generator[Told | Ended, None, None]:
    """Carry out tasks in so many workers; yield what they say, and every outcome as it comes.

    Where it is closed before the end, the workers are told to end, and have cleaned up when it is.
    """
    waiting = deque(tasks)
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.task for worker in workers):
            _hand_out(waiting, workers, carry, jobs)
            yield from _said(workers)
    finally:
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.join()


def _hand_out(waiting: deque[Task], workers: "list[_Worker]", carry: Carry, jobs: int) -> None:
    """Give every worker that has none a task, starting workers where there are fewer than `jobs`."""
    while waiting:
        idle = next((worker for worker in workers if worker.task is None), None)
        if idle is None:
            if len(workers) == jobs:
                return
            idle = _Worker(carry, workers)
            workers.append(idle)
        idle.take(waiting.popleft())


def _said(workers: "list[_Worker]") -> Iterator[Told | Ended]:
    """Yield what the workers have to say, waiting a while for it; a worker that has crashed is no longer among them."""
    by_pipe = {worker.pipe: worker for worker in workers if worker.task}
    for pipe in wait(list(by_pipe), WAIT_SECONDS):
        worker = by_pipe[pipe]  # type: ignore[index]
        task = worker.task
        assert task is not None
        try:
            said = worker.said()
        except (EOFError, OSError):
            workers.remove(worker)
            said = _crashed(task, worker.join())
        yield Ended(task, said) if isinstance(said, Outcome) else Told(task, said)


def _crashed(task: Task, code: int) -> Outcome:
    """Return the outcome of a task whose worker has ended before it."""
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = "; perhaps for want of memory: give --max-memory" if code == -signal.SIGKILL else ""
    error = f"{task.input}: the process that worked on it {how}{hint}"
    return Outcome(bare_item(str(task.input), "failed", machine.peak_resident_bytes(), error), CRASHED, crashed=True)


class _Worker:
    """A worker process and the task it has."""

    def __init__(self, carry: Carry, others: "list[_Worker]") -> None:
        self.task: Task | None = None
        self.pipe, there = Pipe()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        with held():
            self._process = os.fork()
            if self._process == 0:
                _serve([self.pipe, *(other.pipe for other in others)], there, carry)
        there.close()

    def take(self, task: Task) -> None:
        """Begin a task."""
        self.task = task
        with suppress(OSError):  # it was killed: `said` finds out
            self.pipe.send(task)

    def said(self) -> str | Progress | Outcome:
        """Return what comes next of the task."""
        said: str | Progress | Outcome = self.pipe.recv()
        if isinstance(said, Outcome):
            self.task = None
        return said

    def end(self) -> None:
        """Tell the process to end: it cleans up what it has begun."""
        self.pipe.close()
        if self.task is not None:
            os.kill(self._process, signal.SIGTERM)

    def join(self) -> int:
        """Wait until the process has ended; return its exit code, or minus the signal that ended it."""
        self.pipe.close()
        end = time.monotonic() + CLEANING_SECONDS
        while True:
            found, status = os.waitpid(self._process, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                os.kill(self._process, signal.SIGKILL)
            time.sleep(0.005)


def _serve(inherited: list[Connection], pipe: Connection, carry: Carry) -> NoReturn:
    """Carry out tasks as they come, until the other end of the pipe is closed or a signal ends it; never return."""
    code = CRASHED
    try:
        release()
        for other in inherited:
            other.close()
        relay = _Relay(pipe)
        while True:
            task: Task = pipe.recv()
            pipe.send(carry(task, relay, pipe.send))
    except (EOFError, ConnectionError):
        code = 0
    except Exception as error:  # what cannot be sent
        show_trace(error)
    finally:
        os._exit(code)


class _Relay:
    """An observer that passes events on, not more than some a second; a lost parent ends the run."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last = 0.0

    def __call__(self, event: Progress) -> None:
        """Take one event."""
        now = time.monotonic()
        if now - self._last >= EVENT_SECONDS:
            self._last = now
            try:
                self._pipe.send(event)
            except OSError as error:
                raise RunError("the process that started this one has gone") from error
