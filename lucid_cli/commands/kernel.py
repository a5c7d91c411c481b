"""`lucid-conv3d kernel`: the named kernels, and what a kernel or a file of weights holds."""

from pathlib import Path
from typing import Any

import click

from lucid_cli import names, offers
from lucid_cli.groups import SuggestingGroup
from lucid_cli.options import DEBUG, KERNEL, option, with_options
from lucid_cli.settings import Settings
from lucid_cli.types import Choice, FileName, LengthType, NestedList

LIST_EPILOG = """\b
Examples:
  lucid-conv3d kernel list
"""
SHOW_EPILOG = """\b
Examples:
  lucid-conv3d kernel show gaussian --fwhm 4mm --spacing 2,1,1mm
  lucid-conv3d kernel show sobel --axis z --json
"""
SAVE_EPILOG = """\b
Examples:
  lucid-conv3d kernel save hessian --sigma 1.5vox -o hessian.npz
  lucid-conv3d kernel save sphere --radius 4mm --spacing 2,1,1mm -o ball.nii
"""
GROUP_EPILOG = """\b
Examples:
  lucid-conv3d kernel show log --sigma 2mm --spacing 1mm
"""
MADE_FOR = [
    option("weights", "--weights-axes", type=Choice(["zyx", "xyz"]), help="Order of the axes in a file of weights."),
    option("weights", "--weights-layout", type=Choice(["torch", "keras"]), help="Order of all axes in the file."),
    option("volume", "--spacing", type=LengthType(), help="Voxel spacing D,H,W of the volume, such as 2,1,1mm."),
]
OVERWRITE = option("run", "--overwrite", "--force", is_flag=True, help="Replace an existing file.")


@click.group(
    name="kernel",
    cls=SuggestingGroup,
    implied="show",
    implies=names.KERNEL.legal.__contains__,
    short_help="List, show and save named kernels and weights.",
    epilog=GROUP_EPILOG,
)
def command() -> None:
    """List the named kernels; show or save the taps of one, or of a file of weights."""


@command.command(name="list", short_help="List the named kernels and their options.", epilog=LIST_EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@with_options(DEBUG)
def list_(as_json: bool, debug: bool) -> None:  # noqa: ARG001 - read by `show_trace`
    """List the named kernels, what they are and the options they take."""
    from lucid_cli import kernel_report
    from lucid_cli.talk import data

    data(kernel_report.listing_json() if as_json else kernel_report.listing())


@command.command(short_help="Show the taps of a kernel or a file of weights.", epilog=SHOW_EPILOG)
@click.argument("kernel", type=NestedList(), shell_complete=offers.kernels_or_weights, metavar="NAME|FILE[:KEY]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, with all taps.")
@click.option(
    "--plot",
    type=FileName(offers.files(".png"), written=True),
    metavar="FILE.png",
    help="Draw the three mid-planes and the frequency response.",
)
@with_options(KERNEL, MADE_FOR, [OVERWRITE], DEBUG)
def show(kernel: str, as_json: bool, plot: str | None, **params: Any) -> None:
    """Show the taps of a named kernel or a file of weights: size, sum, centre, rank.

    A length in mm needs the --spacing of the volume it is for.
    """
    from lucid_cli import kernel_report
    from lucid_cli.kernel_file import chosen
    from lucid_cli.talk import data

    settings = Settings.of(params)
    found = chosen(kernel, settings)
    if plot:
        from lucid_cli.kernel_plot import draw

        draw(found, Path(plot), settings.overwrite)
    data(kernel_report.dump(found) if as_json else kernel_report.table(found))


@command.command(short_help="Save a kernel, or weights in another format.", epilog=SAVE_EPILOG)
@click.argument("kernel", type=NestedList(), shell_complete=offers.kernels_or_weights, metavar="NAME|FILE[:KEY]")
@click.option(
    "-o",
    "--output",
    type=FileName(offers.weights, written=True),
    required=True,
    metavar="FILE",
    help=".npy, .npz, .safetensors, .nii or .nii.gz.",
)
@with_options(KERNEL, MADE_FOR, [OVERWRITE], DEBUG)
def save(kernel: str, output: str, **params: Any) -> None:
    """Save the weights of a named kernel, or of a file in another format, to a file that --weights reads."""
    from lucid_cli.kernel_file import chosen, write

    settings = Settings.of(params)
    write(chosen(kernel, settings), output, settings.overwrite)
