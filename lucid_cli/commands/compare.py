"""`lucid-conv3d compare`: say whether two volumes are the same."""

from typing import Any

import click

from lucid_cli.options import DEBUG, with_options
from lucid_cli.types import FileName, Number

EPILOG = """\b
Examples:
  lucid-conv3d compare result.nii.gz expected.nii.gz
  lucid-conv3d compare result.nii.gz expected.nii.gz --rtol 1e-5
  lucid-conv3d compare result.nii.gz expected.nii.gz --json
"""


@click.command(name="compare", short_help="Say whether two volumes are the same.", epilog=EPILOG)
@click.argument("a", type=FileName())
@click.argument("b", type=FileName())
@click.option("--rtol", type=Number(0), default=0, show_default=True, help="Values are the same up to atol + rtol |b|.")
@click.option("--atol", type=Number(0), default=0, show_default=True, help="See --rtol; in the units of the values.")
@click.option("--ignore", multiple=True, metavar="PART[,PART]", help="Parts to leave out; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@with_options(DEBUG)
def command(a: str, b: str, rtol: float, atol: float, ignore: tuple[str, ...], as_json: bool, **_: Any) -> int:
    """Compare the volume A with the reference B, of any formats; exit code 0 if they are the same, 1 if not.

    The parts are shape (sizes and axes), values (scaled, in float64, integers of 64 bits exactly; NaN is the same as
    NaN), geometry (spacings the same within 1e-5 of them, corners of the grids within 1e-3 voxels, units, sform and
    qform with their codes), dtype (of the stored values) and header (the other fields, within a format, but comments
    and provenance). Where one format holds no geometry, as .npy, that is not compared.
    """
    from lucid_cli.comparison import compare, words
    from lucid_cli.formats import parse_spec
    from lucid_cli.talk import data

    parts = [part.strip() for one in ignore for part in one.split(",")]
    done = compare(parse_spec(a), parse_spec(b), rtol, atol, parts)
    data(words.dump(done) if as_json else words.table(done))
    return 0 if done.same else 1
