"""One layer of very many weights with a squared loss: conjugate gradients, a pass over all tiles each."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lucid_cli.fitting.exact import plain, window_of
from lucid_cli.fitting.model import Model
from lucid_cli.fitting.tiles import Tiles
from lucid_cli.fitting.work import Fitted, Work
from lucid_core.events import Progress
from lucid_core.fitting.conjugate import (
    Iterated,
    centre_of,
    conjugate_gradients,
    tile_diagonal,
    tile_product,
    workspace,
)
from lucid_core.fitting.normal import NormalEquations
from lucid_core.fitting.samples import Samples, samples
from lucid_core.fitting.train import evaluate
from lucid_core.losses import mse
from lucid_core.problem import ConvProblem
from lucid_core.scratch import Scratch
from lucid_core.turns import WAITING, in_turn

Array = npt.NDArray[np.float64]
Result = TypeVar("Result")
WEIGHT_COPIES = 12
"""Arrays of the size of the weights that an iteration holds."""


def bytes_of_passes(tiles: Tiles) -> tuple[int, int]:
    """Return the memory of an iteration, and that of each thread."""
    place = tiles.largest
    problem = plain(tiles.problems[place.pair])
    weight = 8 * problem.out_channels * problem.terms
    each = tiles.block_bytes() + workspace(problem, place.region.shape) + WAITING * weight
    return WEIGHT_COPIES * weight, each


def fit_by_iterations(work: Work) -> Fitted:
    """Go over all tiles until the gradient of the loss is as good as 0."""
    layer = work.model.only
    assert layer is not None
    has_bias, settings = layer.bias is not None, work.settings
    equations, before = _begun(work)
    solution = conjugate_gradients(
        equations,
        partial(_product, work, centre_of(equations, bias=has_bias)),
        settings.l2,
        settings.constraint,
        bias=has_bias,
        keep=partial(_keep, work, equations),
        kept_before=before,
    )
    dtype = layer.weight.dtype
    bias = None if solution.bias is None else solution.bias.astype(dtype)
    model = Model(replace(layer, weight=solution.weight.astype(dtype), bias=bias))
    checked = evaluate(model.module(), work.validation, mse)
    facts = {
        "voxels": equations.count,
        "left_out": equations.left_out,
        "iterations": solution.iterations,
        "residual": solution.residual,
    }
    return Fitted(model, solution.loss, checked, facts, warnings=_warnings(solution))


def _warnings(solution: Iterated) -> tuple[str, ...]:
    if solution.converged:
        return ()
    return (
        f"after {solution.iterations} iterations the gradient is {solution.residual:.1e} of the first one: the scans "
        "hardly tell the weights apart; use a smaller kernel, or --l2",
    )


def _begun(work: Work) -> tuple[NormalEquations, dict[str, Any] | None]:
    """Return the diagonal of the normal equations, and the iterations of an interrupted run, None for none."""
    left = work.checkpoint.load() if work.checkpoint else None
    if left is not None:
        arrays, _ = left
        parts = [{name[2:]: one for name, one in arrays.items() if name.startswith(key)} for key in ("e:", "i:")]
        return NormalEquations.from_arrays(parts[0]), parts[1]
    equations = NormalEquations.of_none(plain(work.training.problems[0]), diagonal=True)
    for found in _pass(work, tile_diagonal):
        equations += found
    return equations, None


def _keep(work: Work, equations: NormalEquations, iterations: dict[str, Any]) -> None:
    if work.checkpoint is not None:
        arrays = {f"e:{name}": one for name, one in equations.to_arrays().items()}
        work.checkpoint.save(arrays | {f"i:{name}": one for name, one in iterations.items()}, {})


def _product(work: Work, centre: Array, weight: Array) -> Array:
    """Return the gram matrix times a weight, by a pass over the tiles."""
    total = np.zeros_like(weight)
    for part in _pass(work, lambda problem, found: tile_product(problem, found, centre, weight)):
        total += part
    return total


def _pass(work: Work, compute: Callable[[ConvProblem, Samples], Result]) -> Iterator[Result]:
    """Yield what is computed of each tile in turn, several threads working ahead."""
    tiles, done = work.training, 0
    total = sum(place.region.voxels for place in tiles.places)
    work.observe(Progress(done, total))

    def of(number: int, scratch: Scratch) -> Result:
        example, problem = tiles.read(number), plain(tiles.problems[tiles.places[number].pair])
        return compute(problem, samples(problem, window_of(example), example.target, example.counted, scratch))

    for number, result in enumerate(in_turn(range(len(tiles)), of, work.memory.threads)):
        yield result
        done += tiles.places[number].region.voxels
        work.observe(Progress(done, total))
