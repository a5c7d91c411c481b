"""Gradient descent with momentum."""

from collections.abc import Iterable
from typing import Any

from lucid_core.errors import ArgumentError
from lucid_core.nn.module import Array, Parameter, boolean
from lucid_core.optim.optimizer import Optimizer, number


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Sutskever et al., ICML 2013), as `torch.optim.SGD` has it.

    With g the gradient, plus `weight_decay` times the parameter p: v = momentum * v + (1 - dampening) * g, at the first
    step v = g; then p = p - lr * v, or with `nesterov` p - lr * (g + momentum * v).

    >>> import numpy as np
    >>> parameter = Parameter([1.0, 2.0])
    >>> optimizer = SGD([parameter], lr=0.5)
    >>> parameter.add_grad(np.array([1.0, -1.0]))
    >>> optimizer.step()
    >>> parameter.data.tolist()
    [0.5, 2.5]
    """

    arguments = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
    kept = ("momentum_buffer",)

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = number("momentum", momentum)
        self.dampening = number("dampening", dampening)
        self.nesterov = boolean("nesterov", nesterov)
        if self.nesterov and (not self.momentum or self.dampening):
            raise ArgumentError(
                f"nesterov needs a momentum and dampening 0, not momentum={self.momentum:g}, "
                f"dampening={self.dampening:g}"
            )

    def _moved(self, value: Array, grad: Array, kept: dict[str, Any]) -> Array:
        if not self.momentum:
            return value - self.lr * grad
        velocity = grad
        if kept:
            velocity = self.momentum * kept["momentum_buffer"] + (1 - self.dampening) * grad
        kept["momentum_buffer"] = velocity
        step = grad + self.momentum * velocity if self.nesterov else velocity
        return value - self.lr * step
