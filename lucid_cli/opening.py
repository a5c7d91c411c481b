"""Inputs opened: first it is made sure that a name means a file that may be read."""

import errno
import stat
from contextlib import ExitStack
from pathlib import Path

from lucid_cli.formats import Spec, format_of
from lucid_cli.volumes import Source, VolumeInfo
from lucid_core.errors import InputError


def opened(spec: Spec, stack: ExitStack) -> Source:
    """Read the header of an input, which `stack` closes; raises `InputError`."""
    check_spec(spec)
    source: Source = format_of(spec).open_source(spec)
    stack.callback(source.close)
    return source


def open_info(spec: Spec) -> VolumeInfo:
    """Return what the header of a file says."""
    with ExitStack() as stack:
        return opened(spec, stack).info


def check_spec(spec: Spec, *, from_yaml: bool = False) -> None:
    """Raise `InputError` where an input is neither stdin, nor a series, a Zarr, or a regular file."""
    if spec.is_folder and spec.path.is_dir():
        return
    if not spec.is_pipe and not spec.is_series and spec.url is None:
        check_input(spec.path, from_yaml=from_yaml)


def check_input(path: Path, *, from_yaml: bool = False) -> None:
    """Raise `InputError` where a path is not a regular file: a folder, a pipe or a device is never opened.

    A name that may stand `from_yaml` is not taken from the folder of the YAML, which the error then says.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        what = "no such file" if error.errno in (errno.ENOENT, errno.ENOTDIR) else error.strerror
        if from_yaml and what == "no such file" and not path.is_absolute():
            what += f" in {Path.cwd()}, where the command runs; names in YAML are taken from there too"
        raise InputError(f"{path}: {'is a link to nothing' if _is_link(path) else what}") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is not a regular file but a folder; name its files, such as '{path}/*'")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is not a regular file")


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False
