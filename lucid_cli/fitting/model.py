"""What is learned: one layer, or a stack of which some layers may be named kernels that stay as they are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.fitting.pairs import Pair
from lucid_cli.fitting.settings import FitSettings
from lucid_cli.layer import Layer
from lucid_cli.layers import Layers, any_recipe, read_entries
from lucid_cli.settings import Settings
from lucid_cli.weights import LAYER_KEYS, load, stack_in
from lucid_core.arguments import LayerArguments, layer_arguments, triple
from lucid_core.elementwise import Operation
from lucid_core.errors import ArgumentError, ShapeError
from lucid_core.nn import Conv3d, Module, Sequential
from lucid_core.nn.elementwise import Elementwise
from lucid_core.regions import Triple
from lucid_core.stack import Problem
from lucid_core.volume import Shape5

Array = npt.NDArray[Any]
REPLICATE = "replicate"
"""The border of a layer whose padding keeps the target's grid: the least of a step there."""


@dataclass(frozen=True)
class Model:
    """Layers with their weights, as they start and as they are saved."""

    layer: Layer | Layers

    @property
    def parts(self) -> tuple[Layer | Operation, ...]:
        """The convolutions and operations."""
        return (self.layer,) if isinstance(self.layer, Layer) else self.layer.parts

    @property
    def convolutions(self) -> list[Layer]:
        """The convolutions."""
        return [part for part in self.parts if isinstance(part, Layer)]

    @property
    def only(self) -> Layer | None:
        """The only layer, where it is one convolution that is learned; None for a stack."""
        first, *others = self.parts
        return first if isinstance(first, Layer) and not others and first.kernel is None else None

    @property
    def drawn(self) -> frozenset[int]:
        """The numbers of the layers that begin with random weights."""
        return frozenset(n for n, part in enumerate(self.parts) if isinstance(part, Layer) and part.drawn)

    def problem(self, shape: Shape5) -> Problem:
        """Join it with an input of shape (N, C, D, H, W)."""
        return self.layer.problem(shape)

    def module(self) -> Sequential:
        """Return it as layers without padding, to be trained on blocks that hold the border already."""
        return Sequential(*map(_module, self.parts))

    def solved(self, weight: Array, bias: Array | None) -> "Model":
        """Return the only layer with these weights, in its dtype."""
        layer = self.only
        assert layer is not None
        dtype = layer.weight.dtype
        return Model(replace(layer, weight=weight.astype(dtype), bias=None if bias is None else bias.astype(dtype)))

    @property
    def has_bias(self) -> bool:
        """Whether the first convolution has a bias."""
        return self.convolutions[0].bias is not None

    def learned(self, module: Sequential) -> "Model":
        """Return it with the weights of the trained layers."""
        parts = [
            replace(part, weight=layer.weight.data, bias=None if layer.bias is None else layer.bias.data)
            if isinstance(part, Layer) and isinstance(layer, Conv3d)
            else part
            for part, layer in zip(self.parts, module, strict=True)
        ]
        if isinstance(self.layer, Layers):
            return Model(Layers(tuple(parts)))
        (only,) = parts
        assert isinstance(only, Layer)
        return Model(only)

    def arrays(self) -> dict[str, Array]:
        """Return weights and biases by the names that they are saved under."""
        named: dict[str, Array] = {}
        for number, part in enumerate(self.parts):
            key = "" if isinstance(self.layer, Layer) else f"{number}."
            if isinstance(part, Layer):
                named[f"{key}weight"] = np.ascontiguousarray(part.weight)
                named |= {} if part.bias is None else {f"{key}bias": np.ascontiguousarray(part.bias)}
        return named

    def said(self) -> Mapping[str, Any]:
        """Return what a file of weights says of the layer, or the layers."""
        if isinstance(self.layer, Layer):
            return _said(self.layer.arguments)
        return {
            "layers": [
                part.to_json() if isinstance(part, Operation) else {"weights": str(number)} | _said(part.arguments)
                for number, part in enumerate(self.parts)
            ]
        }


def _said(arguments: LayerArguments) -> dict[str, Any]:
    values = {name: getattr(arguments, name) for name in LAYER_KEYS}
    if arguments.padding == "same" and arguments.stride != (1, 1, 1):
        values["padding"] = tuple(low for low, _ in arguments.pads)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _module(part: Layer | Operation) -> Module:
    if isinstance(part, Operation):
        return Elementwise(part)
    one, weight = part.arguments, part.weight
    layer = Conv3d(
        one.in_channels,
        one.out_channels,
        one.kernel_size,
        one.stride,
        0,
        one.dilation,
        one.groups,
        part.bias is not None,
        dtype=weight.dtype,
    )
    layer.load_state_dict({"weight": weight} | ({} if part.bias is None else {"bias": part.bias}))
    layer.requires_grad_(part.kernel is None)
    return layer


def model_of(settings: FitSettings, first: Pair, dtype: np.dtype[Any]) -> Model:
    """Return the model that the settings say, its channels and padding from the first pair where they do not."""
    channels, spacing = first.input.shape[1], first.input.info.spacing
    if settings.layers is None:
        model = Model(any_recipe(_completed(settings, first)).build(channels, spacing, dtype))
    else:
        plain = replace(settings, layers=_completed_entries(settings, first), seed=None)
        model = Model(any_recipe(plain).build(channels, spacing, dtype))
    for layer in model.convolutions:
        if layer.arguments.padding_mode == "renormalize":
            raise ArgumentError(
                "--padding-mode renormalize divides by the sum of the weights: no weights are fitted so"
            )
    if all(layer.kernel is not None for layer in model.convolutions):
        raise ArgumentError("nothing is learned: every layer is a named kernel; give one its kernel_size instead")
    return model


def _completed_entries(settings: FitSettings, first: Pair) -> tuple[Any, ...]:
    """Say what layers of a stack that start at random leave open: seeds, padding that keeps the size, last channels.

    Others are a named kernel, or know their layer from a file.
    """
    keeps_size = first.target.shape[2:] == first.input.shape[2:]
    read, _ = read_entries(settings.layers or ())
    last = max((number for number, part in enumerate(read) if isinstance(part, Settings)), default=0)
    entries: list[Any] = []
    for number, (entry, part) in enumerate(zip(settings.layers or (), read, strict=True)):
        if isinstance(part, Settings) and part.kernel is None and part.weights is None:
            said: dict[str, Any] = {"seed": (settings.seed or 0) + number} if part.seed is None else {}
            if keeps_size and part.padding is None and part.stride is None:
                said |= {"padding": "same"} | ({"padding_mode": REPLICATE} if part.padding_mode is None else {})
            if number == last and part.out_channels is None:
                said["out_channels"] = settings.out_channels or first.target.shape[1]
            entries.append(dict(entry) | said)
        else:
            entries.append(entry)
    return tuple(entries)


def _completed(settings: FitSettings, first: Pair) -> FitSettings:
    """Say what the settings of one layer leave to the pair: channels, and the padding that makes the target's size."""
    if settings.weights is None and settings.kernel_size is None:
        raise ArgumentError(
            "nothing says what to learn: give --kernel-size for one layer, --layers for a stack, or --weights to go on "
            "from"
        )
    if settings.weights is not None and stack_in(settings.weights) is not None:
        return replace(settings, seed=None)
    seed = settings.seed if settings.weights is None else None
    completed = replace(settings, out_channels=settings.out_channels or first.target.shape[1], seed=seed)
    started = load(settings.weights) if settings.weights is not None else None
    said = {} if started is None else started.layer
    if settings.padding is not None or "padding" in said:
        return completed
    kernel = triple("kernel_size", settings.kernel_size if started is None else started.weight.shape[2:], 1)
    stride = triple("stride", settings.stride or said.get("stride", 1), 1)
    dilation = triple("dilation", settings.dilation or said.get("dilation", 1), 1)
    padding = _padding(kernel, stride, dilation, first)
    mode = settings.padding_mode or said.get("padding_mode") or ("zeros" if padding == 0 else REPLICATE)
    return replace(completed, padding=padding, padding_mode=mode)


def _padding(kernel: Triple, stride: Triple, dilation: Triple, first: Pair) -> Any:
    """Return the padding that makes the size of the target: one that keeps the grid, or none."""
    whole: Any = "same"
    if stride != (1, 1, 1):
        whole = tuple(step * (k - 1) // 2 for step, k in zip(dilation, kernel, strict=True))
    made = []
    for padding in (whole, 0):
        pads = layer_arguments(1, 1, kernel, stride, padding, dilation).pads
        made.append(
            tuple(
                (size + sum(pad) - step * (k - 1) - 1) // hop + 1
                for size, pad, step, k, hop in zip(first.input.shape[2:], pads, dilation, kernel, stride, strict=True)
            )
        )
        if made[-1] == first.target.shape[2:]:
            return padding
    shown = [_sizes(size) for size in (first.target.shape[2:], first.input.shape[2:], *made)]
    raise ShapeError(
        f"the target {first.target.spec} has {shown[0]} voxels (D, H, W) and its input {shown[1]}: a layer of this "
        f"kernel and stride makes {shown[2]} with padding {whole}, {shown[3]} without; say --stride and --padding as "
        "the target was made"
    )


def _sizes(size: Any) -> str:
    return "x".join(f"{int(count)}" for count in size)
