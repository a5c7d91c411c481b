"""`lucid-conv3d apply`: convolve volumes."""

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
  lucid-conv3d apply scan.nii.gz -o out.nii.gz --kernel gaussian --sigma 1.5mm
  lucid-conv3d apply scan.nii.gz -o edges.nii.gz --kernel sobel --axis z
  lucid-conv3d apply scan.nii.gz -o out.nii --out-channels 4 --kernel-size 3
  lucid-conv3d apply scans --out-dir smooth --kernel gaussian --fwhm 6mm -J 0
"""


@click.command(
    name="apply", cls=SectionedCommand, short_help="Convolve volumes with a named kernel or weights.", epilog=EPILOG
)
@click.argument("inputs", nargs=-1, type=FileName(), metavar="INPUT...")
@with_options(OUTPUT, BATCH, LAYER, WEIGHTS, KERNEL, VOLUME, STORAGE, PLANNING, CLUSTER, BIDS, CONFIG, TALK, DEBUG)
@click.pass_context
def command(ctx: click.Context, /, inputs: tuple[str, ...], **params: Any) -> int:
    """Convolve INPUT with a named kernel, trained weights or seeded random ones, and write OUTPUT.

    INPUT is a file, a folder of them, or a quoted pattern such as 'raw/*/t1.nii.gz'. Its suffix says the format, as
    that of OUTPUT does: .nii, .nii.gz, .hdr/.img, .h5:/dataset, a.zarr/path, s3://b/a.zarr, .npy and more (see
    README). Options may stand in a YAML file (--config) and in the environment (LUCID_CONV3D_STRIDE=2); flags win.
    """
    if settle(ctx):
        return 0
    from lucid_cli.batch import apply_all

    return apply_all(inputs, Settings.of(params), params["config"])
