"""`config schema`: the JSON Schema (draft 2020-12) of a configuration, made from the options as they are declared."""

import json
from dataclasses import MISSING, fields
from typing import Any

import click

from lucid_cli.commands.apply import command as apply
from lucid_cli.config import ConfiguredOption, options_of
from lucid_cli.layers import OF_LIST, layer_options
from lucid_cli.mistakes import SECTIONS
from lucid_cli.types import Number, Schema, text_schema
from lucid_core.elementwise import OPERATIONS, Operation

DIALECT = "https://json-schema.org/draft/2020-12/schema"
WORDS = ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0")
"""What a quoted text may be where true or false belongs, capitals or not."""


def dump() -> str:
    """Return the schema as JSON."""
    return json.dumps(schema(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def schema() -> Schema:
    """Return the schema: options stand at the top or in their section; a name may be written with `-` or `_`."""
    options = [option for option in options_of(apply) if option.section in SECTIONS]
    sections = {name: _keys([one for one in options if one.section == name]) for name in SECTIONS}
    top = _keys(options)
    for name, section in sections.items():
        section["type"] = ["object", "null"]
        known = top["properties"].get(name)
        top["properties"][name] = {"anyOf": [section, known]} if known else section
    return {
        "$schema": DIALECT,
        "title": "A configuration of lucid-conv3d",
        "description": "Options of `lucid-conv3d apply`, at the top or in their sections.",
        **top,
        "$defs": {**{option.key: _value(option) for option in options}, "entry": _entry(), "truth": _truth()},
    }


def _keys(options: list[ConfiguredOption]) -> Schema:
    """Return the schema of a mapping with these options, each once, by any of its names."""
    spelled = {option.key: _spellings(option) for option in options}
    properties = {name: {"$ref": f"#/$defs/{key}"} for key, names in spelled.items() for name in names}
    pairs = [[first, second] for names in spelled.values() for at, first in enumerate(names) for second in names[:at]]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "allOf": [{"not": {"type": "object", "required": pair}} for pair in pairs],
    }


def _spellings(option: ConfiguredOption) -> list[str]:
    """Return the names of an option as a configuration may write them."""
    return list(dict.fromkeys(one for name in (option.key, *option.aliases) for one in (name, name.replace("_", "-"))))


def _value(option: ConfiguredOption) -> Schema:
    """Return the schema of an option's value, with its help and default."""
    described = {"description": option.help} if option.help else {}
    default = {} if option.otherwise is None else {"default": option.otherwise}
    return described | default | _of_type(option)


def _of_type(option: ConfiguredOption) -> Schema:
    if isinstance(option.type, click.types.BoolParamType):
        return {"$ref": "#/$defs/truth"}
    kind: Any = option.type  # one of ours
    return kind.schema()


def _truth() -> Schema:
    words = ("".join(f"[{letter}{letter.upper()}]" for letter in word) for word in WORDS)
    return {"anyOf": [{"type": "boolean"}, text_schema("|".join(words))]}


def _entry() -> Schema:
    """Return the schema of an entry of a list of layers: an operation, or a mapping of a layer's options."""
    layer = _keys([option for option in layer_options() if option.key not in OF_LIST])
    return {"anyOf": [*map(_operation, OPERATIONS.values()), layer | {"minProperties": 1}]}


def _operation(kind: type[Operation]) -> Schema:
    """Return the schema of an operation: its name, where it needs no number, or a mapping of its name to numbers."""
    names = list(dict.fromkeys((kind.name, kind.name.replace("_", "-"))))
    known = fields(kind)
    least = sum(one.default is MISSING for one in known)
    number = Number().schema()
    numbers: list[Any] = [{"type": "array", "items": number, "minItems": least, "maxItems": len(known)}]
    numbers += [number] if least <= 1 <= len(known) else []
    mapping = {
        "type": "object",
        "properties": {name: {"anyOf": numbers} for name in names},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [*([] if least else [{"enum": names}]), mapping]}
