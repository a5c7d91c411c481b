"""A command of commands: with no words it shows its help, and for an unknown one it suggests what seems meant.

It and every command of it can describe themselves (`--json-usage`, `--boutiques`).
"""

import shlex
from collections.abc import Callable
from typing import Any

import click

from lucid_cli.talk import data, say
from lucid_core.registry import did_you_mean


def tell(name: str, told: Callable[[click.Context], str], explained: str) -> click.Option:
    """Return an option that prints something of a command and ends."""

    def callback(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
        if asked and not ctx.resilient_parsing:
            data(told(ctx))
            ctx.exit()

    return click.Option([name], is_flag=True, is_eager=True, expose_value=False, callback=callback, help=explained)


def _json_usage() -> click.Option:
    return tell("--json-usage", _usage, "Print what this command takes as JSON.")


def _usage(ctx: click.Context) -> str:
    from lucid_cli.usage import dump

    return dump(ctx)


def _boutiques(ctx: click.Context) -> str:
    from lucid_cli.boutiques import dump

    return dump(ctx)


class SuggestingGroup(click.Group):
    """A group that helps; whatever click's version, to name no command is a wrong usage."""

    def __init__(self, *args: Any, implied: str, implies: Callable[[str], bool], **kwargs: Any) -> None:
        """Take the command that is suggested where it is left out before a word that `implies` it."""
        super().__init__(*args, **kwargs)
        self._implied, self._implies = implied, implies
        self.params.append(_json_usage())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, with the options that describe it."""
        command = self.find(ctx, name)
        if command is not None and not any(param.name == "json_usage" for param in command.params):
            boutiques = tell("--boutiques", _boutiques, "Print a Boutiques descriptor of this command.")
            command.params += [_json_usage(), boutiques]
        return command

    def find(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command as it is declared."""
        return super().get_command(ctx, name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help where nothing is said."""
        if not args and not ctx.resilient_parsing:
            say(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest what seems meant by an unknown command."""
        name, legal = args[0] if args else "", self.list_commands(ctx)
        if not name.startswith("-") and name not in legal and not ctx.resilient_parsing:
            ctx.fail(f"unknown command {name!r}; legal: {', '.join(legal)}.{self._meant(ctx, args, legal)}")
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, args: list[str], legal: list[str]) -> str:
        """Return ' Did you mean ...?': the whole line for an option or a command's first word, else the nearest."""
        name, *rest = args
        if any(f"--{name}" in param.opts for param in self.get_params(ctx)):
            words = [*rest, "--help"] if name == "help" else [f"--{name}", *rest]
        elif self._implies(name):
            words = [self._implied, *args]
        else:
            return did_you_mean(name, legal)
        return f" Did you mean: {ctx.command_path} {shlex.join(words)}"
