"""Elementwise operations between the convolutions of a stack, and the two that join channels.

Each works on the block (C, d, h, w) of any region by itself: what a voxel becomes depends on nothing but its channels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ArgumentError, ArgumentTypeError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Operation(ABC):
    """One operation; its fields are its numbers."""

    name: ClassVar[str]
    joins_channels: ClassVar[bool] = False
    """Whether it makes one channel of all."""

    def __post_init__(self) -> None:
        for name, number in vars(self).items():
            real = isinstance(number, (int, float, np.floating, np.integer)) and not isinstance(number, bool)
            if not real or number != number:
                raise ArgumentTypeError(f"{name} of {self.name} must be a number, not {number!r}")
            object.__setattr__(self, name, float(number))  # of a frozen dataclass

    @abstractmethod
    def run(self, values: Array) -> Array:
        """Return the result for floating-point values (C, d, h, w): the same array changed, or a new one."""

    @abstractmethod
    def gradient(self, values: Array, grad: Array) -> Array:
        """Return the gradient of the values (C, d, h, w), in their dtype, from that of the result: a new array.

        At kinks and NaN it is what `torch.autograd` gives. Raises `ArgumentError` for an operation that has none.
        """

    def channels(self, count: int) -> int:
        """Return the channels that it makes of so many."""
        return 1 if self.joins_channels else count

    def to_json(self) -> Any:
        """Return it as a configuration writes it: its name, or its name with its numbers."""
        numbers = list(vars(self).values())
        return {self.name: numbers} if numbers else self.name


@dataclass(frozen=True)
class Relu(Operation):
    """max(x, 0); NaN stays."""

    name = "relu"

    def run(self, values: Array) -> Array:
        """Change the values in place."""
        return np.maximum(values, 0, out=values)

    def gradient(self, values: Array, grad: Array) -> Array:
        """Return 0 where a value is at most 0."""
        return np.where(values <= 0, grad.dtype.type(0), grad)


@dataclass(frozen=True)
class LeakyRelu(Operation):
    """The value where it is positive, else `slope` times it."""

    name = "leaky_relu"
    slope: float = 0.01

    def run(self, values: Array) -> Array:
        """Change the values in place."""
        np.multiply(values, values.dtype.type(self.slope), out=values, where=values < 0)
        return values

    def gradient(self, values: Array, grad: Array) -> Array:
        """Return `slope` times the gradient where a value is not positive."""
        return np.where(values > 0, grad, grad * grad.dtype.type(self.slope))


@dataclass(frozen=True)
class Abs(Operation):
    """The magnitude of each value."""

    name = "abs"

    def run(self, values: Array) -> Array:
        """Change the values in place."""
        return np.abs(values, out=values)

    def gradient(self, values: Array, grad: Array) -> Array:
        """Return the gradient times the sign of the value, 0 for NaN."""
        sign: Array = (values > 0).astype(grad.dtype) - (values < 0)
        return np.multiply(grad, sign, out=sign)


@dataclass(frozen=True)
class Clip(Operation):
    """`low` where a value is below it, `high` where it is above; NaN stays."""

    name = "clip"
    low: float
    high: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ArgumentError(f"clip takes low, then high, not {self.low:g}, {self.high:g}")

    def run(self, values: Array) -> Array:
        """Change the values in place."""
        number = values.dtype.type
        return np.clip(values, number(self.low), number(self.high), out=values)

    def gradient(self, values: Array, grad: Array) -> Array:
        """Return 0 where a value is beyond a bound."""
        number = values.dtype.type
        inside = (values >= number(self.low)) & (values <= number(self.high))
        return np.where(inside, grad, grad.dtype.type(0))


@dataclass(frozen=True)
class Scale(Operation):
    """`factor` times the value, plus `offset`."""

    name = "scale"
    factor: float
    offset: float = 0.0

    def run(self, values: Array) -> Array:
        """Change the values in place."""
        values *= values.dtype.type(self.factor)
        values += values.dtype.type(self.offset)
        return values

    def gradient(self, values: Array, grad: Array) -> Array:  # noqa: ARG002
        """Return `factor` times the gradient."""
        result: Array = grad * grad.dtype.type(self.factor)
        return result


@dataclass(frozen=True)
class Magnitude(Operation):
    """The Euclidean length over all channels, such as of a gradient: one channel."""

    name = "magnitude"
    joins_channels = True

    def run(self, values: Array) -> Array:
        """Add the squares channel by channel, so that the order of the sum is the same for every shape."""
        total = np.square(values[:1])
        for channel in range(1, len(values)):
            total += np.square(values[channel : channel + 1])
        return np.sqrt(total, out=total)

    def gradient(self, values: Array, grad: Array) -> Array:
        """Return the gradient times the unit vector of the values, 0 where their length is."""
        length = self.run(values)
        unit = np.divide(values, length, out=np.zeros_like(values), where=length != 0)
        return np.multiply(unit, grad, out=unit)


@dataclass(frozen=True)
class Argmax(Operation):
    """The number of the channel with the largest value, or NaN, the first of several: one channel of labels."""

    name = "argmax"
    joins_channels = True

    def run(self, values: Array) -> Array:
        """Return the labels in the dtype of the values."""
        best, labels = values[:1].copy(), np.zeros_like(values[:1])
        for channel in range(1, len(values)):
            one = values[channel : channel + 1]
            better = (one > best) | ((one != one) & (best == best))
            np.copyto(best, one, where=better)
            labels[better] = channel
        return labels

    def gradient(self, values: Array, grad: Array) -> Array:  # noqa: ARG002
        """Raise `ArgumentError`."""
        raise ArgumentError("argmax has no gradient, labels being whole numbers: learn from the channels before it")


OPERATIONS: dict[str, type[Operation]] = {
    one.name: one for one in (Relu, LeakyRelu, Abs, Clip, Scale, Magnitude, Argmax)
}
