"""Tiles handed out to workers, and what comes of them taken in order.

So many tiles are under way that no worker waits for one, and no more: a volume may have millions. Their results come in
any order; those of later tiles wait for the earlier ones, so that the statistics are summed, the journal is written and
the file is filled as in one process.
"""

import queue
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from lucid_cli.cluster.work import Order, close, do
from lucid_core.errors import RunError
from lucid_core.tiling import Tile

LOST_SECONDS = 10.0
"""Time after which a scheduler that does not answer is taken for lost."""
WORKER_SECONDS = 120.0
"""Time after which no worker is waited for where none is left."""
LOOK_SECONDS = 0.5
"""Time between two looks at the scheduler while no tile ends."""
RETRIES = 3
"""Times that tiles are tried again after an error that may pass, such as one of a file system."""


class HandedOut:
    """The tiles of an order that are under way, some `together` as one task.

    At most `under_way` tasks are, and at most `ahead` of those behind the first that is not done; and no more volumes
    than the plan says.
    """

    def __init__(self, client: Any, order: Order, *, together: int, under_way: int, ahead: int) -> None:
        self._client = client
        if client.status != "running":
            raise self._lost()
        self._token = order.token
        # a task of its own, which can be done again where the worker that holds it is lost
        self._order = client.submit(_itself, order, key=f"lucid-order-{order.token}")
        self._volumes = order.plan.batch_size or order.plan.problem.batch
        self._together, self._under_way, self._ahead = together, under_way, ahead
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._places: dict[Any, int] = {}
        self._tiles: dict[int, tuple[Tile, ...]] = {}
        self._done: dict[int, Any] = {}
        self._next_group: tuple[Tile, ...] = ()
        self._given = self._taken = 0

    def results(self, tiles: Iterator[Tile]) -> Iterator[tuple[Tile, Any]]:
        """Yield every tile, in order, with what the writer of the order made of it."""
        self._hand_out(tiles)
        while self._tiles:
            self._collect()
            while self._taken in self._done:
                yield from zip(self._tiles.pop(self._taken), self._done.pop(self._taken), strict=True)
                self._taken += 1
                self._hand_out(tiles)
            self._hand_out(tiles)

    def _hand_out(self, tiles: Iterator[Tile]) -> None:
        while len(self._places) < self._under_way and self._given - self._taken < self._ahead:
            group = self._next_group or tuple(islice(tiles, self._together))
            self._next_group = ()
            if not group:
                return
            if self._tiles and group[-1].batch - self._tiles[self._taken][0].batch >= self._volumes:
                self._next_group = group
                return
            key = f"lucid-tiles-{self._token}-{self._given}"
            future = self._client.submit(do, self._order, group, key=key, retries=RETRIES, priority=-self._given)
            self._tiles[self._given], self._places[future] = group, self._given
            self._given += 1
            future.add_done_callback(self._ended.put)

    def _collect(self) -> None:
        """Wait for tiles that have ended, and take what came of them straight from the workers."""
        ended = [self._next()]
        with suppress(queue.Empty):
            while True:
                ended.append(self._ended.get_nowait())
        for future in ended:
            if future.status == "cancelled":
                raise self._lost()
        for future, (fine, found) in zip(ended, self._gathered(ended), strict=True):
            if not fine:
                raise found
            self._done[self._places.pop(future)] = found

    def _gathered(self, ended: list[Any]) -> list[Any]:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            return list(self._client.gather(ended, direct=True))
        except KilledWorker as error:
            raise RunError(
                "the worker of a tile was killed, and then those that tried it again; perhaps for want of memory: give "
                f"a lower --max-memory, which is that of each worker ({error.last_worker.address})"
            ) from error
        except (CommClosedError, TimeoutError) as error:
            raise self._lost() from error
        except Exception as error:
            if self._client.status != "running" or type(error).__name__ == "FutureCancelledError":
                raise self._lost() from error
            raise

    def _next(self) -> Any:
        """Return a future that has ended; raises `RunError` where the scheduler, or every worker, stays away."""
        seen = served = time.monotonic()
        while True:
            with suppress(queue.Empty):
                return self._ended.get(timeout=LOOK_SECONDS)
            now = time.monotonic()
            if self._client.status == "running":
                seen = now
                served = now if self._has_workers() else served
            if now - seen > LOST_SECONDS:
                raise self._lost()
            if now - served > WORKER_SECONDS:
                raise RunError(f"no worker is left, and none has come for {WORKER_SECONDS:g} s; start some")

    def _has_workers(self) -> bool:
        with suppress(Exception):
            return bool(self._client.scheduler_info()["workers"])
        return False

    def _lost(self) -> RunError:
        return RunError("the scheduler was lost: it ended, or it does not answer")

    def close(self) -> None:
        """Give up what is under way, and close what the order has opened on the workers."""
        if self._client.status != "running":
            return
        with suppress(Exception):
            self._client.cancel([*self._places, self._order])
            self._client.run(close, self._token, on_error="ignore")


def _itself(order: Order) -> Order:
    return order
