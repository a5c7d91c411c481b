"""The tiles of a plan, in the order they are computed: volume by volume, then along D, H, W."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lucid_core.boundary import planes_read
from lucid_core.plan import Plan
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple


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
    boxes = [(out, plan.problem.input_region(out)) for out in _boxes(plan.problem.out_size, plan.tile)]
    keeps = _keeps(plan.problem, [source for _, source in boxes])
    for batch in range(plan.problem.batch):
        for (out, source), keep in zip(boxes, keeps, strict=True):
            yield Tile(batch, out, source, keep)


def _boxes(size: Triple, tile: Triple) -> Iterator[Region]:
    axes = [range(0, count, step) for count, step in zip(size, tile, strict=True)]
    for d, h, w in itertools.product(*axes):
        stop = (min(d + tile[0], size[0]), min(h + tile[1], size[1]), min(w + tile[2], size[2]))
        yield Region((d, h, w), stop)


def _keeps(problem: ConvProblem, sources: list[Region]) -> list[int]:
    """Return, for each tile, the lowest plane that it and the tiles after it read."""
    keeps, keep = [], problem.size[0]
    for source in reversed(sources):
        first, stop = planes_read(source, problem.size, problem.padding_mode)
        keep = min(keep, first) if stop else keep
        keeps.append(keep)
    return keeps[::-1]


def window_planes(plan: Plan) -> int:
    """Return the most D planes of a volume that a reader without random access holds at once."""
    problem, most, top = plan.problem, 0, 0
    for tile in itertools.islice(tiles(plan), plan.tiles // max(problem.batch, 1)):
        top = max(top, planes_read(tile.source, problem.size, problem.padding_mode)[1])
        most = max(most, top - tile.keep)
    return most
