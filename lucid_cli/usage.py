"""What a command takes, as JSON (`--json-usage`), from its declaration alone.

Schema `lucid-conv3d/usage-1`: every key is always there, null or empty where a declaration says nothing. A default of
null means that the program decides, and `help` says how. `type` is one of boolean, choice, string, integer, number,
numbers (`0,0,1`), size (`3` or `3,3,1`), length (`1.5mm`), memory (`2GiB`), list (YAML), file (to read) and output (a
file to write); `words` may stand in place of a size or a number. `section` is that of the option in a configuration.
"""

import inspect
import json
from typing import Any

import click

from lucid_cli.failures import MEANINGS
from lucid_cli.names import Name
from lucid_cli.types import Count, FileName, Number, Size
from lucid_core import __version__

SCHEMA = "lucid-conv3d/usage-1"
TELLING = ("help", "version", "json_usage", "boutiques", "man", "completion")
"""Options that only tell something of the command."""
_TYPES = {"D,H,W": "size", "name": "string", "text": "string", "i/n": "string"}


def dump(ctx: click.Context) -> str:
    """Return the description of a command as JSON."""
    return json.dumps(describe(ctx), indent=2, ensure_ascii=False) + "\n"


def describe(ctx: click.Context) -> dict[str, Any]:
    """Return the description of a command, and of the commands under it."""
    codes = {str(code): meaning for code, meaning in MEANINGS.items()}
    return {"schema": SCHEMA, "version": __version__, "exit_codes": codes, **_command(ctx)}


def _command(ctx: click.Context) -> dict[str, Any]:
    command = ctx.command
    params = [param for param in command.get_params(ctx) if not getattr(param, "hidden", False)]
    return {
        "name": ctx.info_name,
        "path": ctx.command_path.split(),
        "summary": command.get_short_help_str(limit=1000),
        "description": _text(command.help),
        "usage": " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)]),
        "arguments": [_argument(param, ctx) for param in params if isinstance(param, click.Argument)],
        "options": [_option(param, ctx) for param in params if isinstance(param, click.Option)],
        "examples": [line.strip() for line in (command.epilog or "").splitlines() if " lucid-conv3d " in f" {line}"],
        "commands": [_command(one) for one in _commands(ctx)],
    }


def _commands(ctx: click.Context) -> list[click.Context]:
    """Return a context for each command of a group."""
    group = ctx.command
    if not isinstance(group, click.Group):
        return []
    found = [(name, group.get_command(ctx, name)) for name in group.list_commands(ctx)]
    return [click.Context(command, parent=ctx, info_name=name) for name, command in found if command]


def _text(text: str | None) -> str:
    """Return a help text with a line a paragraph."""
    paragraphs = inspect.cleandoc(text or "").replace("\b", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _argument(argument: click.Argument, ctx: click.Context) -> dict[str, Any]:
    return {
        "name": argument.name,
        "metavar": argument.metavar or (argument.name or "").upper(),
        **_value(argument, ctx),
        "repeatable": argument.nargs == -1,
    }


def _option(option: click.Option, ctx: click.Context) -> dict[str, Any]:
    longest = max(option.opts, key=lambda name: name.startswith("--"))
    return {
        "name": longest.lstrip("-").replace("-", "_"),
        "flags": option.opts,
        "off_flags": option.secondary_opts,
        "metavar": None if option.is_flag else _metavar(option),
        **_value(option, ctx),
        "repeatable": option.multiple,
        "section": getattr(option, "section", None) or None,
        "env": option.envvar if isinstance(option.envvar, str) else None,
        "help": " ".join((option.help or "").split()),
    }


def _metavar(option: click.Option) -> str:
    """Return what stands for the value in the help."""
    if isinstance(option.type, click.Choice):
        return f"[{'|'.join(map(str, option.type.choices))}]"
    return option.metavar or option.type.name.upper()


def _value(param: click.Parameter, ctx: click.Context) -> dict[str, Any]:
    """Return what is legal as the value of a parameter."""
    choices = _choices(param.type)
    return {
        "type": _type(param, choices),
        "required": param.required,
        "default": _default(param, ctx),
        "choices": choices,
        "words": _words(param.type),
        "range": _range(param.type),
    }


def _default(param: click.Parameter, ctx: click.Context) -> str | float | None:
    """Return the default, or what holds instead of one, as the help says."""
    shown = getattr(param, "show_default", None)
    if isinstance(shown, str):
        return int(shown) if shown.isdecimal() else shown
    default = param.get_default(ctx, call=False)
    return default if isinstance(default, (str, int, float)) else None


def _type(param: click.Parameter, choices: list[str] | None) -> str:
    if getattr(param, "is_flag", False):
        return "boolean"
    if isinstance(param.type, FileName):
        return "output" if param.type.written else "file"
    if isinstance(param.type, Number) and param.type.each:
        return "numbers"
    return "choice" if choices else _TYPES.get(param.type.name, param.type.name)


def _choices(kind: click.ParamType) -> list[str] | None:
    """Return the values that are legal, where they are few."""
    if isinstance(kind, click.Choice):
        return list(map(str, kind.choices))
    return list(kind.legal) if isinstance(kind, Name) else None


def _words(kind: click.ParamType) -> list[str]:
    if isinstance(kind, Size):
        return list(kind.words)
    return ["nan"] if isinstance(kind, Number) and kind.nan else []


def _range(kind: click.ParamType) -> dict[str, float | None] | None:
    """Return the least number that is legal."""
    least = kind.least if isinstance(kind, (Count, Number, Size)) else float("-inf")
    return None if least == float("-inf") else {"min": least, "max": None}
