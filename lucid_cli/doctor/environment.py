"""Variables of the environment that change what this program does, or seem to."""

import os

import click

from lucid_cli.commands import apply
from lucid_cli.config import PREFIX, ConfiguredOption
from lucid_cli.doctor.findings import PROBLEM, Finding
from lucid_cli.main import LIBRARIES
from lucid_core.registry import did_you_mean

THREADS = "changes nothing here; --threads says how many"
OTHERS = {
    "OMP_NUM_THREADS": THREADS,
    "OPENBLAS_NUM_THREADS": THREADS,
    "MKL_NUM_THREADS": THREADS,
    "NUMBA_NUM_THREADS": THREADS,
    "SLURM_CPUS_PER_TASK": "bounds the cores",
    "NUMBA_CACHE_DIR": "where compiled kernels are kept",
    "NUMBA_DISABLE_JIT": "keeps the engine numba from running",
    "NUMBA_CPU_NAME": "what kernels are compiled for",
    "NUMBA_CPU_FEATURES": "what kernels are compiled for",
    "NPY_DISABLE_CPU_FEATURES": "hides vectors from NumPy and from compiled kernels",
    "HDF5_USE_FILE_LOCKING": "whether HDF5 locks files",
    "HDF5_PLUGIN_PATH": "where HDF5 finds more filters",
    "TMPDIR": "where temporary data go",
}
"""Variables of others, and what each does here."""


def find() -> list[Finding]:
    """Look at the variables that are set, and at whether ours have legal names and values."""
    ours = [_ours(name, value) for name, value in sorted(os.environ.items()) if name.startswith(PREFIX)]
    others = [
        Finding(name, f"{os.environ[name]}: {words}")
        for name, words in OTHERS.items()
        if os.environ.get(name, "") not in ("", LIBRARIES.get(name, ""))
    ]
    return ours + others or [Finding("variables", "none that matters is set")]


def _ours(name: str, value: str) -> Finding:
    legal = {one.envvar: one for one in apply.command.params if isinstance(one, ConfiguredOption)}
    if name not in legal:
        words = f"{value}: no option has this name.{did_you_mean(name, map(str, legal))}"
        return Finding(name, words, PROBLEM, f"unset {name}")
    option = legal[name]
    try:
        option.type.convert(value, option, None)
    except click.BadParameter as error:
        return Finding(name, error.message, PROBLEM, f"unset {name}, or give it a legal value")
    return Finding(name, f"{value}: the default of {max(option.opts, key=len)}")
