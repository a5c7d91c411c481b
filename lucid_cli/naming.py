"""What outputs are called: OUTPUT itself, or a file for each input in a folder that keeps the tree of the inputs."""

import os
from pathlib import Path

from lucid_cli.formats import SUFFIXES, Spec, format_of, is_address, parse_spec
from lucid_cli.listing import Listed
from lucid_cli.origin import files_written
from lucid_cli.output import output_errors
from lucid_cli.settings import Settings
from lucid_core.errors import ArgumentError, OutputError

DEFAULT_NAME = "{stem}_conv3d{suffix}"
UNNAMED = "conv3d"
"""What `{kernel}` is where no named kernel is asked for."""


@output_errors
def output_specs(inputs: list[Listed], settings: Settings) -> list[Spec]:
    """Return the output of each input: OUTPUT itself, or a file in OUTPUT or `--out-dir`, named by the pattern.

    Raises `OutputError` where OUTPUT is not a folder and has to be one, or two inputs would have one output.
    """
    if settings.out_dir is not None:
        if is_address(settings.out_dir):
            raise ArgumentError(
                f"--out-dir {settings.out_dir}: is an address, not a folder; name one Zarr there with -o"
            )
        if settings.output is not None:
            raise ArgumentError("-o and --out-dir both say where the output goes; leave one")
        if settings.bids:
            return _derivatives(Path(settings.out_dir), inputs, settings)
        return _inside(Path(settings.out_dir), inputs, settings)
    if settings.bids or settings.desc is not None:
        raise ArgumentError("--bids and --desc name files in a dataset; give its folder with --out-dir")
    output, folder = str(settings.output), Path(str(settings.output))
    target = parse_spec(output)
    if target.is_pipe and len(inputs) == 1:
        return [target]
    if folder.is_dir() and not target.is_folder:
        return _inside(folder, inputs, settings)
    if output.startswith("-") and not target.is_pipe:
        raise ArgumentError(f"-o is followed by {output!r}, which looks like an option; name the output behind -o")
    if len(inputs) > 1 and (target.suffix or folder.is_file()):
        some = ", ".join(str(one.spec) for one in inputs[:2])
        raise OutputError(f"{output}: is no folder, and {len(inputs)} inputs ({some}, ...) need one: --out-dir FOLDER")
    if (
        len(inputs) > 1
        or (output.endswith(os.sep) and not target.is_zarr)
        or (settings.name is not None and not target.suffix)
    ):
        raise OutputError(
            f"{output}: is not an existing folder; --out-dir {output} makes it, or make it first: mkdir -p {output}"
        )
    if settings.name is not None:
        raise ArgumentError(f"--name gives names inside a folder, but the output {output} is a file")
    format_of(target)
    return [target]


def _inside(folder: Path, inputs: list[Listed], settings: Settings) -> list[Spec]:
    if any(folder.name.lower().endswith(suffix) for suffix in SUFFIXES):
        raise OutputError(f"{folder}: is a folder whose name ends like a file's; name a file, or another folder")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, and the outputs go into a folder; name another one")
    if settings.desc is not None:
        raise ArgumentError("--desc is a part of BIDS names; give --bids too")
    return _distinct(
        [parse_spec(str(folder / one.below / _named(one.spec, settings))) for one in inputs], inputs, settings
    )


def _derivatives(folder: Path, inputs: list[Listed], settings: Settings) -> list[Spec]:
    from lucid_cli.bids import derivative

    if settings.name is not None:
        raise ArgumentError("--bids and --name both say what outputs are called; leave one")
    return _distinct([parse_spec(str(folder / derivative(one.spec, settings))) for one in inputs], inputs, settings)


def _distinct(specs: list[Spec], inputs: list[Listed], settings: Settings) -> list[Spec]:
    """Raise `OutputError` where two outputs would share a file, their sidecars included."""
    seen: dict[str, Spec] = {}
    for spec, one in zip(specs, inputs, strict=True):
        for path in files_written(spec, settings):
            other = seen.setdefault(str(Path(os.path.realpath(path.parent), path.name)), one.spec)
            if other is not one.spec:
                raise OutputError(
                    f"two inputs would be written to {path}: {other} and {one.spec}; tell them apart by --name, such "
                    "as '{parent}_{stem}{suffix}', or give their folder, whose tree is kept"
                )
    return specs


def _named(spec: Spec, settings: Settings) -> str:
    pattern = settings.name or DEFAULT_NAME
    if "{suffix}" in pattern:
        format_of(spec)
    words = {"stem": spec.stem, "suffix": spec.likely_output.suffix, "kernel": settings.kernel or UNNAMED}
    try:
        name = pattern.format(parent=spec.path.absolute().parent.name, **words)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ArgumentError(
            f"--name {pattern!r} is not a pattern; legal: {{stem}}, {{suffix}}, {{kernel}} and {{parent}}, the name of "
            "the input's folder"
        ) from error
    if "/" in name or not name:
        raise ArgumentError(f"--name {pattern!r} makes {name!r}, which is no file name")
    format_of(parse_spec(name))
    return name
