"""A command with many options: its help has a heading for each section of the configuration; inputs are no option."""

from collections import defaultdict

import click

from lucid_cli.mistakes import INPUT_KEYS

HEADINGS = {"run": "Running", "layer": "Layer", "weights": "Weights", "volume": "Volume", "": "Others"}
"""Headings by section of the configuration, in their order; "" are options that stand in none."""


class SectionedCommand(click.Command):
    """A command whose help has its options under the headings of their sections."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say of an option for the inputs how they are named."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name in ("-i", *(f"--{key}" for key in INPUT_KEYS)):
                how = f"{ctx.command_path} scan.nii.gz -o out.nii.gz"
                text = f"No such option {error.option_name!r}. Inputs stand without an option: {how}"
                raise click.UsageError(text, ctx) from error
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a section after the other."""
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                found[getattr(param, "section", "")].append(record)
        for section, heading in HEADINGS.items():
            if found[section]:
                with formatter.section(heading):
                    formatter.write_dl(found[section])
