"""The manual page (`--man`), in the macros of man(7), from the usage of all commands.

`lucid_cli/lucid-conv3d.1` is what it prints, so that an installation has it; a test compares the two.
"""

from collections.abc import Iterable
from typing import Any

import click

from lucid_cli.mistakes import SECTIONS
from lucid_cli.usage import TELLING, describe

Usage = dict[str, Any]
_SPECIAL = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})
DESCRIPTION = """\
Inputs come first, the output last, behind -o; the suffixes say the formats. Sizes are in the order D, H, W, which is
z, y, x. Data go to stdout, words to stderr. Nothing is overwritten without --overwrite."""
ENVIRONMENT = """\
Every option of the sections LAYER, WEIGHTS, VOLUME and RUN may stand in a variable LUCID_CONV3D_NAME (NAME being its
long name in capitals, with _ for -), in a YAML file that --config names, under the name of its section or at the top,
and in --set. Flags win over --set, which wins over the environment, which wins over YAML."""


COMPLETION = {
    "bash": 'In ~/.bashrc: eval "$(lucid-conv3d --completion bash)"',
    "zsh": 'In ~/.zshrc, behind compinit: eval "$(lucid-conv3d --completion zsh)"',
    "fish": "Once: lucid-conv3d --completion fish > ~/.config/fish/completions/lucid-conv3d.fish",
}


def page(ctx: click.Context) -> str:
    """Return the page of a program, whose command `apply` has the options that others share."""
    usage = describe(ctx)
    commands = [one for command in usage["commands"] for one in (command["commands"] or [command])]
    (apply,) = (one for one in commands if one["name"] == "apply")
    summary = usage["summary"]
    lines = [
        f'.TH {_roff(usage["name"].upper())} 1 "" "{_roff(usage["name"])} {usage["version"]}" "User Commands"',
        *_section("NAME", [_roff(f"{usage['name']} - {summary[0].lower()}{summary[1:].rstrip('.')}")]),
        *_section("SYNOPSIS", [f".B {_roff(usage['name'])}", r".RI [ OPTIONS ] \~COMMAND\~ [ ARGUMENTS ]"]),
        *_section("DESCRIPTION", _paragraphs(f"{summary}\n\n{DESCRIPTION}")),
        *_section("COMMANDS", [line for command in commands for line in _command(command, apply)]),
    ]
    for section in (*SECTIONS, None):
        title = f"{section or 'other'} options".upper()
        lines += _section(title, _options(one for one in apply["options"] if one["section"] == section))
    lines += _section("GENERAL OPTIONS", _options(usage["options"]))
    lines += _section("ENVIRONMENT", _paragraphs(ENVIRONMENT))
    lines += _section("COMPLETION", [line for shell, how in COMPLETION.items() for line in _item(_bold(shell), how)])
    codes = usage["exit_codes"].items()
    lines += _section("EXIT STATUS", [line for code, meaning in codes for line in _item(_bold(code), meaning)])
    return "\n".join(lines) + "\n"


def _section(title: str, body: list[str]) -> list[str]:
    return [f'.SH "{title}"', *(body[1:] if body[0] == ".PP" else body)]


def _command(command: Usage, apply: Usage) -> list[str]:
    """Return the part on a command: its own options, and the names of those it shares with `apply`."""
    shared = [one for one in command["options"] if one in apply["options"]]
    named = [one for one in shared if one["name"] not in TELLING]
    own = [one for one in command["options"] if one not in shared]
    lines = [
        f".SS {_roff(' '.join(command['path'][1:]))}",
        _bold(command["usage"]),
        *_paragraphs(command["description"]),
    ]
    lines += _options(own)
    if len(shared) == len(apply["options"]):
        lines += [".PP", "It takes all options of the sections below."]
    elif named:
        flags = ", ".join(_bold(one["flags"][-1]) for one in named)
        lines += [".PP", f"It also takes {flags}, which the sections below explain."]
    return [*lines, ".PP", ".EX", *map(_roff, command["examples"]), ".EE"]


def _options(options: Iterable[Usage]) -> list[str]:
    return [line for one in options for line in _item(_flags(one), _explained(one))]


def _item(tag: str, text: str) -> list[str]:
    return [".TP", tag, _roff(text)]


def _flags(option: Usage) -> str:
    """Return the flags of an option with the name of its value."""
    names = ", ".join(map(_bold, [*option["flags"], *option["off_flags"]]))
    return f"{names} \\fI{_roff(option['metavar'])}\\fR" if option["metavar"] else names


def _explained(option: Usage) -> str:
    """Return what an option is, its values and its default, unless its help says those."""
    text = option["help"]
    shown = f"{text} {option['metavar']}"
    if option["choices"] and not all(choice in shown for choice in option["choices"] if choice != option["default"]):
        text += f" One of {', '.join(option['choices'])}."
    if option["repeatable"] and "repeated" not in text:
        text += " May be repeated."
    if option["default"] is not None and not isinstance(option["default"], bool):
        text += f" Default {option['default']}."
    return text


def _paragraphs(text: str) -> list[str]:
    return [line for one in text.split("\n\n") for line in (".PP", _roff(" ".join(one.split())))]


def _bold(text: str) -> str:
    return f"\\fB{_roff(text)}\\fR"


def _roff(text: str) -> str:
    """Return a text as a line of roff that shows it as it is."""
    line = text.translate(_SPECIAL)
    return f"\\&{line}" if line.startswith((".", "'")) else line
