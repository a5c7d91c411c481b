"""Inputs and targets brought to mean 0 and deviation 1 while a model is trained, and its weights back to the units.

Steps of Adam are of one size whatever the units are: a CT of thousands and an image from 0 to 1 would need other ones.
With x = ox + fx x' and y = oy + fy y', a first convolution of w and b sees w fx and b + ox sum(w), and a last one makes
w / fy and (b - oy) / fy, so that nothing but the units changes.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lucid_core.fitting.examples import Example, Examples, in_order
from lucid_core.fitting.train import LossFunction, convolutions
from lucid_core.losses import huber, l1, mse
from lucid_core.nn import Conv3d, Sequential

POWERS = {"mse": 2, "l1": 1, "huber": 2}
"""How losses grow with the unit of the target."""


@dataclass(frozen=True)
class Scaling:
    """Offset and factor of inputs, and of targets."""

    x_offset: float = 0.0
    x_factor: float = 1.0
    y_offset: float = 0.0
    y_factor: float = 1.0

    def applied(self, model: Sequential, drawn: Collection[int] = ()) -> None:
        """Change the weights of a model to those for scaled inputs and targets.

        The layers of the numbers `drawn` begin with random weights: as they are, they suit what is scaled.
        """
        first, last = model[0], model[-1]
        if isinstance(first, Conv3d) and 0 not in drawn and (self.x_offset, self.x_factor) != (0, 1):
            _change(first, self.x_factor, shift=self.x_offset)
        if isinstance(last, Conv3d) and len(model) - 1 not in drawn and (self.y_offset, self.y_factor) != (0, 1):
            _change(last, 1 / self.y_factor, offset=-self.y_offset, bias_factor=1 / self.y_factor)

    def undone(self, model: Sequential) -> None:
        """Change the weights of a model for scaled inputs and targets to those for the true ones."""
        first, last = model[0], model[-1]
        if isinstance(last, Conv3d) and (self.y_offset, self.y_factor) != (0, 1):
            _change(last, self.y_factor, offset=self.y_offset / self.y_factor, bias_factor=self.y_factor)
        if isinstance(first, Conv3d) and (self.x_offset, self.x_factor) != (0, 1):
            _change(first, 1 / self.x_factor, shift=-self.x_offset / self.x_factor)

    def loss(self, name: str) -> LossFunction:
        """Return a loss of true outputs and targets, to be multiplied with its `unit`, as one of scaled ones."""
        losses: dict[str, LossFunction] = {"mse": mse, "l1": l1, "huber": partial(huber, delta=1 / self.y_factor)}
        return losses[name]

    def unit(self, loss: str) -> float:
        """Return what a loss of scaled targets is multiplied with to be that of the true ones."""
        return float(self.y_factor ** POWERS[loss])

    def ridges(self, model: Sequential, loss: str, l2: float) -> tuple[float, ...]:
        """Return the ridge of each convolution for scaled weights that is `l2` for the true ones."""
        layers = convolutions(model)
        factors = [1.0] * len(layers)
        if layers and model[0] is layers[0]:
            factors[0] /= self.x_factor
        if layers and model[-1] is layers[-1]:
            factors[-1] *= self.y_factor
        return tuple(l2 * factor**2 / self.unit(loss) for factor in factors)


def _change(layer: Conv3d, factor: float, *, shift: float = 0.0, offset: float = 0.0, bias_factor: float = 1.0) -> None:
    """Multiply weights; to the bias add `offset` and `shift` times the sums of the weights as they were."""
    weight = layer.weight.data.astype(np.float64)
    layer.weight.data = (factor * weight).astype(layer.weight.dtype)
    if layer.bias is not None:
        bias = layer.bias.data.astype(np.float64) + offset + shift * weight.sum(axis=(1, 2, 3, 4))
        layer.bias.data = (bias_factor * bias).astype(layer.bias.dtype)


def scaling_for(model: Sequential, examples: Examples, constraints: tuple[str, ...] = (), threads: int = 1) -> Scaling:
    """Measure examples, `threads` reading ahead, and return the scaling that the model allows.

    Only a convolution that is learned takes up a factor, and only its bias an offset. Where weights are to sum to 1,
    input and target of a single convolution share their factor, and others have none.
    """
    first, last = model[0], model[-1]
    x_offset, x_factor, y_offset, y_factor = _measured(examples, threads)
    if "sum1" in constraints:
        x_factor = y_factor = y_factor if first is last else 1.0
    found = Scaling(x_offset, x_factor, y_offset, y_factor)
    if not _learned(first):
        found = replace(found, x_offset=0.0, x_factor=1.0)
    if not _learned(last):
        found = replace(found, y_offset=0.0, y_factor=1.0)
    x_shifted, y_shifted = (isinstance(one, Conv3d) and one.bias is not None for one in (first, last))
    return replace(found, x_offset=found.x_offset if x_shifted else 0.0, y_offset=found.y_offset if y_shifted else 0.0)


def _learned(layer: object) -> bool:
    return isinstance(layer, Conv3d) and layer.weight.requires_grad


def _measured(examples: Examples, threads: int) -> tuple[float, float, float, float]:
    """Return mean and deviation of inputs and of targets where they count, 0 and 1 where there is none."""
    sums = np.zeros((2, 3))
    for example in in_order(examples, range(len(examples)), threads):
        for row, values in enumerate((example.block, example.target[:, example.counted])):
            finite = values[np.isfinite(values)].astype(np.float64)
            sums[row] += finite.size, finite.sum(), np.square(finite).sum()
    found: list[float] = []
    for count, total, squares in sums.tolist():
        mean = total / count if count else 0.0
        variance = squares / count - mean**2 if count else 0.0
        found += [mean, float(np.sqrt(variance)) if variance > 1e-12 * mean**2 else abs(mean) or 1.0]
    x_mean, x_deviation, y_mean, y_deviation = found
    return x_mean, x_deviation, y_mean, y_deviation


@dataclass(frozen=True)
class ScaledExamples:
    """Examples with their inputs and targets scaled."""

    examples: Examples
    scaling: Scaling

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, number: int) -> Example:
        """Read one of them."""
        one, scaling = self.examples.read(number), self.scaling
        block, target = one.block - one.block.dtype.type(scaling.x_offset), one.target
        target = target - target.dtype.type(scaling.y_offset)
        block /= block.dtype.type(scaling.x_factor)
        target /= target.dtype.type(scaling.y_factor)
        return Example(block, target, one.counted)
