"""What the machine itself does, measured in the same run: times mean little without it."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from lucid_cli.bench.timing import medians
from lucid_cli.peers import peers
from lucid_core import blas, machine

VOXELS, ROWS = 256, 4096
"""Of the volume that is copied, along each axis, and of the matrices that are multiplied."""
QUICK_VOXELS, QUICK_ROWS = 32, 256


def figures(threads: int, rounds: int, quick: bool) -> dict[str, Any]:
    """Return what the machine is, what it copies and multiplies a second, and the versions of the packages."""
    voxels, rows = (QUICK_VOXELS, QUICK_ROWS) if quick else (VOXELS, ROWS)
    volume = np.ones((voxels,) * 3, np.float32)
    a, b = (np.ones((rows, rows), np.float32) for _ in range(2))
    with _blas_threads(threads):
        seconds = medians({"copy": volume.copy, "sgemm": lambda: a @ b}, rounds)
    vectors = machine.vectors()
    return {
        "cpu": machine.processor(),
        "cores": machine.cores(),
        "vector_bits": None if vectors is None else 8 * vectors.bytes,
        "copy_gb_s": 2 * volume.nbytes / seconds["copy"] / 1e9,
        "copy_bytes": volume.nbytes,
        "sgemm_gflop_s": 2 * rows**3 / seconds["sgemm"] / 1e9,
        "sgemm_rows": rows,
        "packages": _packages(),
    }


@contextmanager
def _blas_threads(threads: int) -> Iterator[None]:
    """Have NumPy's matrix products run on so many threads, where its BLAS has the switch."""
    switch = blas.controls()
    if switch is None:
        yield
        return
    getter, setter = switch
    before = getter()
    setter(threads)
    try:
        yield
    finally:
        setter(before)


def _packages() -> dict[str, str | None]:
    """Return the versions of Python and of what computes here, None for what is not installed."""
    names = ["numpy", "numba", *(package for peer in peers().values() for package in peer.packages)]
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
