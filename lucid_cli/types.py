"""Types of option values. Each takes a string, from the command line or the environment, or what YAML holds."""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

from lucid_cli import offers
from lucid_core.errors import ArgumentError
from lucid_core.units import ByteSize, Length

MOST = 2**62
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,18})")


def _integer(value: Any) -> int | None:
    """Return an int written plainly, None for anything else: no `true`, `1.5`, `010` or `1e3`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return None


class Count(click.ParamType):
    """An integer of at least `least`, and at most 2**62, beyond which nothing can be counted."""

    name = "integer"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the int or fail with what is legal."""
        number = _integer(value)
        if number is None or not self.least <= number <= MOST:
            self.fail(f"{value!r} is not an integer of at least {self.least}.", param, ctx)
        return number


class Size(click.ParamType):
    """An integer or three (D, H, W), written `3`, `3,3,1`, `3x3x1` or [3, 3, 1]; or one of some words."""

    name = "D,H,W"

    def __init__(self, least: int, words: tuple[str, ...] = ()) -> None:
        self.least = least
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int, a tuple of three ints, or the word."""
        if isinstance(value, str) and value in self.words:
            return value
        parts = re.split("[,x]", value) if isinstance(value, str) else value
        parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
        numbers = [_integer(part) for part in parts]
        legal = all(number is not None and self.least <= number <= MOST for number in numbers)
        if len(numbers) not in (1, 3) or not legal:
            words = "".join(f", or {word!r}" for word in self.words)
            self.fail(f"{value!r} is not an integer of at least {self.least} or three (D,H,W){words}.", param, ctx)
        return numbers[0] if len(numbers) == 1 else tuple(numbers)

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the words."""
        return offers.matching(self.words, incomplete)


class Number(click.ParamType):
    """A finite number of at least `least`; with `axes` three of them, D,H,W; with `nan` also NaN."""

    name = "number"

    def __init__(self, least: float = -math.inf, *, axes: bool = False, nan: bool = False) -> None:
        self.least = least
        self.axes = axes
        self.nan = nan

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number or numbers, or fail with what is legal."""
        if self.nan and (str(value).strip().lower() == "nan" or value != value):
            return math.nan
        parts = value.split(",") if isinstance(value, str) else value
        parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
        numbers = [_number(part) for part in parts]
        legal = all(number is not None and number >= self.least for number in numbers)
        if len(numbers) != (3 if self.axes else 1) or not legal:
            wanted = "three numbers (D,H,W)" if self.axes else "a number"
            least = f" of at least {self.least:g}" if self.least > -math.inf else ""
            self.fail(f"{value!r} is not {wanted}{least}.", param, ctx)
        return tuple(numbers) if self.axes else numbers[0]


def _number(value: Any) -> float | None:
    """Return a finite number written plainly, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


class ShardType(click.ParamType):
    """One of several equal parts of a list, such as `2/8`: the second of eight."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return the part, from 1, and how many there are, or fail with what is legal."""
        parts = value.split("/") if isinstance(value, str) else value
        numbers = [_integer(part) for part in parts] if isinstance(parts, (list, tuple)) else []
        if len(numbers) == 2:
            index, count = numbers
            if index is not None and count is not None and 1 <= index <= count <= MOST:
                return index, count
        self.fail(f"{value!r} is not one of n parts, such as 1/8 to 8/8.", param, ctx)


class LengthType(click.ParamType):
    """A length with its unit: `1.5mm`, `800um`, `3,5,3vox`; `signed` admits offsets: `-1,0,2vox`."""

    name = "length"

    def __init__(self, *, signed: bool = False) -> None:
        self.signed = signed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Length:
        """Return the `Length` or fail with the legal spellings."""
        try:
            return value if isinstance(value, Length) else Length.parse(str(value), signed=self.signed)
        except ArgumentError as error:
            self.fail(f"{error}.", param, ctx)


class MemorySize(click.ParamType):
    """A size in memory with its unit: `512M`, `2G`, `1GiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ByteSize:
        """Return the `ByteSize` or fail with the legal spellings."""
        try:
            return value if isinstance(value, ByteSize) else ByteSize.parse(str(value))
        except ArgumentError as error:
            self.fail(f"{error}.", param, ctx)


class NestedList(click.ParamType):
    """A name, or a nested list of numbers, which in YAML may stand as one."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or the list as JSON."""
        return json.dumps(value) if isinstance(value, list) else str(Word().convert(value, param, ctx))

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer files of weights."""
        return offers.weights(incomplete)


class Word(click.ParamType):
    """A name or a whole number, checked where its meaning is known. `names` are the legal ones, where they are few."""

    name = "name"

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = tuple(names)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the string."""
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
            self.fail(f"{value!r} is not a name.", param, ctx)
        return str(value)

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the names."""
        return offers.matching(self.names, incomplete)


class FileName(Word):
    """A file that is read, or with `written` one to write; `offer` is what a shell shows of a folder."""

    name = "file"

    def __init__(self, offer: offers.Offer = offers.volumes, *, written: bool = False) -> None:
        super().__init__()
        self.offer = offer
        self.written = written

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer files."""
        return self.offer(incomplete)


class LayerList(click.ParamType):
    """A list of layers, as YAML or already read: names and mappings, checked where their meaning is known."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the entries."""
        from lucid_cli.config import parse_yaml

        if isinstance(value, str):
            value = parse_yaml(value, "layers")
        if not isinstance(value, (list, tuple)) or not value:
            self.fail(f"{value!r} is not a list of layers, such as [{{weights: a.npz}}, relu].", param, ctx)
        return tuple(value)


LISTS = (LayerList, NestedList, Number, Size)
"""Types whose values may be lists."""
