"""What a shell offers for a value that is being typed: names, files of a kind, datasets in HDF5, keys of `--set`.

Nothing here may be slow, or load more than the value needs: it runs at every press of the key.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from lucid_core.registry import names_in

if TYPE_CHECKING:
    from lucid_cli.config import ConfiguredOption

Offer = Callable[[str], list[CompletionItem]]
"""Returns what may stand in place of the beginning of a value."""
_DATASET = re.compile(r"(?P<path>.*\.(?:h5|hdf5))(?P<colon>:{1,2})(?P<inner>.*)", re.IGNORECASE | re.DOTALL)


def matching(names: Iterable[str], start: str) -> list[CompletionItem]:
    """Return the names that begin so."""
    return [CompletionItem(name) for name in names if name.startswith(start)]


def files(*suffixes: str) -> Offer:
    """Return an offer of the folders and of the files with one of these suffixes."""
    return lambda start: _files(start, suffixes)


def volumes(start: str) -> list[CompletionItem]:
    """Offer files of volumes; behind the colon of `a.h5:` its datasets."""
    from lucid_cli.formats import SUFFIXES

    return datasets(start) if _DATASET.fullmatch(start) else _files(start, SUFFIXES)


def weights(start: str) -> list[CompletionItem]:
    """Offer files of weights."""
    from lucid_cli.weight_files import SUFFIXES

    return _files(start, SUFFIXES)


def kernels_or_weights(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Offer named kernels and files of weights."""
    return [*matching(names_in("lucid_core.kernels"), start), *weights(start)]


def workloads(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Offer the built-in workloads of `bench`."""
    from lucid_cli.bench.workloads import WORKLOADS

    return [CompletionItem(one.name, help=str(one)) for one in WORKLOADS if one.name.startswith(start)]


def normalizations(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Offer the values of `--normalize`, of which one takes numbers."""
    return matching(("zscore", "minmax", "percentile:1,99"), start)


def datasets(start: str) -> list[CompletionItem]:
    """Offer the datasets of three or more axes in an HDF5 file, with their shapes.

    The file is read in a child process, as everywhere; one that cannot be read offers nothing.
    """
    from lucid_cli.hdf5_file import Hdf5Arrays
    from lucid_cli.isolation import Isolated

    match = _DATASET.fullmatch(start)
    path = _place(match["path"]) if match else Path()
    if match is None or not path.is_file():
        return []
    with closing(Isolated(str(path), Hdf5Arrays, path)) as child:
        sizes = child.call("sizes")
    slash = "" if match["inner"] and not match["inner"].startswith("/") else "/"
    begin = match["path"] + match["colon"] + slash
    return [
        CompletionItem(begin + name, type="dataset", help="x".join(map(str, shape)))
        for name, (shape, _, _) in sizes.items()
        if len(shape) >= 3 and (begin + name).startswith(start)
    ]


def settings(ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Offer `section.key=` of every option of the configuration, and behind the sign what the option offers."""
    from lucid_cli.config import options_of

    options = {f"{option.section}.{option.key}": option for option in options_of(ctx.command) if option.section}
    key, equals, value = start.partition("=")
    if not equals:
        return [CompletionItem(f"{name}=", help=one.help) for name, one in options.items() if name.startswith(start)]
    option = options.get(key) or next((one for one in options.values() if one.key == key.replace("-", "_")), None)
    return [CompletionItem(f"{key}={item.value}", item.type, item.help) for item in _values(ctx, option, value)]


def _values(ctx: click.Context, option: "ConfiguredOption | None", start: str) -> list[CompletionItem]:
    if option is not None and option.is_flag:
        return matching(("true", "false"), start)
    return option.shell_complete(ctx, start) if option else []


def _files(start: str, suffixes: Iterable[str]) -> list[CompletionItem]:
    """Offer what stands in the folder that is named so far: folders, and files and Zarrs with one of the suffixes."""
    before, slash, name = start.rpartition("/")
    endings = tuple(suffixes)
    try:
        entries = sorted(_place(before + slash).iterdir())
    except OSError:
        return []
    shown = [one for one in entries if one.name.startswith(name) and (name or not one.name.startswith("."))]
    folders = [one for one in shown if one.is_dir() and not _is_one(one, endings)]
    return [CompletionItem(f"{before}{slash}{one.name}/", type="dir") for one in folders] + [
        CompletionItem(f"{before}{slash}{one.name}", type="file")
        for one in shown
        if one.name.lower().endswith(endings) and one not in folders
    ]


def _is_one(folder: Path, endings: tuple[str, ...]) -> bool:
    """Say whether a folder is one volume: a Zarr, where such are asked for."""
    return folder.name.lower().endswith(".zarr") and ".zarr" in endings


def _place(typed: str) -> Path:
    """Return the path that is meant; a `~` is the user's own to the shell, and stays in what is offered."""
    try:
        return Path(typed or ".").expanduser()
    except RuntimeError:  # no such user
        return Path(typed)
