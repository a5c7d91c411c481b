"""Weights from files (`weight_files`), as FILE or FILE:KEY, or as a nested list of numbers.

A file of several arrays holds `weight` and perhaps `bias`, or `KEY.weight` and `KEY.bias` (also by the names of Keras);
KEY may also name the array itself; without it the only array of five axes is taken. No bias in the file is no bias.

A file that was made here may also say what its layer is, or the stack of its layers (`weight_files.LAYER`).
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.formats import ZARR
from lucid_cli.opening import check_input
from lucid_cli.weight_files import SUFFIXES, ArrayFile, opened
from lucid_core.arguments import integer, layer_arguments
from lucid_core.errors import ArgumentError, InputError, ShapeError
from lucid_core.registry import did_you_mean

Array = npt.NDArray[Any]
PAIRS = (("weight", "bias"), ("kernel", "bias"), ("kernel:0", "bias:0"), ("vars.0", "vars.1"))
"""Last names of a weight and its bias: of PyTorch, and of Keras 2 and 3."""
LAYER_KEYS = ("stride", "padding", "dilation", "groups", "padding_mode")
"""What a file may say of its layer."""
SHOWN = 60
"""Characters of a wrong list that its error repeats."""


@dataclass(frozen=True)
class Weights:
    """Filters (O, C/g, K_D, K_H, K_W), finite, and their bias (O,) or None, in the file's dtype."""

    weight: Array
    bias: Array | None
    layer: Mapping[str, Any] = field(default_factory=dict)
    """What the file says of its layer, by `LAYER_KEYS`: what holds where the settings say nothing."""

    def in_channels(self, groups: int | None) -> int:
        """Return the input channels of a layer with these weights in so many groups, None for the file's own."""
        return int(self.weight.shape[1]) * (groups or int(self.layer.get("groups", 1)))


def load(text: str, axes: str = "zyx", layout: str = "torch") -> Weights:
    """Load FILE, FILE:KEY or a nested list of numbers.

    `axes` is the order of the kernel's axes there, zyx or xyz; `layout` is torch for (O, C/g, kernel) or keras for
    (kernel, C/g, O).
    """
    if is_list(text):
        return _checked("the list", _listed(text), None, axes, layout)
    path, key = split(text)
    if path.name.lower().endswith(ZARR):
        raise ArgumentError(f"{path}: weights are not read from a Zarr; legal: {', '.join(SUFFIXES)}")
    check_input(path, from_yaml=True)
    with opened(path) as arrays:
        weight_name, bias_name = _names(arrays, key)
        weight = arrays.read(weight_name)
        bias = None if bias_name is None else arrays.read(bias_name)
        layer = {} if "layers" in arrays.layer else arrays.layer
    checked = _checked(str(path), weight, bias, axes, layout)
    return replace(checked, layer=_checked_layer(path, checked, layer))


def stack_in(text: str) -> list[Any] | None:
    """Return the layers of a file that says it holds a stack, as `--layers` has them; None for any other."""
    path, key = split(text)
    if is_list(text) or key is not None or path.name.lower().endswith(ZARR):
        return None
    check_input(path, from_yaml=True)
    with opened(path) as arrays:
        layers, others = arrays.layer.get("layers"), sorted(arrays.layer.keys() - {"layers"})
    if layers is None:
        return None
    if not isinstance(layers, list):
        raise InputError(f"weights {path}: what it says of its layers is no list; write the file anew")
    if others:
        raise InputError(
            f"weights {path}: {others[0]!r} stands beside its layers; write it in the layer that it is for"
        )
    return [_entry(path, entry) for entry in layers]


def _entry(path: Path, entry: Any) -> Any:
    """Return a layer as a list of layers has it: its weights are FILE:KEY."""
    if isinstance(entry, dict) and isinstance(entry.get("weights"), str):
        return entry | {"weights": f"{path}:{entry['weights']}"}
    return entry


def _checked_layer(path: Path, weights: Weights, layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a file says of its layer, or raise `InputError`."""
    try:
        if unknown := sorted(layer.keys() - set(LAYER_KEYS)):
            raise ArgumentError(f"unknown {unknown[0]!r}; legal: {', '.join(LAYER_KEYS)}")
        said = {"padding_mode_name" if key == "padding_mode" else key: value for key, value in layer.items()}
        in_channels = weights.weight.shape[1] * integer("groups", said.get("groups", 1), 1)
        layer_arguments(in_channels, weights.weight.shape[0], weights.weight.shape[2:], **said)
    except ArgumentError as error:
        raise InputError(f"weights {path}: what it says of its layer is not legal: {error}") from error
    return layer


def is_list(text: str) -> bool:
    """Say whether a text is a list of numbers, not the name of a file."""
    return text.lstrip().startswith("[") and not any(suffix in text.lower() for suffix in SUFFIXES)


def split(text: str) -> tuple[Path, str | None]:
    """Split FILE[:KEY] behind the suffix of a known format, unless all of it is the name of a file."""
    if os.path.isfile(text):  # noqa: PTH113 - false, no error, for a text that is no name
        return Path(text), None
    match = re.fullmatch(rf"(.*(?:{'|'.join(map(re.escape, SUFFIXES))})):{{1,2}}(.+)", text, re.IGNORECASE | re.DOTALL)
    return (Path(match[1]), match[2]) if match else (Path(text), None)


def _listed(text: str) -> Array:
    """Return the taps of a nested list: along W, H and W, or D, H and W; or all five axes."""
    try:
        taps = np.array(json.loads(text), np.float64)
    except (ValueError, TypeError, RecursionError) as error:
        shown = text if len(text) < SHOWN else f"{text[:SHOWN]}..."
        raise ArgumentError(
            f"weights {shown}: not a list of numbers with rows of one length; write it like [[0,1,0],[1,-4,1],[0,1,0]]"
        ) from error
    return taps.reshape((1,) * (3 - taps.ndim) + taps.shape)


def _names(arrays: ArrayFile, key: str | None) -> tuple[str, str | None]:
    """Return the names of the weight and, where there is one, of the bias."""
    if arrays.names == [""]:
        if key is not None:
            raise ArgumentError(f"weights {arrays.path}: holds one array without a name; leave out the key {key!r}")
        return "", None
    for weight, bias in PAIRS:
        wanted = weight if key is None else f"{key}.{weight}"
        if wanted in arrays.known:
            beside = wanted.removesuffix(weight) + bias
            return wanted, beside if beside in arrays.known else None
    if key is not None and key in arrays.known:
        return key, None
    if key is None and len(arrays.names) == 1:
        return arrays.names[0], None
    return _only(arrays, key)


def _only(arrays: ArrayFile, key: str | None) -> tuple[str, str | None]:
    """Return the only array of five axes and its bias, or raise `InputError` with the candidates."""
    shapes = {name: arrays.shape(name) for name in arrays.names}
    found = [name for name, shape in shapes.items() if len(shape) == 5]
    if key is None and len(found) == 1:
        for weight, bias in (*PAIRS, ("vars/0", "vars/1")):
            beside = found[0].removesuffix(weight) + bias
            if found[0].endswith(weight) and beside in arrays.known:
                return found[0], beside
        return found[0], None
    listed = ", ".join(f"{name} ({'x'.join(map(str, shapes[name]))})" for name in found or arrays.names) or "nothing"
    holds = f"holds {len(found)} arrays of 5 axes" if key is None else f"holds no {f'{key}.weight'!r}; it holds"
    layers = [name.removesuffix(f".{weight}") for name in arrays.known for weight, _ in PAIRS if name.endswith(weight)]
    near = did_you_mean(key, layers) if key else ""
    raise InputError(f"weights {arrays.path}: {holds}: {listed}; name one as {arrays.path}:KEY.{near}")


def _checked(name: str, weight: Array, bias: Array | None, axes: str, layout: str) -> Weights:
    """Return weights in the order (O, C/g, K_D, K_H, K_W), or raise what is wrong with them."""
    what = f"weights {name}"
    given = weight.shape
    if weight.ndim == 3:
        weight = weight[np.newaxis, np.newaxis]
    elif weight.ndim == 5 and layout == "keras":
        weight = weight.transpose(4, 3, 0, 1, 2)
    if weight.ndim != 5 or 0 in weight.shape:
        legal = "(K_D, K_H, K_W, in_channels / groups, out_channels)"
        legal = legal if layout == "keras" else "(out_channels, in_channels / groups, K_D, K_H, K_W)"
        raise ShapeError(f"{what}: the shape is {given}; legal: {legal}, or (K_D, K_H, K_W) for one filter")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"{what}: the bias has shape {bias.shape}, the weight {given} needs ({weight.shape[0]},)"
            + ("" if layout == "keras" else "; is it of Keras? then say --weights-layout keras")
        )
    for part, array in (("weight", weight), ("bias", bias)):
        if array is not None and (array.dtype.kind not in "fiu" or array.dtype.itemsize > 8):
            raise InputError(f"{what}: the {part} has dtype {array.dtype}; legal: real numbers of at most 64 bits")
        if array is not None and not np.isfinite(array).all():
            raise InputError(f"{what}: the {part} holds NaN or infinite values")
    if axes == "xyz":
        weight = weight.transpose(0, 1, 4, 3, 2)
    return Weights(np.ascontiguousarray(weight), bias)
