"""Buffers that are used again: fresh pages cost as much as the arithmetic done in them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.pages import fresh, mapped

Shape = tuple[int, ...]


def size_of(shapes: Mapping[str, Shape], dtype: npt.DTypeLike) -> int:
    """Return the bytes of arrays of these shapes."""
    return sum(map(math.prod, shapes.values())) * np.dtype(dtype).itemsize


class Scratch:
    """Named buffers of one worker. A buffer is made on first use and grows when a larger one is asked for.

    Where that is often (`grows`), what it had before goes back to the system.
    """

    def __init__(self, *, grows: bool = False) -> None:
        self._new = mapped if grows else fresh
        self._buffers: dict[str, npt.NDArray[np.uint8]] = {}

    def release(self) -> None:
        """Let go of every buffer; arrays over one keep it."""
        self._buffers.clear()

    def arrays(self, shapes: Mapping[str, Shape], dtype: npt.DTypeLike) -> dict[str, npt.NDArray[Any]]:
        """Return an array, as `array` does, for each name and shape."""
        return {name: self.array(name, shape, dtype) for name, shape in shapes.items()}

    def array(self, name: str, shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
        """Return a C-contiguous array over the buffer `name`; what it holds is left from the last use.

        It begins at a multiple of `lucid_core.pages.ALIGNMENT` bytes.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            self._buffers.pop(name, None)
            del buffer
            buffer = self._buffers[name] = self._new(size)
        return buffer[:size].view(dtype).reshape(shape)
