"""Who carries out a plan: the threads of this process, or the workers of a cluster."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from lucid_cli.ends import ReadEnd
from lucid_cli.settings import Settings
from lucid_cli.sink import CastingWriter
from lucid_core.compute import Filters
from lucid_core.events import Observer
from lucid_core.execute import execute
from lucid_core.plan import Plan
from lucid_core.stopwatch import Stopwatch


class Executor(Protocol):
    """Carries out plans."""

    @property
    def workers(self) -> int | None:
        """Processes that work beside this one, None where this one does."""

    def settled(self, settings: Settings) -> Settings:
        """Return settings with the threads and the memory that a process which works may take, where it knows them."""

    def execute(
        self,
        plan: Plan,
        filters: Sequence[Filters],
        end: ReadEnd,
        writer: CastingWriter,
        observe: Observer,
        *,
        stopwatch: Stopwatch | None = None,
        finished: int = 0,
    ) -> None:
        """Carry out a plan as `lucid_core.execute.execute` does; the first `finished` tiles are left out."""


class Threads:
    """The threads of this process."""

    workers = None

    def settled(self, settings: Settings) -> Settings:
        """Return the settings as they are."""
        return settings

    def execute(
        self,
        plan: Plan,
        filters: Sequence[Filters],
        end: ReadEnd,
        writer: CastingWriter,
        observe: Observer,
        *,
        stopwatch: Stopwatch | None = None,
        finished: int = 0,
    ) -> None:
        """Carry out a plan here."""
        watch = stopwatch or Stopwatch()
        with ExitStack() as stack:
            with watch.stage("read"):
                reader = end.open(stack)
            execute(plan, filters, reader, writer, observe, stopwatch=watch, finished=finished)


HERE = Threads()
"""The executor where nothing else is asked for."""
