"""`lucid-conv3d replay`: make an output again and compare."""

from typing import Any

import click

from lucid_cli.options import DEBUG, TALK, with_options
from lucid_cli.types import FileName, Number

EPILOG = """\b
Examples:
  lucid-conv3d replay expected.nii.gz
  lucid-conv3d replay expected.nii.gz --input scan.nii.gz --json
"""


@click.command(name="replay", short_help="Make an output again from its provenance; compare.", epilog=EPILOG)
@click.argument("output", type=FileName(), metavar="OUTPUT")
@click.option("--input", "given", type=FileName(), metavar="INPUT", help="The input, where it has moved since.")
@click.option("--rtol", type=Number(0), default=0, show_default=True, help="Values are the same up to atol + rtol |b|.")
@click.option("--atol", type=Number(0), default=0, show_default=True, help="See --rtol; in the units of the values.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@with_options(TALK[:1], DEBUG)
def command(output: str, given: str | None, rtol: float, atol: float, as_json: bool, progress: str, **_: Any) -> int:
    """Run again what made OUTPUT, as its provenance says, and compare; exit code 0 if both are the same, 1 if not.

    The files that were read must be the same, by their hashes. The new volume goes to a temporary folder (TMPDIR).
    """
    from lucid_cli.comparison import words
    from lucid_cli.replay import replay
    from lucid_cli.talk import data

    done = replay(output, given, rtol, atol, progress)
    data(words.dump(done) if as_json else words.table(done))
    return 0 if done.same else 1
