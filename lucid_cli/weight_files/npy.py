"""`.npy`: one array without a name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lucid_cli.formats.npy import MOST_HEADER_BYTES
from lucid_cli.talk import silent
from lucid_cli.weight_files import Array, ArrayFile, check_size


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Open the file: the array is mapped until it is read."""
    with silent():
        mapped = np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=MOST_HEADER_BYTES)

    def read(_: str) -> Array:
        check_size(path, "", mapped.nbytes)
        return np.array(mapped)

    yield ArrayFile(path, [""], lambda _: mapped.shape, read)
