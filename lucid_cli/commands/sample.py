"""`lucid-conv3d sample`: write a synthetic volume."""

from typing import Any

import click

from lucid_cli import names
from lucid_cli.options import DEBUG, with_options
from lucid_cli.types import Count, FileName, LengthType, Size

EPILOG = """\b
Examples:
  lucid-conv3d sample phantom -o phantom.nii.gz
  lucid-conv3d sample ramp -o ramp.npy --shape 32,48,64
  lucid-conv3d sample noise -o noise.h5:/raw/noise --shape 32 --seed 7
"""


@click.command(name="sample", short_help="Write a synthetic volume to try things with.", epilog=EPILOG)
@click.argument("kind", type=names.SAMPLE, default="phantom", metavar=f"[{'|'.join(names.SAMPLE.legal)}]")
@click.option(
    "-o",
    "--output",
    type=FileName(written=True),
    required=True,
    metavar="OUTPUT",
    help="The file to write; its suffix says the format.",
)
@click.option("--shape", type=Size(1), default="64", show_default=True, help="Voxels along D, H, W.")
@click.option("--channels", type=Count(1), default=1, show_default=True, help="Channels.")
@click.option("--spacing", type=LengthType(), help="Voxel spacing. Default 1mm; .npy files hold none.")
@click.option(
    "--out-dtype",
    "--dtype",
    "dtype",
    type=names.OUT_DTYPE,
    default="float32",
    show_default=True,
    help="Type of the values.",
)
@click.option("--seed", type=Count(0), default=0, show_default=True, help="Seed of the noise.")
@click.option("--overwrite", "--force", is_flag=True, help="Replace an existing output.")
@with_options(DEBUG)
def command(kind: str, output: str, **params: Any) -> None:
    """Write a deterministic synthetic volume: a head-like phantom, a ramp, an impulse, a checkerboard or noise."""
    params.pop("debug")
    from lucid_cli.samples import write_sample

    write_sample(kind, output, **params)
