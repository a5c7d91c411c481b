"""`lucid-conv3d merge`: join the reports of the shards of a batch."""

from pathlib import Path
from typing import Any

import click

from lucid_cli import offers
from lucid_cli.options import DEBUG, with_options
from lucid_cli.types import FileName

EPILOG = """\b
Examples:
  lucid-conv3d merge shard-1.json shard-2.json -o batch.json
"""


@click.command(name="merge", short_help="Join the reports of the shards of a batch.", epilog=EPILOG)
@click.argument("reports", nargs=-1, required=True, type=FileName(offers.files(".json")), metavar="REPORT...")
@click.option(
    "-o",
    "--output",
    type=FileName(offers.files(".json"), written=True),
    required=True,
    metavar="FILE.json|-",
    help="Where the report of the batch goes.",
)
@click.option("--overwrite", "--force", is_flag=True, help="Replace an existing file.")
@with_options(DEBUG)
def command(reports: tuple[str, ...], output: str, overwrite: bool, **_: Any) -> int:
    """Join the reports that `apply --shard i/n --report FILE.json` wrote, all n of them, to that of the batch.

    Ends as one run would have: with 0 where every input is done, with 7 where some failed.
    """
    from lucid_cli import report
    from lucid_cli.merge import merged
    from lucid_cli.output import check_target, protect, write_bytes
    from lucid_cli.talk import data, say

    paths = [Path(one) for one in reports]
    found = merged(paths)
    content = report.dump(found)
    if output == "-":
        data(content)
    else:
        write_bytes(check_target(Path(output), protect(paths), overwrite, skips=False), content.encode(), overwrite)
    failed = [item for item in found["items"] if item["status"] == "failed"]
    for item in failed:
        say(f"Error: {item['error']}")
    return 7 if failed else 0
