"""What is done with a file: all that a command does with it, to the last voxel, except convolving and writing."""

import importlib
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from lucid_cli import describe, nifti_header, report
from lucid_cli.commands import apply
from lucid_cli.config import load as load_yaml
from lucid_cli.config import options_of
from lucid_cli.formats import hdf5, minc, parse_spec
from lucid_cli.formats.nifti import NiftiSource
from lucid_cli.job import Job, item, prepare
from lucid_cli.layer import Recipe, recipe
from lucid_cli.mistakes import find
from lucid_cli.settings import Settings
from lucid_cli.talk import silent
from lucid_cli.volumes import Reading
from lucid_cli.weight_files import hdf5 as weights_hdf5
from lucid_cli.weights import load
from lucid_core import machine
from lucid_core.errors import InputError
from lucid_core.units import ByteSize

MOST_VOXELS = 1 << 22
"""A file may hold more, all alike: then the first ones are read."""
MORE_BYTES = 128 << 20
"""Memory that a run may take beside what this process has."""
HANG_SECONDS = 10


def volume(path: Path) -> None:
    """Open, describe, plan, read and verify a volume, and carry its header to an output."""
    with ExitStack() as stack:
        job = prepare(parse_spec(str(path)), None, _recipe(), stack)
        describe.table(job.info)
        describe.as_json(job.info)
        report.table(item(job, "planned", None, None))
        report.dump(report.report_json("plan", [item(job, "planned", None, None)]))
        readings = [job.inputs.readings[0], job.inputs.source.readings(job.inputs.roles)[-1]]
        for reading in readings if readings[0] != readings[1] else readings[:1]:
            _read(job, reading, path.parent)
        job.inputs.source.verify()
        if isinstance(job.inputs.source, NiftiSource):
            for single in (True, False):
                nifti_header.header_bytes(nifti_header.output_header(job.target, job.inputs.source.header, single))


def _recipe() -> Recipe:
    """Return what to convolve with, and in how much memory."""
    limit = ByteSize((machine.resident_bytes() or 0) + MORE_BYTES, "")
    return recipe(Settings(kernel="identity", engine="numpy", algorithm="direct", threads=1, max_memory=limit))


def _read(job: Job, reading: Reading, folder: Path) -> None:
    """Read tile by tile."""
    reader = job.inputs.source.reader(job.inputs.roles, reading, folder)
    left = MOST_VOXELS
    for batch, region in job.target.regions():
        reader.forget(batch, region.start[0])
        block = np.empty((job.target.shape[1], *region.shape), job.layer.weight.dtype)
        left -= math.prod(block.shape)
        if left < 0:
            return
        reader.read(batch, region, block)
    job.inputs.source.finish()


def weights(path: Path) -> None:
    """Load weights: those without a key, and those of a key that some files have."""
    load(str(path), "zyx")
    if path.suffix not in (".npy", ".csv", ".nii"):  # which have no keys
        load(f"{path}:weight", "xyz")


def configuration(path: Path) -> None:
    """Read a configuration as `apply` does, and refuse it for everything that is wrong."""
    document = load_yaml(path)
    context = apply.command.make_context("apply", [])
    found = find(document.value, options_of(apply.command), context, known=document.mistakes)
    if found.mistakes:
        raise InputError("; ".join(f"{document.place(one)} {one.text}" for one in found.mistakes))


class Here:
    """In place of `Isolated`: the same calls in this process, so that no fork stands between two inputs."""

    def __init__(self, name: str, make: Callable[..., Any], *args: Any) -> None:
        self._made = make(*args)

    def call(self, method: str, *args: Any) -> Any:
        """Call, and carry the result or the error as a pipe would."""
        value = getattr(self._made, method)(*args)
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return value
        return pickle.loads(pickle.dumps(value))

    def close(self) -> None:
        """Close the file, where there is one."""
        file = getattr(self._made, "_file", None)
        if file is not None:
            file.close()
        with silent():  # a netCDF file that is mapped warns when it goes
            self._made = None


@contextmanager
def in_this_process() -> Iterator[None]:
    """Let HDF5, MINC and TIFF be read here, for speed; what fails is tried again without this."""
    with ExitStack() as stack:
        tiff = [importlib.import_module("lucid_cli.formats.tiff")] if find_spec("tifffile") else []
        for module in (hdf5, minc, weights_hdf5, *tiff):
            stack.enter_context(mock.patch.object(module, "Isolated", Here))
        yield
