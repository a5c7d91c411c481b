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


@click.command(name="info", short_help="Show what the headers of volumes say.", epilog=EPILOG)
@click.argument("inputs", nargs=-1, required=True, type=FileName(), metavar="INPUT...")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--shape", is_flag=True, help="Print the sizes in the file's order.")
@click.option("--dtype", is_flag=True, help="Print the type of the stored values.")
@click.option("--spacing", is_flag=True, help="Print the spacing in mm, in the order of the axes.")
@with_options(DEBUG)
def command(inputs: tuple[str, ...], as_json: bool, **params: Any) -> None:
    """Show what the header of each INPUT says; no voxel is read.

    --shape, --dtype and --spacing print a line each, in the order in which they stand.
    """
    from lucid_cli import describe
    from lucid_cli.formats import parse_spec
    from lucid_cli.opening import open_info
    from lucid_cli.talk import data
    from lucid_core.errors import ArgumentError

    lines = {"shape": describe.shape, "dtype": describe.dtype, "spacing": describe.spacing}
    asked = [name for name, given in params.items() if given and name in lines]
    if as_json and asked:
        raise ArgumentError(f"--json prints everything, --{asked[0]} one line; leave one")
    infos = [open_info(parse_spec(text)) for text in inputs]
    if as_json:
        data((describe.as_json(infos[0]) if len(infos) == 1 else describe.as_json_list(infos)) + "\n")
        return
    for info in infos:
        data("\n".join([lines[name](info) for name in asked] or [describe.table(info)]) + "\n")
