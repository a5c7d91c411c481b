"""`lucid-conv3d replay`: make an output again from what its provenance says, and compare the two."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from lucid_cli.comparison import Comparison, compare
from lucid_cli.formats import Spec, parse_spec
from lucid_cli.layers import any_recipe
from lucid_cli.opening import check_input, opened
from lucid_cli.origin import options, read_by
from lucid_cli.progress import Reporter
from lucid_cli.provenance import kept_beside, sidecar_path
from lucid_cli.settings import Settings
from lucid_cli.single import Single, Task
from lucid_cli.talk import say
from lucid_core import __version__
from lucid_core.errors import ArgumentError, InputError


def replay(output: str, given: str | None, rtol: float, atol: float, progress: str) -> Comparison:
    """Run again what made OUTPUT, into a temporary folder, and compare the new volume with it.

    The input is `given`, or the one that the provenance names. Raises `InputError` where OUTPUT holds no provenance or
    a file is not the one that was read, and what the run raises.
    """
    spec = parse_spec(output)
    found = read(spec)
    if found["version"] != __version__:
        say(f"Warning: {output} was made by version {found['version']}, this is {__version__}")
    source = parse_spec(given or found["input"])
    settings = _settings(found)
    _check_files(found, source, settings)
    with tempfile.TemporaryDirectory(prefix="lucid-conv3d-") as folder:
        again = parse_spec(str(Path(folder, spec.path.name)) + (f":/{spec.inner}" if spec.inner else ""))
        with Reporter(progress, source.path.name) as observe:
            Single(any_recipe(settings), {}, dry=False, tell=say).done(Task(0, source, again), observe)
        return compare(again, spec, rtol, atol)


def read(spec: Spec) -> dict[str, Any]:
    """Return the provenance of an output: its own, or that of the sidecar beside it."""
    with ExitStack() as stack:
        found = opened(spec, stack).provenance or kept_beside(spec)
    if found is None:
        raise InputError(
            f"{spec}: says nothing of what it was made from, nor does a sidecar {sidecar_path(spec).name}; an output "
            "of apply does, unless it was written with --no-provenance or, as .npy, without --sidecar"
        )
    return found


def _settings(found: dict[str, Any]) -> Settings:
    """Return the settings of the run, with the algorithm that was chosen for it."""
    from lucid_cli.commands.apply import command

    known = {option.key: option for option in options()}
    ctx = click.Context(command)
    values: dict[str, Any] = {}
    for section in found["configuration"].values():
        for key, value in section.items():
            if key not in known:
                raise ArgumentError(f"the output was made with {key}, which this version ({__version__}) does not know")
            values[known[key].name or key] = known[key].type_cast_value(ctx, value)
    computed = found["computed"]
    if "+" not in computed["algorithm"] + computed["engine"]:  # a stack has several
        values |= computed
    return Settings(**values, provenance=False)


def _check_files(found: dict[str, Any], source: Spec, settings: Settings) -> None:
    """Raise `InputError` where a file that was read is not there, or no longer the same."""
    wanted = [(one["role"], one["sha256"]) for one in found["files"]]
    for one in read_by(source, settings):
        try:
            for path in () if one.zarr else one.files:
                check_input(path)
        except InputError as error:
            error.add_note(
                f"it is the {one.role} of the run; name the input with --input, "
                "and run this where the relative names of the others lead to them"
            )
            raise
        if (one.role, one.sha256) not in wanted:
            raise InputError(f"{one.path}: is not the {one.role} that was read: its SHA-256 is another one")
