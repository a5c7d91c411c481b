"""Weights as the bytes of a `.npz` or `.safetensors`: arrays by name, and what they are the weights of."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.weight_files import LAYER
from lucid_core.optional import require

Arrays = Mapping[str, npt.NDArray[Any]]
Layer = Mapping[str, Any]


def npz(arrays: Arrays, layer: Layer | None = None) -> bytes:
    """Return a `.npz`, with what `weights.load` or `weights.stack_in` is told of the layer or the layers."""
    file = io.BytesIO()
    plain: dict[str, Any] = dict(arrays)
    np.savez(file, **plain)
    if layer:
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(zipfile.ZipInfo(f"{LAYER}.json"), json.dumps(layer))  # its date is always the same
    return file.getvalue()


def safetensors(arrays: Arrays, layer: Layer | None = None) -> bytes:
    """Return a `.safetensors`, with the same; raises `ExtraError` without the package."""
    metadata = {LAYER: json.dumps(layer)} if layer else None
    saved: bytes = require("safetensors.numpy", "weights").save(dict(arrays), metadata=metadata)
    return saved


SAVERS: dict[str, Callable[..., bytes]] = {".npz": npz, ".safetensors": safetensors}
