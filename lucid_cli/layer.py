"""The layer of a run: from a named kernel, a file of weights, or a seed, and the volume it meets."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import lucid_core
from lucid_cli.named import given_options, made, rounded, too_narrow
from lucid_cli.output import check_memory
from lucid_cli.settings import Settings, Sizes
from lucid_cli.weights import Weights, is_list, load, split
from lucid_core.arguments import LayerArguments, layer_arguments, triple
from lucid_core.compute import Filters
from lucid_core.errors import ArgumentError, LimitError, ShapeError
from lucid_core.kernels import named_kernel
from lucid_core.nn import Conv3d
from lucid_core.normalization import Normalization
from lucid_core.problem import ConvProblem
from lucid_core.tensors.devices import resolve
from lucid_core.units import Spacing
from lucid_core.volume import Shape5

Array = npt.NDArray[Any]
MOST_CHANNELS = 1 << 16
"""Channels that a named kernel filters."""


@dataclass(frozen=True)
class Layer:
    """A Conv3d with its weights in the arithmetic dtype."""

    arguments: LayerArguments
    weight: Array
    bias: Array | None
    device: str
    kernel: dict[str, Any] | None = None
    """What the report says of a named kernel."""
    warnings: tuple[str, ...] = ()
    """What is to be said of the kernel."""
    drawn: bool = False
    """Whether the weights are random."""

    @property
    def filters(self) -> list[Filters]:
        """Weight and bias, as a plan is executed with."""
        return [Filters(self.weight, self.bias)]

    def problem(self, shape: Shape5, normalization: Normalization | None = None) -> ConvProblem:
        """Join the layer with an input of shape (N, C, D, H, W)."""
        return Filters(self.weight, self.bias).problem(shape, self.arguments, normalization)

    def to_json(self) -> dict[str, Any]:
        """Return every argument, as the report shows them."""
        arguments = vars(self.arguments) | {
            "bias": self.bias is not None,
            "device": self.device,
            "dtype": self.weight.dtype.name,
        }
        shown = {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}
        return shown if self.kernel is None else shown | {"kernel": self.kernel}


@dataclass(frozen=True)
class Recipe:
    """What is known of a layer before a volume is seen; `build` makes the layer for one."""

    settings: Settings
    weights: Weights | None

    @property
    def in_channels(self) -> int | None:
        """Input channels, where the settings or the weights say them."""
        if self.settings.in_channels is not None or self.weights is None:
            return self.settings.in_channels
        return self.weights.in_channels(self.settings.groups)

    @property
    def each_channel_alone(self) -> bool:
        """Whether the layer is a named kernel, which filters every channel by itself."""
        return self.settings.kernel is not None

    def build(self, channels: int, spacing: Spacing | None, dtype: np.dtype[Any]) -> Layer:
        """Return the layer for a volume of so many channels and this spacing, computed in `dtype`."""
        if self.settings.kernel is not None:
            return _named(self.settings, channels, spacing, dtype)
        if self.weights is not None:
            return _loaded(self.settings, self.weights, dtype)
        return _seeded(self.settings, channels, dtype)


def weights_file(text: str) -> Path | None:
    """Return the file that weights are loaded from, None where they are a list."""
    return None if is_list(text) else split(text)[0]


def recipe(settings: Settings) -> Recipe:
    """Check that the settings say one thing to convolve with, and load a file of weights."""
    if settings.outside is not None and settings.mask is None:
        raise ArgumentError("--outside says what stands outside a mask; give --mask FILE too")
    if settings.kernel is not None and settings.weights is not None:
        raise ArgumentError("--kernel and --weights both say what to convolve with; give one")
    if settings.kernel is None and (given := given_options(settings)):
        raise ArgumentError(f"--{next(iter(given))} belongs to a named kernel; give --kernel NAME too")
    for name in ("weights_axes", "weights_layout"):
        if settings.weights is None and getattr(settings, name) is not None:
            raise ArgumentError(f"--{name.replace('_', '-')} belongs to a file of weights; give --weights FILE too")
    if settings.seed is not None and (settings.kernel or settings.weights):
        raise ArgumentError("--seed is for random weights, but --kernel or --weights says what to convolve with")
    if settings.kernel is not None:
        named_kernel(settings.kernel)
    if settings.weights is not None:
        return Recipe(
            settings, load(settings.weights, settings.weights_axes or "zyx", settings.weights_layout or "torch")
        )
    if settings.kernel is None and settings.kernel_size is None:
        raise ArgumentError(
            "nothing says what to convolve with: give --kernel NAME (such as gaussian --sigma 1.5mm), --weights FILE, "
            "or --kernel-size and --out-channels for seeded random weights"
        )
    return Recipe(settings, None)


def _named(settings: Settings, channels: int, spacing: Spacing | None, dtype: np.dtype[Any]) -> Layer:
    """Filter every channel by itself, keep the grid (padding same) and repeat the border, unless said otherwise."""
    name = str(settings.kernel)
    if settings.bias:
        raise ArgumentError(f"--bias: the kernel {name!r} has no bias")
    kernel = made(settings, spacing)
    filters = kernel.bank.shape[0]
    outputs = channels * filters
    if settings.out_channels not in (None, outputs) or settings.groups not in (None, channels):
        many = f" with {filters} filters" if filters > 1 else ""
        raise ShapeError(
            f"the kernel {name!r} filters each of the {channels} channels by itself{many}: out_channels and groups are "
            f"{outputs} and {channels}, not {settings.out_channels or outputs} and {settings.groups or channels}"
        )
    if outputs > MOST_CHANNELS:
        raise LimitError(f"the kernel would make {outputs} channels one by one; legal: at most {MOST_CHANNELS}")
    check_memory(channels * kernel.bank.nbytes, "the kernel, once a channel,")
    weight = np.tile(rounded(kernel.bank, dtype)[:, np.newaxis], (channels, 1, 1, 1, 1))
    padding = "valid" if kernel.pools else "same"
    layer = _layer(settings, weight, None, channels, padding, "replicate", kernel.stride)
    return replace(layer, kernel=kernel.to_json(), warnings=too_narrow(settings, kernel))


def _loaded(settings: Settings, weights: Weights, dtype: np.dtype[Any]) -> Layer:
    if settings.bias and weights.bias is None:
        raise ShapeError(f"--bias: the weights {settings.weights} hold no bias; leave the option out")
    bias = None if settings.bias is False or weights.bias is None else rounded(weights.bias, dtype)
    return _layer(
        settings, rounded(weights.weight, dtype), bias, weights.in_channels(settings.groups), **_defaults(weights)
    )


def _defaults(weights: Weights) -> dict[str, Any]:
    """Return what holds of a layer where the settings say nothing: what the file says, else what Conv3d has."""
    said = {key: value for key, value in weights.layer.items() if key != "groups"}
    return {"padding": 0, "padding_mode": "zeros"} | said


def _seeded(settings: Settings, channels: int, dtype: np.dtype[Any]) -> Layer:
    """Start Kaiming uniform from the seed."""
    in_channels = settings.in_channels or channels
    size = triple("kernel_size", settings.kernel_size or 1, 1)
    count = (settings.out_channels or in_channels) * in_channels // (settings.groups or 1) * math.prod(size)
    check_memory(2 * 8 * count, "the random weights")
    lucid_core.manual_seed(settings.seed or 0)
    start = Conv3d(
        in_channels,
        settings.out_channels or in_channels,
        size,
        groups=settings.groups or 1,
        bias=settings.bias is not False,
        dtype=dtype,
    )
    bias = None if start.bias is None else start.bias.data
    return replace(_layer(settings, start.weight.data, bias, in_channels, 0, "zeros"), drawn=True)


def _layer(
    settings: Settings,
    weight: Array,
    bias: Array | None,
    in_channels: int,
    padding: int | str,
    padding_mode: str,
    stride: Sizes = 1,
    dilation: Sizes = 1,
) -> Layer:
    """Join weights with the settings, which win over the defaults given here and must agree with the weights."""
    _agree("out_channels", settings.out_channels, weight.shape[0])
    _agree("in_channels", settings.in_channels, in_channels)
    size = None if settings.kernel_size is None else triple("kernel_size", settings.kernel_size, 1)
    _agree("kernel_size", size, tuple(weight.shape[2:]))
    if settings.flip:
        weight = np.ascontiguousarray(weight[:, :, ::-1, ::-1, ::-1])
    named = settings.kernel is not None
    arguments = layer_arguments(
        in_channels,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride if settings.stride is None else settings.stride,
        padding if settings.padding is None else settings.padding,
        dilation if settings.dilation is None else settings.dilation,
        in_channels // weight.shape[1],
        settings.padding_mode or padding_mode,
        strided_same=named and settings.padding is None,
    )
    return Layer(arguments, weight, bias, str(resolve(settings.device)))


def _agree(name: str, said: Any, found: Any) -> None:
    if said is not None and said != found:
        raise ShapeError(f"{name} is said to be {said}, but the weights have {found}; leave the option out or fix it")
