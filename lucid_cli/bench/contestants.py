"""Everybody who can compute a workload: the planner's choice, each algorithm of each engine, and the peers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.bench.rows import Member, Row, Time
from lucid_cli.bench.timing import medians
from lucid_cli.bench.verify import PEER_TOLERANCE, truth
from lucid_cli.bench.workloads import Workload
from lucid_cli.output import check_memory
from lucid_cli.peers import peers
from lucid_cli.settings import Settings
from lucid_core.arguments import triple
from lucid_core.compute import Filters
from lucid_core.execute import execute
from lucid_core.pages import aligned
from lucid_core.plan import Candidate, Plan
from lucid_core.planner import plan
from lucid_core.problem import ConvProblem
from lucid_core.volume import ArrayReader, ArrayWriter

Array = npt.NDArray[Any]
PAUSE_SECONDS = 0.05
"""Rest before each contestant is called, once untimed and once timed."""
SLOWER = 10
"""An algorithm predicted to take more than so many times the cheapest one's seconds is not timed, unless all are."""
COPIES = 3
"""Outputs, or copies of the volumes, that a contestant may hold besides the volumes."""
OURS = "ours"
"""The planner's choice."""


@dataclass(frozen=True)
class Terms:
    """What holds for every workload of a run."""

    settings: Settings
    threads: int
    rounds: int
    peers: bool
    every: bool

    def plan(self, problem: ConvProblem, algorithm: str | None = None, engine: str | None = None) -> Plan:
        """Plan as `apply` would, or for one algorithm of one engine."""
        settings = self.settings
        return plan(
            problem,
            algorithm=algorithm or settings.algorithm,
            engine=engine or settings.engine,
            accuracy=settings.accuracy,
            device=settings.device,
            tf32=settings.tf32,
            threads=self.threads,
            tile=None if settings.tile is None else triple("tile", settings.tile, 1),
            batch_size=settings.batch_size,
        )

    def skips(self, one: Candidate, chosen: Plan) -> str | None:
        """Return why a candidate of a plan is not timed, or None."""
        if one.seconds is None:
            return one.refused
        cheapest = min(other.seconds for other in chosen.candidates if other.seconds is not None)
        is_chosen = (one.algorithm, one.engine) == (chosen.algorithm, chosen.engine)
        if self.every or is_chosen or one.seconds <= SLOWER * cheapest:
            return None
        return f"predicted to be {one.seconds / cheapest:.0f} times slower than the fastest; --all times it too"


def measure(load: Workload, terms: Terms) -> Row:
    """Check every contestant, then time them in turn.

    Raises `ArgumentError` where the planner refuses, `RunError` where a result is wrong.
    """
    chosen = terms.plan(load.problem)
    _check_memory(load.problem)
    arena = _Arena(load, terms)
    algorithm = terms.settings.algorithm
    asked = [one for one in chosen.candidates if algorithm in ("auto", one.algorithm)]
    skipped = [(one, terms.skips(one, chosen)) for one in asked]
    arena.enter_choice(chosen)
    members = [
        Member(one, Time(_name(one), None, reason), None if reason else arena.enter_member(one))
        for one, reason in skipped
    ]
    others = arena.enter_peers() if terms.peers else []
    times = medians(arena.calls, terms.rounds, PAUSE_SECONDS)
    timed = [replace(one, time=replace(one.time, seconds=times.get(one.time.name))) for one in members]
    peer_times = [replace(one, seconds=times.get(one.name)) for one in others]
    return Row(load, chosen, times[OURS], tuple(timed), tuple(peer_times))


class _Arena:
    """The contestants of a workload. Each is called once when it enters, and its result checked."""

    def __init__(self, load: Workload, terms: Terms) -> None:
        self._load = load
        self._terms = terms
        self._problem = load.problem
        self._x, self._weight = load.arrays()
        self._truth = truth(self._problem, self._x, self._weight, load.bias)
        self.calls: dict[str, Callable[[], Array]] = {}

    def enter_choice(self, chosen: Plan) -> None:
        """Enter what the planner chooses, under the bound of that algorithm."""
        way = (chosen.algorithm, chosen.engine)
        (one,) = (one for one in chosen.candidates if (one.algorithm, one.engine) == way)
        self._enter(OURS, self._ours(), one.error_bound, one.accuracy)

    def enter_member(self, one: Candidate) -> float:
        """Enter one algorithm of one engine; return its worst error."""
        return self._enter(_name(one), self._ours(one.algorithm, one.engine), one.error_bound, one.accuracy)

    def enter_peers(self) -> list[Time]:
        """Enter the peers that can compute the workload; return all of them, with why they are left out."""
        found = []
        for name, peer in peers().items():
            reason = peer.missing() or peer.refuses(self._problem)
            found.append(Time(name, None, reason))
            if reason is None:
                call = peer.prepare(self._problem, self._x, self._weight, self._load.bias, self._terms.threads)
                self._enter(name, call, PEER_TOLERANCE, "componentwise")
        return found

    def _enter(self, name: str, call: Callable[[], Array], share: float, accuracy: str) -> float:
        self.calls[name] = call
        return self._truth.check(f"{self._load.name}: {name}", call(), share, normwise=accuracy == "normwise")

    def _ours(self, algorithm: str | None = None, engine: str | None = None) -> Callable[[], Array]:
        """Return a function that plans and convolves into a new array, as `lucid_core.conv3d` does.

        It also takes what `apply` does and `conv3d` has no argument for: "same" with a stride, and tiles.
        """
        problem = self._problem

        def run() -> Array:
            out = aligned(problem.out_shape, np.dtype(problem.dtype))
            chosen = self._terms.plan(problem, algorithm, engine)
            execute(chosen, [Filters(self._weight, self._load.bias)], ArrayReader(self._x), ArrayWriter(out))
            return out

        return run


def _name(one: Candidate) -> str:
    return f"{one.algorithm}/{one.engine}"


def _check_memory(problem: ConvProblem) -> None:
    """Refuse volumes that would not fit into memory together with what a contestant makes of them."""
    sizes = [int(np.prod(shape)) for shape in (problem.in_shape, problem.out_shape)]
    check_memory(np.dtype(problem.dtype).itemsize * (sizes[0] + COPIES * max(sizes)), "this workload")
