"""What this computer can do: cores and memory that this process may use, and measured rates.

The rates decide between algorithms, so they are constants: the same layer and volume then take the same
algorithm on every run. They were measured on 2026-11-22 on one core of an AMD EPYC (Zen 5, 2.6 GHz, 1 MiB of L2)
by `python -m tests.benchmarks.rates`, which prints them anew.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rates:
    """Speed of one core. Only their ratios matter to the choice of an algorithm."""

    elementwise: float
    """Multiplications or additions a second of arrays that stay in the L2 cache."""
    gemm: float
    """Floating-point operations a second of a matrix product with many rows."""
    gemm_rows: float
    """Rows at which a matrix product reaches half of `gemm`."""
    gather: float
    """Values a second copied into the columns of a matrix product."""
    call: float
    """Seconds one NumPy call costs besides its work."""


RATES = {
    "float32": Rates(elementwise=1.5e10, gemm=1.1e11, gemm_rows=5, gather=9e9, call=7e-7),
    "float64": Rates(elementwise=7.5e9, gemm=5e10, gemm_rows=12, gather=5.6e9, call=7e-7),
}
"""Measured rates by dtype of the arithmetic; see the module's docstring."""

CACHE_BYTES = 1 << 20
"""L2 cache of one core that the inner loops are cut for."""

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return the cores this process may use: its affinity, less where a cgroup or SLURM allows fewer."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit() and int(slurm) > 0:
        allowed = min(allowed, int(slurm))
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        allowed = min(allowed, max(1, int(quota[0]) // int(quota[1])))
    return max(1, allowed)


def available_bytes() -> int | None:
    """Return the memory this process can still take: free memory, less where a cgroup allows less.

    Cached files count as free: the kernel drops them when memory is wanted.
    """
    limits = []
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) * 1024)
    most, used = _read(_CGROUP / "memory.max").strip(), _read(_CGROUP / "memory.current").strip()
    if most.isdigit() and used.isdigit():
        cached = [line.split()[1] for line in _read(_CGROUP / "memory.stat").splitlines() if "inactive_file " in line]
        limits.append(max(0, int(most) - int(used) + sum(map(int, cached))))
    return min(limits) if limits else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
