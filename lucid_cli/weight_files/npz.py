"""`.npz`: a zip archive of `.npy` members."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from lucid_cli.formats.npy import MOST_HEADER_BYTES
from lucid_cli.talk import silent
from lucid_cli.weight_files import LAYER, MOST_LAYER_BYTES, Array, ArrayFile, Shape, check_members, check_size


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Open the archive; other members than arrays, and what says of which layer they are, are ignored."""
    with zipfile.ZipFile(path) as archive:
        check_members(path, archive.namelist())
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}

        def read(name: str) -> Array:
            found = archive.getinfo(members[name])
            check_size(path, name, found.file_size, found.compress_size)
            with archive.open(members[name]) as member, silent():
                array: Array = np.lib.format.read_array(member, allow_pickle=False, max_header_size=MOST_HEADER_BYTES)
                return array

        def shape(name: str) -> Shape:
            with archive.open(members[name]) as member, silent():
                return _shape(member)

        yield ArrayFile(path, members, shape, read, layer=_layer(archive))


def _layer(archive: zipfile.ZipFile) -> str | None:
    """Return what the archive says of its layer, None for nothing."""
    if f"{LAYER}.json" not in archive.namelist():
        return None
    with archive.open(f"{LAYER}.json") as member:
        return member.read(MOST_LAYER_BYTES + 1).decode()


def _shape(member: IO[bytes]) -> Shape:
    """Read the shape of a `.npy` from its header."""
    version = np.lib.format.read_magic(member)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    found: Shape = reader(member, max_header_size=MOST_HEADER_BYTES)[0]
    return found
