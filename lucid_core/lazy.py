"""Convolving a dask array: a graph that computes each chunk of the output from the voxels it needs, and from no others.

The algorithm is planned once, from the shape of the whole volume, and borders are those of the whole volume. A chunk of
the output gets pieces of all input chunks that its halo reaches, however many these are, and of those at the opposite
border where the padding is circular. So the result has the bits of the same call on the whole array in memory.
"""

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lucid_core.algorithms import member
from lucid_core.arrays import is_dask
from lucid_core.boundary import axis_pieces
from lucid_core.compute import Filters
from lucid_core.cutting import choose_tile
from lucid_core.errors import ArgumentError, ArgumentTypeError
from lucid_core.optional import require
from lucid_core.pieces import Chunk, Place, Recipe, box, convolve, take
from lucid_core.plan import Plan
from lucid_core.regions import Region
from lucid_core.stack import Problem
from lucid_core.volume import promoted

Array = npt.NDArray[Any]
Edges = tuple[int, ...]
"""First voxel of each chunk along an axis, and one past the last."""
Bounds = list[list[tuple[int, int]]]
"""Along D, H and W, the first output voxel of each chunk, and how many it has."""


class Part(NamedTuple):
    """Some voxels of an axis that lie in one chunk."""

    chunk: int
    start: int
    """First of them, counted in the chunk."""
    stop: int
    origin: int
    """First of them, counted in the volume."""
    whole: bool


def checked(name: str, array: Any) -> Any:
    """Return a dask array whose chunks have known shapes and are arrays of NumPy, or raise `ArgumentError`."""
    if hasattr(array, "expr"):
        raise ArgumentError(
            f"{name} is an array of dask's query planner, which cannot be convolved lazily yet: set the configuration "
            "array.query-planning of dask to False before dask.array is imported"
        )
    if any(math.isnan(size) for sizes in array.chunks for size in sizes):
        raise ArgumentError(f"the chunks of {name} have no known shape: call {name}.compute_chunk_sizes() first")
    if type(array._meta) is not np.ndarray:
        raise ArgumentTypeError(
            f"the chunks of {name} are of {type(array._meta).__qualname__}, legal: NumPy arrays; make them so, for "
            f"example by {name}.map_blocks(numpy.asarray)"
        )
    return array


def check_call(threads: int | None, engine: str, device: str | None) -> None:
    """Raise `ArgumentError` for more threads than one, as those of dask compute the chunks, and for torch."""
    if engine == "torch" or device not in (None, "cpu", "auto"):
        raise ArgumentError(
            f"engine={engine!r} on device={device!r} cannot be kept for a dask array, whose chunks NumPy or Numba "
            "convolves on the CPU; leave them out, or convolve an array in memory"
        )
    if threads not in (None, 1):
        raise ArgumentError(
            f"threads={threads} cannot be kept for a dask array, whose chunks are computed by one thread each: leave "
            "it out, and say to dask how many there are, for example .compute(num_workers=2)"
        )


def by_chunks(x: Any, run: Callable[[Array], Array], dtype: np.dtype[Any], *, joins_channels: bool) -> Array:
    """Return the dask array of what `run` makes of each chunk of x, of all channels where it makes one of them."""
    joined = x.rechunk({x.ndim - 4: -1}) if joins_channels else x
    chunks = list(joined.chunks)
    if joins_channels:
        chunks[x.ndim - 4] = (1,)
    result: Array = joined.map_blocks(run, dtype=dtype, chunks=tuple(chunks), meta=np.empty((0,) * x.ndim, dtype))
    return result


def convolved(x: Any, plan: Plan, filters: Sequence[Filters], mask: Any = None) -> Array:
    """Return the dask array of x, (N, C, D, H, W) or (C, D, H, W), convolved by a plan made for its whole shape.

    `mask` (D, H, W), of NumPy or dask, is inside where it is not 0. Chunks along D, H, W are those of x, as far as the
    stride lets them be, each output voxel standing where its centre does; the channels are one chunk.
    """
    array, problem, dtype = require("dask.array", extra="dask"), plan.problem, promoted(x.dtype)
    if mask is not None and not is_dask(mask):
        mask = array.from_array(mask, chunks=x.chunks[-3:])
    bounds = _bounds(problem, _edges(x)[2:])
    recipe = _recipe(plan, filters, bounds, dtype, x.ndim)
    sources = [one for one in (x, mask) if one is not None]
    token = _token(recipe.token, *(one.name for one in sources))
    name = f"conv3d-{token}"
    tasks = _graph(token, recipe, bounds, *sources)
    graph = require("dask.highlevelgraph", extra="dask").HighLevelGraph.from_collections(name, tasks, sources)
    sizes = [tuple(count for _, count in along) for along in bounds]
    chunks = (_sizes(_edges(x)[0]), (problem.out_channels,), *sizes)[-x.ndim :]
    result: Array = array.Array(graph, name, chunks, meta=np.empty((0,) * x.ndim, dtype))
    return result


def _token(*parts: Any) -> str:
    token: str = require("dask.base", extra="dask").tokenize(*parts)
    return token


def _recipe(plan: Plan, filters: Sequence[Filters], bounds: Bounds, dtype: np.dtype[Any], axes: int) -> Recipe:
    """Return what all chunks have in common; their tiles are cut for the largest of them."""
    d, h, w = (max(count for _, count in along) for along in bounds)
    ways = tuple(member(choice.algorithm, choice.engine) for choice in plan.choices)
    tile = choose_tile(plan.problem, ways, 1, within=(d, h, w))
    token = _token(plan, filters, tile, str(dtype), axes)
    return Recipe(token, plan, tuple(filters), tile, dtype, axes)


def _edges(array: Any) -> list[Edges]:
    """Return the edges of the chunks of a dask array, the last axes of N, C, D, H, W, along all of them."""
    chunks = ((1,),) * (5 - array.ndim) + array.chunks
    return [tuple(itertools.accumulate(sizes, initial=0)) for sizes in chunks]


def _sizes(edges: Edges) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in itertools.pairwise(edges))


def _bounds(problem: Problem, edges: Sequence[Edges]) -> Bounds:
    """Return the chunks of the output: a voxel belongs to the input chunk that its centre lies in, or the nearest."""
    found = []
    for size, along, stride, shift in zip(problem.out_size, edges, problem.stride, problem.centre_shift, strict=True):
        inner = (min(max(math.ceil((edge - shift) / stride), 0), size) for edge in along[1:-1])
        ends = itertools.pairwise([0, *inner, size])
        found.append([(start, stop - start) for start, stop in ends if start < stop])
    return found


def _graph(token: str, recipe: Recipe, bounds: Bounds, x: Any, mask: Any = None) -> dict[Any, Any]:
    """Return the tasks: the recipe, the pieces of the input and of the mask, and the chunks of the output."""
    problem, common = recipe.plan.problem, f"conv3d-recipe-{token}"
    source, inside = _Source(f"conv3d-input-{token}", x), mask is not None and _Source(f"conv3d-mask-{token}", mask)
    tasks: dict[Any, Any] = {common: recipe}
    for index in itertools.product(*(range(len(along)) for along in bounds)):
        out = box([along[at] for along, at in zip(bounds, index, strict=True)])
        region = problem.input_region(out)
        mask_places, mask_keys = inside.pieces(0, region, problem) if inside else ((), [])
        for batch, volumes in enumerate(_sizes(source.edges[0])):
            places, keys = source.pieces(batch, region, problem)
            key = (f"conv3d-{token}", *(batch, 0, *index)[-x.ndim :])
            tasks[key] = (convolve, common, Chunk(volumes, out, places, mask_places), keys, mask_keys)
    return tasks | source.tasks | (inside.tasks if inside else {})


class _Source:
    """A dask array, the last axes of (N, C, D, H, W), and the tasks that take pieces of its chunks."""

    def __init__(self, name: str, array: Any) -> None:
        self.edges = _edges(array)
        self.tasks: dict[Any, Any] = {}
        self._name = name
        self._array = array.name
        self._axes: int = array.ndim
        self._keys: dict[tuple[Any, ...], Any] = {}

    def pieces(self, batch: int, region: Region, problem: Problem) -> tuple[tuple[Place, ...], list[Any]]:
        """Return the places and the keys of the pieces, of all channels, that are read for a region."""
        ends = zip(region.start, region.stop, problem.size, self.edges[2:], strict=True)
        parts = [_parts(start, stop, size, problem.padding_mode, edges) for start, stop, size, edges in ends]
        channels = self.edges[1][-1]
        found = list(itertools.product(_parts(0, channels, channels, "zeros", self.edges[1]), *parts))
        places = tuple((c.origin, d.origin, h.origin, w.origin) for c, d, h, w in found)
        return places, [self._key(batch, parts) for parts in found]

    def _key(self, batch: int, parts: tuple[Part, ...]) -> Any:
        """Return the key of a piece, which is that of its chunk where it is the whole of it."""
        chunk = (self._array, *(batch, *(part.chunk for part in parts))[-self._axes :])
        if all(part.whole for part in parts):
            return chunk
        key = self._keys.setdefault((batch, parts), (self._name, len(self._keys)))
        within = (slice(None), *(slice(part.start, part.stop) for part in parts))[-self._axes :]
        self.tasks[key] = (take, chunk, within)
        return key


@lru_cache(maxsize=4096)
def _parts(start: int, stop: int, size: int, mode: str, edges: Edges) -> tuple[Part, ...]:
    """Return the parts of an axis of `size` voxels that are read for the positions `start` to `stop`, chunk by chunk.

    Positions a size and more beyond a border take no other voxels than those nearer to it.
    """
    start, stop = min(max(start, -size), 2 * size - 1), max(min(stop, 2 * size), 1 - size)
    ends: dict[int, tuple[int, int]] = {}
    for run in axis_pieces(start, stop, size, mode).runs:
        for chunk in range(bisect_right(edges, run.start) - 1, bisect_left(edges, run.stop)):
            low, high = max(run.start, edges[chunk]), min(run.stop, edges[chunk + 1])
            if low < high:
                first, last = ends.get(chunk, (low, high))
                ends[chunk] = min(first, low), max(last, high)
    return tuple(
        Part(chunk, low - edges[chunk], high - edges[chunk], low, (low, high) == (edges[chunk], edges[chunk + 1]))
        for chunk, (low, high) in sorted(ends.items())
    )
