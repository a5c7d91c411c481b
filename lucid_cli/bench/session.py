"""A run of `bench`: which workloads, one after another, and what all of them come to."""

import json
import math
from dataclasses import dataclass
from typing import Any

from lucid_cli.bench.contestants import Terms, measure
from lucid_cli.bench.figures import figures
from lucid_cli.bench.rows import Row
from lucid_cli.bench.workloads import WORKLOADS, Workload, built_in, of_inputs
from lucid_cli.device import settled
from lucid_cli.settings import Settings
from lucid_cli.talk import say
from lucid_core import machine
from lucid_core.errors import ArgumentError

ROUNDS = 5


@dataclass(frozen=True)
class Session:
    """All rows, and the machine they were measured on."""

    machine: dict[str, Any]
    terms: Terms
    quick: bool
    rows: tuple[Row, ...]

    @property
    def ratios(self) -> list[float]:
        """Time of the fastest peer over ours, of every row that has a peer."""
        return [row.peer_ratio for row in self.rows if row.peer_ratio is not None]

    @property
    def geometric_mean(self) -> float | None:
        """Geometric mean of the ratios, None without peers."""
        logarithms = [math.log(ratio) for ratio in self.ratios]
        return math.exp(sum(logarithms) / len(logarithms)) if logarithms else None

    @property
    def worst_ratio(self) -> float | None:
        """The ratio where peers are fastest against ours, None without peers."""
        return min(self.ratios, default=None)

    @property
    def worst_error_ratio(self) -> float:
        """The error that is closest to the bound that its algorithm states, over that bound."""
        return max(row.error_ratio for row in self.rows)

    @property
    def worst_choice_ratio(self) -> float:
        """The choice that is furthest from the fastest member."""
        return max(row.choice_ratio for row in self.rows)


def bench(
    inputs: tuple[str, ...],
    settings: Settings,
    *,
    names: tuple[str, ...],
    rounds: int | None,
    peers: bool,
    every: bool,
    quick: bool,
) -> Session:
    """Measure the named workloads and the layer on the inputs; all built-in ones where neither is given."""
    _check(inputs, settings)
    settings = settled(settings, lambda text: None if settings.quiet else say(text))
    loads = [*built_in(names), *(of_inputs(inputs, settings) if inputs else ())] or list(WORKLOADS)
    loads = [load.small() for load in loads] if quick else loads
    terms = Terms(settings, settings.threads or machine.cores(), rounds or (1 if quick else ROUNDS), peers, every)
    loads = _possible(loads, terms)
    about = figures(terms.threads, terms.rounds, quick)
    rows = []
    for done, load in enumerate(loads):
        _tell(settings, load, done, len(loads))
        rows.append(measure(load, terms))
    return Session(about, terms, quick, tuple(rows))


def _check(inputs: tuple[str, ...], settings: Settings) -> None:
    """Refuse a layer without a volume, and a report that would be written."""
    said = {"--kernel": settings.kernel, "--weights": settings.weights, "--kernel-size": settings.kernel_size}
    for option, value in said.items():
        if value is not None and not inputs:
            raise ArgumentError(
                f"{option} says a layer, but no INPUT says the shape of its volume; "
                "write it like: lucid-conv3d bench scan.nii.gz ..."
            )
    if settings.report not in (None, "-"):
        raise ArgumentError("bench writes no file; print the measurements with --json")


def _possible(loads: list[Workload], terms: Terms) -> list[Workload]:
    """Return the workloads that can be planned, telling of the others; if there is none, raise why."""
    kept: list[Workload] = []
    errors: dict[str, ArgumentError] = {}
    for load in loads:
        problem = load.problem
        try:
            terms.plan(problem)
            kept.append(load)
        except ArgumentError as error:
            errors[load.name] = error
    if errors and not kept:
        raise next(iter(errors.values()))
    if errors and not terms.settings.quiet:
        say(f"Warning: left out, as nothing that was asked for computes them: {', '.join(errors)}")
    return kept


def _tell(settings: Settings, load: Workload, done: int, total: int) -> None:
    """Say on stderr which workload begins."""
    if settings.quiet or settings.progress == "none":
        return
    if settings.progress == "json":
        say(json.dumps({"event": "progress", "input": load.name, "done": done, "total": total}))
    else:
        say(f"{done + 1} of {total}: {load.name} ({load})")
