"""A lower level of an output: made by the engine from the level before, tile by tile, each of whole chunks."""

from typing import Any

import numpy as np

from lucid_cli.boxes import BoxReader
from lucid_cli.formats.zarr import write_region
from lucid_cli.pyramid import Shrinking
from lucid_cli.sink import CastingWriter
from lucid_cli.volumes import Array, Sink, five_shape
from lucid_cli.zarr_source import ArrayBoxes
from lucid_core.execute import execute
from lucid_core.plan import Plan
from lucid_core.planner import plan
from lucid_core.regions import Region, Triple


class LevelSink(Sink):
    """Stores regions of whole chunks in an array."""

    def __init__(self, array: Any, axes: str) -> None:
        super().__init__()
        self._array, self._axes = array, axes

    def encode(self, batch: int, region: Region, block: Array) -> None:
        """Store the chunks of a region."""
        write_region(self._array, self._axes, batch, region, block)

    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Do nothing more: the region is stored."""

    def finish(self) -> None:
        """Nothing remains."""


def shrink(axes: str, whole: Plan, finer: Any, coarser: Any, step: Shrinking) -> None:
    """Fill the coarser of two arrays whose axes have these roles; `whole` is the plan of the finest level.

    A tile is one chunk, or shard, with all its channels: it takes a fraction of what a tile of the plan may take.
    """
    dtype = np.dtype(finer.dtype)
    shape = five_shape(tuple(finer.shape), axes)
    problem = step.problem(shape, dtype.name)
    grain: Triple = five_shape(coarser.shards or coarser.chunks, axes)[2:]
    chosen = plan(problem, engine="numpy", threads=whole.threads, tile=grain)
    reader = BoxReader(ArrayBoxes(finer, finer.path), tuple(finer.shape), dtype, axes)
    writer = CastingWriter(LevelSink(coarser, axes), dtype, "clip")
    execute(chosen, [step.filters(shape[1], dtype.name)], reader, writer)
