"""The voxels of two volumes, compared region by region in the memory of a few regions."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.boxes import cut_box
from lucid_cli.budget import check_disk
from lucid_cli.comparison.differences import Differences, Voxel
from lucid_cli.comparison.parts import DIFFERS, SAME, Part, judged
from lucid_cli.volumes import FIVE, Reading, Source, VolumeInfo, Writing, five_shape
from lucid_core.geometry import Affine
from lucid_core.regions import Region, Triple
from lucid_core.volume import Shape5

REGION_VALUES = 1 << 18
"""Values compared at once."""
HELD_BYTES = 64 << 20
"""What a reader may take, the planes that it holds included, where there is another way to read."""
BLOCK = 64
"""Voxels along an axis that are read together from a file whose planes do not follow one another."""


def same_roles(a: VolumeInfo, b: VolumeInfo) -> tuple[str, str] | None:
    """Return roles of the axes by which both have the same N, C, D, H, W, None where there are none.

    The 4th axis of a NIfTI is a batch or the channels, as it fits. One volume of several channels is taken for as many
    volumes of one: these are read from a compressed file without decompressing it to the disk first.
    """
    for first in _roles(a):
        for second in _roles(b):
            shape = five_shape(a.shape, first)
            if shape == five_shape(b.shape, second):
                return (_swapped(first), _swapped(second)) if shape[0] == 1 < shape[1] else (first, second)
    return None


def _roles(info: VolumeInfo) -> list[str]:
    return [info.axes.replace("t", letter) for letter in "nc"] if "t" in info.axes else [info.axes]


def _swapped(roles: str) -> str:
    return roles.translate(str.maketrans("nc", "cn"))


def compare_values(a: Source, b: Source, rtol: float, atol: float) -> Part:
    """Compare all voxels; where the shapes differ no voxel has a counterpart."""
    roles = same_roles(a.info, b.info)
    if roles is None:
        return judged(["the shapes differ"])
    found = measure(a, b, roles, rtol, atol)
    affine = a.info.affine if b.info.affine is None else b.info.affine
    examples = {name: _example(voxel, roles, affine) for name, voxel in found.examples.items()}
    lines = _lines(found, examples, (a.info.axes, b.info.axes))
    return Part(DIFFERS if found.differing else SAME, tuple(lines), _numbers(found, examples))


def _example(voxel: Voxel, roles: tuple[str, str], affine: Affine | None) -> dict[str, Any]:
    """Return where a voxel lies, in the order of the axes of each file and in the world, and what it holds."""
    first, second = ([voxel.at[FIVE.index(letter)] for letter in one] for one in roles)
    world = None if affine is None else (affine @ [*voxel.at[:1:-1], 1])[:3].tolist()
    return {"index_a": first, "index_b": second, "world_mm": world, "a": voxel.a, "b": voxel.b}


def _numbers(found: Differences, examples: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what JSON holds of the values; errors are null where no voxel has one."""
    errors = {
        "max_abs_error": found.largest,
        "mean_abs_error": found.mean,
        "max_rel_error": found.relative,
        "rms_error": found.rms,
    }
    return {
        "voxels": found.voxels,
        "differing": found.differing,
        "nan_one_side": found.nan,
        "infinite_one_side": found.infinite,
        **(errors if found.compared else dict.fromkeys(errors)),
        "max_abs_error_at": examples.get("largest"),
        "nan_one_side_at": examples.get("nan"),
        "infinite_one_side_at": examples.get("infinite"),
    }


def _lines(found: Differences, examples: dict[str, dict[str, Any]], axes: tuple[str, str]) -> list[str]:
    tolerances = [f"{found.atol:g}"] * bool(found.atol) + [f"{found.rtol:g} |b|"] * bool(found.rtol)
    beyond = f" by more than {' + '.join(tolerances)}" if tolerances else ""
    lines = [f"{found.differing} of {found.voxels} voxels differ{beyond}"]
    if "largest" in examples:
        lines.append(f"largest |a - b| {found.largest:.6g} {_where(examples['largest'], axes)}")
        lines.append(f"mean |a - b| {found.mean:.6g}, RMS {found.rms:.6g}, largest |a - b| / |b| {found.relative:.6g}")
    if found.nan:
        lines.append(f"{found.nan} NaN on one side only, one {_where(examples['nan'], axes)}")
    if found.infinite:
        lines.append(f"{found.infinite} infinite, not so on the other side, one {_where(examples['infinite'], axes)}")
    return lines


def _where(example: dict[str, Any], axes: tuple[str, str]) -> str:
    first, second = (
        f"{','.join(axes[one])} {','.join(map(str, example[f'index_{name}']))}" for one, name in enumerate("ab")
    )
    world = example["world_mm"]
    place = "" if world is None else f" ({', '.join(f'{step:.6g}' for step in world)} mm)"
    index = first if first == second else f"{first} of a, {second} of b"
    return f"at {index}{place}: a {_value(example['a'])}, b {_value(example['b'])}"


def _value(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"


def measure(a: Source, b: Source, roles: tuple[str, str], rtol: float, atol: float) -> Differences:
    """Compare all voxels of two sources, scaled, in float64; integers of 64 bits exactly where both are unscaled ones.

    Raises `InputError` for a file that is damaged or changes meanwhile, `LimitError` where the temporary folder cannot
    hold what a compressed file of several volumes and channels is decompressed to.
    """
    folder, sources = Path(tempfile.gettempdir()), (a, b)
    readings = tuple(_reading(source.readings(one)) for source, one in zip(sources, roles, strict=True))
    check_disk(folder, Writing(memory=0, copies=0, disk=0), readings)
    readers = [source.reader(one, way, folder) for source, one, way in zip(sources, roles, readings, strict=True)]
    shape, found = readers[0].shape, Differences(rtol, atol)
    dtypes = _dtypes(a.info, b.info)
    for batch, region in _regions(shape, readings):
        blocks = [np.empty((shape[1], *region.shape), dtype) for dtype in dtypes]
        for reader, block in zip(readers, blocks, strict=True):
            reader.forget(batch, region.start[0])
            reader.read(batch, region, block)
        found.add((batch, 0, *region.start), *blocks)
    for source in sources:
        source.finish()
    return found


def _reading(ways: list[Reading]) -> Reading:
    """Return the first way to read that is small enough, or the last."""
    return next((way for way in ways if way.memory + way.plane * way.planes_at_once <= HELD_BYTES), ways[-1])


def _dtypes(a: VolumeInfo, b: VolumeInfo) -> list[np.dtype[Any]]:
    """Return what the values of each are compared in."""
    stored = [np.dtype(info.dtype) for info in (a, b)]
    plain = all(dtype.kind in "iu" for dtype in stored) and not any(info.details.get("scaling") for info in (a, b))
    if plain and any(dtype.itemsize == 8 for dtype in stored):
        return [np.dtype(f"{dtype.kind}8") for dtype in stored]
    return [np.dtype(np.float64)] * 2


def _regions(shape: Shape5, readings: tuple[Reading, ...]) -> Iterator[tuple[int, Region]]:
    """Yield regions, and their volumes, in the order of the planes."""
    batch, channels, *size = shape
    for number in range(batch):
        for box in cut_box(tuple(slice(0, one) for one in size), _grain(shape, readings), REGION_VALUES // channels):
            d, h, w = box
            yield number, Region((d.start, h.start, w.start), (d.stop, h.stop, w.stop))


def _grain(shape: Shape5, readings: tuple[Reading, ...]) -> Triple:
    """Return the voxels along D, H, W to read together: what both files store together, in planes that may be held."""
    wanted = [_wanted(one) for one in readings]
    held = [max(1, HELD_BYTES // one.plane) for one in readings if one.forward]
    d, h, w = (min(max(along), most) for along, most in zip(zip(*wanted, strict=True), shape[2:], strict=True))
    grain = min(d, *held, shape[2]), h, w
    return grain if math.prod(grain) * shape[1] <= 8 * REGION_VALUES else (1, 1, 1)


def _wanted(reading: Reading) -> Triple:
    return (BLOCK,) * 3 if not reading.forward and reading.grain == (1, 1, 1) else reading.grain
