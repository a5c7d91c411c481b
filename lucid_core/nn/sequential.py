"""Layers one after another: the result is computed in one pass, the gradients layer by layer from the last."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core import lazy
from lucid_core.arrays import as_array, empty, is_dask
from lucid_core.compute import Filters
from lucid_core.errors import ArgumentError, ArgumentTypeError
from lucid_core.execute import execute
from lucid_core.functional import as_batch, as_shape, check_dtypes
from lucid_core.nn.conv import Conv3d
from lucid_core.nn.elementwise import Elementwise
from lucid_core.nn.module import Array, Module, in_memory
from lucid_core.planner import plan
from lucid_core.stack import Layer, stack
from lucid_core.volume import ArrayReader, ArrayWriter, arithmetic_dtype


class Sequential(Module):
    """Layers one after another. The result is that of calling them one by one, where the same algorithms compute them.

    Convolutions and the elementwise operations between them are computed tile by tile in one pass, so that no result
    between them exists as a whole. An array of dask stays lazy, as in `lucid_core.conv3d`; with circular padding,
    chunks at a border read the whole axis then.

    A call keeps its input and no result between layers: `backward` computes these again, one whole array a layer. Who
    trains computes them once, by `values`.

    >>> from lucid_core.nn import ReLU
    >>> net = Sequential(Conv3d(1, 8, 3, padding=1), ReLU(), Conv3d(8, 1, 3, padding=1))
    >>> net(np.zeros((1, 1, 4, 4, 4), np.float32)).shape
    (1, 1, 4, 4, 4)
    >>> x = np.ones((1, 1, 4, 4, 4), np.float32)
    >>> values = net.values(x)
    >>> net.add_gradients(x, values[-1] - x, values)
    >>> net[2].bias.grad.shape
    (1,)
    """

    def __init__(self, *modules: Module) -> None:
        for number, module in enumerate(modules):
            if not isinstance(module, Module):
                raise ArgumentTypeError(f"layer {number} must be a Module, such as Conv3d or ReLU, not {module!r}")
            setattr(self, str(number), module)

    def __iter__(self) -> Iterator[Module]:
        return (value for value in vars(self).values() if isinstance(value, Module))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, which: int | slice) -> Module:
        """Return one layer, or those of a slice as a `Sequential`."""
        return Sequential(*list(self)[which]) if isinstance(which, slice) else list(self)[which]

    def forward(self, x: npt.ArrayLike) -> Array:
        """Compute all layers."""
        array = lazy.checked("x", x) if is_dask(x) else as_array("x", x)
        layers = list(_flat(self))
        known = all(type(layer).forward in (Conv3d.forward, Elementwise.forward) for layer in layers)
        devices = {layer.device for layer in layers if isinstance(layer, Conv3d)}
        if not known or len(devices) != 1 or array.dtype == np.float16:
            for layer in self:
                array = layer.forward(array)
            return array
        return _in_one_pass(layers, array, devices.pop())

    def values(self, x: npt.ArrayLike) -> list[Array]:
        """Return x and the result of each layer, those of a `Sequential` inside one by one; the last is the result.

        Arrays of dask are refused.
        """
        values = [in_memory("x", x)]
        for layer in _flat(self):
            values.append(layer.forward(values[-1]))
        return values

    def gradient(self, x: npt.ArrayLike, grad: npt.ArrayLike, values: Sequence[Array] | None = None) -> Array:
        """Return the gradient of x, and add those of all parameters. `values` are those of x, else computed again."""
        layers, above = list(_flat(self)), in_memory("grad", grad)
        for layer, value in reversed(_with_inputs(layers, x, values)):
            above = layer.gradient(value, above)
        return above

    def add_gradients(self, x: npt.ArrayLike, grad: npt.ArrayLike, values: Sequence[Array] | None = None) -> None:
        """Add the gradients of all parameters, going no further down than to the lowest layer with one to learn."""
        layers, above = list(_flat(self)), in_memory("grad", grad)
        learning = [any(one.requires_grad for one in layer.parameters()) for layer in layers]
        if not any(learning):
            return
        (lowest, value), *higher = _with_inputs(layers, x, values)[learning.index(True) :]
        for layer, its_value in reversed(higher):
            above = layer.gradient(its_value, above)
        lowest.add_gradients(value, above)

    def __repr__(self) -> str:
        lines = [f"  ({number}): {layer}".replace("\n", "\n  ") for number, layer in enumerate(self)]
        return "\n".join(["Sequential(", *lines, ")"])


def _flat(modules: Sequential) -> Iterator[Module]:
    for module in modules:
        kind = type(module)
        plain = kind.forward is Sequential.forward and kind.gradient is Sequential.gradient
        if isinstance(module, Sequential) and plain:
            yield from _flat(module)
        else:
            yield module


def _with_inputs(layers: list[Module], x: npt.ArrayLike, values: Sequence[Array] | None) -> list[tuple[Module, Array]]:
    """Return each layer with its input, from the `values` of x where they are given."""
    if values is None:
        inputs = Sequential(*layers[:-1]).values(x) if layers else []
    elif len(values) == len(layers) + 1:
        inputs = list(values[:-1])
    else:
        raise ArgumentError(
            f"values must be x and the results of {len(layers)} layers, "
            f"as values(x) returns them, not {len(values)} arrays"
        )
    return list(zip(layers, inputs, strict=True))


def _in_one_pass(layers: list[Module], array: Any, device: str) -> Array:
    """Compute convolutions, at least one, and operations."""
    shape, dtype = as_shape(array), arithmetic_dtype(array.dtype)
    filters: list[Filters] = []
    parts: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Elementwise):
            parts.append(layer.operation)
        elif isinstance(layer, Conv3d):
            filters.append(_filters(layer, array.dtype, dtype))
            parts.append(partial(filters[-1].problem, arguments=layer.arguments))
    problem = stack(shape, parts)
    if is_dask(array):
        lazy.check_call(None, "auto", device)
        return lazy.convolved(array, plan(problem, threads=1), filters)
    out = empty(problem.out_shape, dtype)
    execute(plan(problem, device=device), filters, ArrayReader(as_batch(array)), ArrayWriter(out))
    return out if array.ndim == 5 else out[0]


def _filters(layer: Conv3d, given: np.dtype[Any], dtype: np.dtype[Any]) -> Filters:
    """Return the weights of a layer in the dtype of the arithmetic, refusing those of another dtype than the input."""
    weight, bias = as_array("weight", layer.weight), None if layer.bias is None else as_array("bias", layer.bias)
    check_dtypes(given, weight, bias)
    return Filters(weight.astype(dtype, copy=False), None if bias is None else bias.astype(dtype, copy=False))
