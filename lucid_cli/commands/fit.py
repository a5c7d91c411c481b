"""`lucid-conv3d fit`: learn a layer from volumes and what is to be made of them."""

from typing import Any

import click

from lucid_cli.config import settle
from lucid_cli.options import CONFIG, DEBUG, with_options
from lucid_cli.options_fit import LEARNED, RUNNING, SCANS, SOLVING, TARGETS, SpreadingCommand
from lucid_cli.types import FileName

EPILOG = """\b
Examples:
  lucid-conv3d fit scan.nii.gz --target smooth.nii.gz -o w.npz --kernel-size 5
  lucid-conv3d fit scan.nii.gz --target smooth.nii.gz -o w.npz -c net.yaml
  lucid-conv3d fit raw --target clean -o w.npz --kernel-size 3 --loss l1
"""


@click.command(
    name="fit", cls=SpreadingCommand, short_help="Learn a layer from volumes and their targets.", epilog=EPILOG
)
@click.argument("inputs", nargs=-1, type=FileName(), metavar="INPUT...")
@with_options(TARGETS, LEARNED, SCANS, SOLVING, RUNNING, CONFIG, DEBUG)
@click.pass_context
def command(ctx: click.Context, /, inputs: tuple[str, ...], **params: Any) -> int:
    """Learn the weights that make of each INPUT its TARGET, and save them for 'apply --weights'.

    One layer with the loss mse has an exact solution, found in one pass over the scans. Other losses, and stacks of
    layers, are trained by Adam on tiles, until they get no better. Inputs come first, targets after --target.
    """
    if settle(ctx):
        return 0
    from lucid_cli.fitting import fit
    from lucid_cli.fitting.settings import FitSettings

    return fit(inputs, FitSettings.of(params), params["config"])
