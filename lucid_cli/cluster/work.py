"""What runs on a worker: tiles of a plan, read, computed, and written or sent back."""

import asyncio
import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from lucid_cli.ends import ReadEnd
from lucid_cli.sink import CastingWriter
from lucid_cli.temporary import FULL_DISK
from lucid_core import blas
from lucid_core.compute import Filters
from lucid_core.errors import InputError, LucidError, OutputError, RunError
from lucid_core.execute import Work, holding
from lucid_core.plan import Plan
from lucid_core.scratch import Scratch
from lucid_core.stack import Stack
from lucid_core.stopwatch import Stopwatch
from lucid_core.tiling import Tile

IDLE_SECONDS = 60.0
"""Time after which what an order has opened is closed when another one comes: who gave it may have been killed."""


@dataclass(frozen=True)
class Order:
    """A plan with all that carrying it out takes."""

    token: str
    """Tells it from other orders."""
    plan: Plan
    filters: Sequence[Filters]
    end: ReadEnd
    writer: CastingWriter


class _Desk:
    """An order that is open on this worker: as many tiles at once as the plan says, each with buffers that are kept."""

    def __init__(self, order: Order) -> None:
        self._open = ExitStack()
        self._plan = order.plan
        self._grows = isinstance(order.plan.problem, Stack)
        self._places = threading.BoundedSemaphore(order.plan.threads)
        self._given_up = False
        self._last = time.monotonic()
        self._free: list[Scratch] = []
        try:
            self._open.enter_context(blas.single_threaded())
            self._open.enter_context(holding(order.plan))
            reader = order.end.open(self._open)
            self._work = Work(order.plan, order.filters, reader, order.writer, Stopwatch())
        except BaseException:
            self.close()
            raise

    def encoded(self, tile: Tile) -> Any:
        """Return what the writer made of a tile."""
        with self._places:
            if self._given_up:
                raise RunError("the run was given up")
            if self._plan.engine == "torch":  # a thread of dask has no lane to a device between two tiles
                with self._work.worker() as lane:
                    return self._work.encoded(tile, lane)
            scratch = self._free.pop() if self._free else Scratch(grows=self._grows)
            try:
                return self._work.encoded(tile, scratch)
            finally:
                self._free.append(scratch)
                self.touch()

    def touch(self) -> None:
        """Note that the order is not forgotten."""
        self._last = time.monotonic()

    def is_idle(self) -> bool:
        """Say whether no tile has come for a while, and none is in work."""
        if time.monotonic() - self._last < IDLE_SECONDS:
            return False
        free = [one for one in range(self._plan.threads) if self._places.acquire(blocking=False)]
        for _ in free:
            self._places.release()
        return len(free) == self._plan.threads

    def close(self) -> None:
        """Close what is open, after the tiles in work: they must not write where a later run does."""
        self._given_up = True
        for _ in range(self._plan.threads):
            self._places.acquire()
        self._places.release(self._plan.threads)
        self._open.close()


_desks: dict[str, _Desk] = {}
_given_up: deque[str] = deque(maxlen=1000)
"""Tokens of orders that are over: a tile that was on its way when they were must write no more."""
_lock = threading.Lock()


def do(order: Order, tiles: Sequence[Tile]) -> tuple[bool, Any]:
    """Carry out tiles of an order: return True and what the writer made of each, or False and an error of ours.

    Errors of files, and those that are none of ours, are raised: the tiles are tried again, perhaps elsewhere.
    """
    failure: Exception
    try:
        desk = _desk(order)
        return True, [desk.encoded(tile) for tile in tiles]
    except (InputError, OutputError) as error:
        failure = type(error)(str(error))
    except LucidError as error:
        return False, error
    except Exception as error:
        failure = RunError(f"a worker failed: {type(error).__name__}: {error}")
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            failure = OSError(error.errno, error.strerror)
    raise failure  # not from the error, which may hold what cannot be sent


def _desk(order: Order) -> _Desk:
    with _lock:
        if order.token in _given_up:
            raise RunError("the run was given up")
        if order.token not in _desks:
            for token in [token for token, desk in _desks.items() if desk.is_idle()]:
                _desks.pop(token).close()
            # what a worker starts may have children of its own: a damaged HDF5 file is read in one
            multiprocessing.process.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
            _desks[order.token] = _Desk(order)
        _desks[order.token].touch()
        return _desks[order.token]


async def close(token: str) -> None:
    """Close what an order has opened on this worker, which goes on to serve others meanwhile."""
    await asyncio.to_thread(_close, token)


def _close(token: str) -> None:
    with _lock:
        _given_up.append(token)
        desk = _desks.pop(token, None)
    if desk is not None:
        desk.close()
