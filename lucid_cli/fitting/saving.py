"""Where fitted weights go: a file that says what its layers are, or one of a plain kernel."""

from lucid_cli.fitting.model import Model
from lucid_cli.kernel_file import PLAIN, Filters, encoded, saved_suffix
from lucid_cli.weight_saving import SAVERS
from lucid_core.errors import ArgumentError
from lucid_core.optional import require
from lucid_core.units import Spacing


def suffix_for(output: str | None, model: Model) -> str:
    """Return the suffix of a name that fitted weights can be saved under, before anything is computed.

    Raises `ArgumentError` for none, `ExtraError` where a package is missing.
    """
    if output is None:
        raise ArgumentError("no output is given; name it with -o weights.safetensors, or weights.npz")
    suffix = saved_suffix(output)
    if suffix == ".safetensors":
        require("safetensors.numpy", "weights")
    if suffix in PLAIN and len(model.parts) > 1:
        raise ArgumentError(f"{output}: a {suffix} holds one layer, and this is a stack; use .npz or .safetensors")
    if suffix in PLAIN and model.has_bias:
        raise ArgumentError(
            f"{output}: a {suffix} has no place for a bias; use .npz or .safetensors, or give --no-bias"
        )
    return suffix


def content(model: Model, output: str, suffix: str, spacing: Spacing | None) -> bytes:
    """Return what the file of the weights holds."""
    if suffix in SAVERS:
        return SAVERS[suffix](model.arrays(), model.said())
    return encoded(Filters("the fitted weights", {}, model.convolutions[0].weight, None, spacing), output)


def options_of(model: Model, suffix: str) -> list[str]:
    """Return the options that `apply` needs beside `--weights`: what the file does not say of its layer."""
    if suffix in SAVERS:
        return []
    plain = {"stride": [1, 1, 1], "padding": [0, 0, 0], "dilation": [1, 1, 1], "groups": 1, "padding_mode": "zeros"}
    words: list[str] = []
    for name, value in model.said().items():
        if value != plain[name]:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
    return words
