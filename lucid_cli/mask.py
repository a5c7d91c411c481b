"""`--mask`: a volume on the grid of the input that says where it counts."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from lucid_cli.formats import parse_spec
from lucid_cli.opening import check_spec, opened
from lucid_cli.place import carried
from lucid_cli.volumes import Reading, Source, VolumeInfo, five_shape
from lucid_core.errors import ArgumentError, ShapeError
from lucid_core.geometry import Affine, corner_distance, spacing_of
from lucid_core.regions import Triple

APART = 0.05
"""Voxels that the corners of two grids may lie apart and still be the same: headers round."""


@dataclass(frozen=True)
class Mask:
    """A mask whose header was read, of one volume and channel."""

    source: Source
    roles: str
    info: VolumeInfo

    def readings(self, batch: int) -> list[Reading]:
        """Return the ways to read it for so many volumes: all but one read it again, so that it must go back."""
        return [one for one in self.source.readings(self.roles) if batch == 1 or not one.forward]


def open_mask(text: str, info: VolumeInfo, placed: Any, size: Triple, stack: ExitStack) -> Mask:
    """Read the header of a mask for a volume; `placed` gives a header the spacing that `--spacing` says.

    Raises `ShapeError` where it is not one volume on the grid of the input, voxel by voxel.
    """
    spec = parse_spec(text)
    if spec.is_pipe:
        raise ArgumentError("--mask cannot be stdin; name a file")
    check_spec(spec, from_yaml=True)
    source = opened(spec, stack)
    found = placed(source.info)
    roles = found.axes.replace("t", "n")
    shape = five_shape(found.shape, roles)
    if shape != (1, 1, *size):
        raise ShapeError(
            f"the mask {text} has {_sizes(shape)} voxels (N, C, D, H, W), the input {info.path} needs one volume of "
            f"{_sizes(size)} (D, H, W){_turned(shape[2:], size)}"
        )
    affine, of_input = carried(found, info.format), carried(info, found.format)
    if affine is not None and of_input is not None and (distance := apart(affine, of_input, size)):
        raise ShapeError(
            f"the mask {text} lies elsewhere than the input {info.path}: their grids are up to {distance:.3g} mm "
            "apart in the world; bring the mask onto the grid of the input first"
        )
    return Mask(source, roles, found)


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _turned(found: tuple[int, ...], size: Triple) -> str:
    return "; its axes seem to be in another order" if found != size and sorted(found) == sorted(size) else ""


def apart(first: Affine, second: Affine, size: Triple) -> float:
    """Return how many mm the corners of two grids lie apart, 0 where that is no more than headers round."""
    distance = corner_distance(first, second, size)
    return distance if distance > APART * min(spacing_of(second)) else 0.0
