"""One chunk of the output, from the pieces of the input that it reads: what a task of a lazy convolution does."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core import blas
from lucid_core.arrays import empty
from lucid_core.compute import Convolution, Filters, Layers, computation, window_on
from lucid_core.cutting import cuts
from lucid_core.masked import MaskedReader
from lucid_core.plan import Plan
from lucid_core.regions import Region, Triple
from lucid_core.scratch import Scratch
from lucid_core.stack import Problem, Stack
from lucid_core.volume import ArrayReader, Shape5, VolumeReader

Array = npt.NDArray[Any]
Place = tuple[int, int, int, int]
"""Channel, D, H, W of a voxel."""
RECIPES_KEPT = 16
"""Layers, or stacks of them, whose weights a process keeps prepared."""


@dataclass(frozen=True)
class Recipe:
    """What all chunks have in common; the token tells recipes apart."""

    token: str
    plan: Plan = field(compare=False)
    filters: tuple[Filters, ...] = field(compare=False)
    tile: Triple = field(compare=False)
    """Output voxels along D, H, W that are computed at a time."""
    dtype: np.dtype[Any] = field(compare=False)
    """Of the result."""
    axes: int = field(compare=False)
    """Of the result: the last of N, C, D, H, W."""


@dataclass(frozen=True)
class Chunk:
    """A chunk of the output, and the first voxels of the pieces it is computed from."""

    batch: int
    """Volumes."""
    out: Region
    places: tuple[Place, ...]
    mask_places: tuple[Place, ...]


class PiecesReader:
    """Reads from pieces (n, c, d, h, w) of a batch of volumes, or their last axes; implements `VolumeReader`."""

    random_access = True

    def __init__(self, shape: Shape5, places: Sequence[Place], pieces: Sequence[Array]) -> None:
        self.shape = shape
        self._pieces = [
            (place[0], box(tuple(zip(place[1:], piece.shape[-3:], strict=True))), piece[(None,) * (5 - piece.ndim)])
            for place, piece in zip(places, pieces, strict=True)
        ]

    def read(self, batch: int, region: Region, out: Array) -> None:
        """Copy what each piece holds of the region."""
        for channel, held, piece in self._pieces:
            start = [max(pair) for pair in zip(region.start, held.start, strict=True)]
            stop = [min(pair) for pair in zip(region.stop, held.stop, strict=True)]
            if all(low < high for low, high in zip(start, stop, strict=True)):
                channels = out[channel : channel + piece.shape[1]]
                channels[_within(start, stop, region)] = piece[batch][_within(start, stop, held)]

    def view(self, batch: int, dtype: npt.DTypeLike) -> Array | None:
        """Return the volume where one piece is all of it."""
        whole = [piece for _, _, piece in self._pieces if piece.shape[1:] == self.shape[1:]]
        return ArrayReader(whole[0]).view(batch, dtype) if whole else None

    def forget(self, batch: int, plane: int) -> None:
        """Keep everything: the pieces are those of the task."""


def box(axes: Sequence[tuple[int, int]]) -> Region:
    """Return the region of a first voxel and a length along D, H and W."""
    (d, depth), (h, height), (w, width) = axes
    return Region((d, h, w), (d + depth, h + height, w + width))


def take(chunk: Array, within: tuple[slice, ...]) -> Array:
    """Return a piece of a chunk of the input: a copy, unless that is most of it, so that no chunk is kept for a few."""
    piece: Array = chunk[within]
    return piece if 2 * piece.size > chunk.size else piece.copy()


@lru_cache(maxsize=RECIPES_KEPT)
def prepared(recipe: Recipe) -> Convolution | Layers:
    """Return the computation of a recipe, its weights prepared once in each process."""
    return computation(recipe.plan, recipe.filters)


def convolve(recipe: Recipe, chunk: Chunk, pieces: Sequence[Array], mask_pieces: Sequence[Array]) -> Array:
    """Compute a chunk of the output, tile by tile on this thread."""
    problem, work = recipe.plan.problem, prepared(recipe)
    reader = _reader(problem, chunk, pieces, mask_pieces)
    out = empty((chunk.batch, problem.out_channels, *chunk.out.shape), np.dtype(problem.dtype))
    scratch = Scratch(grows=isinstance(problem, Stack))
    with blas.single_threaded(), np.errstate(all="ignore"):
        for batch, tile in itertools.product(range(chunk.batch), _tiles(chunk.out, recipe.tile)):
            window = window_on(reader, batch, problem, problem.input_region(tile), scratch)
            work.compute(window, tile, out[batch][_within(tile.start, tile.stop, chunk.out)], scratch)
        result = out.astype(recipe.dtype, copy=False)
    return result.reshape(result.shape[-recipe.axes :])


def _within(start: Sequence[int], stop: Sequence[int], region: Region) -> tuple[slice, ...]:
    """Return the index (C, d, h, w) of a box in an array that holds a region."""
    ends = zip(start, stop, region.start, strict=True)
    return (slice(None), *(slice(low - at, high - at) for low, high, at in ends))


def _tiles(out: Region, step: Triple) -> list[Region]:
    """Cut a region into tiles of at most `step` voxels."""
    along = [
        [(first + low, high - low) for low, high in cuts(size, most)]
        for first, size, most in zip(out.start, out.shape, step, strict=True)
    ]
    return [box(axes) for axes in itertools.product(*along)]


def _reader(problem: Problem, chunk: Chunk, pieces: Sequence[Array], mask_pieces: Sequence[Array]) -> VolumeReader:
    """Return the reader of what the problem needs, from pieces of the input and of the mask."""
    shape = (chunk.batch, *problem.in_shape[1:])
    reader = PiecesReader(shape, chunk.places, pieces)
    normalization = None if isinstance(problem, Stack) else problem.normalization
    if normalization is None or not normalization.of_voxels:
        return reader
    mask = PiecesReader((1, 1, *problem.size), chunk.mask_places, mask_pieces) if normalization.mask else None
    return MaskedReader(reader, normalization, mask)
