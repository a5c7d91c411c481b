"""What the headers of two volumes say: shape, place in the world, dtype, and the other fields of the format."""

from typing import Any

import numpy as np

from lucid_cli.comparison.parts import NOT_COMPARED, Part, judged
from lucid_cli.comparison.values import same_roles
from lucid_cli.place import UNDIRECTED
from lucid_cli.volumes import Source, VolumeInfo, five_shape
from lucid_core.geometry import Affine, corner_distance, spacing_of
from lucid_core.regions import Triple

CORNER_VOXELS = 1e-3
"""Voxels that the corners of the same grid may lie apart: headers hold affines in float32."""
SPACING_SHARE = 1e-5
"""Share of itself that the same spacing may differ by."""
SHOWN, BEFORE = 60, 20
"""Characters of the value of a field that are shown, and how many of these stand before the first that differs."""


def compare_shape(a: Source, b: Source) -> Part:
    """Compare sizes and axes: in the file's order where the format is the same, else as N, C, D, H, W."""
    first, second = a.info, b.info
    if first.format == second.format:
        same = (first.shape, first.axes) == (second.shape, second.axes)
    else:
        same = same_roles(first, second) is not None
    hint = "; the axes seem to be in another order" if sorted(first.shape) == sorted(second.shape) else ""
    return judged([] if same else [f"{_sizes(first)} and {_sizes(second)}{hint}"])


def _sizes(info: VolumeInfo) -> str:
    return f"{'x'.join(map(str, info.shape))} ({info.axes})"


def compare_dtype(a: Source, b: Source) -> Part:
    """Compare the type of the stored values; the order of their bytes is none of it."""
    return judged([f"{a.info.dtype} and {b.info.dtype}"] if a.info.dtype != b.info.dtype else [])


def compare_geometry(a: Source, b: Source) -> Part:
    """Compare spacings and affines; within a format also the units, and each affine with its code where it has several.

    Nothing is compared where a file of another format, such as `.npy`, holds no geometry at all.
    """
    lacking = [source.info.path for source in (a, b) if source.info.spacing is None]
    if len(lacking) == 2 or (lacking and a.info.format != b.info.format):
        return Part(NOT_COMPARED, (f"no geometry in {' and '.join(lacking)}",))
    differences = _spacing_differences(a.info, b.info)
    size = five_shape(b.info.shape, b.info.axes.replace("t", "n"))[2:]
    found: dict[str, Any] = {}
    affines = _affines(a, b)
    for name, (one, other) in affines.items():
        found[name] = {"corners_mm": None if one is None or other is None else corner_distance(one, other, size)}
        if name != "affine" or len(affines) == 1:  # else it is one of the others
            differences += _affine_differences(name, one, other, size)
    for name, (first, second) in _labels(a, b).items():
        found[name] = {"a": first, "b": second}
        differences += [f"{name} {first} and {second}"] if first != second else []
    return judged(differences, found)


def _spacing_differences(a: VolumeInfo, b: VolumeInfo) -> list[str]:
    if a.spacing is None or b.spacing is None:
        return [_only("spacing", a.spacing)]
    same = np.allclose(a.spacing, b.spacing, rtol=SPACING_SHARE, atol=0)
    shown = ["x".join(f"{step:.7g}" for step in info.spacing_in_order() or ()) for info in (a, b)]
    return [] if same else [f"spacing {shown[0]} and {shown[1]} mm"]


def _only(name: str, first: Any) -> str:
    """Say that one of the two volumes alone has something."""
    return f"{name}: only {'b' if first is None else 'a'} has one"


def _affines(a: Source, b: Source) -> dict[str, tuple[Affine | None, Affine | None]]:
    """Return pairs of affines by name: the ones that place the volumes, and those the format calls by name."""
    if a.info.format != b.info.format and not {a.info.format, b.info.format}.isdisjoint(UNDIRECTED):
        return {}  # one of the two cannot say what the other does
    first, second = a.placements(), b.placements()
    named = {name: (first[name].affine, second[name].affine) for name in first if name in second}
    return {"affine": (a.info.affine, b.info.affine)} | named


def _affine_differences(name: str, a: Affine | None, b: Affine | None, size: Triple) -> list[str]:
    if a is None or b is None:
        return [] if a is b else [_only(name, a)]
    apart, step = corner_distance(a, b, size), min(spacing_of(b))
    if apart <= CORNER_VOXELS * step:
        return []
    return [f"{name}: corners of the grid up to {apart:.4g} mm apart, {apart / step:.3g} voxels"]


def _labels(a: Source, b: Source) -> dict[str, tuple[Any, Any]]:
    """Return pairs of what a format calls its affines and units, by name."""
    if a.info.format != b.info.format:
        return {}
    first, second = a.placements(), b.placements()
    codes = {f"{name}_code": (first[name].code, second[name].code) for name in first if first[name].code is not None}
    units = [_units(source.info) for source in (a, b)]
    return codes | {name: (units[0][name], units[1][name]) for name in units[0]}


def _units(info: VolumeInfo) -> dict[str, Any]:
    units = info.details.get("units")
    return {f"{axis}_unit": unit for axis, unit in units.items()} if isinstance(units, dict) else {"units": units}


def compare_header(a: Source, b: Source) -> Part:
    """Compare the fields that mean something besides shape, place and dtype; of two formats nothing is compared."""
    if a.info.format != b.info.format:
        return Part(NOT_COMPARED, (f"one is {a.info.format}, the other {b.info.format}",))
    first, second = ({name: _text(value) for name, value in source.fields().items()} for source in (a, b))
    found = {
        name: dict(zip("ab", _shortened(first.get(name), second.get(name)), strict=True))
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    }
    lines = [f"{name}: {' and '.join(text or 'nothing' for text in pair.values())}" for name, pair in found.items()]
    return judged(lines, {"fields": found})


def _text(value: Any) -> str:
    """Return a value as it would be written in a program, so that no two are the same that differ."""
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    return repr(plain.decode(errors="backslashreplace") if isinstance(plain, bytes) else plain)


def _shortened(a: str | None, b: str | None) -> list[str | None]:
    """Return texts that differ, long ones from shortly before the first character that does."""
    pairs = enumerate(zip(a or "", b or "", strict=False))
    first = next((at for at, (one, other) in pairs if one != other), min(len(a or ""), len(b or "")))
    start = max(0, first - BEFORE)
    return [text if text is None or len(text) <= SHOWN else _cut(text, start) for text in (a, b)]


def _cut(text: str, start: int) -> str:
    end = start + SHOWN
    return f"{'...' if start else ''}{text[start:end]}{'...' if len(text) > end else ''}"
