"""Stacks of layers from a list: convolutions, each a mapping of a layer's own options, and elementwise operations.

layers: [{weights: a.npz, padding: 1}, relu, {leaky_relu: 0.1}, {kernel: sobel, axis: all}, magnitude]
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from lucid_cli.config import ConfiguredOption, options_of
from lucid_cli.layer import Layer, Recipe, recipe, weights_file
from lucid_cli.mistakes import Mistake, find
from lucid_cli.options import KERNEL, LAYER, WEIGHTS, with_options
from lucid_cli.settings import Settings
from lucid_cli.weights import stack_in
from lucid_core.compute import Filters
from lucid_core.elementwise import OPERATIONS, Operation
from lucid_core.errors import ArgumentError, InputError, LucidError, ShapeError
from lucid_core.kernels import kernels
from lucid_core.normalization import Normalization
from lucid_core.problem import ConvProblem
from lucid_core.registry import did_you_mean
from lucid_core.stack import Problem, Shape5, Stack, stack
from lucid_core.units import Spacing

OF_LIST = ("dtype", "device")
"""Options of a layer that hold for all layers of a list."""
MOST_LAYERS = 64
Made = TypeVar("Made")


@dataclass(frozen=True)
class Layers:
    """A stack with its weights in the arithmetic dtype."""

    parts: tuple[Layer | Operation, ...]

    @property
    def filters(self) -> list[Filters]:
        """Weights and biases of the convolutions."""
        return [pair for part in self.parts if isinstance(part, Layer) for pair in part.filters]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of the kernels of the convolutions, each with the number of its layer."""
        return tuple(
            f"layer {number}: {warning}"
            for number, part in enumerate(self.parts, start=1)
            if isinstance(part, Layer)
            for warning in part.warnings
        )

    def problem(self, shape: Shape5, normalization: Normalization | None = None) -> Stack:  # noqa: ARG002 - has none
        """Join the layers with an input of shape (N, C, D, H, W)."""

        def joined(number: int, layer: Layer, given: Shape5) -> ConvProblem:
            return _named(number, lambda: layer.problem(given))

        return stack(
            shape,
            [
                part if isinstance(part, Operation) else partial(joined, number, part)
                for number, part in enumerate(self.parts, start=1)
            ],
        )

    def to_json(self) -> dict[str, Any]:
        """Return every layer as a configuration could say it."""
        return {"layers": [part.to_json() for part in self.parts]}


def described(layer: Layer | Layers, problem: Problem) -> dict[str, Any]:
    """Return a layer as the report shows it; of several each, convolutions with the shape (N, C, D, H, W) they make."""
    if isinstance(layer, Layer):
        return layer.to_json()
    shapes = iter([list(one.out_shape) for one in problem.problems])
    shown = [
        part.to_json() | {"output_shape": next(shapes)} if isinstance(part, Layer) else part.to_json()
        for part in layer.parts
    ]
    return {"layers": shown}


@dataclass(frozen=True)
class LayersRecipe:
    """What is known of a stack before a volume is seen; `build` makes its layers for one."""

    settings: Settings
    parts: tuple[Recipe | Operation, ...]

    @property
    def in_channels(self) -> int | None:
        """Input channels, where the settings or the first convolution say them."""
        for part in self.parts:
            if self.settings.in_channels is not None or (isinstance(part, Operation) and part.joins_channels):
                break
            if isinstance(part, Recipe):
                return part.in_channels
        return self.settings.in_channels

    @property
    def each_channel_alone(self) -> bool:
        """Whether the first convolution is a named kernel, which filters every channel by itself."""
        return next(part.each_channel_alone for part in self.parts if isinstance(part, Recipe))

    def build(self, channels: int, spacing: Spacing | None, dtype: np.dtype[Any]) -> Layers:
        """Return the layers for a volume of so many channels and this spacing, computed in `dtype`."""
        said = self.settings.in_channels
        if said not in (None, channels):
            raise ShapeError(f"in_channels is said to be {said}, but the volume has {channels}")
        built: list[Layer | Operation] = []
        for number, part in enumerate(self.parts, start=1):
            if isinstance(part, Operation):
                channels = part.channels(channels)
                built.append(part)
                continue
            layer = _named(number, partial(part.build, channels, spacing, dtype))
            channels = layer.arguments.out_channels
            if spacing is not None:
                d, h, w = (step * stride for step, stride in zip(spacing, layer.arguments.stride, strict=True))
                spacing = (d, h, w)
            built.append(layer)
        return Layers(tuple(built))


def any_recipe(settings: Settings) -> Recipe | LayersRecipe:
    """Return the recipe of the one layer, or of the list of layers, that the settings or their file of weights say."""
    if settings.layers is None and settings.weights is not None and settings.kernel is None:
        layers = stack_in(settings.weights)
        if layers is not None:
            _check_stack(settings.weights, layers)
            settings = replace(settings, layers=tuple(layers), weights=None)
    if settings.layers is None:
        return recipe(settings)
    entries, mistakes = read_entries(settings.layers)
    for text in (*list_mistakes(settings, entries), *(mistake.text for mistake in mistakes)):
        raise ArgumentError(text)
    parts = tuple(
        entry if isinstance(entry, Operation) else _named(number, partial(recipe, entry))
        for number, entry in enumerate(entries, start=1)
    )
    return LayersRecipe(settings, parts)


def _check_stack(weights: str, layers: Sequence[Any]) -> None:
    """Raise `InputError` where the layers that a file of weights says are no legal list."""
    entries, mistakes = read_entries(layers)
    for text in (*entry_mistakes(entries), *(mistake.text for mistake in mistakes)):
        raise InputError(f"weights {weights}: what it says of its layers is not legal: {text}")


def read_entries(entries: Sequence[Any]) -> tuple[list[Operation | Settings], list[Mistake]]:
    """Return the operations and convolutions of a list, and what is wrong with the entries, each by itself."""
    read: list[Operation | Settings] = []
    mistakes: list[Mistake] = []
    for number, entry in enumerate(entries):
        part, wrong = _read_entry(entry)
        read.append(part)
        mistakes += [replace(one, where=(number, *one.where), text=f"layer {number + 1}: {one.text}") for one in wrong]
    return read, mistakes


def weights_files(settings: Settings) -> list[Path]:
    """Return the files of weights of the layer, or of all layers."""
    entries = [entry for entry in settings.layers or () if isinstance(entry, dict)]
    texts = [settings.weights, *(entry.get("weights") for entry in entries)]
    found = [weights_file(text) for text in texts if isinstance(text, str)]
    return list(dict.fromkeys(path for path in found if path is not None))


def list_mistakes(settings: Settings, entries: Sequence[Operation | Settings]) -> Iterator[str]:
    """Yield what is wrong with a list as a whole, options that it does not go with among it."""
    default = Settings()
    for option in layer_options():
        if option.key not in ("in_channels", *OF_LIST) and getattr(settings, option.key) != getattr(
            default, option.key
        ):
            yield f"{option.key} stands beside layers; write it in the layer that it is for"
    if settings.outside is not None:
        yield "--outside belongs to a mask that normalises; with layers it has no meaning"
    if settings.nan == "renormalize":
        yield "--nan renormalize is for one convolution; with layers, run that one by itself first"
    if settings.mask is not None and settings.normalize is None:
        yield "--mask normalises one convolution; with layers it only says where --normalize takes its statistics"
    yield from entry_mistakes(entries)


def entry_mistakes(entries: Sequence[Operation | Settings]) -> Iterator[str]:
    """Yield what is wrong with the number and the kinds of the layers of a list."""
    if len(entries) > MOST_LAYERS:
        yield f"layers: {len(entries)} of them; legal: at most {MOST_LAYERS}"
    if all(isinstance(entry, Operation) for entry in entries):
        yield "layers: no convolution among them; write one like {kernel: gaussian, sigma: 1vox}"


def _read_entry(entry: Any) -> tuple[Operation | Settings, list[Mistake]]:
    """Return an operation or the settings of a convolution, and what is wrong with it."""
    try:
        operation = _as_operation(entry)
    except ArgumentError as error:
        return Settings(), [Mistake((), str(error))]
    return (operation, []) if operation else _settings(entry)


def _as_operation(entry: Any) -> Operation | None:
    """Return the operation that an entry is, None where it is a convolution."""
    if isinstance(entry, str):
        return _operation(entry, [])
    if not isinstance(entry, dict) or not entry:
        raise ArgumentError(
            f"{entry!r} is no layer; write an operation such as relu, or a mapping such as {{weights: a.npz}}"
        )
    if nested := next((name for name, value in entry.items() if isinstance(value, dict)), None):
        raise ArgumentError(f"{nested} holds a mapping; the options of a layer stand side by side, without sections")
    name, value = next(iter(entry.items()))
    if len(entry) == 1 and (_plain(name) in OPERATIONS or _plain(name) in kernels()):
        return _operation(str(name), value if isinstance(value, list) else [value])
    return None


def _plain(name: Any) -> str:
    return str(name).replace("-", "_")


def _operation(name: str, numbers: list[Any]) -> Operation:
    """Return an operation by its name with its numbers."""
    name = _plain(name)
    if name not in OPERATIONS:
        as_kernel = f" A kernel is written {{kernel: {name}}}." if name in kernels() else ""
        near = did_you_mean(name, OPERATIONS)
        raise ArgumentError(f"unknown operation {name!r}; legal: {', '.join(OPERATIONS)}.{as_kernel or near}")
    kind, known = OPERATIONS[name], fields(OPERATIONS[name])
    try:
        return kind(*(float(one) if isinstance(one, str) else one for one in numbers))
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ArgumentError):
            raise
        takes = ", ".join(one.name for one in known) or "no numbers"
        example = f"{{{name}: [0, 1]}}" if len(known) > 1 else f"{{{name}: 0.1}}" if known else name
        raise ArgumentError(f"{name} takes {takes}, not {numbers}; write it like {example}") from None


def _settings(entry: dict[str, Any]) -> tuple[Settings, list[Mistake]]:
    """Return the settings of one convolution, of those values that are right, and what is wrong."""
    with click.Context(_command()) as ctx:
        found = find(entry, layer_options(), ctx, inside=" in the layer")
    found.mistakes += [
        Mistake(found.where[name], f"{name} holds for all layers; write it beside the list")
        for name in OF_LIST
        if name in found.given
    ]
    return replace(Settings(), **found.values), found.mistakes


def layer_options() -> list[ConfiguredOption]:
    """Return the options that a layer of the list may have."""
    return [option for option in options_of(_command()) if option.key != "layers"]


@cache
def _command() -> click.Command:
    return click.command("layer")(with_options(LAYER, WEIGHTS, KERNEL)(lambda: None))


def _named(number: int, make: Callable[[], Made]) -> Made:
    """Return what `make` makes; an error of it says which layer it is of."""
    try:
        return make()
    except LucidError as error:
        error.args = (f"layer {number}: {error}",)
        raise
