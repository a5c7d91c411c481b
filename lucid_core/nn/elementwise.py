"""Elementwise operations as layers: what stands between the convolutions of a `Sequential`."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core import lazy
from lucid_core.arrays import as_array, is_dask
from lucid_core.elementwise import Abs as AbsOperation
from lucid_core.elementwise import Argmax as ArgmaxOperation
from lucid_core.elementwise import Clip as ClipOperation
from lucid_core.elementwise import LeakyRelu, Operation, Relu
from lucid_core.elementwise import Magnitude as MagnitudeOperation
from lucid_core.elementwise import Scale as ScaleOperation
from lucid_core.errors import ArgumentTypeError, ShapeError
from lucid_core.functional import as_batch, as_shape
from lucid_core.nn.module import Array, Module, in_memory
from lucid_core.volume import promoted


class Elementwise(Module):
    """An operation on (N, C, D, H, W), or one volume (C, D, H, W); floats keep their dtype, integers become floats."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def forward(self, x: npt.ArrayLike) -> Array:
        """Return a new array."""
        array = lazy.checked("x", x) if is_dask(x) else as_array("x", x)
        shape, dtype = as_shape(array), promoted(array.dtype)
        if is_dask(array):
            return lazy.by_chunks(array, self.forward, dtype, joins_channels=self.operation.joins_channels)
        values = array.astype(dtype)
        if array.ndim == 4:
            return self.operation.run(values)
        out = np.empty((shape[0], self.operation.channels(shape[1]), *shape[2:]), dtype)
        with np.errstate(all="ignore"):
            for volume, result in zip(values, out, strict=True):
                result[...] = self.operation.run(volume)
        return out

    def gradient(self, x: npt.ArrayLike, grad: npt.ArrayLike) -> Array:
        """Return the gradient of x, in the dtype of the result; at kinks and NaN it is what `torch.autograd` gives.

        `grad` has the shape and dtype of the result, or `ShapeError`, `ArgumentTypeError` is raised.
        """
        array, above = in_memory("x", x), in_memory("grad", grad)
        (n, channels, *size), dtype = as_shape(array), promoted(array.dtype)
        _check_grad(above, (n, self.operation.channels(channels), *size)[5 - array.ndim :], dtype)
        values, out = as_batch(array.astype(dtype, copy=False)), np.empty((n, channels, *size), dtype)
        with np.errstate(all="ignore"):
            for volume, one, result in zip(values, as_batch(above), out, strict=True):
                result[...] = self.operation.gradient(volume, one)
        return out.reshape(array.shape)

    def extra_repr(self) -> str:
        """Return its numbers."""
        return ", ".join(f"{name}={value}" for name, value in vars(self.operation).items())


class ReLU(Elementwise):
    """max(x, 0)."""

    def __init__(self) -> None:
        super().__init__(Relu())


class LeakyReLU(Elementwise):
    """x where it is positive, else `negative_slope` times x."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__(LeakyRelu(negative_slope))


class Abs(Elementwise):
    """The magnitude of each value."""

    def __init__(self) -> None:
        super().__init__(AbsOperation())


class Clip(Elementwise):
    """`low` where a value is below it, `high` where it is above."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__(ClipOperation(low, high))


class Scale(Elementwise):
    """factor * x + offset."""

    def __init__(self, factor: float, offset: float = 0.0) -> None:
        super().__init__(ScaleOperation(factor, offset))


class Magnitude(Elementwise):
    """The Euclidean length over all channels: one channel."""

    def __init__(self) -> None:
        super().__init__(MagnitudeOperation())


class Argmax(Elementwise):
    """The number of the channel with the largest value, the first of several: one channel, in the dtype of x."""

    def __init__(self) -> None:
        super().__init__(ArgmaxOperation())


def _check_grad(grad: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `ShapeError` or `ArgumentTypeError` for a gradient that is not of the shape and dtype of the result."""
    if grad.shape != shape:
        raise ShapeError(f"grad must have the shape {shape} of the layer's result, not {grad.shape}")
    if grad.dtype.newbyteorder("=") != dtype:
        raise ArgumentTypeError(f"grad has dtype {grad.dtype}, the layer's result {dtype}; convert it with .astype")
