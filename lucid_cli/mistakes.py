"""What is wrong with a configuration: one piece finds it, for `--config`, which tells the first, and `config check`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lucid_cli.types import LayerList
from lucid_core.registry import did_you_mean

if TYPE_CHECKING:
    from lucid_cli.config import ConfiguredOption

SECTIONS = ("layer", "weights", "volume", "run")
INPUT_KEYS = ("input", "inputs")
"""What one may take for the name of an option: inputs have none."""
Where = tuple[str | int, ...]
"""Keys, and numbers of list entries from 0, from the top of a document down to a value."""


class Place(NamedTuple):
    """A character of a file, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong with a key, or with its value."""

    where: Where
    text: str
    of_value: bool = False
    error: click.BadParameter | None = None
    """What the option says of its value."""


@dataclass
class Document:
    """What a YAML document holds, where its keys and values stand, and what of it is not plain YAML."""

    value: Any = None
    keys: dict[Where, Place] = field(default_factory=dict)
    values: dict[Where, Place] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def place(self, mistake: Mistake) -> Place:
        """Return where a mistake stands: at its key or value, else at what holds it."""
        known = self.values if mistake.of_value else self.keys
        for count in range(len(mistake.where), -1, -1):
            if mistake.where[:count] in known:
                return known[mistake.where[:count]]
        return Place(1, 1)


@dataclass
class Found:
    """The values of a configuration by option key, as they stand and converted, and what is wrong."""

    given: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    where: dict[str, Where] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)


def find(
    tree: Any,
    options: Iterable["ConfiguredOption"],
    ctx: click.Context,
    *,
    inside: str = "",
    known: Iterable[Mistake] = (),
) -> Found:
    """Return the values of a configuration and everything that is wrong with its keys and with each value by itself.

    `inside` are words for where it stands, such as ' in --set'; what has one of the `known` mistakes is left out.
    """
    options = [option for option in options if option.section in SECTIONS]
    found = Found(mistakes=list(known))
    if not any(mistake.where == () for mistake in found.mistakes):
        _find_keys(found, tree, options, inside)
    seen = [mistake.where for mistake in found.mistakes]
    for option in options:
        if option.key in found.given and not any(_overlap(found.where[option.key], where) for where in seen):
            _convert(found, option, ctx)
    return found


def _overlap(one: Where, other: Where) -> bool:
    """Say whether one value holds the other, or is it."""
    return all(first == second for first, second in zip(one, other, strict=False))


def _find_keys(found: Found, tree: Any, options: Iterable["ConfiguredOption"], inside: str) -> None:
    """Put every value under the key of its option."""
    legal = {name: option for option in options for name in (option.key, *option.aliases)}
    if tree is None:
        found.mistakes.append(Mistake((), "it is empty; write keys such as 'kernel: gaussian'"))
    elif not isinstance(tree, dict):
        what = type(tree).__name__
        found.mistakes.append(Mistake((), f"it must hold keys and values, such as 'stride: 2', not {what}"))
    else:
        for where, value in _leaves(tree):
            option = legal.get(_name(where))
            if text := _wrong_key(where, value, option, [*legal, *SECTIONS], inside):
                found.mistakes.append(Mistake(where, text))
            elif option and option.key in found.given:
                found.mistakes.append(Mistake(where, f"{_shown(where)} stands twice{inside}; leave one"))
            elif option:
                found.given[option.key], found.where[option.key] = value, where


def _leaves(tree: dict[str, Any]) -> Iterator[tuple[Where, Any]]:
    """Yield the keys of the top and of the sections, with their values; an empty section says nothing."""
    for key, value in tree.items():
        if key in SECTIONS and isinstance(value, dict):
            yield from (((key, name), inner) for name, inner in value.items())
        elif key not in SECTIONS or value is not None:
            yield (key,), value


def _name(where: Where) -> str:
    return str(where[-1]).replace("-", "_")


def _shown(where: Where) -> str:
    return repr(".".join(map(str, where)))


def _wrong_key(
    where: Where, value: Any, option: "ConfiguredOption | None", names: list[str], inside: str
) -> str | None:
    """Return what is wrong with a key, its section or its kind of value; None where nothing is."""
    name, shown = _name(where), _shown(where)
    if option is None and where[0] in SECTIONS and len(where) == 1:
        return f"{shown}{inside} is a section; write keys below it, not {value!r}"
    if option is None and name in INPUT_KEYS:
        return f"unknown key {shown}{inside}. Inputs stand on the command line: lucid-conv3d apply scan.nii.gz"
    if option is None:
        near = did_you_mean(name, names)
        return f"unknown key {shown}{inside}.{near or ' See --help for the options.'}"
    if len(where) > 1 and option.section != where[0]:
        return f"{shown}{inside} stands under the wrong section; legal: {option.section}.{name}"
    if value is None or isinstance(value, dict):
        near = did_you_mean(name, SECTIONS) if isinstance(value, dict) else ""
        return f"{shown}{inside} has no value that the option could take: {value!r}.{near}"
    return None


def _convert(found: Found, option: "ConfiguredOption", ctx: click.Context) -> None:
    """Convert the value of an option, and look at each entry of a list of layers."""
    where = found.where[option.key]
    try:
        value = option.process_value(ctx, found.given[option.key])
    except click.BadParameter as error:
        found.mistakes.append(Mistake(where, f"{option.key}: {error.message}", True, error))
        return
    found.values[option.key] = value
    if isinstance(option.type, LayerList):
        from lucid_cli.layers import read_entries

        _, mistakes = read_entries(value)
        found.mistakes += [replace(one, where=(*where, *one.where)) for one in mistakes]
