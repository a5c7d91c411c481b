"""Weights from files: `.npy`, `.npz`, `.h5` and `.safetensors`, as FILE or FILE:KEY.

A file of several arrays holds `weight` and perhaps `bias`, or `KEY.weight` and `KEY.bias`; KEY may also name the
array itself. No bias in the file is no bias. Nothing in such a file is ever executed: pickles are refused.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.formats.npy import MOST_HEADER_BYTES
from lucid_cli.output import check_input
from lucid_cli.talk import silent
from lucid_core.errors import ArgumentError, InputError, LucidError, ShapeError
from lucid_core.optional import require
from lucid_core.registry import did_you_mean

Array = npt.NDArray[Any]
MOST_BYTES = 1 << 30
"""Weights larger than this are refused before they are read."""
PICKLES = (".pt", ".pth")
"""Suffixes of pickles, which are code: none is loaded."""
SURE_BYTES, MOST_RATIO = 1 << 24, 100
"""Weights that compress so well are refused where they are larger."""


@dataclass(frozen=True)
class Weights:
    """Filters (O, C/g, K_D, K_H, K_W), finite, and their bias (O,) or None, in the file's dtype."""

    weight: Array
    bias: Array | None

    def in_channels(self, groups: int) -> int:
        """Return the input channels of a layer with these weights in so many groups."""
        return int(self.weight.shape[1]) * groups


class ArrayFile:
    """A file of named arrays: their names, and one array by its name, read when asked for."""

    def __init__(self, path: Path, names: list[str], read: Callable[[str], Array]) -> None:
        self.path = path
        self.names = names
        self.read = read


def load(text: str, axes: str) -> Weights:
    """Load FILE or FILE:KEY; `axes` is the order of the kernel's axes in the file, zyx or xyz."""
    path, key = split(text)
    check_input(path)
    with _opened(path) as arrays:
        weight_name, bias_name = _names(arrays, key)
        weight = arrays.read(weight_name)
        bias = None if bias_name is None else arrays.read(bias_name)
    return _checked(path, weight, bias, axes)


def split(text: str) -> tuple[Path, str | None]:
    """Split FILE[:KEY] behind the suffix of a known format."""
    match = re.fullmatch(rf"(.*(?:{'|'.join(map(re.escape, _OPENERS))})):{{1,2}}(.+)", text, re.IGNORECASE | re.DOTALL)
    return (Path(match[1]), match[2]) if match else (Path(text), None)


def is_file(path: Path) -> bool:
    """Say whether a path is that of a file of weights, by its suffix."""
    return path.suffix.lower() in (*_OPENERS, *PICKLES)


@contextmanager
def _opened(path: Path) -> Iterator[ArrayFile]:
    """Open a file of weights; whatever goes wrong in it is an `InputError` with its name."""
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        hint = "; a .pt is a pickle: save it as .safetensors" if path.suffix.lower() in PICKLES else ""
        raise ArgumentError(f"weights {path}: the suffix says no format known here; legal: {', '.join(_OPENERS)}{hint}")
    try:
        with opener(path) as arrays:
            yield arrays
    except LucidError:
        raise
    except Exception as error:
        raise InputError(f"weights {path}: not a readable {path.suffix} file: {error}") from error


def _names(arrays: ArrayFile, key: str | None) -> tuple[str, str | None]:
    """Return the names of the weight and, where there is one, of the bias."""
    if arrays.names == [""]:
        if key is not None:
            raise ArgumentError(f"weights {arrays.path}: holds one array without a name; leave out the key {key!r}")
        return "", None
    wanted = "weight" if key is None else f"{key}.weight"
    if wanted in arrays.names:
        bias = wanted.removesuffix("weight") + "bias"
        return wanted, bias if bias in arrays.names else None
    if key is not None and key in arrays.names:
        return key, None
    if key is None and len(arrays.names) == 1:
        return arrays.names[0], None
    raise InputError(
        f"weights {arrays.path}: holds no {wanted!r}; it holds {', '.join(arrays.names) or 'nothing'}; "
        f"name one as {arrays.path}:KEY.{did_you_mean(wanted, arrays.names)}"
    )


def _checked(path: Path, weight: Array, bias: Array | None, axes: str) -> Weights:
    if weight.ndim == 3:
        weight = weight[np.newaxis, np.newaxis]
    if weight.ndim != 5 or 0 in weight.shape:
        raise ShapeError(
            f"weights {path}: the shape is {weight.shape}; legal: (out_channels, in_channels / groups, K_D, K_H, K_W), "
            "or (K_D, K_H, K_W) for one filter"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"weights {path}: the bias has shape {bias.shape}, the weight {weight.shape} needs ({weight.shape[0]},)"
        )
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None and array.dtype.kind not in "fiu":
            raise InputError(f"weights {path}: the {name} has dtype {array.dtype}; legal: real numbers")
        if array is not None and not np.isfinite(array).all():
            raise InputError(f"weights {path}: the {name} holds NaN or infinite values")
    if axes == "xyz":
        weight = weight.transpose(0, 1, 4, 3, 2)
    return Weights(np.ascontiguousarray(weight), bias)


def _check_size(path: Path, name: str, count: int, stored: int | None = None) -> None:
    """Refuse what is too large, and what so little is stored of that it must be a bomb."""
    what = f"weights {path}: {name or 'the array'} claims {count} bytes"
    if count > MOST_BYTES:
        raise InputError(f"{what}; legal: at most {MOST_BYTES}")
    if stored is not None and count > SURE_BYTES and count > MOST_RATIO * stored:
        raise InputError(f"{what}, but only {stored} are stored of it; legal: at most {MOST_RATIO} times as many")


def _check_members(path: Path, names: Iterable[str]) -> None:
    """Refuse an archive that means to be unpacked elsewhere."""
    for name in names:
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
            raise InputError(f"weights {path}: the member {name!r} names a place outside of the archive")


@contextmanager
def _npy(path: Path) -> Iterator[ArrayFile]:
    def read(_: str) -> Array:
        with silent():
            mapped = np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=MOST_HEADER_BYTES)
        _check_size(path, "", mapped.nbytes)
        return np.array(mapped)

    yield ArrayFile(path, [""], read)


@contextmanager
def _npz(path: Path) -> Iterator[ArrayFile]:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        _check_members(path, archive.namelist())
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}

        def read(name: str) -> Array:
            found = archive.getinfo(members[name])
            _check_size(path, name, found.file_size, found.compress_size)
            with archive.open(members[name]) as member, silent():
                array: Array = np.lib.format.read_array(member, allow_pickle=False, max_header_size=MOST_HEADER_BYTES)
                return array

        yield ArrayFile(path, sorted(members), read)


@contextmanager
def _hdf5(path: Path) -> Iterator[ArrayFile]:
    from lucid_cli.hdf5_file import Hdf5Arrays
    from lucid_cli.isolation import Isolated

    with closing(Isolated(str(path), Hdf5Arrays, path)) as child:
        sizes: dict[str, tuple[int, int]] = child.call("sizes")
        dotted = _dotted(sizes)

        def read(name: str) -> Array:
            _check_size(path, name, *sizes[dotted[name]])
            array: Array = child.call("read", dotted[name])
            return array

        yield ArrayFile(path, sorted(dotted), read)


def _dotted(found: Iterable[str]) -> dict[str, str]:
    """Name the datasets of HDF5 groups as the arrays of other files: `/conv/weight` is `conv.weight`, and itself."""
    names = {name: name for name in found}
    for name in tuple(names):
        names[f"/{name}"] = name
        group, _, last = name.rpartition("/")
        if group and last in ("weight", "bias"):
            for key in (group, f"/{group}", group.replace("/", ".")):
                names[f"{key}.{last}"] = name
    return names


@contextmanager
def _safetensors(path: Path) -> Iterator[ArrayFile]:
    library = require("safetensors", "weights")
    with library.safe_open(path, framework="numpy") as file:
        yield ArrayFile(path, sorted(file.keys()), file.get_tensor)


_OPENERS = {".npy": _npy, ".npz": _npz, ".h5": _hdf5, ".hdf5": _hdf5, ".safetensors": _safetensors}
