"""What a Zarr output consists of: its arrays, how they are stored, and the attributes of arrays and groups.

An output is an OME-Zarr image where its name ends in `.ome.zarr` or `.ozx`, where its input is one, or where it has a
pyramid; else one array with the attributes of `lucid_cli.attributes`.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lucid_cli import attributes
from lucid_cli.compression import compression_level
from lucid_cli.formats import Spec
from lucid_cli.ome_zarr import TYPES, VERSIONS, Axis, Image, Level
from lucid_cli.place import is_straight
from lucid_cli.provenance import ATTRIBUTE
from lucid_cli.pyramid import Shrinking, shrinkings
from lucid_cli.volumes import FIVE, Target, five_shape
from lucid_cli.zarr_source import ZarrSource
from lucid_core.errors import ArgumentError
from lucid_core.regions import Triple

CHUNK = 64
"""Largest size of a chunk along an axis where nothing says its shape."""
LEAST_CHUNK_BYTES, MOST_SMALL_CHUNKS = 1 << 14, 1 << 12
"""Chunks of an input that are smaller, and more, are not those of its output."""
DEFAULT_LEVEL = 1
NEWEST = 3
"""Format that is written where nothing says one."""
UNIT = "millimeter"


@dataclass(frozen=True)
class ArrayLayout:
    """An array: its path below the node that is written, and its shapes in the file's order."""

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None

    @property
    def written_together(self) -> tuple[int, ...]:
        """Shape of what is one object in the store: a shard, or a chunk where there are none."""
        return self.shards or self.chunks


@dataclass(frozen=True)
class Layout:
    """What an output consists of."""

    zarr_format: int
    axes: str
    arrays: tuple[ArrayLayout, ...]
    shrinkings: tuple[Shrinking, ...]
    """How each array but the first follows from the one before."""
    image: Image | None

    @property
    def grain(self) -> Triple:
        """Voxels along D, H, W of the first array that are one object in the store."""
        return five_shape(self.arrays[0].written_together, self.axes)[2:]


def layout(target: Target, spec: Spec, zarr_format: int | None = None) -> Layout:
    """Return what the output of this name consists of; `zarr_format` is that of the hierarchy it becomes a part of.

    Raises `ArgumentError` for chunks, shards and formats that do not go together.
    """
    kept = target.source.found.array.metadata.zarr_format if isinstance(target.source, ZarrSource) else NEWEST
    chosen = target.zarr_format or zarr_format or (2 if kept == 2 and target.shards is None else NEWEST)
    if zarr_format not in (None, chosen):
        raise ArgumentError(f"--zarr-format {chosen}: {spec.name} is a Zarr of format {zarr_format}; leave it out")
    if chosen == 2 and target.shards is not None:
        raise ArgumentError("--shards needs Zarr format 3, and the output is one of format 2; leave one out")
    steps = shrinkings(target.shape[2:], target.spacing, most=CHUNK) if target.pyramid else ()
    called = (spec.inner or "").lower().endswith(".ome.zarr") or spec.suffix.startswith((".ome", ".ozx"))
    is_image = called or target.pyramid or _image(target) is not None
    sizes = [target.shape[2:], *(one.size for one in steps)]
    paths = [str(number) for number in range(len(sizes))] if is_image else [""]
    arrays = tuple(_array(target, path, size) for path, size in zip(paths, sizes, strict=True))
    image = _made(target, spec, arrays, steps) if is_image else None
    return Layout(chosen, target.axes, arrays, steps, image)


def _image(target: Target) -> Image | None:
    return target.source.image if isinstance(target.source, ZarrSource) else None


def _array(target: Target, path: str, size: Triple) -> ArrayLayout:
    shape = _in_order(target.axes, (target.shape[0], target.shape[1], *size))
    chunks = _chunks(target, shape)
    if target.shards is None:
        return ArrayLayout(path, shape, chunks, None)
    asked = _in_order(target.axes, (1, 1, *target.shards))
    if any(whole % part for whole, part in zip(asked, chunks, strict=True)):
        raise ArgumentError(
            f"--shards {_sizes(target.shards)}: is no multiple of the chunks, {_sizes(_spatial(target.axes, chunks))}"
        )
    needed = (-(-length // part) * part for length, part in zip(shape, chunks, strict=True))
    return ArrayLayout(path, shape, chunks, tuple(map(min, asked, needed)))


def _chunks(target: Target, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of chunks: as `--chunks` says, else as the input has them, else cubes of one channel.

    None holds several volumes of a batch, as these are written by themselves, at the same time. Where there are shards
    a chunk may not be cut off by the end of the array, as these are multiples of chunks.
    """
    source = target.source
    if target.chunks is not None:
        asked = _in_order(target.axes, (1, 1, *target.chunks))
    elif isinstance(source, ZarrSource) and len(source.chunks) == len(shape) and not _are_small(target, source.chunks):
        along = zip(target.axes, source.chunks, strict=True)
        asked = tuple(1 if axis == "n" else size for axis, size in along)
    else:
        asked = tuple(CHUNK if axis in "zyx" else 1 for axis in target.axes)
    return asked if target.shards is not None else tuple(map(min, asked, shape))


def _are_small(target: Target, chunks: tuple[int, ...]) -> bool:
    """Say whether chunks are so small and so many that they cost more than they hold."""
    count = math.prod(-(-size // one) for size, one in zip(target.file_shape, chunks, strict=True))
    return count > MOST_SMALL_CHUNKS and math.prod(chunks) * target.dtype.itemsize < LEAST_CHUNK_BYTES


def _in_order(axes: str, five: tuple[int, ...]) -> tuple[int, ...]:
    sizes = dict(zip(FIVE, five, strict=True))
    return tuple(sizes[letter] for letter in axes)


def _spatial(axes: str, sizes: tuple[int, ...]) -> Triple:
    return five_shape(sizes, axes)[2:]


def _sizes(sizes: Triple) -> str:
    return ",".join(map(str, sizes))


def _made(target: Target, spec: Spec, arrays: tuple[ArrayLayout, ...], steps: tuple[Shrinking, ...]) -> Image:
    """Return the image that an output is: its axes, and where each of its levels lies."""
    source = _image(target)
    known = {} if source is None else dict(zip(source.letters.replace("t", "n"), source.axes, strict=True))
    if target.input_spacing is not None:
        known = {letter: axis for letter, axis in known.items() if letter not in "zyx"}
    unit = UNIT if target.spacing is not None and not set(known) >= set("zyx") else None
    units = dict.fromkeys("zyx", unit) | ({} if _time_step(target) is None else {"n": "second"})
    axes = tuple(known.get(letter) or _axis(letter, units.get(letter)) for letter in target.axes)
    scale, translation = _first(target, set(known))
    levels = [Level(arrays[0].path, _values(target.axes, scale), _values(target.axes, translation))]
    for array, step in zip(arrays[1:], steps, strict=True):
        scale, translation = step.placed(scale, translation)
        levels.append(Level(array.path, _values(target.axes, scale), _values(target.axes, translation)))
    channels = source is not None and target.source is not None and _channels(target.source) == target.shape[1]
    others = source.others if source is not None and channels else None
    return Image(axes, tuple(levels), source.name if source else spec.stem, others)


def _axis(letter: str, unit: str | None) -> Axis:
    name = letter.replace("n", "t")
    return Axis(name, TYPES.get(name, "space"), unit)


def _time_step(target: Target) -> float | None:
    return target.source.time_step() if target.source else None


def _channels(source: Any) -> int:
    sizes = dict(zip(source.info.axes, source.info.shape, strict=True))
    return int(sizes.get("c", 1))


def _values(axes: str, by_letter: dict[str, float]) -> tuple[float, ...]:
    return tuple(by_letter[letter] for letter in axes)


def _first(target: Target, known: set[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Return scale and translation of the first level by letter: in the input's own units where it is an image.

    scale' = scale * s and translation' = translation + scale * b, for stride s and shift b of centres.
    """
    scale, translation = dict.fromkeys(FIVE, 1.0), dict.fromkeys(FIVE, 0.0)
    scale["n"] = _time_step(target) or 1.0
    problem, source = target.problem, target.source
    if isinstance(source, ZarrSource) and source.image is not None and source.found.level is not None:
        letters, level = source.image.letters.replace("t", "n"), source.found.level
        scale |= dict(zip(letters, level.scale, strict=True))
        translation |= dict(zip(letters, level.translation, strict=True))
    steps: Any = tuple(scale[letter] for letter in "zyx")
    if not known >= set("zyx") and target.spacing is not None:
        steps = tuple(step / stride for step, stride in zip(target.spacing, problem.stride, strict=True))
        translation |= dict.fromkeys("zyx", 0.0)
    for letter, step, stride, shift in zip("zyx", steps, problem.stride, problem.centre_shift, strict=True):
        scale[letter] = step * stride
        translation[letter] += step * shift
    if not known >= set("zyx") and target.affine is not None and is_straight(target.affine):
        translation |= dict(zip("xyz", map(float, target.affine[:3, 3]), strict=True))
    return scale, translation


def documents(target: Target, found: Layout) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the attributes of the node that is written, and those of each array below it."""
    made = {} if target.provenance is None else {ATTRIBUTE: json.loads(target.provenance)}
    if found.image is None:
        return {}, [dict(_attributes(target, found)) | made]
    own: dict[str, Any] = {}
    if target.affine is not None and not is_straight(target.affine):
        own = {"affine": target.affine.tolist(), "units": "mm"}  # what scale and translation cannot say
    below = [own, *({} for _ in found.shrinkings)]
    return found.image.to_json(found.zarr_format) | made, below


def comment(found: Layout) -> bytes:
    """Return what a zip of an image says of it in a comment."""
    if found.image is None:
        return b""
    order = {"centralDirectory": {"jsonFirst": True}}
    return json.dumps({"ome": {"version": VERSIONS[found.zarr_format], "zipFile": order}}).encode()


def _attributes(target: Target, found: Layout) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a lone array: those of the input that say nothing of place, and those that follow."""
    source = target.source
    if isinstance(source, ZarrSource) and source.image is None:
        left_out = (*attributes.NO_FIELDS, *attributes.OWN, "_ARRAY_DIMENSIONS")
        yield from ((name, value) for name, value in source.attributes.items() if name not in left_out)
    for name, value in attributes.following(target).items():
        yield name, value.tolist() if hasattr(value, "tolist") else value
    if found.zarr_format == 2:
        yield "_ARRAY_DIMENSIONS", list(target.axes)


def codec_options(target: Target, zarr_format: int) -> dict[str, Any]:
    """Return what zarr-python is told of compression: Blosc with Zstandard, or nothing."""
    level = compression_level(target.compression, DEFAULT_LEVEL)
    if not level:
        return {"compressors": None}
    shuffle = target.shuffle is not False
    if zarr_format == 2:
        import numcodecs

        return {"compressors": numcodecs.Blosc(cname="zstd", clevel=level, shuffle=int(shuffle))}
    from zarr.codecs import BloscCodec

    kind: Any = "shuffle" if shuffle else "noshuffle"
    return {"compressors": BloscCodec(cname="zstd", clevel=level, shuffle=kind, typesize=target.dtype.itemsize)}


def objects(found: Layout) -> int:
    """Return how many chunks or shards an output consists of."""
    return sum(
        math.prod(-(-size // one) for size, one in zip(array.shape, array.written_together, strict=True))
        for array in found.arrays
    )
