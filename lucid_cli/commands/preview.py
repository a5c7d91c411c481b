"""`lucid-conv3d preview`: a picture of a scan and its result."""

from typing import Any

import click

from lucid_cli import offers
from lucid_cli.options import DEBUG, with_options
from lucid_cli.types import Count, FileName, Number, Size

EPILOG = """\b
Examples:
  lucid-conv3d preview scan.nii.gz -o scan.png
  lucid-conv3d preview scan.nii.gz result.nii.gz -o qc.png
  lucid-conv3d preview scan.nii.gz -o slices.png --at 4,7,8 --window 0,800
"""


@click.command(name="preview", short_help="Draw a scan and its result as a picture.", epilog=EPILOG)
@click.argument("before", type=FileName(), metavar="IN")
@click.argument("after", required=False, type=FileName(), metavar="[OUT]")
@click.option(
    "-o",
    "--output",
    type=FileName(offers.files(".png"), written=True),
    required=True,
    metavar="FILE.png",
    help="The picture to write.",
)
@click.option("--volume", type=Count(0), help="Volume of a batch or time axis, from 0. Default 0.")
@click.option("--channel", type=Count(0), help="Channel, from 0. Default 0.")
@click.option("--window", type=Number(each="LOW,HIGH"), metavar="LOW,HIGH", help="Values for black and white.")
@click.option("--at", type=Size(0), help="Voxel of IN that the planes go through. Default: the middle.")
@click.option("--overwrite", "--force", is_flag=True, help="Replace an existing picture.")
@with_options(DEBUG)
def command(before: str, after: str | None, **params: Any) -> None:
    """Draw the three mid-planes of IN, and below them those of OUT and the difference.

    Planes are axial, coronal and sagittal where the header says how the volume lies, in the radiological convention:
    the patient's right on the left of the picture, the front on the left of sagittal ones. Letters say so at the
    edges. The difference is left out where the grids differ. Needs matplotlib.
    """
    from lucid_cli.pictures.preview import preview
    from lucid_core.arguments import triple

    params.pop("debug")
    at = params.pop("at")
    preview([before, after] if after else [before], at=None if at is None else triple("at", at, 0), **params)
