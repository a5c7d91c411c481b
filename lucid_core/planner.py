"""The planner: weighs the algorithms for a problem and cuts the output into tiles.

The algorithm follows from the problem, the engine and the rates of the machine. The tile follows from these, the
threads and the memory limit too, which is allowed, because no result depends on it.
"""

from collections.abc import Sequence

from lucid_core import compiled, machine
from lucid_core.algorithms import algorithm_names, algorithms, member
from lucid_core.arguments import integer, triple
from lucid_core.cutting import fit, tile_count
from lucid_core.errors import ArgumentError
from lucid_core.plan import Candidate, Choice, Ends, Plan
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.registry import choose
from lucid_core.stack import Problem

ENGINES = ("numpy", "numba")
"""What runs the arithmetic."""
START_SECONDS = 0.008
"""What compiled kernels must save on one volume, on one core, to be worth loading."""
ACCURACIES = ("componentwise", "normwise")
"""The error bounds an algorithm may state, the strictest first; each admits those before it."""
DEVICES = ("cpu",)


def plan(
    problem: Problem,
    *,
    algorithm: str = "auto",
    engine: str = "auto",
    accuracy: str = "componentwise",
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
    where need be fewer threads, keep the memory of the whole process, `ends` included, below `limit_bytes`.

    Raises `ArgumentError` for an unknown name, or where the algorithm asked for refuses the problem; `LimitError`
    where nothing keeps the limit.
    """
    choose("engine", engine, ("auto", *ENGINES))
    choose("accuracy", accuracy, ACCURACIES)
    choose("algorithm", algorithm, ("auto", *algorithm_names()))
    if engine == "numba":
        compiled.require()
    threads = integer("threads", 0 if threads is None else threads, 0) or machine.cores()
    batch_size = None if batch_size is None else integer("batch_size", batch_size, 1)
    start_seconds *= max(problem.batch, 1)
    choices = _choices(problem, engine, accuracy, algorithm, start_seconds)
    if any(choice.engine == "numba" for choice in choices) and not compiled.importable():
        choices = _choices(problem, engine, accuracy, algorithm, start_seconds)
    ways = tuple(member(choice.algorithm, choice.engine) for choice in choices)
    ends = ends or Ends()
    asked = None if tile is None else _asked_tile(problem, tile)
    tile, threads, memory = fit(problem, ways, threads, ends, limit_bytes, asked)
    return Plan(
        problem=problem,
        choices=choices,
        device="cpu",
        threads=threads,
        tile=tile,
        tiles=tile_count(problem, tile),
        memory=memory,
        limit_bytes=limit_bytes,
        batch_size=batch_size,
    )


def _candidates(problem: ConvProblem, engine: str, accuracy: str) -> tuple[Candidate, ...]:
    admitted = ACCURACIES[: ACCURACIES.index(accuracy) + 1]
    rates = machine.RATES[problem.dtype]
    candidates = []
    for way in algorithms().values():
        bound = way.error_bound(problem)
        refused = way.refuses(problem)
        if engine not in ("auto", way.engine):
            refused = f"it belongs to engine {way.engine!r}"
        elif bound.accuracy not in admitted:
            refused = f"its error is bounded {bound.accuracy} only; ask for accuracy={bound.accuracy!r}"
        elif problem.of_mask and bound.accuracy != "componentwise":
            refused = f"its error is bounded {bound.accuracy} only, and s(M) may be small where M is"
        seconds = None if refused else sum(way.cost(one, rates) for one in (problem, problem.of_mask) if one)
        candidates.append(Candidate(way.name, way.engine, seconds, refused, bound.accuracy, bound.gamma(problem.dtype)))
    return tuple(candidates)


def _choices(problem: Problem, engine: str, accuracy: str, algorithm: str, start_seconds: float) -> tuple[Choice, ...]:
    """Choose for every convolution; compiled kernels are taken where those of all together are worth loading them."""
    weighed = [_candidates(one, engine, accuracy) for one in problem.problems]
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
        reasons = "; ".join(dict.fromkeys(str(one.refused) for one in named))
        raise ArgumentError(f"algorithm {algorithm!r} cannot compute{which}: {reasons}; use 'auto'")
    return min(able, key=lambda one: one.seconds or 0.0)


def _asked_tile(problem: Problem, tile: Triple) -> Triple:
    d, h, w = (min(asked, size) for asked, size in zip(triple("tile", tile, 1), problem.out_size, strict=True))
    return d, h, w
