"""`lucid-conv3d plan`: show what `apply` would do."""

from typing import Any

import click

from lucid_cli.config import settle
from lucid_cli.options import CONFIG, DEBUG, KERNEL, LAYER, OUTPUT, PLANNING, TALK, VOLUME, WEIGHTS, with_options
from lucid_cli.options_batch import BATCH, BIDS
from lucid_cli.options_cluster import CLUSTER
from lucid_cli.options_storage import STORAGE
from lucid_cli.sections import SectionedCommand
from lucid_cli.settings import Settings
from lucid_cli.types import FileName

EPILOG = """\b
Examples:
  lucid-conv3d plan scan.nii.gz --kernel gaussian --fwhm 6mm
  lucid-conv3d plan scan.nii.gz --out-channels 16 --kernel-size 3 --json
"""


@click.command(
    name="plan", cls=SectionedCommand, short_help="Show what apply would do, from the headers alone.", epilog=EPILOG
)
@click.argument("inputs", nargs=-1, type=FileName(), metavar="INPUT...")
@click.option("--json", "as_json", is_flag=True, help="Print the shape report as JSON.")
@with_options(OUTPUT, BATCH, LAYER, WEIGHTS, KERNEL, VOLUME, STORAGE, PLANNING, CLUSTER, BIDS, CONFIG, TALK, DEBUG)
@click.pass_context
def command(ctx: click.Context, /, inputs: tuple[str, ...], as_json: bool, **params: Any) -> int:
    """Plan the convolution of INPUT from its header alone: shapes, memory, and every algorithm weighed.

    Takes the options of `apply`, so that a configuration serves both. Writes nothing.
    """
    if settle(ctx):
        return 0
    from lucid_cli import report
    from lucid_cli.batch import plan_all
    from lucid_cli.talk import data

    items, code = plan_all(inputs, Settings.of(params))
    if as_json or params["report"] == "-":
        data(report.dump(report.report_json("plan", items)))
    else:
        planned = [f"{report.table(item)}\n{item.plan}" for item in items if item.plan]
        data("\n\n".join(planned) + "\n" if planned else "")
    return code
