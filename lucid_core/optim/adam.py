"""Adam."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from lucid_core.errors import ArgumentTypeError
from lucid_core.nn.module import Array, Parameter
from lucid_core.optim.optimizer import Optimizer, number


class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015), as `torch.optim.Adam` has it.

    With g the gradient, plus `weight_decay` times the parameter p, at step t: m = b1 * m + (1 - b1) * g and
    v = b2 * v + (1 - b2) * g**2, both from 0; p = p - lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps).
    `betas` is (b1, b2), each below 1. Steps are counted for each parameter by itself.

    >>> parameter = Parameter([1.0, 2.0])
    >>> optimizer = Adam([parameter], lr=0.5)
    >>> parameter.add_grad(np.array([3.0, -0.1]))
    >>> optimizer.step()
    >>> parameter.data.round(6).tolist()
    [0.5, 2.5]
    """

    arguments = ("lr", "betas", "eps", "weight_decay")
    kept = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ArgumentTypeError(f"betas must be two numbers, such as (0.9, 0.999), not {betas!r}")
        self.betas = number("the first of betas", betas[0], 1), number("the second of betas", betas[1], 1)
        self.eps = number("eps", eps)

    def _moved(self, value: Array, grad: Array, kept: dict[str, Any]) -> Array:
        first, second = self.betas
        step = kept["step"] = kept.get("step", 0) + 1
        mean = kept["exp_avg"] = first * kept.get("exp_avg", 0.0) + (1 - first) * grad
        square = kept["exp_avg_sq"] = second * kept.get("exp_avg_sq", 0.0) + (1 - second) * (grad * grad)
        root = np.sqrt(square) / math.sqrt(1 - second**step) + self.eps
        moved: Array = value - self.lr / (1 - first**step) * (mean / root)
        return moved
