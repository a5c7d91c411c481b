"""A small volume through every algorithm and every format, judged by the definition in float64."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from lucid_cli.bench.verify import truth
from lucid_cli.bench.workloads import Workload
from lucid_cli.comparison import compare
from lucid_cli.doctor.findings import Finding
from lucid_cli.doctor.trials import Checks, NotPossibleError, outcomes
from lucid_cli.formats import parse_spec
from lucid_cli.samples import write_sample
from lucid_core.algorithms import Algorithm, algorithms
from lucid_core.arguments import layer_arguments
from lucid_core.compute import Filters
from lucid_core.errors import RunError
from lucid_core.execute import execute
from lucid_core.planner import ENGINES, plan
from lucid_core.units import Length
from lucid_core.volume import ArrayReader, ArrayWriter

SECONDS, COMPILING_SECONDS, LOADING_SECONDS = 4.0, 4.0, 4.0
"""What the checks of NumPy and of the formats may take, those of the kernels that Numba compiles, and of torch."""
BUSY = "run this again when the computer is less busy"
NOT_COMPILED = "it is still to be compiled: its first run takes some seconds more, and the next ones do not"
NOT_LOADED = "torch takes long to load here, and each run with it does"
REFERENCE = ".nii"
"""The format that the others are compared with."""
LOADS = (
    Workload("filters", (1, 2, 10, 12, 14), layer_arguments(2, 3, 3, padding=1)),
    Workload(
        "box", (1, 1, 10, 12, 14), layer_arguments(1, 1, 3, padding=1), np.full((1, 1, 3, 3, 3), 1 / 27, np.float32)
    ),
)
"""Layers of which every algorithm can compute one."""
FILES = (
    ".nii",
    ".nii.gz",
    ".nii.zst",
    ".hdr",
    ".h5",
    ".npy",
    ".mgz",
    ".mha",
    ".nrrd",
    ".tif",
    ".ome.tif",
    ".mrc",
    ".zarr",
)
"""Suffixes of files that are written and read: every format, and every codec."""
SHAPE, SPACING = (6, 8, 10), Length((2.0, 1.0, 0.5), "mm")


def find() -> list[Finding]:
    """Check every algorithm and every format, what takes long to begin last."""
    ways = {engine: _checks_of(engine) for engine in ENGINES}
    with tempfile.TemporaryDirectory(prefix="lucid-conv3d-doctor-") as folder:
        written = {f"{suffix} written and read": partial(_round_trip, Path(folder), suffix) for suffix in FILES}
        found = outcomes(ways["numpy"] | written, SECONDS, BUSY)
    found += outcomes(ways["numba"], COMPILING_SECONDS, NOT_COMPILED)
    return found + outcomes(ways["torch"], LOADING_SECONDS, NOT_LOADED)


def _checks_of(engine: str) -> Checks:
    ways = [way for way in algorithms().values() if way.engine == engine]
    return {f"{way.name} ({way.engine})": partial(_compute, way) for way in ways}


def _compute(way: Algorithm) -> str:
    """Convolve, and compare with the definition within the bound that the algorithm states."""
    refused = ""
    for load in LOADS:
        if refused := way.refuses(load.problem) or "":
            continue
        chosen = plan(load.problem, algorithm=way.name, engine=way.engine, accuracy="normwise", threads=2)
        (one,) = (one for one in chosen.candidates if (one.algorithm, one.engine) == (way.name, way.engine))
        x, weight = load.arrays()
        out = np.empty(load.problem.out_shape, load.dtype)
        execute(chosen, [Filters(weight, load.bias)], ArrayReader(x), ArrayWriter(out))
        normwise = one.accuracy == "normwise"
        share = truth(load.problem, x, weight, load.bias).check(way.name, out, one.error_bound, normwise=normwise)
        return f"right: off by {share:.1g} of sum |x||w|, where it states {one.error_bound:.1g}"
    raise NotPossibleError(refused)


def _round_trip(folder: Path, suffix: str) -> str:
    """Write a sample, read it back, and compare it with one in another format."""
    for name in (f"a{REFERENCE}", f"b{suffix}"):
        write_sample(
            "noise",
            str(folder / name),
            shape=SHAPE,
            channels=1,
            spacing=SPACING,
            dtype="float32",
            seed=1,
            overwrite=True,
        )
    done = compare(
        parse_spec(str(folder / f"b{suffix}")), parse_spec(str(folder / f"a{REFERENCE}")), ignore=("header",)
    )
    if not done.same:
        lines = [line for name in done.differing for line in done.parts[name].lines]
        raise RunError(f"what was read is not what was written: {'; '.join(lines)}")
    return "the same values"
