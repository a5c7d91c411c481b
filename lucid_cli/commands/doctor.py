"""`lucid-conv3d doctor`: look for what is wrong with this installation and this computer."""

from typing import Any

import click

from lucid_cli.options import DEBUG, with_options

EPILOG = """\b
Examples:
  lucid-conv3d doctor
  lucid-conv3d doctor --json
"""


@click.command(name="doctor", short_help="Look for what is wrong with this installation.", epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@with_options(DEBUG)
def command(as_json: bool, **_: Any) -> int:
    """Show versions, engines, cores, memory, folders and environment, and try every algorithm and format.

    Takes under ten seconds, and leaves no file. Exit code 1 where the self-test failed; what is only missing, or in
    the way, is said, with what to do. Send what it prints along with a report of a bug.
    """
    from lucid_cli.doctor import examine, words
    from lucid_cli.talk import data

    sections = examine()
    data(words.dump(sections) if as_json else words.table(sections))
    return 0 if words.passed(sections) else 1
