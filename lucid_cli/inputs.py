"""What is convolved, read region by region: the voxels of a file, scaled, and what of them counts."""

import itertools
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.mask import Mask, open_mask
from lucid_cli.place import placed
from lucid_cli.settings import Settings
from lucid_cli.volumes import Reading, Source, VolumeInfo
from lucid_core.errors import ShapeError
from lucid_core.intensity import Intensity, ScaledReader, Scaling, measure, pieces
from lucid_core.masked import MaskedReader
from lucid_core.normalization import Normalization
from lucid_core.regions import Triple
from lucid_core.stack import Problem
from lucid_core.volume import VolumeReader


@dataclass
class Inputs:
    """An input with its mask, and what is done to its values on reading."""

    source: Source
    roles: str
    mask: Mask | None
    intensity: Intensity | None
    normalization: Normalization | None
    readings: tuple[Reading, ...] = ()
    """The ways chosen to read the input, and the mask where there is one."""
    scalings: list[list[Scaling]] = field(default_factory=list)
    """Of each channel of each volume, once `measure` has been called."""
    notes: tuple[str, ...] = ()
    """What is warned of besides."""
    _masked: MaskedReader | None = None
    """The reader that saw the mask, where one did."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the headers are warned of, and `notes`."""
        return self.source.warnings + (self.mask.source.warnings if self.mask else ()) + self.notes

    def ways(self, batch: int) -> list[tuple[Reading, ...]]:
        """Return the ways to read what `readings` shall hold, for so many volumes, the best first."""
        masks = [self.mask.readings(batch)] if self.mask else []
        return list(itertools.product(self.source.readings(self.roles), *masks))

    def memory(self, problem: Problem, grain: int) -> int:
        """Return the bytes that scaling takes, besides reading."""
        return self.intensity.memory(problem.in_shape, problem.dtype, grain) if self.intensity else 0

    def measure(self, dtype: str, folder: Path) -> None:
        """Take the statistics of the input where it is scaled by them; `folder` is where temporary data may go."""
        if self.intensity is None or self.scalings:
            return

        def open_both() -> tuple[VolumeReader, VolumeReader | None]:
            return self._source_reader(folder), self._mask_reader(folder)

        self.scalings = measure(open_both, self.intensity, dtype, self.readings[0].grain[0])

    def reader(self, folder: Path) -> VolumeReader:
        """Return a reader of what a problem takes."""
        reader = self._source_reader(folder)
        if self.intensity is not None:
            reader = ScaledReader(reader, self.scalings)
        if self.normalization is None or not self.normalization.of_voxels:
            return reader
        self._masked = MaskedReader(
            reader, self.normalization, self._mask_reader(folder) if self.normalization.mask else None
        )
        return self._masked

    def _source_reader(self, folder: Path) -> VolumeReader:
        return self.source.reader(self.roles, self.readings[0], folder)

    def _mask_reader(self, folder: Path) -> VolumeReader | None:
        return self.mask.source.reader(self.mask.roles, self.readings[1], folder) if self.mask else None

    def finish(self, folder: Path, *, elsewhere: bool = False) -> None:
        """Check, after the last read, that the files were whole, did not change, and that the mask holds something.

        What was read `elsewhere` is only looked at.
        """
        self._end(self.source, elsewhere)
        if self.mask is None:
            return
        if not (self._masked and self._masked.found):
            self._check_mask(folder)
            elsewhere = False
        self._end(self.mask.source, elsewhere)

    def _end(self, source: Source, elsewhere: bool) -> None:
        """Check a source to its end, or only that it did not change."""
        if elsewhere:
            Source.finish(source)
        else:
            source.finish()

    def _check_mask(self, folder: Path) -> None:
        """Raise `ShapeError` where nothing lies inside the mask: read again, as a run may have read a part of it."""
        reader = self._mask_reader(folder)
        assert self.mask is not None
        assert reader is not None
        parts = pieces(reader, None, 0, np.float32, self.readings[1].grain[0])
        if not any(bool((np.abs(values) > 0).any()) for values, _ in parts):
            raise ShapeError(
                f"the mask {self.mask.info.path} holds no voxel that is not 0 or NaN, so that nothing counts; "
                "give the mask of this input, or leave --mask out"
            )

    def to_json(self) -> dict[str, Any]:
        """Return what the report says of a mask, missing voxels and scaling; nothing where there is none."""
        shown: dict[str, Any] = {}
        if self.mask is not None:
            shown["mask"] = self.mask.info.to_json()
        if self.normalization is not None and self.normalization.mask:
            shown["outside"] = _finite(self.normalization.outside)
        if self.normalization is not None and self.normalization.missing:
            shown["nan"] = "renormalize"
        if self.intensity is not None:
            shown["normalize"] = str(self.intensity)
            shown["scaling"] = [
                [{"offset": one.offset, "divisor": one.divisor} for one in volume] for volume in self.scalings
            ] or None
        return shown


def _finite(value: float) -> float | str:
    """Return a number as JSON knows it: NaN is a word."""
    return value if value == value else "nan"


def open_inputs(
    settings: Settings, source: Source, roles: str, info: VolumeInfo, size: Triple, stack: ExitStack
) -> Inputs:
    """Read the header of the mask, and say what is done to the values on reading."""
    mask = None
    if settings.mask is not None:
        mask = open_mask(settings.mask, info, partial(placed, settings=settings), size, stack)
    missing, normalization = settings.nan == "renormalize", None
    if missing or (mask and not settings.layers):
        normalization = Normalization(mask is not None, missing, settings.outside or 0.0)
    intensity = None if settings.normalize is None else Intensity.parse(settings.normalize)
    return Inputs(source, roles, mask, intensity, normalization)
