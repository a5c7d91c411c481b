"""What is learned from: inputs, each with its target and perhaps a mask, whose headers have been read."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli import axes
from lucid_cli.fitting.settings import FitSettings
from lucid_cli.formats import Spec, parse_spec
from lucid_cli.listing import listed
from lucid_cli.mask import apart, open_mask
from lucid_cli.opening import opened
from lucid_cli.place import carried, placed
from lucid_cli.volumes import Reading, Source, VolumeInfo, five_shape
from lucid_core.errors import ArgumentError, ShapeError
from lucid_core.geometry import grid_transform
from lucid_core.stack import Problem
from lucid_core.volume import Shape5, VolumeReader, arithmetic_dtype


@dataclass(frozen=True)
class Volume:
    """A file that is read, the roles of its axes, and what its header says."""

    spec: Spec
    roles: str
    info: VolumeInfo

    @property
    def shape(self) -> Shape5:
        """Shape (N, C, D, H, W)."""
        return five_shape(self.info.shape, self.roles)

    def reader(self, source: Source, spool_folder: Path) -> VolumeReader:
        """Return a reader of any region of the open file; a compressed stream is unpacked into a temporary file."""
        return source.reader(self.roles, reading(source, self.roles), spool_folder)


def reading(source: Source, roles: str) -> Reading:
    """Return the way to read any region at any time."""
    return next(one for one in source.readings(roles) if not one.forward)


@dataclass(frozen=True)
class Pair:
    """An input, the target that is to be made of it, and where that counts."""

    input: Volume
    target: Volume
    mask: Volume | None
    readings: tuple[Reading, ...]
    """Of all of them."""
    warnings: tuple[str, ...]
    """What the headers are warned of."""

    @property
    def volumes(self) -> tuple[Volume, ...]:
        """All of them."""
        return (self.input, self.target) + ((self.mask,) if self.mask else ())

    def check(self, problem: Problem) -> tuple[str, ...]:
        """Raise `ShapeError` where the target is not what a problem makes of the input in shape; return warnings."""
        made, found = problem.out_shape, self.target.shape
        if made != found:
            raise ShapeError(
                f"the layer makes {_sizes(made)} (N, C, D, H, W) of {self.input.spec}, and the target "
                f"{self.target.spec} has {_sizes(found)}; say --out-channels, --stride or --padding as it was made, or "
                "give the target of this input"
            )
        affine, other = carried(self.input.info, self.target.info.format), self.target.info.affine
        if affine is None or other is None:
            return ()
        distance = apart(other, affine @ grid_transform(problem), problem.out_size)
        if not distance:
            return ()
        return (
            f"{self.target.spec} says it lies up to {distance:.3g} mm from what is made of {self.input.spec}; voxels "
            "are taken as they stand",
        )


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def pairs_of(inputs: tuple[str, ...], settings: FitSettings) -> list[Pair]:
    """Read the headers of all inputs, targets and masks; the first input belongs to the first target, and so on."""
    if not inputs or not settings.target:
        what = "INPUT" if not inputs else "--target"
        raise ArgumentError(
            f"no {what} is given; write it like: lucid-conv3d fit scan.nii.gz --target filtered.nii.gz -o w.safetensors"
        )
    found, targets, masks = (_specs(words) for words in (inputs, settings.target, settings.masks))
    if len(found) != len(targets):
        raise ArgumentError(
            f"{_count(found, 'input')} and {_count(targets, 'target')}: each input needs one target, in the same order"
        )
    if len(masks) not in (0, 1, len(found)):
        raise ArgumentError(f"{_count(masks, 'mask')} for {_count(found, 'input')}: give one for all, or one for each")
    masks = masks * len(found) if len(masks) == 1 else masks or [None] * len(found)
    return [_pair(*three, settings) for three in zip(found, targets, masks, strict=True)]


def _count(found: Sequence[Any], what: str) -> str:
    return f"{len(found)} {what}{'' if len(found) == 1 else 's'}"


def _specs(words: tuple[str, ...]) -> list[Any]:
    specs = [one.spec for one in listed(words, None, None)] if words else []
    if any(spec.is_pipe for spec in specs):
        raise ArgumentError("fit reads its volumes several times, which stdin does not allow; name files")
    return specs


def _pair(given: Spec, wanted: Spec, mask: Spec | None, settings: FitSettings) -> Pair:
    with ExitStack() as stack:
        source, target_source = opened(given, stack), opened(wanted, stack)
        volume = _volume(given, source, settings, settings.axes, settings.in_channels)
        same_rank = len(source.info.shape) == len(target_source.info.shape)
        axes_said = settings.target_axes or (settings.axes if same_rank else None)
        target = _volume(wanted, target_source, settings, axes_said, settings.out_channels)
        if volume.shape[0] != target.shape[0]:
            raise ShapeError(
                f"{given} has {volume.shape[0]} volumes and its target {wanted} has {target.shape[0]}; give as many, "
                "or say what the axes are with --axes and --axis4"
            )
        sources, volumes = [source, target_source], [volume, target]
        if mask is not None:
            place = partial(placed, settings=settings)
            opened_mask = open_mask(str(mask), target.info, place, target.shape[2:], stack)
            sources.append(opened_mask.source)
            volumes.append(Volume(parse_spec(str(mask)), opened_mask.roles, opened_mask.info))
        readings = tuple(reading(one, other.roles) for one, other in zip(sources, volumes, strict=True))
        warnings = tuple(warning for one in sources for warning in one.warnings)
    return Pair(volume, target, volumes[2] if mask is not None else None, readings, warnings)


def _volume(spec: Spec, source: Source, settings: FitSettings, said: str | None, channels: int | None) -> Volume:
    info = placed(source.info, settings)
    roles = axes.roles(info, axes=said, axis4=settings.axis4, in_channels=channels, each_channel_alone=False)
    return Volume(spec, roles, info)


def dtype_of(pairs: list[Pair], settings: FitSettings) -> np.dtype[Any]:
    """Return the dtype that voxels are read in and weights are saved in."""
    if settings.dtype:
        return np.dtype(settings.dtype)
    return np.result_type(*(arithmetic_dtype(one.info.dtype) for pair in pairs for one in (pair.input, pair.target)))
