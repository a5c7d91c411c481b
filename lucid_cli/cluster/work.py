"""What runs on a worker: tiles of a plan, read, computed, and written or sent back."""

import multiprocessing
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from lucid_cli.ends import ReadEnd
from lucid_cli.sink import CastingWriter
from lucid_core import blas
from lucid_core.compute import Filters
from lucid_core.errors import LucidError
from lucid_core.execute import Work, holding
from lucid_core.plan import Plan
from lucid_core.scratch import Scratch
from lucid_core.stack import Stack
from lucid_core.stopwatch import Stopwatch
from lucid_core.tiling import Tile


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
            if self._plan.engine == "torch":  # a thread of dask has no lane to a device between two tiles
                with self._work.worker() as lane:
                    return self._work.encoded(tile, lane)
            scratch = self._free.pop() if self._free else Scratch(grows=self._grows)
            try:
                return self._work.encoded(tile, scratch)
            finally:
                self._free.append(scratch)

    def close(self) -> None:
        """Close what is open."""
        self._open.close()


_desks: dict[str, _Desk] = {}
_lock = threading.Lock()


def do(order: Order, tiles: Sequence[Tile]) -> tuple[bool, Any]:
    """Carry out tiles of an order: return True and what the writer made of each, or False and an error of ours.

    Other errors are raised, and tried again elsewhere.
    """
    try:
        desk = _desk(order)
        return True, [desk.encoded(tile) for tile in tiles]
    except LucidError as error:
        return False, error


def _desk(order: Order) -> _Desk:
    with _lock:
        if order.token not in _desks:
            # what a worker starts may have children of its own: a damaged HDF5 file is read in one
            multiprocessing.process.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
            _desks[order.token] = _Desk(order)
        return _desks[order.token]


def close(token: str) -> None:
    """Close what an order has opened on this worker."""
    with _lock:
        desk = _desks.pop(token, None)
    if desk is not None:
        desk.close()
