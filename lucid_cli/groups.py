"""A command of commands: with no words it shows its help, and it suggests the nearest command for an unknown one."""

import click

from lucid_cli.talk import say
from lucid_core.registry import did_you_mean


class SuggestingGroup(click.Group):
    """A group that helps; whatever click's version, to name no command is a wrong usage."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help where nothing is said."""
        if not args:
            say(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for an unknown one."""
        name, legal = args[0] if args else "", self.list_commands(ctx)
        if not name.startswith("-") and name not in legal:
            ctx.fail(f"unknown command {name!r}; legal: {', '.join(legal)}.{did_you_mean(name, legal)}")
        return super().resolve_command(ctx, args)
