"""What this computer can do: cores and memory that this process may use, and measured rates.

The rates decide between algorithms, so they are constants: the same layer and volume then take the same
algorithm on every run. They were measured on 2026-11-23 on one core of an AMD EPYC (Zen 4, 2.6 GHz, 1 MiB of L2)
by `python -m tests.benchmarks.rates`, which prints them anew.
"""

import math
import os
import platform
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class TensorRates:
    """Speed of torch on one device."""

    elementwise: float
    """Multiplications and additions a second of values that are read and written."""
    gemm: float
    """Floating-point operations a second of a matrix product with many rows."""
    gemm_rows: float
    """Rows at which a matrix product reaches half of `gemm`."""
    gather: float
    """Values a second copied into the columns of a matrix product."""
    native: float
    """Floating-point operations a second of torch's own convolution of many channels."""
    call: float
    """Seconds one operation costs besides its work."""
    copy: float = math.inf
    """Values a second copied to or from the device."""


TENSOR_RATES = {
    "cpu": {
        "float32": TensorRates(elementwise=8e9, gemm=9e10, gemm_rows=13, gather=4e9, native=1e11, call=4e-6),
        "float64": TensorRates(elementwise=4e9, gemm=4.5e10, gemm_rows=13, gather=1.5e9, native=1.5e10, call=4e-6),
    },
    "cuda": {
        "float32": TensorRates(4.9e11, 4.4e13, 34, 2.6e11, 3.8e13, 6e-6, 1.3e10),
        "float64": TensorRates(1.6e11, 4.5e13, 55, 2.5e11, 7.7e12, 5.7e-6, 6.3e9),
    },
    "metal": {"float32": TensorRates(2e10, 3e12, 16, 2e10, 2e12, 2e-5, 2e10)},
}
"""Measured rates of torch by kind of device and dtype, printed anew by `python -m tests.benchmarks.device`; those of
`cuda` on an NVIDIA H200 with torch 2.11. Those of `metal` are guessed."""


@dataclass(frozen=True)
class Rates:
    """Speed of one core. Only their ratios matter to the choice of an algorithm."""

    elementwise: float
    """Multiplications or additions a second of arrays that stay in the L2 cache."""
    weighted: float
    """Products a second that `weighted_sums` adds."""
    gemm: float
    """Floating-point operations a second of a matrix product with many rows."""
    gemm_rows: float
    """Rows at which a matrix product reaches half of `gemm`."""
    gather: float
    """Values a second copied into the columns of a matrix product."""
    call: float
    """Seconds one NumPy call costs besides its work."""
    fft: float
    """Floating-point operations a second of NumPy's FFT, 2.5 n log2 n for n real numbers."""
    fma: float
    """Fused multiply-adds of vectors a second, in compiled kernels."""
    load: float
    """Vectors loaded a second from any address."""
    pack: float
    """Values a second gathered into a strip."""
    store: float
    """Values a second stored into memory."""
    tensors: TensorRates
    """What torch does, on one core where no other device computes."""


RATES = {
    "float32": Rates(
        elementwise=7e9,
        weighted=6.5e9,
        gemm=7.8e10,
        gemm_rows=10,
        gather=4e9,
        call=1.2e-6,
        fft=3e9,
        fma=3.3e9,
        load=1.6e9,
        pack=2e9,
        store=3e9,
        tensors=TENSOR_RATES["cpu"]["float32"],
    ),
    "float64": Rates(
        elementwise=4e9,
        weighted=3.5e9,
        gemm=4.2e10,
        gemm_rows=8,
        gather=3e9,
        call=1.2e-6,
        fft=2e9,
        fma=3.3e9,
        load=1.6e9,
        pack=1e9,
        store=1.5e9,
        tensors=TENSOR_RATES["cpu"]["float64"],
    ),
}
"""Measured rates by dtype of the arithmetic; see the module's docstring."""


def rates(dtype: str, kind: str = "cpu") -> Rates:
    """Return the rates for a dtype of the arithmetic, with those of torch on a kind of device."""
    return replace(RATES[dtype], tensors=TENSOR_RATES[kind][dtype])


CACHE_BYTES = 1 << 20
"""L2 cache of one core that the inner loops are cut for."""


@dataclass(frozen=True)
class Vectors:
    """The vector registers of a processor."""

    bytes: int
    count: int


_VECTORS = {"AVX512F": Vectors(64, 32), "FMA3": Vectors(32, 16), "ASIMD": Vectors(16, 32)}
"""Vector registers by the feature that brings them together with a fused multiply-add, the widest first."""


@cache
def vectors() -> Vectors | None:
    """Return the widest vector registers of this processor that multiply and add at once, None where none do."""
    core = getattr(np, "_core", None) or np.core
    features = getattr(core._multiarray_umath, "__cpu_features__", {})
    return next((found for feature, found in _VECTORS.items() if features.get(feature)), None)


_CGROUP = Path("/sys/fs/cgroup")


def processor() -> str:
    """Return the processor's name."""
    found = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


_chosen_cores: ContextVar[int | None] = ContextVar("chosen_cores", default=None)


def cores() -> int:
    """Return the cores this process may use: those of `using_cores`, else the least of `core_limits`."""
    return _chosen_cores.get() or max(1, min(core_limits().values()))


@contextmanager
def using_cores(count: int) -> Iterator[None]:
    """Let `cores` be so many, for what is computed within without saying how many threads it takes."""
    token = _chosen_cores.set(count)
    try:
        yield
    finally:
        _chosen_cores.reset(token)


def core_limits() -> dict[str, int]:
    """Return how many cores each of these allows: the affinity of the process, SLURM and a cgroup where there are."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = {"affinity": affinity}
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit() and int(slurm) > 0:
        limits["SLURM_CPUS_PER_TASK"] = int(slurm)
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        limits["cgroup"] = max(1, int(quota[0]) // int(quota[1]))
    return limits


def available_bytes() -> int | None:
    """Return the memory this process can still take: the least of `memory_limits`, None where nothing says it."""
    return min(memory_limits().values(), default=None)


def memory_limits() -> dict[str, int]:
    """Return the bytes that each of these leaves: free memory, `ulimit -v` and a cgroup where there are.

    Cached files count as free: the kernel drops them when memory is wanted.
    """
    limits = {}
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            limits["free memory"] = int(line.split()[1]) * 1024
    space, virtual = resource.getrlimit(resource.RLIMIT_AS)[0], virtual_bytes()
    if space != resource.RLIM_INFINITY and virtual is not None:
        limits["ulimit -v"] = max(0, space - virtual)
    most, used = _read(_CGROUP / "memory.max").strip(), _read(_CGROUP / "memory.current").strip()
    if most.isdigit() and used.isdigit():
        cached = [line.split()[1] for line in _read(_CGROUP / "memory.stat").splitlines() if "inactive_file " in line]
        limits["cgroup"] = max(0, int(most) - int(used) + sum(map(int, cached)))
    return limits


def resident_bytes() -> int | None:
    """Return the memory that this process has resident, None where the system does not say."""
    return _statm(1)


def peak_resident_bytes() -> int:
    """Return the most memory this process has had resident.

    Linux keeps `ru_maxrss` across exec, so that it may be the parent's: VmHWM is this program's own.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def virtual_bytes() -> int | None:
    """Return the address space of this process, None where the system does not say."""
    return _statm(0)


def _statm(field: int) -> int | None:
    fields = _read(Path("/proc/self/statm")).split()
    return int(fields[field]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > field else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
