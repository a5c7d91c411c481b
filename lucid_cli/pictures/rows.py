"""What a picture shows, decided without drawing: rows of planes, each with its window, and the words below them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.affines import obliquity

from lucid_cli.formats import parse_spec
from lucid_cli.mask import apart
from lucid_cli.pictures.scans import Scan, View, is_oriented, views
from lucid_cli.report import grid_line
from lucid_core.errors import ArgumentError
from lucid_core.regions import Triple

Array = npt.NDArray[Any]
Window = tuple[float, float]
PERCENTILES = (1, 99)
"""Of the values shown: what is black and what is white."""
ALIKE = 0.5
"""Share of the wider of two windows that both must cover to be one."""
MOST = 1e300
"""Largest bound of a window: its width is a float too."""
OBLIQUE = 0.5
"""Degrees from which on it is said that planes of voxels are not planes of the world."""

MOST_NAME = 60
"""Characters of a file's name that are shown."""
RADIOLOGICAL = "Radiological view: the patient's right (R) is on the left of the picture."
NO_ORIENTATION = "Nothing says how the volume lies in the world: rows and columns are those of the array."


@dataclass(frozen=True)
class Panel:
    """A plane to draw: rows and columns, NaN where a value is not finite, with its height and width in mm."""

    title: str
    values: Array
    size: tuple[float, float]
    edges: tuple[str, str, str, str]


@dataclass(frozen=True)
class Row:
    """Panels that share a window; `diverging` has 0 in the middle."""

    label: str
    panels: list[Panel]
    window: Window
    diverging: bool = False


@dataclass(frozen=True)
class Picture:
    """All of it: a line for each file at the top, the rows, and what has to be said at the bottom."""

    titles: list[str]
    rows: list[Row]
    notes: list[str]


def pictured(
    before: Scan, after: Scan | None, at: Triple | None = None, window: Window | None = None, *, same_way: bool = False
) -> Picture:
    """Read the planes of one scan, or of two, and arrange them.

    `same_way` says that `after` lies as `before` does, whatever its file can say of that.
    """
    scans = [before, after] if after else [before]
    at = _middle(before) if at is None else _inside(at, before)
    shown = all(is_oriented(one.info) for one in (scans[:1] if same_way else scans))
    looks = [views(scan.info.affine if shown else None) for scan in scans]
    places = [at, matching(at, before, after)] if after else [at]
    planes = [scan.planes(look, place) for scan, look, place in zip(scans, looks, places, strict=True)]
    panels = [
        [_panel(scan, view, plane, place) for view, plane in zip(look, taken, strict=True)]
        for scan, look, taken, place in zip(scans, looks, planes, places, strict=True)
    ]
    windows = [window or robust(taken) for taken in planes]
    if after and alike(*windows):
        windows[1] = windows[0]
    labels = ["before", "after"] if after else [""]
    rows = [Row(*row) for row in zip(labels, panels, windows, strict=True)]
    lacking = _apart(before, after) if after else ""
    if after and not lacking:
        rows.append(_difference(*panels))
    notes = _notes(scans, shown, rows, window) + [f"No difference is shown: {lacking}."] * bool(lacking)
    return Picture([_title(scan) for scan in scans], rows, notes)


def _middle(scan: Scan) -> Triple:
    d, h, w = (size // 2 for size in scan.size)
    return d, h, w


def _inside(at: Triple, scan: Scan) -> Triple:
    if any(index >= size for index, size in zip(at, scan.size, strict=True)):
        highest = ",".join(str(size - 1) for size in scan.size)
        raise ArgumentError(
            f"--at {','.join(map(str, at))}: lies outside {scan.info.path}; legal: voxels D,H,W from 0,0,0 to {highest}"
        )
    return at


def matching(at: Triple, before: Scan, after: Scan) -> Triple:
    """Return the voxel of `after` that lies where the voxel `at` of `before` does, or nearest to it."""
    if before.info.affine is None or after.info.affine is None:
        places = [(i + 0.5) * n / m - 0.5 for i, m, n in zip(at, before.size, after.size, strict=True)]
    else:
        world = before.info.affine @ [*at[::-1], 1.0]
        places = list(np.linalg.solve(after.info.affine, world)[2::-1])
    d, h, w = (min(max(round(one), 0), size - 1) for one, size in zip(places, after.size, strict=True))
    return d, h, w


def _panel(scan: Scan, view: View, plane: Array, at: Triple) -> Panel:
    steps = scan.info.spacing or (1.0, 1.0, 1.0)
    size = (scan.size[view.down] * steps[view.down], scan.size[view.right] * steps[view.right])
    return Panel(view.title(at), np.where(np.isfinite(plane), plane, np.nan), size, view.edges)


def robust(planes: list[Array]) -> Window:
    """Return a window that a few outliers do not widen: two percentiles, or the extremes where these are one."""
    values = np.concatenate([plane[np.isfinite(plane)] for plane in planes])
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(np.clip(values, -MOST, MOST), PERCENTILES)
    if low == high:
        low, high = np.clip([values.min(), values.max()], -MOST, MOST)
    return float(low), float(high) if high > low else float(low) + max(1.0, abs(float(low)))


def alike(one: Window, other: Window) -> bool:
    """Say whether two windows are so near that one serves both."""
    wider = max(one[1] - one[0], other[1] - other[0])
    return min(one[1], other[1]) - max(one[0], other[0]) >= ALIKE * wider


def _apart(before: Scan, after: Scan) -> str:
    """Say why the voxels of two scans are not at the same places; '' where they are."""
    if before.size != after.size:
        return "the files have different grids"
    first, second = before.info.affine, after.info.affine
    if first is not None and second is not None and (distance := apart(second, first, before.size)):
        return f"the grids lie up to {distance:.3g} mm apart"
    return ""


def _difference(before: list[Panel], after: list[Panel]) -> Row:
    with np.errstate(all="ignore"):
        planes = [second.values - first.values for first, second in zip(before, after, strict=True)]
    top = robust([np.abs(plane) for plane in planes])[1]
    panels = [
        Panel(panel.title, np.where(np.isfinite(plane), plane, np.nan), panel.size, panel.edges)
        for panel, plane in zip(before, planes, strict=True)
    ]
    return Row("after - before", panels, (-top, top), diverging=True)


def _title(scan: Scan) -> str:
    parts = [f"{shown_name(scan.info.path)}   {grid_line(scan.info.to_json())}", scan.picked]
    return ", ".join(filter(None, parts))


def shown_name(path: str) -> str:
    """Return the name of a file and a dataset in it as a picture has room for, without odd characters."""
    spec = parse_spec(path)
    name = str(replace(spec, path=Path(spec.path.name), url=None))
    plain = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in name)
    return plain if len(plain) <= MOST_NAME else f"{plain[: MOST_NAME // 2]}...{plain[-MOST_NAME // 2 :]}"


def _notes(scans: list[Scan], oriented: bool, rows: list[Row], window: Window | None) -> list[str]:
    """Return the sentences below the picture: what a reader has to know to trust it."""
    notes = [RADIOLOGICAL if oriented else NO_ORIENTATION]
    off = max(
        np.degrees(obliquity(scan.info.affine)).max() if oriented and scan.info.affine is not None else 0.0
        for scan in scans
    )
    if off >= OBLIQUE:
        notes.append(f"Oblique: the planes are those of the voxels, up to {off:.1f} degrees off the axes of the world.")
    if any(scan.info.spacing is None for scan in scans):
        notes.append("Without a spacing voxels are drawn as cubes.")
    shared = ", the same before and after" if len(scans) > 1 and rows[0].window == rows[1].window else ""
    own = ", before and after each its own" if len(scans) > 1 and not shared else ""
    low, high = PERCENTILES
    notes.append(
        f"Window: {'as given' if window else f'the {low}st to {high}th percentile of what is shown'}{shared or own}."
    )
    if any(np.isnan(panel.values).any() for row in rows for panel in row.panels):
        notes.append("Yellow: not a finite number.")
    if (most := max(max(scan.thinning) for scan in scans)) > 1:
        notes.append(f"Of long axes only one voxel in {most} is drawn.")
    return notes
