"""`.safetensors`, by the package of that name (extra `weights`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lucid_cli.weight_files import LAYER, Array, ArrayFile
from lucid_core.errors import InputError
from lucid_core.optional import require

DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8")
"""Types, as the format names them, that NumPy has and that are numbers."""


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Open the file; its header must agree with its size."""
    library = require("safetensors", "weights")
    with library.safe_open(path, framework="numpy") as file:

        def read(name: str) -> Array:
            dtype = file.get_slice(name).get_dtype()
            if dtype not in DTYPES:
                raise InputError(f"weights {path}: {name} has dtype {dtype}; legal: {', '.join(DTYPES)}")
            array: Array = file.get_tensor(name)
            return array

        said = (file.metadata() or {}).get(LAYER)
        yield ArrayFile(path, file.keys(), lambda name: tuple(file.get_slice(name).get_shape()), read, layer=said)
