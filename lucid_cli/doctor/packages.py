"""Versions of this program, of Python and of the packages that it needs or can use, as its metadata lists them."""

import platform
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import lucid_core
from lucid_cli.doctor.findings import FAILED, NOTE, PROBLEM, Finding

DISTRIBUTION = "lucid-conv3d"
FOR_DEVELOPERS = "test"
"""The extra that is of no use to those who convolve."""
_NAME = re.compile(r"[\w.-]+")
_LEAST = re.compile(r">=\s*([\d.]+)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_PYTHON = re.compile(r"python_version\s*(<|>=)\s*['\"]([\d.]+)['\"]")


@dataclass(frozen=True)
class Requirement:
    """A package that the distribution needs, or that one of its extras brings."""

    name: str
    least: str
    """Lowest version, '' for any."""
    extra: str | None


def find() -> list[Finding]:
    """Look at the program itself, Python, and the packages."""
    root = Path(lucid_core.__file__).parents[1]
    own = [
        Finding(DISTRIBUTION, f"{lucid_core.__version__}, in {root}"),
        Finding("Python", f"{platform.python_version()} ({platform.python_implementation()}), {platform.platform()}"),
    ]
    try:
        needed = requirements(requires(DISTRIBUTION) or [])
    except PackageNotFoundError:
        return [*own, Finding("packages", "not known", PROBLEM, f"install this folder: pip install {root}")]
    return own + [_finding(one) for one in needed]


def requirements(lines: list[str]) -> list[Requirement]:
    """Read requirements as metadata hold them (PEP 508), as far as ours go: the lowest version, extra and Python."""
    found = []
    for line in lines:
        what, _, marker = line.partition(";")
        name, least, extra = _NAME.match(what), _LEAST.search(what), _EXTRA.search(marker)
        wanted = extra[1] if extra else None
        if name and name[0] != DISTRIBUTION and wanted != FOR_DEVELOPERS and _is_for_this_python(marker):
            found.append(Requirement(name[0], least[1] if least else "", wanted))
    return found


def _is_for_this_python(marker: str) -> bool:
    running = sys.version_info[:2]
    return all((running < _numbers(bound)) == (order == "<") for order, bound in _PYTHON.findall(marker))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", text)[:3])


def _finding(one: Requirement) -> Finding:
    install = f"pip install --upgrade '{f'{DISTRIBUTION}[{one.extra}]' if one.extra else DISTRIBUTION}'"
    try:
        found = version(one.name)
        inside = _inside(one.name)
    except PackageNotFoundError:
        return Finding(one.name, "not installed", NOTE if one.extra else FAILED, install)
    except ImportError as error:
        return Finding(one.name, f"{found}, which cannot be imported: {error}", FAILED, f"pip install {one.name} again")
    if _numbers(found) < _numbers(one.least):
        return Finding(one.name, f"{found}, older than {one.least}", PROBLEM, install)
    return Finding(one.name, f"{found}{inside}")


def _inside(name: str) -> str:
    """Return what a package brings with it that matters by itself."""
    if name == "numpy":
        import numpy as np

        libraries: Any = np.show_config(mode="dicts")
        blas = libraries["Build Dependencies"].get("blas", {})
        return f", BLAS {blas.get('name', 'not known')} {blas.get('version', '')}".rstrip()
    if name == "h5py":
        import h5py

        return f", HDF5 {h5py.version.hdf5_version}"
    return ""
