"""A model fitted by Adam, epoch after epoch, until it is not better any more."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from lucid_cli.fitting.checkpoint import Checkpoint
from lucid_cli.fitting.model import Model
from lucid_cli.fitting.progress import Epochs
from lucid_cli.fitting.tiles import MOST_OPEN, Tiles
from lucid_cli.fitting.work import Fitted, Job
from lucid_core import machine
from lucid_core.events import Progress as Event
from lucid_core.fitting.scaling import ScaledExamples, Scaling, scaling_for
from lucid_core.fitting.train import Choices, Epoch, Progress, begin, evaluate, train
from lucid_core.planner import plan
from lucid_core.problem import ConvProblem
from lucid_core.turns import WAITING

PATIENCE = 10
"""Epochs without a better one, after which a fit ends, where `--patience` does not say."""
READERS = 2
"""Threads that read tiles ahead."""
ACTIVATIONS = 4
"""Arrays of the size of every layer's output that a step holds: the value, its gradient, and what computes them."""
WEIGHT_COPIES = 12
"""Arrays of the size of all weights: them, their gradients, what Adam keeps and computes, the best, a checkpoint."""


def bytes_of_step(model: Model, tiles: Tiles, batch_size: int) -> tuple[int, int]:
    """Return the memory of one step, and that of each thread beside it.

    A step holds the tiles of a batch and those that are read ahead, for one of them the outputs of every layer, and
    all weights.
    """
    place = tiles.largest
    problem = tiles.problems[place.pair]
    whole = model.problem((1, problem.in_channels, *problem.input_region(place.region).shape))
    layers = len(model.parts) / len(whole.problems)
    values = sum(math.prod(one.out_shape) for one in whole.problems) * math.ceil(layers)
    weights = sum(one.parameters for one in whole.problems)
    held = (batch_size + READERS * (WAITING + 1)) * tiles.block_bytes()
    fixed = held + (ACTIVATIONS * values + WEIGHT_COPIES * weights) * tiles.dtype.itemsize
    return fixed, max(map(_bytes_of_layer, whole.problems))


def _bytes_of_layer(problem: ConvProblem) -> int:
    """Return what a thread takes that computes a layer, or a part of its gradient, whose sums are of float64."""
    memory = plan(problem, threads=1).memory
    return memory.peak_bytes - memory.process + (WAITING + 1) * 8 * problem.parameters


def fit_by_adam(job: Job, checkpoint: Checkpoint | None) -> Fitted:
    """Train until the epochs are over, or none of the last `--patience` was better; take the best weights."""
    with machine.using_cores(job.memory.threads), Epochs(job.shown, job.settings.epochs) as shown:
        return _fit(job, checkpoint, shown)


def _fit(job: Job, checkpoint: Checkpoint | None, shown: Epochs) -> Fitted:
    settings, module = job.settings, job.model.module()
    constraints = settings.constraint
    scaling = scaling_for(module, job.training, constraints, READERS)
    scaling.applied(module, job.model.drawn)
    choices = Choices(
        scaling.loss(settings.loss),
        scaling.ridges(module, settings.loss, settings.l2),
        constraints,
        settings.learning_rate,
        settings.batch_size or 1,
        settings.seed or 0,
    )
    progress = begin(module, choices)
    _restore(checkpoint, progress)
    stopped = _run(job, progress, choices, scaling, partial(_save, checkpoint, progress), shown)
    best, unit = progress.best_epoch, scaling.unit(settings.loss)
    assert best is not None
    module.load_state_dict(progress.best)
    training = evaluate(module, ScaledExamples(job.training, scaling), choices.loss, threads=READERS)
    assert training is not None
    scaling.undone(module)
    curve = [_in_units(one, unit) for one in progress.epochs]
    facts = {
        "epochs": len(curve),
        "best_epoch": best.number,
        "stopped": stopped,
        "learning_rate": settings.learning_rate,
    }
    validation = _in_units(best, unit).validation
    return Fitted(job.model.learned(module), training * unit, validation, facts, curve)


def _run(
    job: Job, progress: Progress, choices: Choices, scaling: Scaling, keep: Callable[[], None], shown: Epochs
) -> str:
    """Train, and `keep` each epoch; return why it ended."""
    settings = job.settings
    training, validation = (ScaledExamples(one, scaling) for one in (job.training, job.validation))
    each = len(job.training) + len(job.validation)
    done, total = each * len(progress.epochs), each * settings.epochs
    patience = PATIENCE if settings.patience is None else settings.patience

    def observe(count: int) -> None:
        nonlocal done
        done += count
        shown.observe(Event(done, total))

    epochs = train(progress, training, validation, choices, partial(_order, job.training), observe, READERS)
    while len(progress.epochs) < settings.epochs:
        if progress.epochs and progress.since_best >= patience:
            return f"no better epoch in the last {patience}"
        epoch = next(epochs)
        shown.tell(_in_units(epoch, scaling.unit(settings.loss)))
        keep()
    return "all epochs are done"


def _in_units(epoch: Epoch, unit: float) -> Epoch:
    """Return an epoch with its losses in the units of the targets."""
    validation = None if epoch.validation is None else unit * epoch.validation
    return Epoch(epoch.number, unit * epoch.training, validation)


def _order(tiles: Tiles, drawn: np.random.Generator) -> Sequence[int]:
    """Draw the order of an epoch: all tiles in turn, of no more scans at a time than are open at once."""
    scans = drawn.permutation(sorted({place.pair for place in tiles.places}))
    group = {int(scan): number // MOST_OPEN for number, scan in enumerate(scans)}
    keys = drawn.random(len(tiles))
    return sorted(range(len(tiles)), key=lambda number: (group[tiles.places[number].pair], keys[number]))


def _save(checkpoint: Checkpoint | None, progress: Progress) -> None:
    if checkpoint is not None:
        parts = {
            "model": progress.model.state_dict(),
            "best": progress.best,
            "optimizer": progress.optimizer.state_dict(),
        }
        checkpoint.save(parts, {"epochs": [[one.number, one.training, one.validation] for one in progress.epochs]})


def _restore(checkpoint: Checkpoint | None, progress: Progress) -> None:
    """Go on from what an interrupted run left."""
    left = checkpoint.load() if checkpoint else None
    if left is None:
        return
    states, words = left
    progress.model.load_state_dict(states["model"])
    progress.optimizer.load_state_dict(states["optimizer"])
    progress.best = states["best"]
    progress.epochs = [Epoch(*one) for one in words["epochs"]]
