"""A Boutiques descriptor of a command (`--boutiques`), from its usage.

Schema 0.5 of Boutiques (Glatard et al., GigaScience 2018), which platforms and workflow engines make forms and
wrappers of. A file to write is a string to it, as it is not there before. No default is stated: Boutiques would put it
on every command line, where it would win over the environment and a configuration.
"""

import json
from typing import Any

import click

from lucid_cli.usage import TELLING, describe

Usage = dict[str, Any]
_TYPES = {"boolean": "Flag", "integer": "Number", "number": "Number", "file": "File"}


def dump(ctx: click.Context) -> str:
    """Return the descriptor of a command as JSON."""
    return json.dumps(descriptor(describe(ctx)), indent=2, ensure_ascii=False) + "\n"


def descriptor(usage: Usage) -> Usage:
    """Return the descriptor of a command from its usage."""
    options = [option for option in usage["options"] if option["name"] not in TELLING]
    inputs = [_value(one) for one in usage["arguments"]]
    inputs += [
        one for option in options for one in (_flags(option) if option["type"] == "boolean" else [_option(option)])
    ]
    described = {
        "name": " ".join(usage["path"]),
        "description": usage["description"],
        "tool-version": usage["version"],
        "schema-version": "0.5",
        "command-line": " ".join([*usage["path"], *(one["value-key"] for one in inputs)]),
        "inputs": inputs,
        "groups": [_either(option) for option in options if option["off_flags"]],
        "output-files": [_output(option) for option in options if option["type"] == "output"],
        "error-codes": [
            {"code": int(code), "description": meaning} for code, meaning in usage["exit_codes"].items() if code != "0"
        ],
    }
    return {key: value for key, value in described.items() if value}


def _flags(option: Usage) -> list[Usage]:
    """Return an input for a flag, and one for the flag that says no."""
    flags = [f"--{option['name'].replace('_', '-')}", *option["off_flags"]]
    return [{**_input(_id(flag), "Flag", option), "command-line-flag": flag, "optional": True} for flag in flags]


def _option(option: Usage) -> Usage:
    flag = f"--{option['name'].replace('_', '-')}"
    repeated = {"list-separator": f" {flag} "} if option["repeatable"] else {}
    return {**_value(option), "command-line-flag": flag, **repeated}


def _value(param: Usage) -> Usage:
    """Return the input for an argument, or for the value of an option."""
    kind = "String" if param["words"] else _TYPES.get(param["type"], "String")
    made = {**_input(param["name"], kind, param), "optional": not param["required"]}
    if param["repeatable"]:
        made["list"] = True
    if param["choices"]:
        made["value-choices"] = param["choices"]
    if kind == "Number":
        made |= {"integer": param["type"] == "integer"}
        made |= {"minimum": param["range"]["min"]} if param["range"] else {}
    return made


def _input(name: str, kind: str, param: Usage) -> Usage:
    text = param.get("help") or param["metavar"]
    return {"id": name, "name": name, "type": kind, "value-key": _key(name), "description": text}


def _either(option: Usage) -> Usage:
    """Return the group of a flag and the one that says no."""
    name = f"{option['name']}_or_not"
    members = [one["id"] for one in _flags(option)]
    return {"id": name, "name": name, "members": members, "mutually-exclusive": True}


def _output(option: Usage) -> Usage:
    """Return the output that an option names; with several inputs it is the folder of them."""
    name = f"{option['name']}_file"
    return {"id": name, "name": name, "path-template": _key(option["name"]), "optional": not option["required"]}


def _key(name: str) -> str:
    return f"[{name.upper()}]"


def _id(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")
