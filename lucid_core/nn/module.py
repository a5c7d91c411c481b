"""`Parameter`, an array that belongs to a layer, and `Module`, the base of layers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.arrays import as_array
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError

Array = npt.NDArray[Any]


class Parameter:
    """An array of weights. `np.asarray(parameter)` is its array `data`, not a copy."""

    def __init__(self, data: npt.ArrayLike) -> None:
        self.data: Array = np.array(as_array("a parameter", data))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy:
            return np.array(self.data, dtype)
        array = np.asarray(self.data, dtype)
        if copy is False and array is not self.data:
            raise ValueError(f"a parameter of dtype {self.dtype} cannot be viewed as {dtype} without a copy")
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the array."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """Axes of the array."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """Numbers in the array."""
        return self.data.size

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{self.data!r}"


class Module(ABC):
    """The base of layers: finds the parameters among its attributes, in the order they were set."""

    @abstractmethod
    def forward(self, x: npt.ArrayLike) -> Array:
        """Compute the layer's output."""

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Compute the layer's output."""
        return self.forward(x)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield each parameter with its name; those of a layer inside are named `layer.weight`."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield name, value
            elif isinstance(value, Module):
                for inner, parameter in value.named_parameters():
                    yield f"{name}.{inner}", parameter

    def parameters(self) -> Iterator[Parameter]:
        """Yield each parameter."""
        for _, parameter in self.named_parameters():
            yield parameter

    def state_dict(self) -> dict[str, Array]:
        """Return a copy of every parameter by name."""
        return {name: parameter.data.copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Copy arrays into the parameters of the same names, all or none, keeping the layer's dtype.

        Raises `ArgumentError` for a name missing or not known, `ShapeError` for a shape that differs.
        """
        if not isinstance(state, Mapping):
            raise ArgumentTypeError(f"state_dict must be a mapping of names to arrays, not {type(state).__name__}")
        own = dict(self.named_parameters())
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise ArgumentError(
                f"state_dict does not fit {type(self).__name__}: missing {missing}, unknown {unknown}; "
                f"legal: exactly {list(own)}"
            )
        arrays = {name: as_array(name, state[name]) for name in own}
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub":
                raise ArgumentTypeError(f"{name} has dtype {array.dtype}; legal: real numbers")
            if array.shape != own[name].shape:
                raise ShapeError(f"{name} has shape {array.shape}, the layer needs {own[name].shape}")
        for name, array in arrays.items():
            own[name].data = array.astype(own[name].dtype)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
