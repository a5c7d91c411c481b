"""Optimizers: what turns the gradients of parameters into better parameters.

Example, a layer that learns to double::

    >>> import numpy as np
    >>> from lucid_core import losses, nn
    >>> net = nn.Sequential(nn.Conv3d(1, 1, 1))
    >>> x = np.linspace(-1, 1, 27, dtype=np.float32).reshape(1, 1, 3, 3, 3)
    >>> optimizer = Adam(net.parameters(), lr=0.05)
    >>> for _ in range(200):
    ...     values = net.values(x)
    ...     loss, gradient = losses.mse(values[-1], 2 * x)
    ...     optimizer.zero_grad()
    ...     net.add_gradients(x, gradient, values)
    ...     optimizer.step()
    >>> net[0].weight.data.round(2).item()
    2.0
"""

from lucid_core.optim.adam import Adam
from lucid_core.optim.optimizer import Optimizer
from lucid_core.optim.sgd import SGD

__all__ = ["SGD", "Adam", "Optimizer"]
