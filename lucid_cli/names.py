"""Types of options whose values are names: a wrong one is met with the legal ones and the nearest.

The names stand here, or are those of modules in a folder, so that declaring and describing an option loads nothing; a
test compares them with what the modules take.
"""

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from lucid_cli import offers
from lucid_cli.types import Schema, Word
from lucid_core.errors import ArgumentError
from lucid_core.padding import LEGAL, padding_mode
from lucid_core.registry import choose, names_in
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
    """One of the `legal` names; `check` raises `ArgumentError` for others, by default with the nearest."""

    def __init__(self, kind: str, legal: Iterable[str], check: Callable[[str], Any] | None = None) -> None:
        self.legal = tuple(legal)
        super().__init__(check or (lambda text: choose(kind, text, self.legal)), "")

    def schema(self) -> Schema:
        """Return the legal names, those that are numbers also as such."""
        return {"enum": [*self.legal, *(int(name) for name in self.legal if name.isdecimal())]}

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the names."""
        return offers.matching(self.legal, incomplete)


class Device(Name):
    """The name of a device, which may have the number of a GPU."""

    def schema(self) -> Schema:
        """Return the names as a pattern."""
        return {"type": "string", "pattern": f"^(?:{'|'.join(self.legal)}|cuda:[0-9]{{1,3}})$"}


def _device(text: str) -> None:
    from lucid_core.tensors.devices import spelled

    if text != "auto":
        spelled(text)


def _normalize(text: str) -> None:
    from lucid_core.intensity import Intensity

    Intensity.parse(text)


def _axes(text: str) -> None:
    from lucid_cli.axes import spelled

    spelled(text)


_ALGORITHMS = [name.partition("_") for name in names_in("lucid_core.algorithms")]
"""A module is named after its algorithm and, where that is not NumPy, its engine."""

KERNEL = Name("kernel", names_in("lucid_core.kernels"))
KERNEL_AXIS = Name("axis", ("D", "H", "W", "z", "y", "x", "all"))
PADDING_MODE = Name("padding_mode", LEGAL, padding_mode)
DEVICE = Device("device", ("auto", "cpu", "cuda", "metal"), _device)
ENGINE = Name("engine", ("auto", "numpy", *sorted({engine for _, _, engine in _ALGORITHMS if engine})))
ACCURACY = Name("accuracy", ("componentwise", "normwise"))
ALGORITHM = Name("algorithm", ("auto", *sorted({name for name, _, _ in _ALGORITHMS})))
OUT_DTYPE = Name(
    "out_dtype",
    ("float16", "float32", "float64", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
)
COMPRESSION = Name("compression", ("none", *"123456789"))
SAMPLE = Name("sample", ("phantom", "ramp", "impulse", "checkerboard", "noise"))
NORMALIZE = Spelled(_normalize, rf"zscore|minmax|percentile:\s*\+?{NUMBER}\s*,\s*\+?{NUMBER}")
AXES = Spelled(_axes, "(?=.*[zZdD])(?=.*[yYhH])(?=.*[xXwW])[zZdDyYhHxXwWnNtTcC]{3,5}")
