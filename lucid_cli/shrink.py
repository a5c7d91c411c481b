"""A lower level of an output: made by the engine from the level before, tile by tile, each of whole chunks."""

from typing import Any

import numpy as np

from lucid_cli.ends import ArrayEnd
from lucid_cli.executors import Executor
from lucid_cli.formats.zarr import ArraySink
from lucid_cli.pyramid import Shrinking
from lucid_cli.sink import CastingWriter
from lucid_cli.volumes import five_shape
from lucid_core.events import ignore
from lucid_core.planner import plan
from lucid_core.regions import Triple


def shrink(executor: Executor, axes: str, threads: int, finer: Any, coarser: Any, step: Shrinking) -> None:
    """Fill the coarser of two arrays whose axes have these roles.

    A tile is one chunk, or shard, with all its channels: it takes a fraction of what a tile of the output may take.
    """
    dtype = np.dtype(finer.dtype)
    shape = five_shape(tuple(finer.shape), axes)
    grain: Triple = five_shape(coarser.shards or coarser.chunks, axes)[2:]
    chosen = plan(step.problem(shape, dtype.name), engine="numpy", threads=threads, tile=grain)
    writer = CastingWriter(ArraySink(coarser, axes), dtype, "clip")
    executor.execute(chosen, [step.filters(shape[1], dtype.name)], ArrayEnd(finer, axes), writer, ignore)
