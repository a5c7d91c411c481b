"""What optimizers share: their parameters, the step of each, and a state that an `.npz` file holds."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lucid_core.arguments import integer
from lucid_core.arrays import as_array
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from lucid_core.nn.module import Parameter
from lucid_core.volume import arithmetic_dtype

Array = npt.NDArray[Any]


class Optimizer(ABC):
    """The base of optimizers. The arguments are attributes, which may be changed between steps: `optimizer.lr = 1e-4`.

    A parameter given twice is taken once. Those of float16 are computed in float32, and rounded at the end of a step.
    """

    arguments: ClassVar[tuple[str, ...]]
    """Names of the arguments of the constructor, which are attributes too."""
    kept: ClassVar[tuple[str, ...]]
    """Names of what is kept of each parameter from step to step: arrays of its shape, and the number "step"."""

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float) -> None:
        self.parameters = _checked(parameters)
        self.lr = number("lr", lr)
        self.weight_decay = number("weight_decay", weight_decay)
        self._kept: list[dict[str, Any]] = [{} for _ in self.parameters]

    @abstractmethod
    def _moved(self, value: Array, grad: Array, kept: dict[str, Any]) -> Array:
        """Return a parameter after a step, in a new array, and change what is kept of it."""

    def step(self) -> None:
        """Give each parameter that has a gradient its next values, in a new array `data`; leave the others alone."""
        for parameter, kept in zip(self.parameters, self._kept, strict=True):
            if parameter.grad is None:
                continue
            if parameter.grad.shape != parameter.shape:
                raise ShapeError(f"grad has shape {parameter.grad.shape}, and its parameter {parameter.shape}")
            dtype = arithmetic_dtype(parameter.dtype)
            value, grad = parameter.data.astype(dtype), parameter.grad.astype(dtype)
            with np.errstate(all="ignore"):
                grad = grad + self.weight_decay * value if self.weight_decay else grad
                parameter.data = np.asarray(self._moved(value, grad, kept)).astype(parameter.dtype)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the arguments by name, and of what is kept of parameter i as `name.i`: numbers and arrays.

        `numpy.savez(path, **optimizer.state_dict())` keeps it, `optimizer.load_state_dict(numpy.load(path))` goes on.
        """
        state = {name: getattr(self, name) for name in self.arguments}
        for index, kept in enumerate(self._kept):
            state |= {f"{name}.{index}": value.copy() if name != "step" else value for name, value in kept.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state, all or nothing of it. The parameters stay: they are in the `state_dict` of the layers.

        Raises `ArgumentError` for a name missing or not known and for a wrong argument, `ShapeError` for an array that
        does not fit its parameter.
        """
        if not isinstance(state, Mapping):
            raise ArgumentTypeError(f"state_dict must be a mapping of names to values, not {type(state).__name__}")
        given = {name: as_array(name, state[name]) for name in state}
        legal = [f"{name}.{index}" for index in range(len(self.parameters)) for name in self.kept]
        unknown = sorted(given.keys() - {*self.arguments, *legal})
        missing = [name for name in self.arguments if name not in given]
        started = {name.rpartition(".")[2] for name in given if name in legal}
        missing += [name for name in legal if name.rpartition(".")[2] in started and name not in given]
        if missing or unknown:
            raise ArgumentError(
                f"state_dict does not fit {type(self).__name__} of {len(self.parameters)} parameters: "
                f"missing {missing}, unknown {unknown}"
            )
        fresh = type(self)(self.parameters, **{name: given[name].tolist() for name in self.arguments})
        for name in given.keys() - set(self.arguments):
            kind, _, index = name.rpartition(".")
            fresh._kept[int(index)][kind] = _fitting(name, given[name], self.parameters[int(index)])
        vars(self).update(vars(fresh))


def number(name: str, value: Any, below: float = math.inf) -> float:
    """Return a number from 0 to `below`, that excluded, as a float, else raise `ArgumentError`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(f"{name} must be a number, not {value!r}")
    if not 0 <= value < below:
        raise ArgumentError(f"{name} must be at least 0 and below {below:g}, not {value!r}")
    return float(value)


def _checked(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Return the parameters, each once, or raise `ArgumentError`."""
    if isinstance(parameters, Parameter) or not isinstance(parameters, Iterable):
        raise ArgumentTypeError(
            f"parameters must be an iterable of them, such as layer.parameters(), not {type(parameters).__name__}"
        )
    found = list({id(one): one for one in parameters}.values())
    if not found:
        raise ArgumentError("there are no parameters: an optimizer needs at least one")
    for one in found:
        if not isinstance(one, Parameter):
            raise ArgumentTypeError(f"parameters must be of lucid_core.nn.Parameter, not {type(one).__name__}")
        if one.dtype.kind != "f" or one.dtype.itemsize > 8:
            raise ArgumentTypeError(f"a parameter of dtype {one.dtype} cannot learn; legal: float16, float32, float64")
    return found


def _fitting(name: str, value: Array, parameter: Parameter) -> Any:
    """Return what is kept of a parameter from the value of a state, or raise `ArgumentError`."""
    if name.startswith("step."):
        return integer(name, value.tolist(), 1)
    if value.dtype.kind != "f":
        raise ArgumentTypeError(f"{name} has dtype {value.dtype}; legal: floats")
    if value.shape != parameter.shape:
        raise ShapeError(f"{name} has shape {value.shape}, and its parameter {parameter.shape}")
    return value.astype(arithmetic_dtype(parameter.dtype))
