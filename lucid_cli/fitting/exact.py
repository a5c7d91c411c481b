"""One layer with a squared loss, fitted exactly: its normal equations are added up tile by tile, once, and solved."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lucid_cli.fitting.tiles import Tiles
from lucid_cli.fitting.work import Fitted, Work
from lucid_core.boundary import Window
from lucid_core.events import Progress
from lucid_core.fitting.normal import NormalEquations
from lucid_core.fitting.solve import Solution, solve
from lucid_core.fitting.tiles import tile_equations
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region
from lucid_core.scratch import Scratch
from lucid_core.turns import in_turn

SAVE_SECONDS = 30.0
"""Time between two checkpoints."""
ILL_CONDITIONED = 1e12
"""From this condition on, weights of float64 data have few digits that are told by it."""


def fit_exactly(work: Work) -> Fitted:
    """Add up what the best weights follow from, and solve for them."""
    both = _added(work)
    training, validation = both
    if not training.count:
        raise_none(training)
    bias = _layer(work).bias is not None
    solution = solve(training, work.settings.l2, work.settings.constraint, bias=bias)
    return _fitted(work, training, validation, solution)


def _layer(work: Work) -> Any:
    layer = work.model.only
    assert layer is not None
    return layer


def _added(work: Work) -> tuple[NormalEquations, NormalEquations]:
    """Return the equations of the voxels to train and to validate with."""
    problem = _plain(work.training.problems[0])
    both = NormalEquations.of_none(problem), NormalEquations.of_none(problem)
    done = _restored(work, both)
    tiles = [(0, number) for number in range(len(work.training))]
    tiles += [(1, number) for number in range(len(work.validation))]
    sets = work.training, work.validation
    total = sum(_voxels(sets[which], number) for which, number in tiles)
    voxels = sum(_voxels(sets[which], number) for which, number in tiles[:done])
    saved = time.monotonic()
    try:
        for (which, number), found in zip(tiles[done:], _equations(work, tiles[done:]), strict=True):
            both[which].__iadd__(found)
            done += 1
            voxels += _voxels(sets[which], number)
            _close_what_is_done(sets[which], number)
            if time.monotonic() - saved >= SAVE_SECONDS:
                _save(work, both, done)
                saved = time.monotonic()
            work.observe(Progress(voxels, total))
    except BaseException:
        _save(work, both, done)
        raise
    return both


def _plain(problem: Any) -> ConvProblem:
    """Return the problem of a single layer."""
    (only,) = problem.problems
    return only


def _voxels(tiles: Tiles, number: int) -> int:
    return tiles.places[number].region.voxels


def _equations(work: Work, tiles: list[tuple[int, int]]) -> Iterator[NormalEquations]:
    """Yield the equations of each tile in turn, several threads working ahead."""

    def of(tile: tuple[int, int], scratch: Scratch) -> NormalEquations:
        which, number = tile
        chosen = (work.training, work.validation)[which]
        example, place = chosen.read(number), chosen.places[number]
        problem = _plain(chosen.problems[place.pair])
        shape = example.block.shape[1:]
        window = Window(example.block, Region((0, 0, 0), (shape[0], shape[1], shape[2])), problem.padding_mode)
        return tile_equations(problem, window, example.target, example.counted, scratch)

    return in_turn(tiles, of, work.memory.threads)


def _close_what_is_done(tiles: Tiles, number: int) -> None:
    """Close the files of a pair behind its last tile."""
    pair = tiles.places[number].pair
    if number + 1 == len(tiles) or tiles.places[number + 1].pair != pair:
        tiles.readers.close(pair)


def _save(work: Work, both: tuple[NormalEquations, NormalEquations], done: int) -> None:
    if work.checkpoint is None or not done:
        return
    arrays = {f"{number}:{name}": array for number, one in enumerate(both) for name, array in one.to_arrays().items()}
    work.checkpoint.save(arrays, {"tiles": done})


def _restored(work: Work, both: tuple[NormalEquations, NormalEquations]) -> int:
    """Add what an interrupted run left; return how many tiles that is of."""
    left = work.checkpoint.load() if work.checkpoint else None
    if left is None:
        return 0
    arrays, words = left
    for number, one in enumerate(both):
        own = {name.partition(":")[2]: array for name, array in arrays.items() if name.startswith(f"{number}:")}
        one.__iadd__(NormalEquations.from_arrays(own))
    return int(words["tiles"])
