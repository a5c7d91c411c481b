"""The folder of a Zarr on its way to its place: completed, flushed to the disk, packed into a zip."""

import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lucid_cli.formats import ZARR_FILES

TIME = (1980, 1, 1, 0, 0, 0)
"""Of every file in a zip, so that the same run writes the same bytes."""
LEFT = "*.partial"
"""What a store that was killed leaves of a chunk."""


def publish(documents: Mapping[str, Any], folder: Path) -> None:
    """Write the metadata of a hierarchy, by their keys, into its folder."""
    for key, content in documents.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.to_bytes())


def settle(folder: Path) -> None:
    """Remove what killed writers left, and flush every file and folder to the disk."""
    for path in folder.rglob(LEFT):
        path.unlink()
    for parent, _, names in os.walk(folder, topdown=False):
        _flush(Path(parent, name) for name in names)
        _flush([Path(parent)])


def _flush(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def pack(folder: Path, path: Path) -> None:
    """Pack the files of a hierarchy into a zip, stored as they are: the metadata first, the root's before all others.

    (OME-NGFF RFC-9, zipped OME-Zarr.)
    """
    names = [one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()]
    names.sort(key=lambda name: (name.rpartition("/")[2] not in ZARR_FILES, name.count("/"), name))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for name in names:
            entry = zipfile.ZipInfo(name, TIME)
            with (folder / name).open("rb") as file:
                packed.writestr(entry, file.read())
    shutil.rmtree(folder)
    _flush([path])
