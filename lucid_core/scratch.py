"""Buffers that are used again: fresh pages cost as much as the arithmetic done in them."""

import math

import numpy as np
import numpy.typing as npt

from lucid_core.pages import fresh


class Scratch:
    """Named buffers of one worker. A buffer is made on first use and grows when a larger one is asked for."""

    def __init__(self) -> None:
        self._buffers: dict[str, npt.NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
        """Return a C-contiguous array over the buffer `name`; what it holds is left from the last use.

        It begins at a multiple of `lucid_core.pages.ALIGNMENT` bytes.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = fresh(size)
        return buffer[:size].view(dtype).reshape(shape)
