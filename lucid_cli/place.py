"""What the formats can say of where voxels lie, and what of it is lost from one to another."""

from dataclasses import replace

import numpy as np

from lucid_cli.formats import Spec
from lucid_cli.settings import Settings
from lucid_cli.volumes import VolumeInfo
from lucid_core.geometry import Affine, affine_of, rescale, spacing_of

UNDIRECTED = {"tiff": "TIFF", "ome_tiff": "OME-TIFF", "mrc": "MRC"}
"""Formats that say how long the steps are, but not which way they go in a body, and their names."""


def placed(info: VolumeInfo, settings: Settings) -> VolumeInfo:
    """Return the input's info with the spacing that `--spacing` says."""
    if settings.spacing is None:
        return info
    spacing = settings.spacing.millimetres()
    affine = None if info.affine is None else rescale(info.affine, spacing)
    if affine is None and info.format not in UNDIRECTED:
        affine = affine_of(spacing)
    return replace(info, spacing=spacing, affine=affine)


def carried(info: VolumeInfo, format_name: str) -> Affine | None:
    """Return the affine of an input as far as it means the same in another format: directions are not made up."""
    return None if info.format in UNDIRECTED and info.format != format_name else info.affine


def is_straight(affine: Affine) -> bool:
    """Say whether the steps along x, y and z go to right, front and up, and nowhere else."""
    return bool((affine[:3, :3] == affine_of(spacing_of(affine))[:3, :3]).all())


def losses(info: VolumeInfo, out: Spec, format_name: str) -> tuple[str, ...]:
    """Return one line that says what of an input's place its output cannot hold, nothing where nothing is lost."""
    if format_name not in UNDIRECTED or info.affine is None:
        return ()
    holds_origin = format_name == "mrc" and is_straight(info.affine)
    orientation = info.details.get("orientation")
    lost = [f"the orientation {orientation}"] if orientation else []
    lost += ["the origin"] if np.any(info.affine[:3, 3]) and not holds_origin else []
    if not lost:
        return ()
    kept = "the spacing and the origin" if holds_origin else "the spacing"
    return (f"{out}: {UNDIRECTED[format_name]} keeps {kept} only; dropped: {' and '.join(lost)}",)
