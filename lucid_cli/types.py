"""Types of option values. Each takes a string, from the command line or the environment, or what YAML holds.

`schema` returns what a type takes as a JSON Schema (draft 2020-12), as far as that can say it.
"""

import json
import math
import re
from typing import Any

import click
from click.shell_completion import CompletionItem

from lucid_cli import offers
from lucid_cli.home import in_home, weights_in_home
from lucid_core.errors import ArgumentError
from lucid_core.registry import did_you_mean
from lucid_core.units import NUMBER, SIZE, ByteSize, Length, length_pattern

MOST = 2**62
_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,18})")
_NUMBER = re.compile(rf"[-+]?{NUMBER}")

Schema = dict[str, Any]


def text_schema(pattern: str) -> Schema:
    """Return the schema of a text that a pattern matches, with spaces round it."""
    return {"type": "string", "pattern": rf"^\s*(?:{pattern})\s*$"}


def _integers(least: int) -> str:
    """Return the pattern of an integer of at least `least`, 0 or 1, written plainly."""
    return r"\+?[1-9]\d{0,18}" + ("" if least else "|[-+]?0")


def integer(value: Any) -> int | None:
    """Return an int written plainly, None for anything else: no `true`, `1.5`, `010` or `1e3`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return None


class Choice(click.Choice):
    """One of some words; a slip is met with the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the word or fail with the legal ones and the nearest."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(error.message + did_you_mean(str(value), self.choices), param, ctx)

    def schema(self) -> Schema:
        """Return the legal words."""
        return {"enum": list(self.choices)}


class Count(click.ParamType):
    """An integer of at least `least`, and at most 2**62, beyond which nothing can be counted."""

    name = "integer"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the int or fail with what is legal."""
        number = integer(value)
        if number is None or not self.least <= number <= MOST:
            self.fail(f"{value!r} is not an integer of at least {self.least}.", param, ctx)
        return number

    def schema(self) -> Schema:
        """Return an integer, or one as a text."""
        number = {"type": "integer", "minimum": self.least, "maximum": MOST}
        return {"anyOf": [number, text_schema(_integers(self.least))]}


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
        numbers = [integer(part) for part in parts]
        legal = all(number is not None and self.least <= number <= MOST for number in numbers)
        if len(numbers) == 2 and legal:
            self.fail(f"{value!r} is two numbers; give one or three (D,H,W), such as 2 or 2,2,1.", param, ctx)
        if len(numbers) not in (1, 3) or not legal:
            words = "".join(f", or {word!r}" for word in self.words) + "."
            words += did_you_mean(value, self.words) if isinstance(value, str) else ""
            self.fail(f"{value!r} is not an integer of at least {self.least} or three (D,H,W){words}", param, ctx)
        return numbers[0] if len(numbers) == 1 else tuple(numbers)

    def schema(self) -> Schema:
        """Return an integer, a list of one or three, or these as a text; or one of the words."""
        one = Count(self.least).schema()
        text = rf"\s*(?:{_integers(self.least)})\s*"
        return {
            "anyOf": [
                *one["anyOf"],
                text_schema(f"{text}[,x]{text}[,x]{text}"),
                *({"const": word} for word in self.words),
                *({"type": "array", "items": one, "minItems": count, "maxItems": count} for count in (1, 3)),
            ]
        }

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer the words."""
        return offers.matching(self.words, incomplete)


class Number(click.ParamType):
    """A finite number of at least `least`; with `each` as many as it names, such as D,H,W; with `nan` also NaN."""

    name = "number"

    def __init__(self, least: float = -math.inf, *, each: str = "", nan: bool = False) -> None:
        self.least = least
        self.each = each
        self.nan = nan

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number or numbers, or fail with what is legal."""
        if self.nan and (str(value).strip().lower() == "nan" or value != value):
            return math.nan
        parts = value.split(",") if isinstance(value, str) else value
        parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
        numbers = [_number(part) for part in parts]
        legal = all(number is not None and number >= self.least for number in numbers)
        count = len(self.each.split(","))
        if len(numbers) != count or not legal:
            wanted = f"{'three' if count == 3 else 'two'} numbers ({self.each})" if self.each else "a number"
            least = f" of at least {self.least:g}" if self.least > -math.inf else ""
            self.fail(f"{value!r} is not {wanted}{least}.", param, ctx)
        return tuple(numbers) if self.each else numbers[0]

    def schema(self) -> Schema:
        """Return a number or a list of one, with `each` a list of as many; or these as a text."""
        sign = r"\+?" if self.least >= 0 else "[-+]?"
        bound = {"minimum": self.least} if self.least > -math.inf else {}
        one = {"anyOf": [{"type": "number", **bound}, text_schema(sign + NUMBER)]}
        count = len(self.each.split(","))
        several = {"type": "array", "items": one, "minItems": count, "maxItems": count}
        if self.each:
            return {"anyOf": [text_schema(r"\s*,\s*".join([sign + NUMBER] * count)), several]}
        return {"anyOf": [*one["anyOf"], several, *([text_schema("[nN][aA][nN]")] if self.nan else [])]}


def _number(value: Any) -> float | None:
    """Return a finite number written plainly, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


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

    def schema(self) -> Schema:
        """Return one number or three with a unit."""
        return text_schema(length_pattern(signed=self.signed))


class MemorySize(click.ParamType):
    """A size in memory with its unit: `512M`, `2G`, `1GiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ByteSize:
        """Return the `ByteSize` or fail with the legal spellings."""
        try:
            return value if isinstance(value, ByteSize) else ByteSize.parse(str(value))
        except ArgumentError as error:
            self.fail(f"{error}.", param, ctx)

    def schema(self) -> Schema:
        """Return a number with a unit."""
        return text_schema(SIZE)


class NestedList(click.ParamType):
    """A name, or a nested list of numbers, which in YAML may stand as one."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or the list as JSON."""
        return json.dumps(value) if isinstance(value, list) else in_home(Word().convert(value, param, ctx))

    def schema(self) -> Schema:
        """Return a name or a list."""
        return {"anyOf": [*Word().schema()["anyOf"], {"type": "array"}]}

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer files of weights."""
        return offers.weights(incomplete)


class Word(click.ParamType):
    """A name or a whole number, checked where its meaning is known."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the string."""
        if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
            self.fail(f"{value!r} is not a name.", param, ctx)
        return str(value)

    def schema(self) -> Schema:
        """Return a text or an integer."""
        return {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}]}


class FileName(Word):
    """A file that is read, or with `written` one to write; `offer` is what a shell shows of a folder."""

    name = "file"

    def __init__(self, offer: offers.Offer = offers.volumes, *, written: bool = False) -> None:
        self.offer = offer
        self.written = written

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, of a file in the home folder where it begins with `~/`."""
        return in_home(super().convert(value, param, ctx))

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer files."""
        return self.offer(incomplete)


class LayerList(click.ParamType):
    """A list of layers, as YAML or already read: names and mappings, checked where their meaning is known."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Return the entries."""
        from lucid_cli.plain_yaml import read

        if isinstance(value, str):
            document = read(value)
            if document.mistakes:
                self.fail(f"{document.mistakes[0].text}.", param, ctx)
            value = document.value
        if not isinstance(value, (list, tuple)) or not value:
            self.fail(f"{value!r} is not a list of layers, such as [{{weights: a.npz}}, relu].", param, ctx)
        return tuple(map(weights_in_home, value))

    def schema(self) -> Schema:
        """Return a list of what the schema defines as a layer, or one as a text."""
        layers = {"type": "array", "items": {"$ref": "#/$defs/entry"}, "minItems": 1}
        return {"anyOf": [layers, {"type": "string", "pattern": r"^\s*\["}]}


LISTS = (LayerList, NestedList, Number, Size)
"""Types whose values may be lists."""
