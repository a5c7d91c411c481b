"""The tiles of a plan, in the order they are computed: volume by volume, then along D, H, W."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lucid_core.boundary import planes_read
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


def tiles(plan: Plan) -> Iterator[Tile]:
    """Yield every tile once; together they cover the output exactly."""
    problem = plan.problem
    depths, heights, widths = (_cuts(size, step) for size, step in zip(problem.out_size, plan.tile, strict=True))
    slabs = _slabs(plan)
    for batch in range(problem.batch):
        for d, (keep, _) in zip(depths, slabs, strict=True):
            for h, w in itertools.product(heights, widths):
                out = Region((d[0], h[0], w[0]), (d[1], h[1], w[1]))
                yield Tile(batch, out, problem.input_region(out), keep)


def _cuts(size: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def _slabs(plan: Plan) -> list[tuple[int, int]]:
    """Return, for each step along D, the lowest plane that it and those after it read, and the end of its own."""
    problem, slabs, keep = plan.problem, [], plan.problem.size[0]
    for start, stop in reversed(_cuts(problem.out_size[0], plan.tile[0])):
        source = problem.input_region(Region((start, 0, 0), (stop, 1, 1)))
        first, end = planes_read(source, problem.size, problem.padding_mode)
        keep = min(keep, first) if end else keep
        slabs.append((keep, end))
    return slabs[::-1]


def window_planes(plan: Plan) -> int:
    """Return the most D planes of a volume that a reader without random access holds at once."""
    most = top = 0
    for keep, end in _slabs(plan):
        top = max(top, end)
        most = max(most, top - keep)
    return most
