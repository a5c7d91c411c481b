"""NumPy's `.npy`: (D, H, W), (C, D, H, W) or (N, C, D, H, W), C or Fortran order. No geometry."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.failures import looks_like
from lucid_cli.formats import Spec
from lucid_cli.rawfile import RawSink, raw_writing
from lucid_cli.rawsource import Layout, RawSource
from lucid_cli.talk import silent
from lucid_cli.volumes import Sink, Source, Target, VolumeInfo, Writing
from lucid_core.errors import ArgumentTypeError, InputError
from lucid_core.volume import arithmetic_dtype

MOST_HEADER_BYTES = 1000
"""A longer header of a `.npy` is none of numbers alone; NumPy takes long to read it."""
AXES = {3: "zyx", 4: "czyx", 5: "nczyx"}
"""Axes of an array by its rank, where `--axes` says nothing else."""


class NpySource(RawSource):
    """A `.npy`, whose header NumPy reads and whose voxels are read box by box."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.path, str(spec.path))
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
        c_order = mapped.flags.c_contiguous
        self.layout = Layout(mapped.shape, mapped.dtype, mapped.offset, x_first=not c_order)
        self.info = VolumeInfo(
            str(spec.path),
            "npy",
            mapped.shape,
            AXES[mapped.ndim],
            mapped.dtype.name,
            None,
            None,
        )


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


def open_source(spec: Spec) -> Source:
    """Open a `.npy` to read."""
    return NpySource(spec)


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:  # noqa: ARG001 - one dataset a file
    """Open a temporary `.npy` to write, in C order."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {"descr": target.dtype.newbyteorder("<").str, "fortran_order": False, "shape": target.file_shape},
    )
    return RawSink(temporaries, target, header.getvalue(), target.axes)


def writing(target: Target, spec: Spec) -> Writing:  # noqa: ARG001
    """Return what writing a target takes."""
    return raw_writing(target)


def files(spec: Spec) -> list[Path]:
    """Return the files that an output of this name consists of, in the order they are put in place."""
    return [spec.path]


files_read = files
