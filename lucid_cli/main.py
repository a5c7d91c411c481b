"""The command `lucid-conv3d`: its commands, loaded when called, and the one place where an error becomes a line."""

import gc
import importlib
import io
import os
import pkgutil
import sys
from contextlib import suppress
from typing import Any, NoReturn

import click

from lucid_cli.failures import MEANINGS, check_address_space, exit_code, message, shortened
from lucid_cli.formats import parse_spec
from lucid_cli.groups import SuggestingGroup, tell
from lucid_cli.signals import Interrupted, watch
from lucid_cli.talk import data, say, show_trace

LIBRARIES = {
    "OPENBLAS_NUM_THREADS": "1",  # the engine has threads of its own
    "HDF5_PLUGIN_PATH": os.devnull,  # filters are code: none is loaded that happens to lie somewhere
}
"""What libraries find in the environment when they are loaded, unless the user has set it."""
COMPLETE = "_LUCID_CONV3D_COMPLETE"
"""Where this is in the environment, a shell asks what may stand at its cursor."""
OBJECTS_BEFORE_COLLECTION = 50_000
"""New objects before garbage is looked for: loading packages makes many, and none of them is garbage."""


class CommandGroup(SuggestingGroup):
    """A group whose commands are the modules of `lucid_cli.commands`, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        import lucid_cli.commands

        return sorted(module.name for module in pkgutil.iter_modules(lucid_cli.commands.__path__))

    def find(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command."""
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"lucid_cli.commands.{name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, if there is the least room for the libraries that it loads."""
        check_address_space()
        return super().invoke(ctx)


def _version(_ctx: click.Context) -> str:
    from lucid_core import __version__

    return f"lucid-conv3d {__version__}\n"


def _manual(ctx: click.Context) -> str:
    from lucid_cli.manual import page

    return page(ctx)


def _is_input(word: str) -> bool:
    return os.path.exists(word) or bool(parse_spec(word).suffix)  # noqa: PTH110 - false for a name too long


def _print_completion(ctx: click.Context, _param: click.Parameter, shell: str | None) -> None:
    if shell and not ctx.resilient_parsing:
        from lucid_cli.completion import script

        data(script(shell, ctx.command))
        ctx.exit()


HELP = f"""Convolve 3-D volumes: NIfTI, HDF5 and NumPy files in and out, with the right geometry.

Exit codes: {", ".join(f"{code} {meaning}" for code, meaning in MEANINGS.items())}.
"""

cli = CommandGroup(
    implied="apply",
    implies=_is_input,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[
        tell("--version", _version, "Show the version."),
        tell("--man", _manual, "Print the manual page: lucid-conv3d --man | man -l -"),
        click.Option(
            ["--completion"],
            type=click.Choice(["bash", "zsh", "fish"]),
            is_eager=True,
            expose_value=False,
            callback=_print_completion,
            help='Print the completion script of a shell: eval "$(lucid-conv3d --completion bash)" in ~/.bashrc.',
        ),
    ],
)


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION)
    for name, value in LIBRARIES.items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it: a file's name may hold anything
    watch()
    code = _run()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or nobody listens
            stream.flush()
    os._exit(code)  # what is in memory goes with the process: taking it apart first would cost time


def _run() -> int:
    if COMPLETE in os.environ:
        from lucid_cli import completion

        completion.register()
    try:
        result = cli.main(prog_name="lucid-conv3d", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        return _fail(" ".join(error.format_message().split()), 2)
    except (click.Abort, KeyboardInterrupt) as stop:
        return _fail(f"interrupted; {_left(stop)}", 130)
    except Interrupted as stop:
        return _fail(f"ended by {stop}; {_left(stop)}", 128 + stop.number)
    except Exception as error:
        show_trace(error)
        return _fail(message(error), exit_code(error))


def _left(stop: BaseException) -> str:
    """Say what a run that was ended left behind; click puts an exception of its own over Python's."""
    notes = [note for error in (stop, stop.__context__) for note in getattr(error, "__notes__", ())]
    return " ".join(notes) or "nothing was left behind."


def _fail(text: str, code: int) -> int:
    say(f"Error: {shortened(text)}")
    return code
