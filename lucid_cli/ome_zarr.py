"""OME-Zarr images, versions 0.4 and 0.5: the axes of a multiscale image, and where its levels lie.

The centre of the first voxel is the origin; a level's voxel i along an axis lies at scale * i + translation, in the
unit of the axis. (OME-NGFF specification, https://ngff.openmicroscopy.org; Moore et al., Histochem. Cell Biol. 2023.)
Images of versions 0.1 to 0.3 are read too, those of 0.4 and 0.5 are written.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lucid_cli.lengths import mm_per
from lucid_core.errors import InputError
from lucid_core.units import Spacing

VERSIONS = {2: "0.4", 3: "0.5"}
"""Version that is written by the format of the Zarr."""
OLD_AXES = "tczyx"
TYPES = {"t": "time", "c": "channel"}
"""Types of axes by their letter; those of space have none here."""


@dataclass(frozen=True)
class Axis:
    """An axis: its name, its type (space, time, channel or another) and its unit where it has one."""

    name: str
    type: str
    unit: str | None = None

    def to_json(self) -> dict[str, str]:
        """Return the axis as the metadata have it."""
        return {"name": self.name, "type": self.type} | ({"unit": self.unit} if self.unit else {})


@dataclass(frozen=True)
class Level:
    """A level of resolution: the path of its array, and where its voxels lie along every axis."""

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the level as the metadata have it: a translation only where there is one."""
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": list(self.scale)}]
        if any(self.translation):
            transforms.append({"type": "translation", "translation": list(self.translation)})
        return {"path": self.path, "coordinateTransformations": transforms}


@dataclass(frozen=True)
class Image:
    """A multiscale image."""

    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    name: str | None = None
    others: Mapping[str, Any] | None = None
    """What stands beside the multiscales, such as `omero`."""

    @property
    def letters(self) -> str:
        """Roles of the axes: t, c, z, y, x; axes of space with other names are these in their order."""
        spatial = [axis.name.lower() for axis in self.axes if axis.type == "space"]
        named = sorted(spatial) == sorted("zyx"[-len(spatial) :])
        places = iter("zyx"[-len(spatial) :])
        roles = {"time": "t", "channel": "c"}
        return "".join(
            (axis.name.lower() if named else next(places)) if axis.type == "space" else roles.get(axis.type, "?")
            for axis in self.axes
        )

    def along(self, values: tuple[float, ...]) -> tuple[float, float, float]:
        """Return those of values, one an axis, that are along z, y and x."""
        by_letter = dict(zip(self.letters, values, strict=True))
        return by_letter["z"], by_letter["y"], by_letter["x"]

    def in_mm(self, values: tuple[float, ...]) -> Spacing | None:
        """Return values along z, y and x in mm, None where an axis has no unit that is known."""
        units = dict(zip(self.letters, (axis.unit for axis in self.axes), strict=True))
        sizes = [mm_per(units[letter] or "") for letter in "zyx"]
        if not all(sizes):
            return None
        z, y, x = (value * (size or 0) for value, size in zip(self.along(values), sizes, strict=True))
        return z, y, x

    def to_json(self, zarr_format: int) -> dict[str, Any]:
        """Return the attributes of a group that is this image, in the version of a format."""
        multiscale: dict[str, Any] = {
            "axes": [axis.to_json() for axis in self.axes],
            "datasets": [level.to_json() for level in self.levels],
        }
        multiscale |= {"name": self.name} if self.name else {}
        version = {"version": VERSIONS[zarr_format]}
        others = dict(self.others or {})
        if zarr_format == 2:
            return {"multiscales": [version | multiscale], **others}
        return {"ome": version | {"multiscales": [multiscale], **others}}


def image_of(attributes: Mapping[str, Any], name: str) -> Image | None:
    """Return the first multiscale image that the attributes of a group describe, None where they describe none.

    Raises `InputError` where what they say is no multiscale image.
    """
    ome = attributes.get("ome") if isinstance(attributes.get("ome"), Mapping) else attributes
    assert isinstance(ome, Mapping)
    if "multiscales" not in ome:
        return None
    try:
        multiscale = ome["multiscales"][0]
        levels = tuple(_level(one, multiscale) for one in multiscale["datasets"])
        count = next((len(level.scale) for level in levels if level.scale), len(OLD_AXES))
        axes = _axes(multiscale.get("axes"), count)
        filled = tuple(_whole(level, len(axes)) for level in levels)
        if not filled or any({len(level.scale), len(level.translation)} != {len(axes)} for level in filled):
            raise ValueError("its axes and its transformations are not of one length")
        if not all(0 < step < math.inf for level in filled for step in level.scale):
            raise ValueError("a scale is not a positive number")
        if not all(map(math.isfinite, (start for level in filled for start in level.translation))):
            raise ValueError("a translation is not a number")
        if len({axis.name for axis in axes}) != len(axes):
            raise ValueError("two axes have one name")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{name}: its multiscales metadata is damaged: {' '.join(str(error).split())}") from error
    others = {"omero": ome["omero"]} if isinstance(ome.get("omero"), Mapping) else None
    title = multiscale.get("name")
    return Image(axes, filled, title if isinstance(title, str) else None, others)


def _axes(found: Any, count: int) -> tuple[Axis, ...]:
    """Return the axes: of 0.4 and later as they say, of 0.3 by their names, of older versions t, c, z, y, x."""
    known = list(OLD_AXES[-count:]) if found is None else found
    return tuple(
        Axis(one, TYPES.get(one, "space"))
        if isinstance(one, str)
        else Axis(str(one["name"]), one.get("type") or TYPES.get(str(one["name"]), "space"), one.get("unit"))
        for one in known
    )


def _level(found: Mapping[str, Any], multiscale: Mapping[str, Any]) -> Level:
    """Return a level with its own transformations followed by those of all levels; empty ones where it has none."""
    scale: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()
    own, common = found.get("coordinateTransformations"), multiscale.get("coordinateTransformations")
    for one in [*(own or ()), *(common or ())]:
        kind = one["type"]
        if kind == "identity":
            continue
        values = tuple(float(value) for value in one[kind])
        if kind == "scale":
            scale = tuple(a * b for a, b in zip(scale or (1.0,) * len(values), values, strict=True))
            translation = tuple(a * b for a, b in zip(translation or (0.0,) * len(values), values, strict=True))
        elif kind == "translation":
            translation = tuple(a + b for a, b in zip(translation or (0.0,) * len(values), values, strict=True))
            scale = scale or (1.0,) * len(values)
        else:
            raise ValueError(f"the transformation {kind!r} is neither a scale nor a translation")
    return Level(str(found["path"]), scale, translation)


def _whole(level: Level, count: int) -> Level:
    """Return a level that has a scale and a translation."""
    return replace(level, scale=level.scale or (1.0,) * count, translation=level.translation or (0.0,) * count)
