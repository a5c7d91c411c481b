"""Attributes of an array that say where its voxels lie, in HDF5 and in Zarr.

Spacing is `element_size_um` (z, y, x; micrometres), as microscopy software writes it; `affine` (4, 4) maps voxel
(x, y, z) to the world in `units`, mm unless said. Both follow the output; every other attribute is copied.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes

from lucid_cli.lengths import mm_per
from lucid_cli.provenance import ATTRIBUTE
from lucid_cli.volumes import Target
from lucid_core.geometry import Affine, affine_of, is_usable, spacing_of
from lucid_core.units import Spacing

OWN = ("element_size_um", "affine", "axes")
"""Attributes that follow the output; `units` does too, where it says those of the affine."""
NO_FIELDS = ("element_size_um", "affine", "units", ATTRIBUTE)
"""Attributes of place and provenance."""


def place(attributes: Mapping[str, Any]) -> tuple[Spacing | None, Affine | None, str | None]:
    """Return the spacing, the affine in mm and the orientation that attributes say, each None where they do not."""
    spacing, affine = _spacing(attributes), _affine(attributes)
    orientation = None if affine is None else "".join(aff2axcodes(affine))
    if spacing is None and affine is not None:
        spacing = spacing_of(affine)
    if affine is None and spacing is not None:
        affine = affine_of(spacing)
    return spacing, affine, orientation


def _spacing(attributes: Mapping[str, Any]) -> Spacing | None:
    values = _numbers(attributes.get("element_size_um", ()))
    if values.shape != (3,) or not all(0 < v < math.inf for v in values):
        return None
    z, y, x = (float(value) / 1000 for value in values)
    return z, y, x


def _affine(attributes: Mapping[str, Any]) -> Affine | None:
    """Return the affine in mm, None where there is no usable one or its `units` are not known."""
    matrix = _numbers(attributes.get("affine", ()))
    if matrix.shape != (4, 4):
        return None
    per_unit = mm_per(text(attributes.get("units")) or "mm")
    if per_unit is None:
        return None
    with np.errstate(all="ignore"):  # what comes of an infinite one is not usable
        affine = np.diag([per_unit, per_unit, per_unit, 1.0]) @ matrix.astype(np.float64)
    return affine if is_usable(affine) else None


def _numbers(value: Any) -> Any:
    """Return an array of numbers, an empty one where a value is none."""
    try:
        values = np.asarray(value)
    except ValueError:
        return np.empty(0)
    return values if values.dtype.kind in "fiu" else np.empty(0)


def text(value: Any) -> str | None:
    """Return an attribute as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else None if value is None else str(value)


def following(target: Target) -> dict[str, Any]:
    """Return the attributes that follow an output."""
    found: dict[str, Any] = {"axes": target.axes}
    if target.spacing is not None:
        found["element_size_um"] = [step * 1000 for step in target.spacing]
    if target.affine is not None:
        found["affine"] = target.affine
    if target.spacing is not None or target.affine is not None:
        found["units"] = "mm"
    return found
