"""What a plan reads from: here, where it is open already, or on a worker, which opens it for itself."""

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lucid_cli.boxes import BoxReader
from lucid_cli.formats import Spec, parse_spec
from lucid_cli.inputs import Inputs, open_inputs
from lucid_cli.opening import opened
from lucid_cli.place import placed
from lucid_cli.settings import Settings
from lucid_cli.volumes import Reading
from lucid_core.intensity import Scaling
from lucid_core.regions import Triple
from lucid_core.volume import VolumeReader


class ReadEnd(Protocol):
    """Opens a reader of what a plan reads."""

    def open(self, stack: ExitStack) -> VolumeReader:
        """Return the reader, whose files `stack` closes."""

    def sent(self) -> "ReadEnd":
        """Return what a worker opens."""


@dataclass(frozen=True)
class OpenEnd:
    """An input that is open; `folder` is where temporary data may go."""

    spec: Spec
    settings: Settings
    inputs: Inputs
    size: Triple
    folder: Path

    def open(self, stack: ExitStack) -> VolumeReader:  # noqa: ARG002 - whoever has opened the input closes it
        """Return the reader."""
        return self.inputs.reader(self.folder)

    def sent(self) -> "InputEnd":
        """Return what a worker opens; names become absolute, as it may run in another folder."""
        mask = None if self.settings.mask is None else str(_absolute(parse_spec(self.settings.mask)))
        settings, inputs = replace(self.settings, mask=mask), self.inputs
        return InputEnd(_absolute(self.spec), settings, inputs.roles, self.size, inputs.readings, inputs.scalings)


@dataclass(frozen=True)
class InputEnd:
    """An input with its mask and scaling, to be opened by a worker as it was opened to be planned."""

    spec: Spec
    settings: Settings
    roles: str
    size: Triple
    readings: tuple[Reading, ...]
    scalings: list[list[Scaling]]

    def open(self, stack: ExitStack) -> VolumeReader:
        """Return the reader."""
        source = opened(self.spec, stack)
        inputs = open_inputs(self.settings, source, self.roles, placed(source.info, self.settings), self.size, stack)
        inputs.readings, inputs.scalings = self.readings, self.scalings
        return inputs.reader(Path(tempfile.gettempdir()))

    def sent(self) -> "InputEnd":
        """Return itself."""
        return self


def _absolute(spec: Spec) -> Spec:
    return spec if spec.url else replace(spec, path=Path(os.path.abspath(spec.path)))  # noqa: PTH100 - keeps links


@dataclass(frozen=True)
class ArrayEnd:
    """A Zarr array whose axes have these roles."""

    array: Any
    axes: str

    def open(self, stack: ExitStack) -> VolumeReader:  # noqa: ARG002 - nothing to close
        """Return the reader."""
        from lucid_cli.zarr_source import ArrayBoxes

        array = self.array
        boxes = ArrayBoxes(array, array.path)
        return BoxReader(boxes, tuple(array.shape), np.dtype(array.dtype), self.axes)

    def sent(self) -> "ArrayEnd":
        """Return itself: an array is known by where it lies."""
        return self
