"""Weights from files: `.npy`, `.npz`, `.h5` and `.safetensors`, as FILE or FILE:KEY.

A file of several arrays holds `weight` and perhaps `bias`, or `KEY.weight` and `KEY.bias`; KEY may also name the
array itself. No bias in the file is no bias. Nothing in such a file is ever executed: pickles are refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.output import check_input
from lucid_cli.weight_files import SUFFIXES, ArrayFile, opened
from lucid_core.errors import ArgumentError, InputError, ShapeError
from lucid_core.registry import did_you_mean

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Weights:
    """Filters (O, C/g, K_D, K_H, K_W), finite, and their bias (O,) or None, in the file's dtype."""

    weight: Array
    bias: Array | None

    def in_channels(self, groups: int) -> int:
        """Return the input channels of a layer with these weights in so many groups."""
        return int(self.weight.shape[1]) * groups


def load(text: str, axes: str) -> Weights:
    """Load FILE or FILE:KEY; `axes` is the order of the kernel's axes in the file, zyx or xyz."""
    path, key = split(text)
    check_input(path)
    with opened(path) as arrays:
        weight_name, bias_name = _names(arrays, key)
        weight = arrays.read(weight_name)
        bias = None if bias_name is None else arrays.read(bias_name)
    return _checked(path, weight, bias, axes)


def split(text: str) -> tuple[Path, str | None]:
    """Split FILE[:KEY] behind the suffix of a known format."""
    match = re.fullmatch(rf"(.*(?:{'|'.join(map(re.escape, SUFFIXES))})):{{1,2}}(.+)", text, re.IGNORECASE | re.DOTALL)
    return (Path(match[1]), match[2]) if match else (Path(text), None)


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
