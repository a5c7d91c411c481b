"""Where an output goes, and how it gets there whole: temporary file beside it, fsync, rename, fsync of the folder.

Nothing stands under the output's name before it is complete. Without `--overwrite` nothing is replaced; an input,
the weights or the configuration are never replaced, through links neither; nor is what is not a regular file.
"""

import errno
import functools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from lucid_cli.exchange import place_folder
from lucid_cli.formats import ZARR_FILES, Spec, format_of
from lucid_cli.temporary import FULL_DISK, Temporary, tree_of
from lucid_cli.volumes import Sink, Target
from lucid_cli.zarr_tree import relist
from lucid_core import machine
from lucid_core.errors import LimitError, LucidError, OutputError
from lucid_core.units import format_bytes

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def output_errors(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make what the file system says of an output's path, such as a name too long, an `OutputError`."""

    @functools.wraps(function)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (OSError, RuntimeError) as error:
            if isinstance(error, LucidError):
                raise
            raise OutputError(f"the output cannot be written: {error}") from error

    return wrapped


Protected = Mapping[tuple[int, int], Path]
"""Files that a run reads, by device and inode: none of them may be its output."""


def protect(paths: Iterable[Path]) -> Protected:
    """Return those of some files that are there."""
    found: dict[tuple[int, int], Path] = {}
    for path in paths:
        with suppress(OSError):
            status = path.stat()
            found.setdefault((status.st_dev, status.st_ino), path)
    return found


@output_errors
def check_target(
    path: Path,
    protected: Protected,
    overwrite: bool,
    *,
    make_folder: bool = False,
    skips: bool = True,
    is_folder: bool = False,
) -> Path:
    """Return the file that an output path means, links followed, or raise `OutputError` where it must not be written.

    `protected` are the files the run reads. With `make_folder` its folder need not be there; `skips`
    says whether the command has `--skip-existing`; `is_folder` that the output is a folder: a Zarr.
    """
    if path.is_symlink() and not path.exists():
        raise OutputError(f"{path}: is a link to nothing; remove it or name another output")
    target = path.resolve() if path.is_symlink() else path
    if is_folder:
        _check_apart(path, target, protected)
    if not target.parent.is_dir() and not make_folder:
        raise OutputError(f"{path}: its folder {target.parent} does not exist; make it first")
    try:
        found = target.stat()
    except FileNotFoundError:
        return target
    if is_folder:
        _check_folder(path)
    elif not stat.S_ISREG(found.st_mode):
        raise OutputError(f"{path}: is not a regular file")
    other = protected.get((found.st_dev, found.st_ino))
    if other is not None:
        raise OutputError(f"{path}: is the same file as the input {other}; name another output")
    if not overwrite:
        skip = " or --skip-existing to leave it" if skips else ""
        raise OutputError(f"{path}: exists; use --overwrite to replace it{skip}")
    return target


def check_far(spec: Spec, overwrite: bool, read: Iterable[Spec] = ()) -> None:
    """Raise `OutputError` where what stands behind an address is read, or is not to be replaced."""
    if spec.url is not None:
        from lucid_cli.zarr_far import check_apart

        check_apart(spec, read)
    if spec.url is not None and not overwrite and format_of(spec).exists(spec):
        raise OutputError(f"{spec}: exists; use --overwrite to replace it")


def _check_folder(path: Path) -> None:
    """Raise `OutputError` where what stands at the place of a Zarr is none."""
    if not path.is_dir():
        raise OutputError(f"{path}: is not a folder, as a Zarr is; remove it or name another output")
    names = {one.name for one in path.iterdir()}
    if names and not names & set(ZARR_FILES):
        raise OutputError(f"{path}: is a folder, but no Zarr; nothing is replaced there, name another output")


def _check_apart(path: Path, target: Path, protected: Protected) -> None:
    """Raise `OutputError` where a folder would lie in an input, or hold one."""
    real = target.resolve()
    for other in protected.values():
        found = other.resolve()
        if real != found and (real.is_relative_to(found) or found.is_relative_to(real)):
            raise OutputError(f"{path}: lies in the input {other}, or holds it; name another output")


@output_errors
def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in, where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)


def check_memory(needed: int, what: str) -> None:
    """Raise `LimitError` where something that is about to be made needs more memory than there is."""
    free = machine.available_bytes()
    if free is not None and needed > free:
        raise LimitError(f"{what} would take {format_bytes(needed)} of memory, but {format_bytes(free)} are available")


class Replacement:
    """Temporary files that will stand in the place of final ones."""

    def __init__(self, finals: list[Path], overwrite: bool) -> None:
        self.held: list[Temporary] = []
        self.kept = False
        """Whether the files stay, for a later run, where they are not put in place."""
        self._finals = finals
        self._overwrite = overwrite

    @property
    def paths(self) -> list[Path]:
        """The temporary files, one for each final one."""
        return [temporary.path for temporary in self.held]

    def empty(self) -> None:
        """Throw away what an earlier run left in them."""
        for temporary in self.held:
            temporary.empty()

    def fill(self, place: int, content: bytes) -> None:
        """Write a small file whole, and flush it."""
        with self.paths[place].open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Put the files, complete and flushed, in their places, and flush the folder."""
        placed: list[Path] = []
        for path, final in zip(self.paths, self._finals, strict=True):
            try:
                tree = tree_of(path)
                if tree.is_dir():
                    place_folder(tree, final, self._overwrite)
                    relist(final)
                else:
                    _place(path, final, self._overwrite)
            except BaseException:
                if not self._overwrite:
                    for other in placed:
                        other.unlink()
                raise
            placed.append(final)
        for folder in {final.parent for final in self._finals}:
            _sync_folder(folder)


@contextmanager
def temporaries(finals: list[Path], overwrite: bool, *, keep: bool = False) -> Iterator[Replacement]:
    """Hold a temporary file beside each final one; none of them stays, unless `kept` is set.

    They are empty, unless `keep` says to leave what an earlier run kept in them.
    """
    replacement = Replacement(finals, overwrite)
    try:
        for final in finals:
            replacement.held.append(Temporary(final, keep=keep))
        yield replacement
    finally:
        for temporary in replacement.held:
            if replacement.kept:
                temporary.let_go()
            else:
                temporary.remove()


@contextmanager
def filled(spec: Spec, paths: list[Path], target: Target) -> Iterator[Sink]:
    """Give a sink for an output's voxels; when the block ends well, they are complete and flushed.

    A disk that cannot hold the output is a `LimitError`: most show when the block begins.
    """
    try:
        sink: Sink = format_of(spec).open_sink(paths, target, spec)
        try:
            yield sink
            sink.finish()
        finally:
            sink.close()
    except OSError as error:
        if error.errno not in FULL_DISK or isinstance(error, LucidError):
            raise
        raise LimitError(f"{spec}: the disk has no room for the output: {error.strerror}") from error


@contextmanager
def written(spec: Spec, finals: list[Path], target: Target, overwrite: bool) -> Iterator[Sink]:
    """Give a sink for an output's voxels; when the block ends well, the output stands in its place, flushed."""
    with temporaries(finals, overwrite) as replacement:
        with filled(spec, replacement.paths, target) as sink:
            yield sink
        replacement.commit()


def _place(path: Path, final: Path, overwrite: bool) -> None:
    """Rename; without `overwrite` by a link, which fails where something stands, also if it came just now."""
    if overwrite:
        path.replace(final)
        return
    try:
        os.link(path, final)
    except FileExistsError as error:
        raise OutputError(f"{final}: appeared while the output was computed; nothing was replaced") from error
    except OSError:
        if final.exists():
            raise OutputError(f"{final}: appeared while the output was computed; nothing was replaced") from None
        path.rename(final)


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries; some network file systems cannot, and then the rename alone must do."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes, overwrite: bool) -> None:
    """Write a small file as every output is written."""
    with temporaries([path], overwrite) as replacement:
        replacement.fill(0, content)
        replacement.commit()
