"""Folders put in their place at once: where one stands there already, the two change places."""

import ctypes
import os
import shutil
from pathlib import Path

from lucid_core.errors import OutputError

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of the system call renameat2 (Linux 3.15)."""


def place_folder(folder: Path, final: Path, overwrite: bool) -> None:
    """Rename a folder; with `overwrite` in exchange for what stands there, which is removed."""
    if not overwrite or not os.path.lexists(final):
        try:
            folder.rename(final)
        except OSError as error:
            if os.path.lexists(final):
                raise OutputError(f"{final}: appeared while the output was computed; nothing was replaced") from error
            raise
        return
    if not _exchanged(folder, final):
        old = folder.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)  # what a run left that was killed here
        final.rename(old)
        try:
            folder.rename(final)
        except BaseException:
            old.rename(final)
            raise
        folder = old
    shutil.rmtree(folder)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change places, in one step; False where the system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0)
