"""A Zarr array to read: by itself, or as a level of an OME-Zarr image."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes

from lucid_cli import attributes
from lucid_cli.boxes import Box, BoxReader, cut_box, within
from lucid_cli.formats import ZARR_FILES, Spec
from lucid_cli.formats.npy import AXES, check_array
from lucid_cli.lengths import seconds_per
from lucid_cli.ome_zarr import Image, Level, image_of
from lucid_cli.planes import window
from lucid_cli.provenance import ATTRIBUTE, parse, text
from lucid_cli.volumes import Array, Reading, Source, VolumeInfo, five_shape
from lucid_cli.zarr_library import CONCURRENCY
from lucid_cli.zarr_store import arrays_in, check_codecs, listed, missing, node_of, reading
from lucid_core import machine
from lucid_core.errors import ArgumentError, InputError
from lucid_core.geometry import Affine, affine_of, spacing_of
from lucid_core.regions import Triple
from lucid_core.volume import VolumeReader

PART_BYTES = 16 << 20
"""Bytes that are read together, or one chunk where that is more."""
STORE_BYTES = 24 << 20
"""Memory that the stores and codecs take."""
SAME_SPACING = 1e-4
"""Share by which an affine beside an image may differ from its scales."""


@dataclass(frozen=True)
class Found:
    """An array, and the image it is a level of, where it is one."""

    array: Any
    image: Image | None = None
    level: Level | None = None
    group: Mapping[str, Any] | None = None
    """The attributes of the group that is the image."""


class ZarrSource(Source):
    """An array of a hierarchy."""

    def __init__(self, spec: Spec) -> None:
        self.found = found(spec)
        array, self.image = self.found.array, self.found.image
        self.name = str(spec)
        super().__init__(_watched(spec, array))
        with reading(self.name):
            check_codecs(self.name, array)
            shape, dtype = tuple(map(int, array.shape)), np.dtype(array.dtype)
            self.attributes: dict[str, Any] = dict(array.attrs)
        check_array(self.name, shape, dtype)
        if min(array.chunks) < 1:
            raise InputError(f"{self.name}: its chunks have no voxels: their shape is {tuple(array.chunks)}")
        self.shape, self.dtype = shape, dtype
        self.info = self._describe()
        kept = (self.found.group or self.attributes).get(ATTRIBUTE)
        self.provenance = parse(text(kept)) if isinstance(kept, dict) else None

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of the chunks, within shards where there are any."""
        return tuple(map(int, self.found.array.chunks))

    def _describe(self) -> VolumeInfo:
        array = self.found.array
        spacing, affine, orientation = attributes.place(self.attributes)
        axes, units = self._axes(), attributes.text(self.attributes.get("units"))
        if self.image is not None and self.found.level is not None:
            spacing, affine, orientation = _place(self.image, self.found.level, affine)
            units = next(iter({axis.unit for axis in self.image.axes if axis.type == "space"}), None)
            if spacing is None and set(self.image.along(self.found.level.scale)) != {1.0}:
                self.warnings = (f"{self.name}: its axes have no unit that is known; say --spacing to give one",)
        details = {
            "orientation": orientation,
            "units": units,
            "chunks": list(self.chunks),
            "shards": None if getattr(array, "shards", None) is None else list(array.shards),
            "compression": _compression(array),
            "zarr_format": array.metadata.zarr_format,
            "levels": None if self.image is None else [level.path for level in self.image.levels],
        }
        return VolumeInfo(self.name, "zarr", self.shape, axes, self.dtype.name, spacing, affine, details)

    def _axes(self) -> str:
        """Return a letter for each axis: of an image as it says, of an array as its dimensions are named."""
        if self.image is None:
            named = self.attributes.get("_ARRAY_DIMENSIONS") or getattr(
                self.found.array.metadata, "dimension_names", None
            )
            letters = "".join(str(one).lower() if len(str(one)) == 1 else "?" for one in named or ())
        else:
            letters = self.image.letters
        known = set("zyx") <= set(letters) <= set("tczyx") and len(set(letters)) == len(letters)
        if known and len(letters) == len(self.shape):
            return letters
        if self.image is None:
            return AXES[len(self.shape)]
        if len(letters) != len(self.shape):
            raise InputError(f"{self.name}: its image has {len(letters)} axes, and the array {len(self.shape)}")
        names = ", ".join(f"{axis.name} ({axis.type})" for axis in self.image.axes)
        raise InputError(f"{self.name}: is no volume: its axes are {names}; legal: z, y, x, and time and channel")

    def fields(self) -> dict[str, Any]:
        """Return the attributes that say nothing of place or provenance."""
        return {name: value for name, value in self.attributes.items() if name not in attributes.NO_FIELDS}

    def time_step(self) -> float | None:
        """Return the seconds along the axis of time of an image, where it has such a unit."""
        if self.image is None or self.found.level is None or "t" not in self.image.letters:
            return None
        at = self.image.letters.index("t")
        unit = seconds_per(self.image.axes[at].unit or "")
        return None if unit is None else self.found.level.scale[at] * unit

    def readings(self, roles: str) -> list[Reading]:
        """Read whole rows of chunks forward, so that each chunk is decompressed once; else as asked."""
        shape, grain = five_shape(self.shape, roles), self._grain(roles)
        plane = shape[1] * math.prod(shape[3:]) * self.dtype.itemsize
        at_once = _memory_of_a_read(self.shape, self.chunks, self.dtype)
        forward = Reading(True, STORE_BYTES + at_once, plane, grain[0])
        return [forward, Reading(False, STORE_BYTES + machine.cores() * at_once, grain=grain)]

    def _grain(self, roles: str) -> Triple:
        return five_shape(self.chunks, roles)[2:]

    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:  # noqa: ARG002
        """Return a reader over the array."""
        boxes = BoxReader(ArrayBoxes(self.found.array, self.name), self.shape, self.dtype, roles)
        return window(boxes, reading.planes_at_once) if reading.forward else boxes

    def verify(self) -> None:
        """Read all of it; a chunk that is missing, which stands for the fill value elsewhere, is an error here."""
        array = self.found.array
        with reading(self.name):
            absent, whole = missing(array)
        if absent:
            raise InputError(f"{self.name}: {absent} of its {whole} chunks are missing")
        for _ in ArrayBoxes(array, self.name).read_box(tuple(slice(0, size) for size in self.shape)):
            pass
        super().verify()


class ArrayBoxes:
    """Reads boxes of an array; implements `Boxes`."""

    def __init__(self, array: Any, name: str) -> None:
        self._array = array
        self._name = name

    def read_box(self, box: Box) -> Iterator[tuple[Box, Array]]:
        """Yield the values of a box, whole chunks at a time, with where they lie in the box."""
        for part in cut_box(box, tuple(self._array.chunks), PART_BYTES // np.dtype(self._array.dtype).itemsize):
            with reading(self._name):
                values = np.asarray(self._array[part])
            yield within(part, box), values


def _memory_of_a_read(shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the bytes that reading a part takes: the part, and chunks as they are stored and as they are."""
    chunk = math.prod(chunks) * dtype.itemsize
    count = math.prod(-(-size // one) for size, one in zip(shape, chunks, strict=True))
    return max(PART_BYTES, chunk) + 2 * min(CONCURRENCY, count) * chunk


def found(spec: Spec) -> Found:
    """Return the array that a name means; raises `InputError`, `ArgumentError` for a level that is not there."""
    node = node_of(spec)
    with reading(str(spec)):
        if hasattr(node, "shape"):
            return _array(spec, node)
        group = dict(node.attrs)
    image = image_of(group, str(spec))
    if image is not None:
        return _level(spec, image, group)
    images, arrays = _within(spec, node)
    if len(images or arrays) != 1:
        what = f"several images: {listed(images)}" if images else f"several arrays: {listed(arrays)}"
        what = what if images or arrays else "no array of 3 or more axes"
        more = f"; name one, such as {spec}/{(images or arrays)[0]}" if images or arrays else ""
        raise InputError(f"{spec}: holds {what}{more}")
    path = (images or arrays)[0]
    return found(replace(spec, inner=f"{spec.inner}/{path}" if spec.inner else path))


def _within(spec: Spec, group: Any) -> tuple[list[str], list[str]]:
    """Return the paths of the images in a group, and of its arrays of 3 or more axes."""
    with reading(str(spec)):
        members = dict(group.members(max_depth=None))
        images = [path for path, one in members.items() if image_of(dict(one.attrs), path) is not None]
        arrays = [path for path in arrays_in(group) if len(members[path].shape) >= 3]
    return sorted(images), arrays


def _level(spec: Spec, image: Image, group: Mapping[str, Any]) -> Found:
    number = spec.level or 0
    if number >= len(image.levels):
        raise ArgumentError(f"--level {number}: {spec} has {len(image.levels)} levels, 0 to {len(image.levels) - 1}")
    level = image.levels[number]
    array = node_of(replace(spec, inner="/".join(filter(None, (spec.inner, level.path)))))
    if not level.path or not hasattr(array, "shape"):
        raise InputError(f"{spec}: its level {number} is {level.path!r}, which is no array")
    return Found(array, image, level, group)


def _array(spec: Spec, array: Any) -> Found:
    """Return an array that was named, as a level where the group it lies in is an image."""
    if spec.level is not None:
        raise ArgumentError(f"--level {spec.level}: {spec} is an array, not an image with levels; leave it out")
    folder, _, name = (spec.inner or "").rpartition("/")
    if not name:
        return Found(array)
    try:
        group = dict(node_of(replace(spec, inner=folder or None)).attrs)
    except InputError:
        return Found(array)
    image = image_of(group, str(spec))
    level = next((one for one in image.levels if one.path == name), None) if image else None
    return Found(array, image, level, group) if level else Found(array)


def _place(image: Image, level: Level, affine: Affine | None) -> tuple[Any, Affine | None, str | None]:
    """Return spacing, affine and orientation of a level; those of an affine beside it, where it fits the scales."""
    spacing, origin = image.in_mm(level.scale), image.in_mm(level.translation)
    if spacing is None or origin is None:
        return None, None, None
    if affine is not None and np.allclose(spacing_of(affine), spacing, rtol=SAME_SPACING):
        return spacing, affine, "".join(aff2axcodes(affine))
    straight = affine_of(spacing)
    straight[:3, 3] = origin[::-1]
    return spacing, straight, None


def _compression(array: Any) -> str | None:
    names = []
    for codec in getattr(array, "compressors", ()) or ():
        known = codec.to_dict() if hasattr(codec, "to_dict") else codec.get_config()
        settings = known.get("configuration", known)
        names.append(str(settings.get("cname") or known.get("name") or known.get("id")))
    return "+".join(names) or None


def _watched(spec: Spec, array: Any) -> Path | None:
    """Return the file whose change tells that an array is no longer the one that was opened, None behind an address."""
    if spec.url is not None:
        return None
    if not spec.is_folder:
        return spec.path
    folder = Path(spec.path, array.path)
    return next((folder / name for name in ZARR_FILES if (folder / name).is_file()), None)
