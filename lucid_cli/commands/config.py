"""`lucid-conv3d config`: begin a configuration, check one, and describe what one may hold."""

from pathlib import Path

import click

from lucid_cli import offers
from lucid_cli.groups import SuggestingGroup
from lucid_cli.options import DEBUG, with_options
from lucid_cli.types import FileName

SUFFIXES = (".yaml", ".yml")
YAML = offers.files(*SUFFIXES)
INIT_EPILOG = """\b
Examples:
  lucid-conv3d config init
  lucid-conv3d config init scan.nii.gz -o starter.yaml
"""
CHECK_EPILOG = """\b
Examples:
  lucid-conv3d config check smooth.yaml
  lucid-conv3d config check smooth.yaml scan.nii.gz --json
"""
SCHEMA_EPILOG = """\b
Examples:
  lucid-conv3d config schema
"""
GROUP_EPILOG = """\b
Examples:
  lucid-conv3d config check smooth.yaml scan.nii.gz
"""


@click.group(
    name="config",
    cls=SuggestingGroup,
    implied="check",
    implies=lambda word: word.lower().endswith(SUFFIXES),
    short_help="Begin, check or describe a YAML configuration.",
    epilog=GROUP_EPILOG,
)
def command() -> None:
    """Begin a YAML configuration for --config, check one, or describe what one may hold."""


@command.command(short_help="Print a commented configuration to begin with.", epilog=INIT_EPILOG)
@click.argument("scan", required=False, type=FileName())
@click.option(
    "-o", "--output", type=FileName(YAML, written=True), metavar="FILE.yaml", help="A file instead of stdout."
)
@click.option("--overwrite", "--force", is_flag=True, help="Replace an existing file.")
@with_options(DEBUG)
def init(scan: str | None, output: str | None, overwrite: bool, debug: bool) -> None:  # noqa: ARG001
    """Print a commented configuration with every option, to begin with.

    Of SCAN the header is read, and values and comments fit it: what is not commented out runs as it is.
    """
    from lucid_cli import config_start
    from lucid_cli.output import check_target, protect, write_bytes
    from lucid_cli.talk import data

    text = config_start.starter(scan, output)
    if output is None:
        data(text)
    else:
        target = check_target(Path(output), protect(config_start.files(scan)), overwrite, skips=False)
        write_bytes(target, text.encode(), overwrite)


@command.command(short_help="Say everything that is wrong with a configuration.", epilog=CHECK_EPILOG)
@click.argument("file", type=FileName(YAML), metavar="FILE.yaml")
@click.argument("scan", required=False, type=FileName())
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON, too.")
@with_options(DEBUG)
def check(file: str, scan: str | None, as_json: bool, debug: bool) -> int:  # noqa: ARG001
    """Say everything that is wrong with FILE.yaml as `apply` would take it, a line each: file:line:column: message.

    With SCAN also whether the layer fits it: shapes, channels and memory. Exits with 2 where anything is wrong.
    """
    from lucid_cli import config_check
    from lucid_cli.report import dump
    from lucid_cli.talk import data, say

    done = config_check.check(Path(file), scan)
    for line in done.lines() or [done.fine()]:
        say(line)
    if as_json:
        data(dump(done.to_json()))
    return 2 if done.mistakes else 0


@command.command(short_help="Print the JSON Schema of a configuration.", epilog=SCHEMA_EPILOG)
@with_options(DEBUG)
def schema(debug: bool) -> None:  # noqa: ARG001
    """Print the JSON Schema (draft 2020-12) of a configuration, for editors and other programs."""
    from lucid_cli import config_schema
    from lucid_cli.talk import data

    data(config_schema.dump())
