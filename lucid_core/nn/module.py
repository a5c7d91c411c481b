"""`Parameter`, an array that belongs to a layer, and `Module`, the base of layers.

A module is two functions: `forward(x)`, and `gradient(x, grad)`, which turns the gradient of the result into that of x
and adds those of the parameters to `Parameter.grad`. Neither remembers anything. A call remembers its input, so that
`backward(grad)` is `gradient` of the last call.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from lucid_core.arrays import as_array, is_dask
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError

Array = npt.NDArray[Any]


class Parameter:
    """An array of weights. `np.asarray(parameter)` is its array `data`, not a copy.

    `grad` is None, or the sum of the gradients since `zero_grad`: an array of the shape and dtype of `data`.
    Where `requires_grad` is False none is computed; it may be changed at any time.
    """

    def __init__(self, data: npt.ArrayLike, requires_grad: bool = True) -> None:
        self.data: Array = np.array(as_array("a parameter", data))
        self.requires_grad = requires_grad
        self.grad: Array | None = None

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

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are computed and kept; True unless said."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._requires_grad = boolean("requires_grad", value)

    def add_grad(self, grad: npt.ArrayLike) -> None:
        """Add to `grad`, in its dtype; where no gradient is required, do nothing.

        Raises `ShapeError` for another shape than that of the parameter, `ArgumentTypeError` for one of integers.
        """
        if not self.requires_grad:
            return
        if self.dtype.kind != "f":
            raise ArgumentTypeError(f"a parameter of dtype {self.dtype} has no gradient; legal: floats")
        array = as_array("grad", grad)
        if array.shape != self.shape:
            raise ShapeError(f"grad must have the shape {self.shape} of its parameter, not {array.shape}")
        self.grad = (array if self.grad is None else self.grad + array).astype(self.dtype)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{self.data!r}"


class Module(ABC):
    """The base of layers: finds the parameters among its attributes, in the order they were set.

    A layer of one's own has a `forward`, and to learn a `gradient`. One that changes the `forward` of another has to
    give a `gradient` with it, as that of the other would be wrong.

    >>> class Square(Module):
    ...     def forward(self, x):
    ...         return np.square(x)
    ...
    ...     def gradient(self, x, grad):
    ...         return 2 * x * grad
    >>> layer = Square()
    >>> layer(np.array([1.0, 3.0])).tolist()
    [1.0, 9.0]
    >>> layer.backward(np.ones(2)).tolist()
    [2.0, 6.0]
    """

    _called_with: tuple[Any, ...] = ()
    """What `gradient` needs of the input of the last call, or nothing."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "forward" in vars(cls) and "gradient" not in vars(cls):
            cls.gradient = Module.gradient  # type: ignore[method-assign]
        if "gradient" in vars(cls) and "add_gradients" not in vars(cls):
            cls.add_gradients = Module.add_gradients  # type: ignore[method-assign]

    @abstractmethod
    def forward(self, x: npt.ArrayLike) -> Array:
        """Compute the layer's output."""

    def gradient(self, x: npt.ArrayLike, grad: npt.ArrayLike) -> Array:  # noqa: ARG002
        """Return the gradient of x, from that of `forward(x)`, and add those of the parameters (`add_grad`).

        Raises `ArgumentError` for a layer that has none.
        """
        raise ArgumentError(
            f"{type(self).__name__} has no gradient: write its method gradient(self, x, grad), which returns the "
            "gradient of x from that of forward(x), and adds those of its parameters with their add_grad"
        )

    def add_gradients(self, x: npt.ArrayLike, grad: npt.ArrayLike) -> None:
        """Add the gradients of the parameters; that of x is not asked for, which may save its time."""
        self.gradient(x, grad)

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Compute the layer's output, and keep a reference to x, no copy, for `backward`.

        It is kept until the next call, and is not part of a copy or a pickle of the layer.
        """
        self._called_with = ()
        out = self.forward(x)
        self._called_with = (self._needed(x, out),)
        return out

    def backward(self, grad: npt.ArrayLike) -> Array:
        """Return the gradient of the input of the last call, from that of its result, and add those of the parameters.

        `grad` has the shape and dtype of the result. The input must not have been changed since; gradients add up
        over calls until `zero_grad`, as in torch. Arrays of dask are refused.

        Raises `ArgumentError` where there was no call, for a `grad` that does not fit, and for layers without gradient.
        """
        if not self._called_with:
            raise ArgumentError(
                f"backward of {type(self).__name__} is of its last call, and there was none: call the layer first"
            )
        (x,) = self._called_with
        return self.gradient(x, grad)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say for all parameters whether gradients are computed, and return the layer."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def _needed(self, x: Any, out: Array) -> Any:  # noqa: ARG002
        """Return what stands for x in `gradient`."""
        return x

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_called_with"}

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


def boolean(name: str, value: Any) -> bool:
    """Return `value` as a bool, or raise `ArgumentTypeError`."""
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentTypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def in_memory(name: str, values: Any) -> Array:
    """Return an array whose gradient is computed, or which is one, as an array of NumPy; one of dask is refused."""
    if is_dask(values):
        raise ArgumentTypeError(
            f"{name} is an array of dask, and gradients are computed in memory: give {name}.compute(), or one region "
            "after another, as the gradients of the parameters add up"
        )
    return as_array(name, values)
