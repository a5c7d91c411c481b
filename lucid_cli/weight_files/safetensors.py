"""`.safetensors`, by the package of that name (extra `weights`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lucid_cli.weight_files import ArrayFile
from lucid_core.optional import require


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Open the file; its header must agree with its size."""
    library = require("safetensors", "weights")
    with library.safe_open(path, framework="numpy") as file:
        yield ArrayFile(path, file.keys(), lambda name: tuple(file.get_slice(name).get_shape()), file.get_tensor)
