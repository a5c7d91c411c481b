"""Training by Adam: an epoch goes once over all examples, in an order that the seed and its number draw."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import RunError
from lucid_core.fitting.constraints import project
from lucid_core.fitting.examples import Example, Examples, in_order
from lucid_core.losses import Loss, mse
from lucid_core.nn import Conv3d, Sequential
from lucid_core.optim import Adam

Array = npt.NDArray[Any]
LossFunction = Callable[[Array, Array, Array, int], Loss]
"""Of an output, its target, where that counts, and what the sum is divided by (`lucid_core.losses`)."""
Order = Callable[[np.random.Generator], Sequence[int]]
"""Draws the order of the examples of an epoch."""


@dataclass(frozen=True)
class Choices:
    """How a model is trained."""

    loss: LossFunction = mse
    ridges: tuple[float, ...] = ()
    """Added to the loss, for each convolution: this times the sum of the squares of its weights."""
    constraints: tuple[str, ...] = ()
    """What the weights of every convolution that is learned keep (`lucid_core.fitting.constraints`)."""
    learning_rate: float = 1e-3
    batch_size: int = 1
    """Examples of a step."""
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to."""

    number: int
    training: float
    """Loss, as it was at each step, over all voxels of the epoch."""
    validation: float | None
    """Loss after the epoch, over all voxels to validate with; None where none of them counts."""

    @property
    def judged(self) -> float:
        """The loss that tells a better epoch: that of the validation where there is one."""
        return self.training if self.validation is None else self.validation


@dataclass
class Progress:
    """How far training has come: all that another run needs to go on from here, bit for bit."""

    model: Sequential
    optimizer: Adam
    epochs: list[Epoch] = field(default_factory=list)
    best: dict[str, Array] = field(default_factory=dict)
    """The weights after the best epoch."""

    @property
    def best_epoch(self) -> Epoch | None:
        """The epoch of the lowest loss, the first of several."""
        return min(self.epochs, key=lambda one: one.judged, default=None)

    @property
    def since_best(self) -> int:
        """Epochs since the best one."""
        return self.epochs[-1].number - self.best_epoch.number if self.best_epoch else 0


def begin(model: Sequential, choices: Choices) -> Progress:
    """Return the start of a training; the weights of the model become ones that keep the constraints."""
    _project(model, choices)
    learned = [one for one in model.parameters() if one.requires_grad]
    return Progress(model, Adam(learned, choices.learning_rate), best=model.state_dict())


def train(
    progress: Progress,
    examples: Examples,
    validation: Examples,
    choices: Choices,
    order: Order | None = None,
    observe: Callable[[int], None] = lambda _: None,
    threads: int = 1,
) -> Iterator[Epoch]:
    """Yield epoch after epoch, for as long as they are asked for; `progress` then holds the weights after each.

    Everything follows from the start, the examples and the choices: the same epochs come again, in any number of runs.
    `order` draws the numbers of the examples in their order, by default a permutation; `observe` is told how many
    examples were read; `threads` read ahead.

    Raises `RunError` where the loss is not a number any more, or no voxel counts.
    """
    while True:
        number = len(progress.epochs) + 1
        drawn = np.random.default_rng([choices.seed, number])
        numbers = drawn.permutation(len(examples)) if order is None else order(drawn)
        total, count = 0.0, 0
        read = in_order(examples, numbers, threads)
        while batch := list(itertools.islice(read, choices.batch_size)):
            step_total, step_count = _step(progress, batch, choices)
            total, count = total + step_total, count + step_count
            observe(len(batch))
        loss = _mean(total, count, number)
        epoch = Epoch(number, loss, evaluate(progress.model, validation, choices.loss, observe, threads))
        progress.epochs.append(epoch)
        if progress.best_epoch is epoch:
            progress.best = progress.model.state_dict()
        yield epoch


def _mean(total: float, count: int, number: int) -> float:
    if not count:
        raise RunError("no voxel counts: all are outside of the mask, or NaN or infinite")
    if not math.isfinite(total):
        raise RunError(f"the loss is {total / count} in epoch {number}: training diverged; lower the learning rate")
    return total / count


def evaluate(
    model: Sequential,
    examples: Examples,
    loss: LossFunction,
    observe: Callable[[int], None] = lambda _: None,
    threads: int = 1,
) -> float | None:
    """Return the mean loss over all voxels that count, None where none does; `threads` read ahead."""
    total, count = 0.0, 0
    for example in in_order(examples, range(len(examples)), threads):
        out = model.forward(example.block[np.newaxis])[0]
        found = _loss(loss, out, example, _finite(example, out))
        if found is not None:
            total, count = total + found[0].value, count + found[1]
        observe(1)
    return total / count if count else None


def _step(progress: Progress, batch: Sequence[Example], choices: Choices) -> tuple[float, int]:
    """Do one step of the optimizer; return the loss summed over voxels, and their number."""
    model, total, count = progress.model, 0.0, 0
    model.zero_grad()
    for example in batch:
        values, counted = _values(model, example)
        found = _loss(choices.loss, values[-1][0], example, counted)
        if found is not None:
            total, count = total + found[0].value, count + found[1]
            model.add_gradients(values[0], found[0].gradient[np.newaxis], values)
    if count:
        _finish_gradients(model, count, choices.ridges)
        progress.optimizer.step()
        _project(model, choices)
    return total, count


def _loss(loss: LossFunction, out: Array, example: Example, counted: Array) -> tuple[Loss, int] | None:
    """Return the loss summed over the values that count, and their number; None where none does."""
    count = int(np.count_nonzero(counted)) * len(out)
    return (loss(out, example.target, counted, 1), count) if count else None


def _values(model: Sequential, example: Example) -> tuple[list[Array], Array]:
    """Return the input and the output of every layer, and where the last counts.

    Where a value that is not finite makes an output so, that one does not count; the value becomes 0, or the gradient
    of a weight, a product with it, would be NaN.
    """
    block = example.block[np.newaxis]
    values = model.values(block)
    counted = _finite(example, values[-1][0])
    if not np.isfinite(block).all():
        values = model.values(np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0))
    return values, counted


def _finite(example: Example, out: Array) -> Array:
    both = np.isfinite(out).all(axis=0) & np.isfinite(example.target).all(axis=0)
    return np.asarray(example.counted & both)


def _finish_gradients(model: Sequential, count: int, ridges: Sequence[float]) -> None:
    """Make gradients of a sum over voxels those of the mean, and add those of the ridges."""
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= count
    for layer, ridge in zip(convolutions(model), ridges, strict=False):
        if layer.weight.grad is not None and ridge:
            layer.weight.grad += layer.weight.dtype.type(2 * ridge) * layer.weight.data


def _project(model: Sequential, choices: Choices) -> None:
    """Let the weights of every convolution that is learned keep the constraints: the nearest ones that do."""
    for layer in convolutions(model):
        if choices.constraints and layer.weight.requires_grad:
            layer.weight.data = project(layer.weight.data, choices.constraints)


def convolutions(model: Sequential) -> list[Conv3d]:
    """Return the convolutions of a model."""
    return [layer for layer in model if isinstance(layer, Conv3d)]
