"""The planner: weighs the algorithms for a problem and cuts the output into tiles.

The algorithm follows from the problem, the engine and the rates of the machine. The tile follows from these, the
threads and the memory limit too, which is allowed, because no result depends on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lucid_core import compiled, machine, tensors
from lucid_core.algorithms import Algorithm, algorithm_names, algorithms, member
from lucid_core.arguments import integer, triple
from lucid_core.cutting import fit, tile_count
from lucid_core.errors import ArgumentError
from lucid_core.plan import Candidate, Choice, Ends, Plan
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.registry import choose
from lucid_core.room import Room
from lucid_core.stack import Problem
from lucid_core.tensors.devices import CPU, Device, free_bytes, resolve, spelled

CPU_ENGINES = ("numpy", "numba")
ENGINES = (*CPU_ENGINES, "torch")
"""What runs the arithmetic."""
START_SECONDS = 0.008
"""What compiled kernels must save on one volume, on one core, to be worth loading."""
ACCURACIES = ("componentwise", "normwise")
"""The error bounds an algorithm may state, the strictest first; each admits those before it."""
MOST_LANES = 8
"""Tiles in work at once on a device other than the CPU: as many threads copy what it computes."""
ON_REQUEST = "torch"
"""The engine that is weighed where it, or a device, is asked for, and not otherwise."""


def plan(
    problem: Problem,
    *,
    algorithm: str = "auto",
    engine: str = "auto",
    accuracy: str = "componentwise",
    device: str = "cpu",
    tf32: bool = False,
    threads: int | None = None,
    tile: Triple | None = None,
    batch_size: int | None = None,
    start_seconds: float = START_SECONDS,
    ends: Ends | None = None,
    limit_bytes: int | None = None,
) -> Plan:
    """Choose the algorithms and the tiles for a problem. Pure: from shapes alone, no data.

    `threads` None or 0 means all cores; `tile` (D, H, W) and `batch_size`, the volumes in work at once, are chosen
    where None. With engine "auto", compiled kernels must save `start_seconds` on one volume over NumPy. The tile, and
    where need be fewer threads, keep the memory of the whole process, `ends` included, below `limit_bytes`; and that of
    a `device` other than the CPU (cuda, cuda:1, metal; auto: what there is) below what is free there. With `tf32` a GPU
    may multiply float32 as TF32: products are then off by 2**-9, as the bounds of the candidates say.

    Raises `ArgumentError` for an unknown name, or where the algorithm asked for refuses the problem; `LimitError`
    where nothing keeps the limit.
    """
    choose("engine", engine, ("auto", *ENGINES))
    choose("accuracy", accuracy, ACCURACIES)
    choose("algorithm", algorithm, ("auto", *algorithm_names()))
    engine, where = where_to_compute(engine, device, tf32=tf32, dtype=problem.dtype)
    if engine == "numba":
        compiled.require()
    threads = integer("threads", 0 if threads is None else threads, 0) or machine.cores()
    threads = threads if where.is_cpu else min(threads, MOST_LANES)
    batch_size = None if batch_size is None else integer("batch_size", batch_size, 1)
    start_seconds *= max(problem.batch, 1)
    terms = _Terms(engine, accuracy, where, tf32)
    choices = _choices(problem, terms, algorithm, start_seconds)
    if any(choice.engine == "numba" for choice in choices) and not compiled.importable():
        choices = _choices(problem, terms, algorithm, start_seconds)
    ways = tuple(member(choice.algorithm, choice.engine) for choice in choices)
    ends = ends or Ends()
    asked = None if tile is None else _asked_tile(problem, tile)
    room = Room(where, free_bytes(where))
    tile, threads, memory = fit(problem, ways, threads, ends, limit_bytes, asked, room)
    in_work = min(threads, tile_count(problem, tile))
    return Plan(
        problem=problem,
        choices=choices,
        device=str(where),
        threads=threads,
        tile=tile,
        tiles=tile_count(problem, tile),
        memory=memory,
        limit_bytes=limit_bytes,
        batch_size=batch_size,
        device_memory=None if where.is_cpu else room.memory(problem, ways, tile, max(1, in_work)),
        device_limit_bytes=room.limit_bytes,
        tf32=tf32,
    )


def where_to_compute(engine: str, device: str, *, tf32: bool = False, dtype: str = "float32") -> tuple[str, Device]:
    """Return the engine and the device that these names come to.

    Raises `ArgumentError` for what does not go together or is not there, `ExtraError` without torch.
    """
    choose("engine", engine, ("auto", *ENGINES))
    if engine in CPU_ENGINES and device != "auto" and not spelled(device).is_cpu:
        raise ArgumentError(f"engine {engine!r} computes on the CPU only; leave it out on device {device!r}")
    where = CPU if engine in CPU_ENGINES else resolve(device)
    if tf32 and where.kind != "cuda":
        raise ArgumentError(f"tf32 is for tensor cores of a GPU, and the device is {str(where)!r}; leave it out")
    if tf32 and dtype != "float32":
        raise ArgumentError(f"tf32 rounds numbers of float32, and the arithmetic is {dtype}; leave it out")
    if where.is_cpu:
        if engine == "torch":
            tensors.library()
        return engine, where
    if where.kind == "metal" and dtype != "float32":
        raise ArgumentError(
            f"Metal computes in float32 only, and the arithmetic is {dtype}; use dtype float32 or 'cpu'"
        )
    return "torch", where


@dataclass(frozen=True)
class _Terms:
    """What candidates are weighed by."""

    engine: str
    accuracy: str
    device: Device
    tf32: bool

    def weighs(self, way: Algorithm) -> bool:
        """Say whether an algorithm is a candidate, if only to be refused."""
        return way.engine != ON_REQUEST or self.engine == ON_REQUEST


def _candidates(problem: ConvProblem, terms: _Terms) -> tuple[Candidate, ...]:
    admitted = ACCURACIES[: ACCURACIES.index(terms.accuracy) + 1]
    rates = machine.rates(problem.dtype, terms.device.kind)
    candidates = []
    for way in filter(terms.weighs, algorithms().values()):
        bound = way.error_bound(problem)
        if terms.tf32 and way.tensor_cores:
            bound = bound.with_tf32()
        refused = way.refuses(problem)
        if terms.engine not in ("auto", way.engine):
            refused = f"it belongs to engine {way.engine!r}"
        elif bound.accuracy not in admitted:
            refused = f"its error is bounded {bound.accuracy} only; ask for accuracy={bound.accuracy!r}"
        elif problem.of_mask and bound.accuracy != "componentwise":
            refused = f"its error is bounded {bound.accuracy} only, and s(M) may be small where M is"
        seconds = None if refused else sum(way.cost(one, rates) for one in (problem, problem.of_mask) if one)
        candidates.append(Candidate(way.name, way.engine, seconds, refused, bound.accuracy, bound.gamma(problem.dtype)))
    return tuple(candidates)


def _choices(problem: Problem, terms: _Terms, algorithm: str, start_seconds: float) -> tuple[Choice, ...]:
    """Choose for every convolution; compiled kernels are taken where those of all together are worth loading them."""
    weighed = [_candidates(one, terms) for one in problem.problems]
    any_engine = []
    for number, candidates in enumerate(weighed, start=1):
        which = f" convolution {number}" if len(weighed) > 1 else " this"
        any_engine.append(_cheapest(candidates, algorithm, which))
    chosen = any_engine
    with_numpy = [[one for one in candidates if one.engine == "numpy"] for candidates in weighed]
    if any(one.engine != "numpy" for one in any_engine) and all(
        _able(candidates, algorithm) for candidates in with_numpy
    ):
        plain = [_cheapest(candidates, algorithm, "") for candidates in with_numpy]
        if _seconds(plain) <= _seconds(any_engine) + start_seconds:
            chosen = plain
    return tuple(
        Choice(one, way.algorithm, way.engine, candidates)
        for one, way, candidates in zip(problem.problems, chosen, weighed, strict=True)
    )


def _seconds(candidates: list[Candidate]) -> float:
    return sum(one.seconds or 0.0 for one in candidates)


def _able(candidates: Sequence[Candidate], algorithm: str) -> list[Candidate]:
    """Return the candidates that can compute the problem, among those of the algorithm asked for."""
    return [one for one in candidates if algorithm in ("auto", one.algorithm) and one.seconds is not None]


def _cheapest(candidates: Sequence[Candidate], algorithm: str, which: str) -> Candidate:
    able = _able(candidates, algorithm)
    if not able:
        named = [one for one in candidates if algorithm in ("auto", one.algorithm)]
        reasons = "; ".join(dict.fromkeys(str(one.refused) for one in named)) or f"it belongs to engine {ON_REQUEST!r}"
        raise ArgumentError(f"algorithm {algorithm!r} cannot compute{which}: {reasons}; use 'auto'")
    return min(able, key=lambda one: one.seconds or 0.0)


def _asked_tile(problem: Problem, tile: Triple) -> Triple:
    d, h, w = (min(asked, size) for asked, size in zip(triple("tile", tile, 1), problem.out_size, strict=True))
    return d, h, w
