"""`.pt` and `.pth` of PyTorch, by its weights-only loader (extra `torch`): tensors, and no code, are unpickled.

Names of nested dictionaries are joined by dots: `{"state_dict": {"conv.weight": ...}}` holds `state_dict.conv.weight`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from lucid_cli.weight_files import Array, ArrayFile, check_size
from lucid_core.errors import ExtraError, InputError
from lucid_core.optional import require

MOST_TENSORS = 100_000
MOST_DEPTH = 8
"""Dictionaries in dictionaries that are looked into."""


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Load the tensors, on the CPU, mapped where the file allows it."""
    try:
        torch = require("torch", "torch")
    except ExtraError as error:
        raise ExtraError(f"weights {path}: a pickle; {error}; or save the weights as .safetensors") from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"weights {path}: cannot be loaded as weights only: it is damaged, or holds more than tensors, such as a "
            "whole module; save what its state_dict() returns, or a .safetensors"
        ) from error
    tensors = dict(islice(_tensors(loaded, "", torch.Tensor), MOST_TENSORS + 1))
    if len(tensors) > MOST_TENSORS:
        raise InputError(f"weights {path}: holds more than {MOST_TENSORS} tensors")

    def read(name: str) -> Array:
        tensor = tensors[name].detach()
        check_size(path, name, tensor.numel() * tensor.element_size())
        array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return array

    yield ArrayFile(path, tensors, lambda name: tuple(tensors[name].shape), read)


def _tensors(value: Any, name: str, kind: type, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield every tensor among nested dictionaries with its name."""
    if isinstance(value, kind):
        yield name, value
    elif isinstance(value, Mapping) and depth < MOST_DEPTH:
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}.{key}" if name else str(key), kind, depth + 1)
