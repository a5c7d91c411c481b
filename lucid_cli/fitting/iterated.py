"""One layer of very many weights with a squared loss: conjugate gradients, a pass over all tiles each."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lucid_cli.fitting.checkpoint import Checkpoint
from lucid_cli.fitting.exact import plain, window_of
from lucid_cli.fitting.tiles import Tiles
from lucid_cli.fitting.work import Fitted, Job
from lucid_cli.progress import Reporter
from lucid_core.events import Observer, Progress
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


def fit_by_iterations(job: Job, checkpoint: Checkpoint | None) -> Fitted:
    """Go over all tiles until the gradient of the loss is as good as 0."""
    has_bias = job.model.has_bias
    with Reporter(job.shown, "fit") as observe:
        equations, before = _begun(job, checkpoint, observe)
        solution = conjugate_gradients(
            equations,
            partial(_product, job, observe, centre_of(equations, bias=has_bias)),
            job.settings.l2,
            job.settings.constraint,
            bias=has_bias,
            keep=partial(_keep, checkpoint, equations),
            kept_before=before,
        )
    model = job.model.solved(solution.weight, solution.bias)
    checked = evaluate(model.module(), job.validation, mse)
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


def _begun(job: Job, checkpoint: Checkpoint | None, observe: Observer) -> tuple[NormalEquations, dict[str, Any] | None]:
    """Return the diagonal of the normal equations, and the iterations of an interrupted run, None for none."""
    left = checkpoint.load() if checkpoint else None
    if left is not None:
        parts, _ = left
        return NormalEquations.from_arrays(parts["equations"]), parts["iterations"]
    equations = NormalEquations.of_none(plain(job.training.problems[0]), diagonal=True)
    for found in _pass(job, observe, tile_diagonal):
        equations += found
    return equations, None


def _keep(checkpoint: Checkpoint | None, equations: NormalEquations, iterations: dict[str, Any]) -> None:
    if checkpoint is not None:
        checkpoint.save({"equations": equations.to_arrays(), "iterations": iterations}, {})


def _product(job: Job, observe: Observer, centre: Array, weight: Array) -> Array:
    """Return the gram matrix times a weight, by a pass over the tiles."""
    total = np.zeros_like(weight)
    for part in _pass(job, observe, lambda problem, found: tile_product(problem, found, centre, weight)):
        total += part
    return total


def _pass(job: Job, observe: Observer, compute: Callable[[ConvProblem, Samples], Result]) -> Iterator[Result]:
    """Yield what is computed of each tile in turn, several threads working ahead."""
    tiles, done = job.training, 0
    total = sum(place.region.voxels for place in tiles.places)
    observe(Progress(done, total))

    def of(number: int, scratch: Scratch) -> Result:
        example, problem = tiles.read(number), plain(tiles.problems[tiles.places[number].pair])
        return compute(problem, samples(problem, window_of(example), example.target, example.counted, scratch))

    for number, result in enumerate(in_turn(range(len(tiles)), of, job.memory.threads)):
        yield result
        done += tiles.places[number].region.voxels
        observe(Progress(done, total))
