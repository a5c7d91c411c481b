"""What a device has room for: its memory, and tensors whose elements it can count."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lucid_core.algorithms import Algorithm
from lucid_core.errors import LimitError
from lucid_core.plan import DeviceMemory
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.stack import Problem, Stack
from lucid_core.tensors.algorithm import BLOCK, MOST_ELEMENTS, OUT, TensorAlgorithm
from lucid_core.tensors.devices import CPU, Device
from lucid_core.units import format_bytes

Ways = tuple[Algorithm, ...]
BLAS_BYTES = 40 << 20
"""What cuBLAS takes for the stream of a lane."""
SMALL, LARGE, STEP = 1 << 20, 10 << 20, 2 << 20
"""Torch takes memory of a device in pieces of `STEP` bytes for tensors up to `SMALL`, of twice `LARGE` up to `LARGE`,
and in multiples of `STEP` beyond."""


@dataclass(frozen=True)
class Room:
    """The device that computes, and the bytes that may be taken on it; None where it has no memory of its own."""

    device: Device = CPU
    limit_bytes: int | None = None

    def keeps(self, problem: Problem, ways: Ways, tile: Triple, count: int) -> bool:
        """Say whether so many lanes, with a tile each, have room."""
        if most_elements(problem, ways, tile) > MOST_ELEMENTS:
            return False
        return self.limit_bytes is None or self.memory(problem, ways, tile, count).peak_bytes <= self.limit_bytes

    def memory(self, problem: Problem, ways: Ways, tile: Triple, count: int) -> DeviceMemory:
        """Predict the memory on the device."""
        sizes = lane_sizes(problem, ways, tile)
        block, out = (piece(sizes.pop(name)) for name in (BLOCK, OUT))
        weights = piece(problem.parameters * np.dtype(problem.dtype).itemsize) * len(ways)
        blas = BLAS_BYTES if any(way.tensor_cores for way in ways) else 0
        workspace = sum(map(piece, sizes.values())) + blas
        return DeviceMemory(weights, count * block, count * workspace, count * out)

    def refusal(self, problem: Problem, ways: Ways, tile: Triple, asked: Triple | None) -> LimitError:
        """Return the error for the least tile that has no room."""
        hint = f"; a tile smaller than {'x'.join(map(str, asked))} takes less" if asked else ""
        most = most_elements(problem, ways, tile)
        if most > MOST_ELEMENTS:
            return LimitError(f"a tile would have a tensor of {most} elements; legal: fewer than 2**31{hint}")
        needed = self.memory(problem, ways, tile, 1).peak_bytes
        return LimitError(
            f"this needs at least {format_bytes(needed)} of the memory of device {self.device}, of which "
            f"{format_bytes(self.limit_bytes or 0)} may be taken; use device 'cpu'{hint}"
        )


def piece(size: int) -> int:
    """Return what torch takes of a device's memory for a tensor of so many bytes."""
    if size <= SMALL:
        return STEP if size else 0
    return 2 * LARGE if size < LARGE else -(-size // STEP) * STEP


def lane_sizes(problem: Problem, ways: Ways, tile: Triple) -> dict[str, int]:
    """Return the bytes of each buffer that a lane has on its device, large enough for every tile."""
    itemsize = np.dtype(problem.dtype).itemsize
    sizes: dict[str, int] = {}
    for one, way, out in _tensors(problem, ways, tile):
        shapes = {
            BLOCK: (one.in_channels, *one.block_shape(out)),
            OUT: (one.out_channels, *out),
            **way.buffers(one, out),
        }
        for name, shape in shapes.items():
            sizes[name] = max(sizes.get(name, 0), math.prod(shape) * itemsize)
    return sizes


def most_elements(problem: Problem, ways: Ways, tile: Triple) -> int:
    """Return the elements of the largest tensor that torch sees of a tile, 0 where it computes nothing."""
    return max((way.elements(one, out) for one, way, out in _tensors(problem, ways, tile)), default=0)


def _tensors(problem: Problem, ways: Ways, tile: Triple) -> Iterator[tuple[ConvProblem, TensorAlgorithm, Triple]]:
    """Yield each convolution of a tile that torch computes, that of a mask too, and its output box."""
    if isinstance(problem, Stack):
        parts = list(zip(problem.problems, ways, problem.boxes(tile)[1:], strict=True))
    else:
        parts = [(one, ways[0], tile) for one in (problem, problem.of_mask) if one]
    for one, way, out in parts:
        if isinstance(way, TensorAlgorithm):
            yield one, way, out
