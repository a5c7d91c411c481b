"""Which files a command means: INPUTs are files, folders, quoted patterns, and the lines of a list."""

import codecs
import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from lucid_cli.formats import PIPE, SERIES, SUFFIXES, ZARR, Spec, is_series, parse_spec
from lucid_core.errors import ArgumentError, InputError
from lucid_core.registry import did_you_mean

LONG_DASHES = ("\u2013", "\u2014")
FIRST_OF_PAIR = {".img": ".hdr"}
"""Files that another one beside them stands for."""


@dataclass(frozen=True)
class Listed:
    """An input, and the folder it lies in below the folder or the pattern that was given for it."""

    spec: Spec
    below: Path = Path()
    found: bool = False
    """Whether it was found in a folder or by a pattern, not named itself."""


def listed(inputs: Iterable[str], from_file: str | None, out_dir: Path | None) -> list[Listed]:
    """Return the inputs that words on the line and the lines of a list mean, folders and patterns in sorted order.

    Nothing below `out_dir` is found in a folder or by a pattern, so that a second run does not take the outputs of the
    first. Raises `ArgumentError` for a list that cannot be read, `InputError` for a folder or pattern without a scan.
    """
    lines = [] if from_file is None else _lines(from_file)
    return [one for text in (*inputs, *lines) for one in _meant(text, out_dir)]


def _lines(path: str) -> list[str]:
    """Return the lines of a list but those of #, or what zero bytes end where it has any, as `find -print0` writes."""
    try:
        content = sys.stdin.buffer.read() if path == PIPE else Path(path).read_bytes()
    except OSError as error:
        raise ArgumentError(f"cannot read the list {path}: {error.strerror}") from error
    text = os.fsdecode(content.removeprefix(codecs.BOM_UTF8))
    lines = text.split("\0") if "\0" in text else [line.strip(" \t\r") for line in text.split("\n")]
    found = [line for line in lines if line and ("\0" in text or not line.startswith("#"))]
    if not found:
        raise ArgumentError(f"the list {path} names no input; write one a line")
    return found


def _meant(text: str, out_dir: Path | None) -> Iterator[Listed]:
    spec = parse_spec(text)
    name = str(spec.path)
    if text[:1] in LONG_DASHES:
        raise ArgumentError(f"{text!r} begins with a long dash, as word processors make it; options begin with --")
    if not spec.is_pipe and not spec.suffix and os.path.isdir(name):  # noqa: PTH112 - any name is no folder, not an error
        yield from _found(text, spec.path, sorted(_below(spec.path)), out_dir)
    elif glob.has_magic(name) and not os.path.lexists(name):
        paths = sorted(Path(path) for path in glob.glob(name, recursive=True))  # noqa: PTH207 - `**` as shells have it
        for one in _found(text, _fixed(spec.path), paths, out_dir):
            yield replace(one, spec=replace(one.spec, inner=spec.inner))
    elif spec.suffix or os.path.lexists(name):
        yield Listed(spec)
    else:
        raise InputError(f"{text}: no such file or folder.{_near(spec.path)}")


def _near(path: Path) -> str:
    """Suggest a name that is there for one that is not."""
    try:
        return did_you_mean(path.name, [one.name for one in path.parent.iterdir()])
    except OSError:
        return ""


def _found(text: str, root: Path, paths: list[Path], out_dir: Path | None) -> list[Listed]:
    """Return the scans among paths that were found for a folder or a pattern."""
    apart = None if out_dir is None or root.resolve().is_relative_to(out_dir.resolve()) else out_dir.resolve()
    series = cache(is_series)
    found = [
        Listed(parse_spec(str(path)), path.parent.relative_to(root), found=True)
        for path in paths
        if _is_scan(path, root, series) and not (apart and path.resolve().is_relative_to(apart))
    ]
    if not found:
        what = "is not a regular file, and" if Path(text) == root else "for this pattern"
        raise InputError(f"{text}: {what} no scan is found there; legal are names in {', '.join(SUFFIXES)}")
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Yield what lies below a folder, but nothing below a Zarr, of which there may be very much."""
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in (*folders, *names))
        folders[:] = [name for name in folders if not name.lower().endswith(ZARR)]


def _is_scan(path: Path, root: Path, series: Callable[[Path], bool]) -> bool:
    """Say whether a path is a scan: not hidden, of a known suffix, no second one of a pair, no slice of a series."""
    spec = parse_spec(str(path))
    if not spec.suffix or any(part.startswith(".") for part in path.relative_to(root).parts):
        return False
    if spec.suffix == SERIES:
        return spec.is_series or not series(path.parent)
    if any(part.lower().endswith(ZARR) for part in path.relative_to(root).parts[:-1]):
        return False  # a part of a Zarr
    if spec.is_folder:
        return path.is_dir() and spec.inner is None and path.name.lower().endswith(ZARR)
    first = FIRST_OF_PAIR.get(spec.suffix)
    return path.is_file() and not (first and path.with_suffix(first).exists())


def _fixed(pattern: Path) -> Path:
    """Return the folder that a pattern looks in: what stands before its first part with a wildcard."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)
