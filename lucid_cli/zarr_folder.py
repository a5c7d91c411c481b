"""The folder of a Zarr that is read: only files of its own, none behind a link, and no pipe or device.

A link in a hierarchy that comes from somebody else would put any file of this machine among the voxels.
"""

import os
import stat
from pathlib import Path
from typing import Any

from lucid_cli.zarr_library import zarr
from lucid_core.errors import InputError


class OwnFiles(zarr.storage.LocalStore):
    """A store of a folder, to be read only."""

    def __init__(self, root: Path) -> None:
        super().__init__(root.absolute(), read_only=True)
        self._real = os.path.realpath(root)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """Return what a file holds, None where it is not there."""
        self._check(key)
        return await super().get(key, prototype, byte_range)

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        """Return parts of files."""
        pairs = list(key_ranges)
        for key, _ in pairs:
            self._check(key)
        return await super().get_partial_values(prototype, pairs)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        """Return what a file holds: as zarr-python asks from 3.1.6 on."""
        self._check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    def _check(self, key: str) -> None:
        path = self.root / key
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if path.is_symlink():
                raise InputError(f"{path}: is a link to nothing") from None
            return
        if not stat.S_ISREG(mode):
            raise InputError(f"{path}: is not a regular file")
        if os.path.realpath(path) != os.path.join(self._real, key):  # noqa: PTH118 - a Path is slow to make
            raise InputError(
                f"{path}: is reached through a link, and a Zarr is read from its own files only; "
                f"'cp -rL' makes a copy without links ('datalad unlock' of a dataset)"
            )
