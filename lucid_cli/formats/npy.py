"""NumPy's `.npy`: (D, H, W), (C, D, H, W) or (N, C, D, H, W), C or Fortran order. No geometry."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.boxes import BoxReader
from lucid_cli.failures import looks_like
from lucid_cli.formats import Spec
from lucid_cli.planes import window
from lucid_cli.rawfile import RawFile, RawReader, raw_readings, raw_writing
from lucid_cli.talk import silent
from lucid_cli.volumes import Reading, Sink, Source, Target, VolumeInfo, Writing, five_shape
from lucid_core.errors import ArgumentTypeError, InputError
from lucid_core.regions import Region
from lucid_core.volume import VolumeReader, arithmetic_dtype

MOST_HEADER_BYTES = 1000
"""A longer header of a `.npy` is none of numbers alone; NumPy takes long to read it."""
AXES = {3: "zyx", 4: "czyx", 5: "nczyx"}
"""Axes of an array by its rank, where `--axes` says nothing else."""


class NpySource(Source):
    """A `.npy`, whose header NumPy reads and whose voxels are read box by box."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path)
        try:
            with spec.path.open("rb") as file:
                start = file.read(6)
            if start != b"\x93NUMPY":
                raise InputError(f"{spec.path}: not a .npy file{looks_like(start)}")
            with silent():
                mapped = np.load(spec.path, mmap_mode="r", allow_pickle=False, max_header_size=MOST_HEADER_BYTES)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{spec.path}: not a readable .npy file: {' '.join(str(error).split())}") from error
        check_array(str(spec.path), mapped.shape, mapped.dtype)
        self._file = spec.path
        self._array = (mapped.offset, mapped.shape, mapped.dtype, mapped.flags.c_contiguous)
        self.info = VolumeInfo(
            str(spec.path),
            "npy",
            mapped.shape,
            AXES[mapped.ndim],
            mapped.dtype.name,
            None,
            None,
        )

    def readings(self, roles: str) -> list[Reading]:
        """Read forward where D is outermost in the file."""
        _, _, dtype, c_order = self._array
        order = roles if c_order else roles[::-1]
        by_planes = order.index("z") < min(order.index("y"), order.index("x"))
        return raw_readings(five_shape(self.info.shape, roles), dtype, by_planes=by_planes)

    def reader(self, roles: str, reading: Reading, spool_folder: Path | None) -> VolumeReader:  # noqa: ARG002
        """Return a reader; an array in Fortran order is one in C order of the reversed axes."""
        offset, shape, dtype, c_order = self._array
        if not c_order:
            shape, roles = shape[::-1], roles[::-1]
        file = self._open.enter_context(self._file.open("rb"))
        raw = RawReader(file, offset, shape, dtype, self.info.path, forward=reading.forward)
        boxes = BoxReader(raw, shape, dtype, roles)
        return window(boxes, reading.planes_at_once) if reading.forward else boxes


def check_array(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `InputError` where an array in a file is no volume: its rank, a size of zero, its dtype."""
    if len(shape) not in AXES:
        raise InputError(f"{name}: a volume has 3, 4 or 5 axes, this array has {len(shape)}: its shape is {shape}")
    if 0 in shape:
        raise InputError(f"{name}: the array is empty: its shape is {shape}")
    try:
        arithmetic_dtype(dtype)
    except ArgumentTypeError as error:
        raise InputError(f"{name}: {error}") from error


class NpySink(Sink):
    """Writes a C-ordered `.npy` by regions."""

    def __init__(self, temporary: Path, target: Target) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {"descr": target.dtype.newbyteorder("<").str, "fortran_order": False, "shape": target.file_shape},
        )
        self._axes = target.axes
        super().__init__()
        file = self._open.enter_context(temporary.open("r+b"))
        self._file = RawFile(file, header.getvalue(), target.file_shape, target.dtype)

    def write(self, batch: int, region: Region, encoded: Any) -> None:
        """Write one region."""
        self._file.write_region(self._axes, batch, region, encoded)

    def finish(self) -> None:
        """Flush to the disk."""
        self._file.finish()


def open_source(spec: Spec) -> Source:
    """Open a `.npy` to read."""
    return NpySource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:  # noqa: ARG001 - one dataset a file
    """Open a temporary `.npy` to write."""
    return NpySink(temporaries[0], target)


def writing(target: Target, spec: Spec) -> Writing:  # noqa: ARG001
    """Return what writing a target takes."""
    return raw_writing(target)


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of, in the order they are put in place."""
    return [spec.path]
