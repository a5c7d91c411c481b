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
from lucid_core.errors import ShapeError
from lucid_core.nn.module import Module
from lucid_core.volume import promoted


class Elementwise(Module):
    """An operation on (N, C, D, H, W), or one volume (C, D, H, W); floats keep their dtype, integers become floats."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def forward(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return a new array."""
        array = lazy.checked("x", x) if is_dask(x) else as_array("x", x)
        if array.ndim not in (4, 5):
            raise ShapeError(f"x must have 5 axes (N, C, D, H, W), or 4 (C, D, H, W), not {array.ndim}: {array.shape}")
        dtype = promoted(array.dtype)
        if is_dask(array):
            return lazy.by_chunks(array, self.forward, dtype, joins_channels=self.operation.joins_channels)
        values = array.astype(dtype)
        if array.ndim == 4:
            return self.operation.run(values)
        shape = (len(values), self.operation.channels(values.shape[1]), *values.shape[2:])
        out = np.empty(shape, values.dtype)
        with np.errstate(all="ignore"):
            for volume, result in zip(values, out, strict=True):
                result[...] = self.operation.run(volume)
        return out

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
