"""What an output shall hold, of what its input and the options say."""

from lucid_cli.axes import output_axes
from lucid_cli.compression import check_compression
from lucid_cli.formats import PIPE, SUFFIXES, Spec
from lucid_cli.place import carried
from lucid_cli.settings import Settings
from lucid_cli.sink import out_dtype
from lucid_cli.volumes import Source, Target, VolumeInfo
from lucid_core.arguments import triple
from lucid_core.errors import ArgumentError
from lucid_core.geometry import grid_transform, scaled
from lucid_core.stack import Problem

STORAGE = {"shards": ("zarr",), "zarr_format": ("zarr",), "pyramid": ("zarr",)}
"""Options of how an output is stored, and the formats that know them."""


def target_of(settings: Settings, source: Source, info: VolumeInfo, roles: str, problem: Problem, out: Spec) -> Target:
    """Return what the output of a problem shall hold; the tile is not chosen yet.

    Raises `ArgumentError` for options that its format does not know, `ShapeError` for axes that it cannot hold.
    """
    format_name = SUFFIXES[out.suffix]
    affine = carried(info, format_name)
    check_compression(PIPE if out.is_pipe else out.suffix, settings.compression)
    _check_storage(settings, out, format_name)
    return Target(
        shape=problem.out_shape,
        axes=output_axes(format_name, info.format, roles, problem.batch, problem.out_channels),
        dtype=out_dtype(settings.out_dtype, settings.cast, format_name),
        problem=problem,
        source=source,
        spacing=None if info.spacing is None else scaled(info.spacing, problem),
        affine=None if affine is None else affine @ grid_transform(problem),
        input_spacing=None if settings.spacing is None else settings.spacing.millimetres(),
        compression=settings.compression,
        chunks=None if settings.chunks is None else triple("chunks", settings.chunks, 1),
        shuffle=settings.shuffle,
        tile=problem.out_size,
        shards=None if settings.shards is None else triple("shards", settings.shards, 1),
        zarr_format=None if settings.zarr_format is None else int(settings.zarr_format),
        pyramid=settings.pyramid,
    )


def _check_storage(settings: Settings, out: Spec, format_name: str) -> None:
    """Raise `ArgumentError` where an option of storage does not go with the format of the output."""
    for name, legal in STORAGE.items():
        if getattr(settings, name) not in (None, False) and format_name not in legal:
            raise ArgumentError(
                f"--{name.replace('_', '-')} does not go with {out.suffix}; it is for outputs in {' or '.join(legal)}"
            )
