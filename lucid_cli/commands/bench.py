"""`lucid-conv3d bench`: time the engines and algorithms on this machine."""

from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from lucid_cli import offers
from lucid_cli.config import settle
from lucid_cli.options import (
    CONFIG,
    DEBUG,
    KERNEL,
    LAYER,
    OUTPUT,
    PLANNING,
    TALK,
    VOLUME,
    WEIGHTS,
    Decorator,
    with_options,
)
from lucid_cli.options_cluster import CLUSTER
from lucid_cli.options_storage import STORAGE
from lucid_cli.settings import Settings
from lucid_cli.types import Count, FileName

EPILOG = """\b
Examples:
  lucid-conv3d bench --list
  lucid-conv3d bench --quick --workload 1-1-k3 --workload 8-8-k3-s2 --no-peers
  lucid-conv3d bench scan.nii.gz --kernel gaussian --fwhm 6mm --quick --json
"""

OF_CLUSTERS = ("executor", "scheduler", "workers")
"""Options of who carries out a plan."""


def _hidden(group: Sequence[Decorator]) -> list[Decorator]:
    """Return the options of a group for a command that takes them from a configuration only, to no effect."""

    def hide(decorator: Decorator) -> Decorator:
        def decorate(function: Any) -> Any:
            decorated = decorator(function)
            decorated.__click_params__[-1].hidden = True
            return decorated

        return decorate

    return [hide(decorator) for decorator in group]


@click.command(name="bench", short_help="Time algorithms, engines and other libraries here.", epilog=EPILOG)
@click.argument("inputs", nargs=-1, type=FileName(), metavar="[INPUT...]")
@click.option("--json", "as_json", is_flag=True, help="Print the measurements as JSON.")
@click.option("--list", "as_list", is_flag=True, help="Print the names of the built-in workloads and stop.")
@click.option(
    "--workload",
    "names",
    multiple=True,
    shell_complete=offers.workloads,
    metavar="NAME",
    help="A built-in workload; may be repeated.",
)
@click.option("--rounds", type=Count(1), help="Timed calls of each, of which the median counts. Default 5.")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Time other libraries that are installed.")
@click.option("--all", "every", is_flag=True, help="Time algorithms predicted to be over ten times slower too.")
@click.option("--quick", is_flag=True, help="Cut volumes to 32 voxels an axis, one round: a trial, no measurement.")
@with_options(
    _hidden(OUTPUT), LAYER, WEIGHTS, KERNEL, VOLUME, _hidden(STORAGE), PLANNING, _hidden(CLUSTER), CONFIG, TALK, DEBUG
)
@click.pass_context
def command(ctx: click.Context, /, inputs: tuple[str, ...], as_json: bool, as_list: bool, **params: Any) -> int:
    """Time every algorithm and engine, and other libraries, on the built-in workloads or on a layer for INPUT.

    Takes the options of `apply` for the layer of INPUT, of which the header is read; the voxels timed are random.
    Every result is checked before it is timed. Writes nothing.
    """
    _check_unused(ctx)
    if settle(ctx):
        return 0
    from lucid_cli.bench import report, session
    from lucid_cli.talk import data

    if as_list:
        data(report.listing())
        return 0
    options = {name: params.pop(name) for name in ("names", "rounds", "peers", "every", "quick")}
    settings = Settings.of(params)
    done = session.bench(inputs, settings, **options)
    data(report.dump(done) if as_json or settings.report == "-" else report.table(done))
    return 0


def _check_unused(ctx: click.Context) -> None:
    """Refuse options for outputs on the command line; a configuration that `apply` has too may hold them."""
    for param in ctx.command.params:
        typed = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if typed and getattr(param, "hidden", False) and param.name != "report":  # --report - prints JSON
            why = "times this process alone" if param.name in OF_CLUSTERS else "writes no file"
            raise click.UsageError(f"{param.opts[-1]} has no use here: bench {why}", ctx)
