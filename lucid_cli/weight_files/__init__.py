"""Files of weights, one module a format: each has `opened(path)`, a context that gives an `ArrayFile`.

Nothing in such a file is ever executed. What is read is bounded before it is read.
"""

import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lucid_core.errors import ArgumentError, InputError, LucidError

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
LAYER = "lucid-conv3d"
"""Where a file may say, as JSON, of what layer or layers its weights are."""
MOST_LAYER_BYTES = 1 << 16
"""What a file says of its layers is refused where it is longer: 64 of them take some 12 KiB."""
MOST_BYTES = 1 << 30
"""Weights larger than this are refused before they are read."""
SURE_BYTES, MOST_RATIO = 1 << 24, 100
"""Weights that compress so well are refused where they are larger."""
SUFFIXES = {
    ".npy": "npy",
    ".npz": "npz",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".safetensors": "safetensors",
    ".pt": "pickled",
    ".pth": "pickled",
    ".onnx": "onnx",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".csv": "table",
    ".txt": "table",
}
"""Suffixes and the modules that serve them."""


class ArrayFile:
    """A file of named arrays: their names, and the shape and the values of one, read when asked for.

    A file of one array without a name has the name "". Arrays may have `aliases` beside their names. `layer` is what
    the file says of the layer that it belongs to, nothing where it does not.
    """

    def __init__(
        self,
        path: Path,
        names: Iterable[str],
        shape: Callable[[str], Shape],
        read: Callable[[str], Array],
        aliases: Iterable[str] = (),
        layer: str | None = None,
    ) -> None:
        self.path = path
        self.names = sorted(names)
        self.known = {*self.names, *aliases}
        self.shape = shape
        self.read = read
        self.layer = _layer(layer)


def _layer(text: str | None) -> Mapping[str, Any]:
    if text and len(text) > MOST_LAYER_BYTES:
        raise ValueError(f"what it says of its layer is longer than {MOST_LAYER_BYTES} bytes")
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"what it says of its layer is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise TypeError(f"what it says of its layer is no mapping: {text!r:.60}")
    return found


def suffix_of(path: Path) -> str:
    """Return the suffix that says the format, in lower case, or '' where none is known."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Open a file of weights; whatever goes wrong in it is an `InputError` with its name."""
    suffix = suffix_of(path)
    if not suffix:
        raise ArgumentError(f"weights {path}: the suffix says no format known here; legal: {', '.join(SUFFIXES)}")
    try:
        with importlib.import_module(f"{__name__}.{SUFFIXES[suffix]}").opened(path) as arrays:
            yield arrays
    except LucidError:
        raise
    except Exception as error:
        raise InputError(f"weights {path}: not a readable {suffix} file: {error}") from error


def check_size(path: Path, name: str, count: int, stored: int | None = None) -> None:
    """Refuse what is too large, and what so little is stored of that it must be a bomb."""
    what = f"weights {path}: {name or 'the array'} claims {count} bytes"
    if count > MOST_BYTES:
        raise InputError(f"{what}; legal: at most {MOST_BYTES}")
    if stored is not None and count > SURE_BYTES and count > MOST_RATIO * stored:
        raise InputError(f"{what}, but only {stored} are stored of it; legal: at most {MOST_RATIO} times as many")


def check_members(path: Path, names: Iterable[str]) -> None:
    """Refuse an archive that means to be unpacked elsewhere."""
    for name in names:
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
            raise InputError(f"weights {path}: the member {name!r} names a place outside of the archive")
