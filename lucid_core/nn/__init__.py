"""Layers: a layer holds weights, and its call is one line."""

from lucid_core.nn.conv import Conv3d
from lucid_core.nn.elementwise import Abs, Argmax, Clip, LeakyReLU, Magnitude, ReLU, Scale
from lucid_core.nn.module import Module, Parameter
from lucid_core.nn.sequential import Sequential

__all__ = [
    "Abs",
    "Argmax",
    "Clip",
    "Conv3d",
    "LeakyReLU",
    "Magnitude",
    "Module",
    "Parameter",
    "ReLU",
    "Scale",
    "Sequential",
]
