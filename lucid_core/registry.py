"""Names and what they stand for: the members of one folder, and "did you mean".

A family (algorithms, kernels, formats, commands) is a package with one module a member. Nothing registers
itself: the folder is the list.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from types import ModuleType

from lucid_core.errors import ArgumentError, ArgumentTypeError


@cache
def names_in(package: str) -> tuple[str, ...]:
    """Return the names of the modules of `package`, in alphabetical order; neither it nor they are imported."""
    spec = find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return tuple(sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)))


@cache
def members(package: str) -> dict[str, ModuleType]:
    """Import and return the modules of `package` by name, in alphabetical order."""
    return {name: importlib.import_module(f"{package}.{name}") for name in names_in(package)}


def did_you_mean(name: str, legal: Iterable[str]) -> str:
    """Return ' Did you mean ...?' for the nearest legal name, capitals or not, or '' where none is near."""
    by_lower = {one.lower(): one for one in legal}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f" Did you mean {by_lower[near[0]]!r}?" if near else ""


def choose(kind: str, name: str, legal: Iterable[str]) -> str:
    """Return `name` if it is one of `legal`, else raise `ArgumentError` naming the legal ones and the nearest."""
    legal = list(legal)
    if not isinstance(name, str):
        raise ArgumentTypeError(f"{kind} must be a name, not {name!r}; legal: {', '.join(legal)}")
    if name in legal:
        return name
    raise ArgumentError(f"unknown {kind} {name!r}; legal: {', '.join(legal)}.{did_you_mean(name, legal)}")
