"""The tiles of a plan, in the order they are computed: volume by volume, then along D, H, W."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lucid_core.cutting import cuts, slabs
from lucid_core.plan import Plan
from lucid_core.regions import Region


@dataclass(frozen=True)
class Tile:
    """A box of output voxels of one volume of the batch, and what it is computed from."""

    batch: int
    out: Region
    source: Region
    """The input region, which may reach outside the volume."""
    keep: int
    """First D plane of the volume that this or a later tile of the volume reads."""


def tiles(plan: Plan, finished: int = 0) -> Iterator[Tile]:
    """Yield every tile once, but the first `finished`; all together they cover the output exactly."""
    return itertools.islice(_all_tiles(plan), finished, None)


def _all_tiles(plan: Plan) -> Iterator[Tile]:
    problem = plan.problem
    depths, heights, widths = (cuts(size, step) for size, step in zip(problem.out_size, plan.tile, strict=True))
    for batch in range(problem.batch):
        for d, (keep, _) in zip(depths, slabs(problem, plan.tile[0]), strict=True):
            for h, w in itertools.product(heights, widths):
                out = Region((d[0], h[0], w[0]), (d[1], h[1], w[1]))
                yield Tile(batch, out, problem.input_region(out), keep)
