"""One layer with a squared loss, fitted exactly: its normal equations are added up tile by tile, once, and solved."""

import time
from collections.abc import Iterator
from typing import Any

from lucid_cli.fitting.checkpoint import Checkpoint
from lucid_cli.fitting.tiles import Place, Tiles
from lucid_cli.fitting.work import Fitted, Job
from lucid_cli.progress import Reporter
from lucid_core.boundary import Window
from lucid_core.events import Observer, Progress
from lucid_core.fitting.examples import Example
from lucid_core.fitting.normal import NormalEquations, equations_bytes
from lucid_core.fitting.solve import Solution, solve
from lucid_core.fitting.solve import workspace as solving_bytes
from lucid_core.fitting.tiles import tile_equations, workspace
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region
from lucid_core.scratch import Scratch
from lucid_core.turns import WAITING, in_turn

Sums = tuple[NormalEquations, NormalEquations]
"""Of the voxels to train and to validate with."""
Tile = tuple[Place, int, int]
"""Where it lies, 0 to train or 1 to validate with, and its number there."""
SAVE_SECONDS = 30.0
"""Time between two checkpoints."""
SUMS = 4
"""Normal equations that are there at once: of both sets of tiles, and while a tile is added."""
ILL_CONDITIONED = 1e12
"""From this condition on, weights of float64 data have few digits that are told by it."""


def bytes_of_sums(tiles: Tiles) -> tuple[int, int]:
    """Return the memory of the sums and what solves them, and that of each thread."""
    place = tiles.largest
    problem = plain(tiles.problems[place.pair])
    sums = equations_bytes(problem)
    return SUMS * sums + solving_bytes(problem), tiles.block_bytes() + workspace(
        problem, place.region.shape
    ) + WAITING * sums


def fit_exactly(job: Job, checkpoint: Checkpoint | None) -> Fitted:
    """Add up what the best weights follow from, and solve for them."""
    with Reporter(job.shown, "fit") as observe:
        training, validation = _added(job, checkpoint, observe)
    solution = solve(training, job.settings.l2, job.settings.constraint, bias=job.model.has_bias)
    checked = validation.loss(solution.weight, solution.bias) if validation.count else None
    facts = {
        "voxels": training.count,
        "left_out": training.left_out,
        "unknowns": solution.unknowns,
        "rank": solution.rank,
        "condition": solution.condition,
    }
    model = job.model.solved(solution.weight, solution.bias)
    return Fitted(model, solution.loss, checked, facts, warnings=_warnings(solution, training))


def _warnings(solution: Solution, training: NormalEquations) -> tuple[str, ...]:
    """Return what is to be said of a solution that the voxels do not determine, or hardly."""
    if solution.rank < solution.unknowns:
        return (
            f"{training.count} voxels determine {solution.rank} of {solution.unknowns} numbers of a filter only; the "
            "smallest of those that fit alike are taken: use more or other scans, a smaller kernel, or --l2",
        )
    if solution.condition > ILL_CONDITIONED:
        return (
            f"the scans hardly tell the weights apart (condition {solution.condition:.1e}): those of another scan may "
            "differ; use a smaller kernel, or --l2",
        )
    return ()


def _added(job: Job, checkpoint: Checkpoint | None, observe: Observer) -> Sums:
    """Return the equations of the voxels to train and to validate with; pair by pair, closing each behind its last."""
    problem = plain(job.training.problems[0])
    both = NormalEquations.of_none(problem), NormalEquations.of_none(problem)
    both, done = _restored(checkpoint, both)
    sets = job.training, job.validation
    tiles = sorted(
        [(place, which, number) for which, one in enumerate(sets) for number, place in enumerate(one.places)],
        key=lambda tile: tile[0].pair,
    )
    total = sum(place.region.voxels for place, _, _ in tiles)
    voxels = sum(place.region.voxels for place, _, _ in tiles[:done])
    state, saved = (both, done), time.monotonic()
    observe(Progress(voxels, total))
    try:
        for (place, which, _), found in zip(tiles[done:], _equations(job, tiles[done:]), strict=True):
            (training, validation), done = state
            both = (training, validation + found) if which else (training + found, validation)
            state = both, done + 1  # in one step: an interrupt must find each tile in the sums once
            voxels += place.region.voxels
            if done + 1 == len(tiles) or tiles[done + 1][0].pair != place.pair:
                job.training.readers.finish(place.pair)  # no tile of it is read any more
            if time.monotonic() - saved >= SAVE_SECONDS:
                _save(checkpoint, *state)
                saved = time.monotonic()
            observe(Progress(voxels, total))
    except BaseException:
        _save(checkpoint, *state)
        raise
    return state[0]


def plain(problem: Any) -> ConvProblem:
    """Return the problem of a single layer."""
    (only,) = problem.problems
    return only


def window_of(example: Example) -> Window:
    """Return the window of the padded input of an example."""
    _, d, h, w = example.block.shape
    return Window(example.block, Region((0, 0, 0), (d, h, w)), "zeros")


def _equations(job: Job, tiles: list[Tile]) -> Iterator[NormalEquations]:
    """Yield the equations of each tile in turn, several threads working ahead."""

    def of(tile: Tile, scratch: Scratch) -> NormalEquations:
        _, which, number = tile
        chosen = (job.training, job.validation)[which]
        example = chosen.read(number)
        problem = plain(chosen.problems[chosen.places[number].pair])
        return tile_equations(problem, window_of(example), example.target, example.counted, scratch)

    return in_turn(tiles, of, job.memory.threads)


def _save(checkpoint: Checkpoint | None, both: Sums, done: int) -> None:
    if checkpoint is not None and done:
        parts = zip(("training", "validation"), both, strict=True)
        checkpoint.save({name: one.to_arrays() for name, one in parts}, {"tiles": done})


def _restored(checkpoint: Checkpoint | None, none: Sums) -> tuple[Sums, int]:
    """Return what an interrupted run left, and how many tiles that is of."""
    left = checkpoint.load() if checkpoint else None
    if left is None:
        return none, 0
    parts, words = left
    training, validation = (NormalEquations.from_arrays(parts[name]) for name in ("training", "validation"))
    return (training, validation), int(words["tiles"])
