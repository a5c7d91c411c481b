"""Types of options whose values are names that some module knows, asked when a value is there.

So declaring an option loads nothing, and a wrong name is met with the legal ones and the nearest.
"""

from collections.abc import Callable, Iterable
from typing import Any

import click

from lucid_cli.types import Schema, Word
from lucid_core.errors import ArgumentError
from lucid_core.registry import choose
from lucid_core.units import NUMBER


class Spelled(Word):
    """A word that a function checks; `pattern` says of it what a regular expression can."""

    def __init__(self, check: Callable[[str], Any], pattern: str) -> None:
        self._check = check
        self._pattern = pattern

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word or fail with what is legal."""
        text = super().convert(value, param, ctx)
        try:
            self._check(text)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)
        return text

    def schema(self) -> Schema:
        """Return a text with the pattern."""
        return {"type": "string", "pattern": f"^(?:{self._pattern})$"}


class Name(Spelled):
    """One of the names that `legal` returns; `check` raises `ArgumentError` for others, by default with the nearest."""

    def __init__(
        self, kind: str, legal: Callable[[], Iterable[str]], check: Callable[[str], Any] | None = None
    ) -> None:
        super().__init__(check or (lambda text: choose(kind, text, legal())), "")
        self._legal = legal

    def schema(self) -> Schema:
        """Return the legal names, those that are numbers also as such."""
        names = list(self._legal())
        return {"enum": [*names, *(int(name) for name in names if name.isdecimal())]}


def _kernels() -> Iterable[str]:
    from lucid_core.kernels import kernels

    return kernels()


def _kernel_axes() -> Iterable[str]:
    from lucid_core.kernels import AXES

    return AXES


def _padding_modes() -> Iterable[str]:
    from lucid_core.padding import LEGAL

    return LEGAL


def _padding_mode(text: str) -> None:
    """Raise for an unknown mode, naming the one that another library calls so."""
    from lucid_core.padding import padding_mode

    padding_mode(text)


def _devices() -> Iterable[str]:
    from lucid_core.planner import DEVICES

    return ("auto", *DEVICES)


def _engines() -> Iterable[str]:
    from lucid_core.planner import ENGINES

    return ("auto", *ENGINES)


def _accuracies() -> Iterable[str]:
    from lucid_core.planner import ACCURACIES

    return ACCURACIES


def _algorithms() -> Iterable[str]:
    from lucid_core.algorithms import algorithm_names

    return ("auto", *algorithm_names())


def _out_dtypes() -> Iterable[str]:
    from lucid_cli.sink import OUT_DTYPES

    return dict.fromkeys(name for names in OUT_DTYPES.values() for name in names)


def _compressions() -> Iterable[str]:
    from lucid_cli.compression import LEVELS

    return LEVELS


def _normalize(text: str) -> None:
    from lucid_core.intensity import Intensity

    Intensity.parse(text)


def _axes(text: str) -> None:
    from lucid_cli.axes import spelled

    spelled(text)


KERNEL = Name("kernel", _kernels)
KERNEL_AXIS = Name("axis", _kernel_axes)
PADDING_MODE = Name("padding_mode", _padding_modes, _padding_mode)
DEVICE = Name("device", _devices)
ENGINE = Name("engine", _engines)
ACCURACY = Name("accuracy", _accuracies)
ALGORITHM = Name("algorithm", _algorithms)
OUT_DTYPE = Name("out_dtype", _out_dtypes)
COMPRESSION = Name("compression", _compressions)
NORMALIZE = Spelled(_normalize, rf"zscore|minmax|percentile:\s*\+?{NUMBER}\s*,\s*\+?{NUMBER}")
AXES = Spelled(_axes, "(?=.*[zZdD])(?=.*[yYhH])(?=.*[xXwW])[zZdDyYhHxXwWnNtTcC]{3,5}")
