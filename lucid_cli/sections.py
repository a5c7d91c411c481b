"""The help of a command with many options: a heading for each section of the configuration."""

from collections import defaultdict

import click

HEADINGS = {"run": "Running", "layer": "Layer", "weights": "Weights", "volume": "Volume", "": "Others"}
"""Headings by section of the configuration, in their order; "" are options that stand in none."""


class SectionedCommand(click.Command):
    """A command whose help has its options under the headings of their sections."""

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
