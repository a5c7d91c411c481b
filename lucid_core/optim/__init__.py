"""Optimizers: what turns the gradients of parameters into better parameters."""

from lucid_core.optim.adam import Adam
from lucid_core.optim.optimizer import Optimizer
from lucid_core.optim.sgd import SGD

__all__ = ["SGD", "Adam", "Optimizer"]
