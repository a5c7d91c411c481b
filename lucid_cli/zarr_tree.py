"""The folder of a Zarr on its way to its place: completed, flushed to the disk, packed into a zip."""

import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lucid_cli.formats import ZARR_FILES
from lucid_core.errors import OutputError

TIME = (1980, 1, 1, 0, 0, 0)
"""Of every file in a zip, so that the same run writes the same bytes."""
MODE = 0o100644
"""A plain file, which all may read."""
LEFT = "*.partial"
"""What a store that was killed leaves of a chunk."""


def make_tree(folder: Path) -> None:
    """Make the folder that a hierarchy is filled in, unless an earlier run left it; never one of somebody else."""
    if folder.is_symlink():
        folder.unlink()
    folder.mkdir(exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise OutputError(f"{folder}: is a folder of another user in the place of a temporary one; remove it")


def publish(documents: Mapping[str, Any], folder: Path) -> None:
    """Write the metadata of a hierarchy, by their keys, into its folder."""
    for key, content in documents.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.to_bytes())


def settle(folder: Path) -> None:
    """Remove what killed writers left, and flush every file and folder to the disk."""
    for path in folder.rglob(LEFT):
        if path.is_file():
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


def pack(folder: Path, path: Path, comment: bytes) -> None:
    """Pack the files of a hierarchy into a zip, stored as they are: the metadata first, the root's before all others.

    A comment says so where it is an image. (OME-NGFF RFC-9, zipped OME-Zarr.)
    """
    names = [one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()]
    names.sort(key=lambda name: (name.rpartition("/")[2] not in ZARR_FILES, name.count("/"), name))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        packed.comment = comment
        for name in names:
            entry = zipfile.ZipInfo(name, TIME)
            entry.external_attr = MODE << 16
            with (folder / name).open("rb") as file:
                packed.writestr(entry, file.read())
    shutil.rmtree(folder)
    _flush([path])


def relist(placed: Path) -> None:
    """List a node that was put in its place in the consolidated metadata of the groups above it that have such.

    Readers of these would not find it, or take it for what stood there before.
    """
    for folder in placed.absolute().parents:
        if not any((folder / name).is_file() for name in ZARR_FILES):
            return
        if _is_list(folder):
            from lucid_cli.zarr_library import zarr
            from lucid_cli.zarr_store import said

            try:
                zarr.consolidate_metadata(zarr.storage.LocalStore(folder))
            except Exception as error:
                raise OutputError(
                    f"{placed}: stands there whole, but {folder} cannot list it: {said(error)}"
                ) from error


def _is_list(group: Path) -> bool:
    """Say whether a group lists the metadata of what it holds."""
    if (group / ".zmetadata").is_file():
        return True
    try:
        return bool(json.loads((group / "zarr.json").read_bytes()).get("consolidated_metadata"))
    except (OSError, ValueError, AttributeError):
        return False
