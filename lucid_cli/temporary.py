"""Temporary files: hidden, beside their output, named after it, and held by one run at a time.

A run locks its temporary file, so that a second run on the same output knows, and so that what a killed run left can be
told from what is in use: nobody holds it. It is never reached through a link that someone planted at its name.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from pathlib import Path

from lucid_core.errors import LimitError, OutputError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""What file systems say that know no locks."""
PARTIAL, VOXELS, JOURNAL, TREE = "partial", "voxels", "journal", "tree"
"""Kinds of temporary files: the output itself, its plain voxels, how far a run has come; and the folder of a Zarr."""


def hidden(final: Path, kind: str) -> Path:
    """Return the path of a temporary file of an output."""
    digest = hashlib.sha256(os.fsencode(final.name)).hexdigest()[:16]
    return final.parent / f".lucid-conv3d-{digest}.{kind}"


def tree_of(partial: Path) -> Path:
    """Return the folder that belongs to the temporary file of an output: what becomes a Zarr."""
    return partial.with_suffix(f".{TREE}")


class Temporary:
    """The temporary file of an output, held until `remove` or `let_go`."""

    def __init__(self, final: Path, *, keep: bool) -> None:
        """Hold the file; what an earlier run left in it is thrown away unless `keep`.

        Raises `OutputError` where another run holds it or nothing can be written there, `LimitError` on a full disk.
        """
        self.path = hidden(final, PARTIAL)
        try:
            self._descriptor = _held(self.path, final)
            if not keep:
                for kind in (JOURNAL, VOXELS):  # the journal first: it must never outlive the voxels
                    hidden(final, kind).unlink(missing_ok=True)
                self.empty()
        except OutputError:
            raise
        except OSError as error:
            if error.errno in FULL_DISK:
                raise LimitError(f"{final.parent}: the disk is full") from error
            raise OutputError(f"{final.parent}: cannot write there: {error.strerror}") from error

    def empty(self) -> None:
        """Throw away what it holds, and the folder beside it."""
        os.ftruncate(self._descriptor, 0)
        shutil.rmtree(tree_of(self.path), ignore_errors=True)

    def remove(self) -> None:
        """Remove the file, unless it stands in its place by now, and let it go."""
        shutil.rmtree(tree_of(self.path), ignore_errors=True)
        with contextlib.suppress(OSError):
            if os.path.samestat(self.path.lstat(), os.fstat(self._descriptor)):
                self.path.unlink()
        self.let_go()

    def let_go(self) -> None:
        """Let the file go, as it is."""
        os.close(self._descriptor)


def _held(path: Path, final: Path) -> int:
    """Return a descriptor of the file at `path`, locked, a plain file of ours and still at its name."""
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_ours(descriptor, path):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise OutputError(
                f"{final}: another run is writing it; wait for that one, or name another output"
            ) from error
        except OSError as error:
            if error.errno in NO_LOCKS:
                return descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(path: Path) -> int:
    """Open or create the file; what stands at its name and is none is removed, never followed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        path.unlink()
        return os.open(path, flags | os.O_EXCL, 0o666)
    if _is_plain(os.fstat(descriptor)):
        return descriptor
    os.close(descriptor)
    path.unlink()
    return os.open(path, flags | os.O_EXCL, 0o666)


def _is_plain(found: os.stat_result) -> bool:
    """Say whether a file is a regular one of this user under a single name."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and found.st_uid == os.geteuid()


def _is_ours(descriptor: int, path: Path) -> bool:
    """Say whether a locked file still stands at its name: its run may have just put it in place."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor)) and _is_plain(there)
