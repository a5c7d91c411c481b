"""Results of threads, taken in the order of the work: the same sum, whoever comes first."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar

from lucid_core import blas
from lucid_core.scratch import Scratch

Item = TypeVar("Item")
Result = TypeVar("Result")
WAITING = 2
"""Items a thread that are in work, or whose results wait for those before them."""


def in_turn(items: Iterable[Item], compute: Callable[[Item, Scratch], Result], threads: int) -> Iterator[Result]:
    """Yield `compute(item, scratch)` for each item in order, several threads computing ahead.

    A matrix product has one thread; a scratch serves one item at a time.
    """
    with blas.single_threaded():
        if threads == 1:
            scratch = Scratch()
            yield from (compute(item, scratch) for item in items)
        else:
            yield from _ahead(iter(items), compute, threads)


def _ahead(items: Iterator[Item], compute: Callable[[Item, Scratch], Result], threads: int) -> Iterator[Result]:
    free: SimpleQueue[Scratch] = SimpleQueue()
    for _ in range(threads):
        free.put(Scratch())

    def work(item: Item) -> Result:
        scratch = free.get()
        try:
            return compute(item, scratch)
        finally:
            free.put(scratch)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="lucid-sum")
    try:
        waiting: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(items, WAITING * threads))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
