"""Libraries that a damaged file can crash work in a child process: what is a crash there is an error here.

The child is forked, so it starts at once and shares its memory; it is told what to call, and sends back what that
returned. It ends when this process does, whatever way.
"""

import math
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.signals import held
from lucid_core import machine
from lucid_core.errors import InputError

SILENT_SECONDS = 300.0
"""A child that does not answer for so long hangs."""
OPENING_BYTES, OPENING_SECONDS = 1 << 30, 5
"""Address space and time on a processor that a child may take more before the first `read`: nothing is checked yet."""


class Isolated:
    """An object that lives in a child process: `call` calls a method of it.

    `name` is the file it reads, for messages. Raises what making it there, or a method there, raises, and `InputError`
    where the child crashes or hangs.
    """

    def __init__(self, name: str, make: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context("fork")
        self._name = name
        self._lock = threading.Lock()
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._pipe, there, make, args), daemon=True)
        with held():
            self._process.start()
        there.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *args: Any) -> Any:
        """Call a method with arguments, and return what it returns: an array, or what can be pickled."""
        with self._lock:
            try:
                self._pipe.send((method, args))
            except OSError:
                raise self._ended() from None
            return self._answer()

    def _answer(self) -> Any:
        try:
            if not self._pipe.poll(SILENT_SECONDS):
                self._process.kill()
                raise InputError(f"{self._name}: reading it gave no answer for {SILENT_SECONDS:.0f} s; it is damaged")
            kind, value = self._pipe.recv()
            if kind == "array":
                shape, dtype = value
                return _received(self._pipe.fileno(), np.empty(shape, dtype))
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error
        if kind == "error":
            raise value
        return value

    def _ended(self) -> InputError:
        self._process.join()
        code = self._process.exitcode or 0
        what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        how = "did not come to an end" if code == -signal.SIGXCPU else "crashed"
        return InputError(f"{self._name}: the library that reads it {how} ({what}); the file is damaged")

    def close(self) -> None:
        """End the child."""
        self._pipe.close()
        self._process.kill()
        self._process.join()


def _serve(parent: Connection, pipe: Connection, make: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Make the object, and call its methods as asked until the other end of the pipe is closed."""
    parent.close()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(EOFError, ConnectionError):
        before = _limited()
        made = None
        try:
            made = make(*args)
            pipe.send(("value", None))
        except Exception as error:
            _send_error(pipe, error)
        while True:
            method, given = pipe.recv()
            if method == "read":
                _limit(before)
            _tell(pipe, getattr(made, method), *given)


Limits = dict[int, tuple[int, int]]
"""Soft and hard limits of resources."""


def _limited() -> Limits:
    """Bound the memory and the time of this process; return the limits there were before."""
    before = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)}
    more = {resource.RLIMIT_AS: machine.virtual_bytes(), resource.RLIMIT_CPU: math.ceil(time.process_time())}
    wanted = {resource.RLIMIT_AS: OPENING_BYTES, resource.RLIMIT_CPU: OPENING_SECONDS}
    for kind, (soft, hard) in before.items():
        taken = more[kind]
        if taken is not None and soft == resource.RLIM_INFINITY:
            resource.setrlimit(kind, (taken + wanted[kind], hard))
    return before


def _limit(limits: Limits) -> None:
    for kind, values in limits.items():
        resource.setrlimit(kind, values)


def _tell(pipe: Connection, function: Callable[..., Any], *args: Any) -> None:
    """Call a function and tell the parent what came of it."""
    try:
        value = function(*args)
    except Exception as error:
        _send_error(pipe, error)
        return
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        pipe.send(("array", (value.shape, value.dtype)))
        data = _bytes(np.ascontiguousarray(value))
        while data:
            data = data[os.write(pipe.fileno(), data) :]
    else:
        pipe.send(("value", value))


def _received(descriptor: int, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Fill an array with the bytes that come."""
    data = _bytes(array)
    while data:
        count = os.readv(descriptor, [data])
        if not count:
            raise EOFError("the child has ended")
        data = data[count:]
    return array


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.nbytes else memoryview(b"")


def _send_error(pipe: Connection, error: Exception) -> None:
    try:
        pipe.send(("error", error))
    except Exception:
        pipe.send(("error", InputError(f"{type(error).__name__}: {error}")))
