"""Workers started here or by SLURM, or found behind the address of a scheduler."""

import logging
import math
import shutil
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from lucid_cli.cluster.run import HandedOut
from lucid_cli.cluster.work import Order
from lucid_cli.ends import ReadEnd
from lucid_cli.settings import Settings
from lucid_cli.sink import CastingWriter, Statistics
from lucid_cli.volumes import Array, Sink
from lucid_core import __version__, machine
from lucid_core.compute import Filters
from lucid_core.errors import ArgumentError, RunError
from lucid_core.events import Observer
from lucid_core.execute import Tally
from lucid_core.optional import require
from lucid_core.plan import Plan
from lucid_core.regions import Region
from lucid_core.stopwatch import Stopwatch
from lucid_core.tiling import tiles
from lucid_core.units import ByteSize, format_bytes

START_SECONDS = 30.0
"""Time that workers here have to start, and a scheduler has to answer."""
SLURM_SECONDS = 86400.0
"""Time that SLURM has to start the first worker."""
QUEUED = 2
"""Tiles that wait for each thread of the workers, so that none is idle."""
AHEAD = 16
"""Tiles, for each thread, that may be done before an earlier one is, where only statistics come back."""
TASK_SECONDS = 0.1
"""Predicted time of tiles that are one task: a task costs the scheduler and the client some milliseconds."""
MOST_TOGETHER = 32
TASKS_PER_THREAD = 16
WORKER_SHARE = 0.75
"""Share of a worker's limit that is taken: at 0.8 of it dask has the worker pause, and at 0.95 ends it."""
CLIENT_SHARE = 0.5
"""Share of the memory here that voxels may take which wait to be written."""
LOCAL_SHARE = 0.8
"""Share of the memory that is available, which all workers here may take where nothing is said."""
SLURM = "slurm"
NOISY = ("distributed", "asyncio", "tornado", "dask_jobqueue")
"""What the names of loggers begin with that tell of every connection that is lost."""


class Cluster:
    """Workers and the connection to them, an executor of plans and a context manager."""

    def __init__(self, settings: Settings, *, dry: bool = False) -> None:
        """Start or find workers as `--scheduler`, `--workers`, `--threads` and `--max-memory` say.

        Where it is `dry`, nothing is started, as all is known that plans need.

        Raises `RunError` where none answers, `ArgumentError` where their version is another one.
        """
        self._open = ExitStack()
        distributed: Any = require("distributed", "dask")
        _quiet()
        asked, given = _asked(settings), settings.max_memory
        if dry and settings.scheduler in (None, SLURM):
            limit = given.count if given and settings.scheduler else 0
            self._know(settings, asked.workers, [(asked.threads, limit)])
            return
        try:
            address = _address(settings, asked, self._open)
            try:
                self._client = distributed.Client(
                    address, direct_to_workers=True, set_as_default=False, timeout=START_SECONDS
                )
            except (OSError, TimeoutError, ValueError) as error:
                raise RunError(f"--scheduler {settings.scheduler}: no scheduler answers there: {error}") from error
            self._open.callback(self._client.close)
            self._wait(settings)
            found = self._about()
            self._know(settings, max(len(found), settings.workers or 1), found)
        except BaseException:
            self._open.close()
            raise

    def _know(self, settings: Settings, workers: int, found: list[tuple[int, int]]) -> None:
        """Keep how many workers there are, or will be, and what each may take."""
        self.workers = workers
        least = min(threads for threads, _ in found)
        self.threads = min(settings.threads or least, least)
        self._memory = _memory(settings, workers, [memory for _, memory in found])

    def _wait(self, settings: Settings) -> None:
        """Wait until there is a worker; those that come later are used too."""
        seconds = SLURM_SECONDS if settings.scheduler == SLURM else START_SECONDS
        try:
            self._client.wait_for_workers(1, timeout=seconds)
        except TimeoutError as error:
            raise RunError(f"no worker came within {seconds:g} s; start some, such as: dask worker ADDRESS") from error

    def _about(self) -> list[tuple[int, int]]:
        """Return the threads and the bytes of memory, 0 for no limit, of each worker.

        Raises `ArgumentError` where one has another version of this program, or none.
        """
        found = self._client.run(_about, on_error="return").values()
        others = {str(one[0] if isinstance(one, tuple) else one) for one in found} - {__version__}
        if others:
            raise ArgumentError(
                f"the workers do not have lucid-conv3d {__version__}, but: {', '.join(sorted(others))}; install the "
                "same version where they run"
            )
        return [(threads, memory) for _, threads, memory in found]

    def settled(self, settings: Settings) -> Settings:
        """Return settings with the threads and the memory of each worker."""
        memory = None if self._memory is None else ByteSize(self._memory, format_bytes(self._memory))
        return replace(settings, threads=self.threads, max_memory=memory)

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
        """Carry out a plan on the workers; raises `RunError` where a tile fails every time or the scheduler is lost."""
        sink, threads = writer.sink, self.workers * self.threads
        shared = sink.shared() if sink is not None else None
        sends_voxels = sink is not None and shared is None
        there = replace(writer, sink=SentBack() if sends_voxels else shared, statistics=Statistics())
        order = Order(uuid.uuid4().hex, plan, filters, end.sent(), there)
        tally = Tally(plan, observe, finished)
        under_way = threads * (1 + QUEUED)
        together = _together(plan, threads)
        ahead = threads * AHEAD
        if sends_voxels:
            together, ahead = _held(plan, writer.dtype.itemsize, together, under_way)
        handed_out = HandedOut(self._client, order, together=together, under_way=under_way, ahead=ahead)
        try:
            with (stopwatch or Stopwatch()).stage("compute"):
                for tile, (statistics, data) in handed_out.results(tiles(plan, finished)):
                    encoded = sink.encode(tile.batch, tile.out, data) if sink is not None and sends_voxels else data
                    writer.write(tile.batch, tile.out, (statistics, encoded))
                    tally.add(tile)
        finally:
            handed_out.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


class SentBack(Sink):
    """Hands regions on, to the process that writes them."""

    def encode(self, batch: int, region: Region, block: Array) -> Array:  # noqa: ARG002
        """Return a copy: the memory of the block is that of the next one."""
        return block.copy()

    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Never called: a worker encodes."""
        raise NotImplementedError

    def finish(self) -> None:
        """Nothing remains."""


def _together(plan: Plan, threads: int) -> int:
    """Return how many tiles are one task: so many that they take a while, but not so many that threads wait."""
    chosen = {(choice.algorithm, choice.engine) for choice in plan.choices}
    seconds = sum(one.seconds or 0 for one in plan.candidates if (one.algorithm, one.engine) in chosen)
    wanted = math.ceil(TASK_SECONDS * plan.tiles / seconds) if seconds else MOST_TOGETHER
    return max(1, min(wanted, MOST_TOGETHER, plan.tiles // (threads * TASKS_PER_THREAD)))


def _held(plan: Plan, itemsize: int, together: int, ahead: int) -> tuple[int, int]:
    """Return how many tiles are one task, and how many tasks may be ahead, as their voxels have room in this process.

    What a worker may take, this process may take too.
    """
    room = machine.available_bytes()
    if plan.limit_bytes is not None:
        allowed = plan.limit_bytes - (machine.resident_bytes() or 0)
        room = allowed if room is None else min(room, allowed)
    if room is None:
        return together, ahead
    size = plan.problem.out_channels * math.prod(plan.tile) * itemsize
    count = max(1, int(CLIENT_SHARE * room) // size)
    together = max(1, min(together, count // ahead))
    return together, min(ahead, count // together)


@dataclass(frozen=True)
class _Asked:
    """The workers that a run starts, and the threads of each."""

    workers: int
    threads: int


def _asked(settings: Settings) -> _Asked:
    """Return what is asked for: here, all cores where nothing is said; of SLURM, one."""
    cores = machine.cores()
    if settings.scheduler == SLURM:
        if settings.max_memory is None:
            raise ArgumentError("--scheduler slurm needs --max-memory: it is the memory that each job asks for")
        return _Asked(settings.workers or 1, settings.threads or 1)
    workers = settings.workers or max(1, cores // (settings.threads or 1))
    return _Asked(workers, settings.threads or max(1, cores // workers))


def _address(settings: Settings, asked: _Asked, stack: ExitStack) -> Any:
    """Return the address of a scheduler, or a cluster that is started for this run."""
    if settings.scheduler == SLURM:
        return _slurm(settings, asked, stack)
    if settings.scheduler is not None:
        return settings.scheduler
    import dask
    from distributed import LocalCluster

    stack.enter_context(dask.config.set({"distributed.worker.daemon": False}))  # its children read damaged files
    return stack.enter_context(
        LocalCluster(
            n_workers=asked.workers,
            threads_per_worker=asked.threads,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            memory_limit=None,  # the plan keeps it
            preload=["lucid_cli.cluster.preload"],
        )
    )


def _slurm(settings: Settings, asked: _Asked, stack: ExitStack) -> Any:
    """Start workers as jobs of SLURM; queue, account and time are those of dask-jobqueue's configuration."""
    jobqueue: Any = require("dask_jobqueue", "dask")
    if shutil.which("sbatch") is None:
        raise RunError("--scheduler slurm: there is no sbatch on this machine; run it where SLURM takes jobs")
    assert settings.max_memory is not None
    cluster = jobqueue.SLURMCluster(
        cores=asked.threads, processes=1, memory=f"{settings.max_memory.count}B", silence_logs=logging.CRITICAL
    )
    stack.enter_context(cluster)
    cluster.scale(jobs=asked.workers)
    return cluster


def _memory(settings: Settings, workers: int, limits: list[int]) -> int | None:
    """Return the memory that each worker may take, None where nothing tells."""
    said = [] if settings.max_memory is None else [settings.max_memory.count]
    if said or settings.scheduler is not None:
        return min([*said, *(int(WORKER_SHARE * limit) for limit in limits if limit)], default=None)
    available = machine.available_bytes()
    return None if available is None else int(LOCAL_SHARE * available) // workers


def _about(dask_worker: Any) -> tuple[str, int, int]:
    """Return version, threads and bytes of memory of a worker, which has loaded by then what most orders need."""
    with suppress(ImportError):
        import lucid_cli.formats.zarr  # noqa: F401
    from lucid_core import __version__ as version

    return version, dask_worker.state.nthreads, int(dask_worker.memory_manager.memory_limit or 0)


def _quiet() -> None:
    """Let the libraries log nothing here: what matters is said as an error."""
    for name in (*NOISY, *logging.root.manager.loggerDict):
        if name.startswith(NOISY):
            logging.getLogger(name).setLevel(logging.CRITICAL)
