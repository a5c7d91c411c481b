"""`lucid-conv3d info`: show the header of volumes."""

from typing import Any

import click

from lucid_cli.options import DEBUG, with_options
from lucid_cli.types import FileName

EPILOG = """\b
Examples:
  lucid-conv3d info scan.nii.gz
  lucid-conv3d info scan.nii.gz --json
  lucid-conv3d info scan.nii.gz --spacing
"""


@click.command(name="info", epilog=EPILOG)
@click.argument("inputs", nargs=-1, required=True, type=FileName(), metavar="INPUT...")
@click.option("--json", "what", flag_value="json", help="Print everything as JSON.")
@click.option("--shape", "what", flag_value="shape", help="Print the sizes in the file's order.")
@click.option("--dtype", "what", flag_value="dtype", help="Print the type of the stored values.")
@click.option("--spacing", "what", flag_value="spacing", help="Print the spacing in mm, in the order of the axes.")
@with_options(DEBUG)
def command(inputs: tuple[str, ...], what: str | None, **_: Any) -> None:
    """Show what the header of each INPUT says; no voxel is read."""
    from lucid_cli import describe
    from lucid_cli.formats import parse_spec
    from lucid_cli.opening import open_info
    from lucid_cli.talk import data

    show = {"json": describe.as_json, "shape": describe.shape, "dtype": describe.dtype, "spacing": describe.spacing}
    infos = [open_info(parse_spec(text)) for text in inputs]
    if what == "json" and len(infos) > 1:
        data(describe.as_json_list(infos) + "\n")
        return
    for info in infos:
        data((show[what](info) if what else describe.table(info)) + "\n")
