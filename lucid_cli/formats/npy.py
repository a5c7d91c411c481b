"""NumPy's `.npy`: (D, H, W), (C, D, H, W) or (N, C, D, H, W), C or Fortran order, memory-mapped. No geometry."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.formats import Spec
from lucid_cli.rawfile import RawFile, check_compression
from lucid_cli.volumes import ArraySource, Sink, Source, Target, VolumeInfo
from lucid_core.errors import ArgumentTypeError, InputError
from lucid_core.regions import Region
from lucid_core.volume import VolumeReader, arithmetic_dtype

AXES = {3: "zyx", 4: "czyx", 5: "nczyx"}
"""Axes of an array by its rank, where `--axes` says nothing else."""


class NpySource(Source):
    """A memory-mapped `.npy`."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path)
        try:
            with spec.path.open("rb") as file:
                if file.read(6) != b"\x93NUMPY":
                    raise ValueError("it does not begin as a .npy file does")
            self._array = np.load(spec.path, mmap_mode="r", allow_pickle=False)
        except Exception as error:
            raise InputError(f"{spec.path}: not a readable .npy file: {' '.join(str(error).split())}") from error
        check_array(str(spec.path), self._array.shape, self._array.dtype)
        self.info = VolumeInfo(
            str(spec.path),
            "npy",
            self._array.shape,
            AXES[self._array.ndim],
            self._array.dtype.name,
            None,
            None,
        )

    def reader(self, roles: str, spool_folder: Path | None) -> VolumeReader:  # noqa: ARG002 - nothing to spool
        """Return a reader over the mapped array."""
        return ArraySource(self._array, roles)

    def close(self) -> None:
        """Let the mapping go."""
        del self._array


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
        check_compression("npy", target.compression)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {"descr": target.dtype.newbyteorder("<").str, "fortran_order": False, "shape": target.file_shape},
        )
        self._axes = target.axes
        self._file = RawFile(temporary, header.getvalue(), target.file_shape, target.dtype)

    def write(self, batch: int, region: Region, block: Any) -> None:
        """Write one region."""
        self._file.write_region(self._axes, batch, region, block)

    def finish(self) -> None:
        """Flush to the disk."""
        self._file.finish()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_source(spec: Spec) -> Source:
    """Open a `.npy` to read."""
    return NpySource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:  # noqa: ARG001 - one dataset a file
    """Open a temporary `.npy` to write."""
    return NpySink(temporaries[0], target)


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of, in the order they are put in place."""
    return [spec.path]
