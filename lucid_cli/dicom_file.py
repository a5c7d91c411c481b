"""DICOM headers: which slices a series has, where they lie, and how their values are scaled; by pydicom.

Follows DICOM PS3.3: positions and orientations of C.7.6.2, those of frames of C.7.6.16, and the modality LUT of C.11.1.
"""

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.planes import reading
from lucid_cli.talk import silent
from lucid_cli.volumes import Array
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, is_usable, lps
from lucid_core.optional import require
from lucid_core.units import Spacing

pydicom: Any = require("pydicom", "formats")
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

TAGS = [
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "InstanceNumber", "Rows", "Columns", "NumberOfFrames"),
    *("BitsAllocated", "PixelRepresentation", "PhotometricInterpretation", "SamplesPerPixel", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "SpacingBetweenSlices"),
    *("RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
SUFFIXES = (".dcm", ".dicom", ".ima")
MAGIC_AT, MAGIC = 128, b"DICM"
GREY = ("MONOCHROME1", "MONOCHROME2")
MOST_FRAMES = 1 << 20
UNEVEN, MISSING = 0.01, 0.5
"""Shares of a step by which gaps between slices may differ, silently, and with a warning."""


@dataclass(frozen=True)
class Slice:
    """One plane of a volume: where its voxels are, and what its header says."""

    path: Path
    frame: int
    position: tuple[float, ...] | None
    """World place (LPS, mm) of its first voxel."""
    orientation: tuple[float, ...] | None
    """Directions of a row and of a column."""
    steps: tuple[float, ...] | None
    """Length in mm from row to row, and from column to column."""
    scaling: tuple[float, float]
    kind: tuple[int, int, str]
    """Rows, columns, and the type of the stored values."""

    def read(self) -> Array:
        """Return the stored values (rows, columns)."""
        with reading(str(self.path)), silent():
            values: Array = pydicom.pixels.pixel_array(self.path, index=self.frame, raw=True)
            if values.shape != self.kind[:2]:
                raise InputError(f"{self.path}: its pixels have the shape {values.shape}, not {self.kind[:2]}")
            return values


@dataclass(frozen=True)
class Volume:
    """The slices of a series, from the first to the last along the normal of their plane."""

    slices: list[Slice]
    description: str
    affine: Affine | None
    spacing: Spacing | None
    warnings: tuple[str, ...]


def is_dicom(path: Path) -> bool:
    """Say whether a file is a DICOM file, by its name or its first bytes."""
    if not path.is_file() or path.name.startswith("."):
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    with reading(str(path)), path.open("rb") as file:
        return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC


def read_volume(path: Path, inner: str | None) -> Volume:
    """Return the volume of a file, or of the series of a folder that `inner` names (by UID, its end, or its number)."""
    if not path.is_dir():
        return _volume(str(path), [_header(path)])
    series: dict[str, list[Any]] = defaultdict(list)
    for one in sorted(path.iterdir()):
        if is_dicom(one) and "Rows" in (found := _header(one)):
            series[str(found.get("SeriesInstanceUID", "none"))].append(found)
    chosen = [
        uid
        for uid, found in series.items()
        if inner is None or uid.endswith(inner) or inner == str(found[0].get("SeriesNumber"))
    ]
    if len(chosen) != 1:
        listing = "; ".join(f"{uid} ({_described(found)})" for uid, found in series.items()) or "none"
        which = f"{len(chosen)} of them are {inner!r}; " if inner else ""
        raise InputError(
            f"{path}: holds {len(series)} DICOM series, {which}say which as {path}:UID; there are {listing}"
        )
    return _volume(f"{path}:{chosen[0]}" if len(series) > 1 else str(path), series[chosen[0]])


def _described(found: list[Any]) -> str:
    first = found[0]
    return f"number {first.get('SeriesNumber')}, {first.get('SeriesDescription', 'no description')}, {len(found)} files"


def _header(path: Path) -> Any:
    """Return what matters of a header."""
    with reading(str(path)), silent():
        try:
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        except pydicom.errors.InvalidDicomError:
            raise InputError(f"{path}: not a DICOM file: it lacks DICM at byte 128") from None
        except MemoryError as error:
            raise InputError(
                f"{path}: the file is damaged: an element of its header does not fit into memory"
            ) from error
        found.filename = path
        return found


@silent()
def _volume(name: str, headers: list[Any]) -> Volume:
    """Put the slices in order, and say where they lie."""
    with reading(name):
        slices = [one for header in headers for one in _slices(header)]
        for what in ("kind", "orientation", "steps"):
            if len({getattr(one, what) for one in slices}) > 1:
                raise InputError(f"{name}: its slices differ in their {what}, so that they are no volume")
        description = str(headers[0].get("SeriesDescription", ""))
        first = slices[0]
        if any(one.position is None for one in slices) or first.orientation is None or first.steps is None:
            numbers = [int(header.get("InstanceNumber") or 0) for header in headers]
            if len(slices) == len(numbers):
                slices = [one for _, one in sorted(zip(numbers, slices, strict=True), key=lambda pair: pair[0])]
            warning = f"{name}: its slices say no place in the world; they are taken in the order of their numbers"
            return Volume(slices, description, None, None, (warning,))
        return _placed(name, slices, description, headers[0])


def _slices(header: Any) -> list[Slice]:
    """Return the slices of a file: one, or its frames."""
    path, frames = Path(header.filename), int(header.get("NumberOfFrames") or 1)
    if "Rows" not in header or int(header.SamplesPerPixel) != 1 or header.PhotometricInterpretation not in GREY:
        what = f"colours ({header.PhotometricInterpretation})" if "Rows" in header else "no picture"
        raise InputError(f"{path}: holds {what}; legal: values of one channel")
    if not 1 <= frames <= MOST_FRAMES or min(int(header.Rows), int(header.Columns)) < 1:
        raise InputError(f"{path}: has {frames} frames of {header.Rows} x {header.Columns}, which is no volume")
    bits, signed = int(header.BitsAllocated), int(header.get("PixelRepresentation") or 0)
    if bits not in (8, 16, 32) or signed not in (0, 1):
        raise InputError(f"{path}: its values have {bits} bits; legal: 8, 16 or 32")
    kind = "ui"[signed] + str(bits // 8)
    groups = header.get("PerFrameFunctionalGroupsSequence") or []
    if groups and len(groups) != frames:
        raise InputError(f"{path}: says that it has {frames} frames, and describes {len(groups)}")
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    found = []
    for frame in range(frames):
        places = [*([groups[frame]] if groups else []), *shared, header]
        found.append(
            Slice(
                path,
                frame,
                None if frames > 1 and not groups else _numbers(places, "PlanePosition", "ImagePositionPatient"),
                _numbers(places, "PlaneOrientation", "ImageOrientationPatient"),
                _numbers(places, "PixelMeasures", "PixelSpacing"),
                _scaling(places),
                (int(header.Rows), int(header.Columns), kind),
            )
        )
    return found


def _numbers(places: list[Any], group: str, name: str) -> tuple[float, ...] | None:
    """Return the numbers of an element: that of a frame, of all frames, or of the file."""
    for place in places:
        items = place.get(f"{group}Sequence") or []
        for one in (*items, place):
            if one.get(name) not in (None, ""):
                value = one.get(name)
                return tuple(map(float, value)) if hasattr(value, "__len__") else (float(value),)
    return None


def _scaling(places: list[Any]) -> tuple[float, float]:
    """Return slope and intercept."""
    slope = _numbers(places, "PixelValueTransformation", "RescaleSlope") or (1.0,)
    inter = _numbers(places, "PixelValueTransformation", "RescaleIntercept") or (0.0,)
    if not (np.isfinite([slope[0], inter[0]]).all() and slope[0]):
        raise InputError(f"the slope is {slope[0]:g} and the intercept {inter[0]:g}: the scaling is not defined")
    return slope[0], inter[0]


def _placed(name: str, slices: list[Slice], description: str, header: Any) -> Volume:
    """Put slices with positions in order along their normal, and return where the volume lies."""
    row, column = np.reshape(slices[0].orientation or (), (2, 3))
    steps = slices[0].steps or ()
    normal = np.cross(row, column)
    slices = sorted(slices, key=lambda one: float(np.dot(one.position or (), normal)))
    places = np.array([one.position for one in slices])
    gaps = np.diff(places @ normal)
    warnings: tuple[str, ...] = ()
    if len(gaps):
        mean = float(gaps.mean())
        if gaps.min() < 1e-3 * mean or not mean > 0:
            raise InputError(
                f"{name}: several of its {len(slices)} slices lie at one place: these are several volumes (times, "
                "echoes or b-values); split them into files first, as with dcm2niix"
            )
        uneven = float(abs(gaps - mean).max()) / mean
        said = f"the gaps between its slices are {gaps.min():.4g} to {gaps.max():.4g} mm"
        if uneven > MISSING:
            raise InputError(f"{name}: {said}: slices are missing, or not of one volume")
        warnings = (f"{name}: {said}; {mean:.4g} mm is taken",) if uneven > UNEVEN else ()
        last = (places[-1] - places[0]) / len(gaps)
    else:
        thick = _numbers([header], "PixelMeasures", "SpacingBetweenSlices")
        last = normal * (thick or _numbers([header], "PixelMeasures", "SliceThickness") or (1.0,))[0]
        warnings = (f"{name}: is one slice; name its folder for the whole series",)
    affine = np.eye(4)
    affine[:3, :3] = np.transpose([row * steps[1], column * steps[0], last])
    affine[:3, 3] = places[0]
    if not is_usable(affine):
        raise InputError(f"{name}: its orientation and its steps place no voxels")
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(slices, description, lps(affine), (z, y, x), warnings)
