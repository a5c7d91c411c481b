"""Layers: a layer holds weights, and its call is one line."""

from lucid_core.nn.conv import Conv3d
from lucid_core.nn.module import Module, Parameter

__all__ = ["Conv3d", "Module", "Parameter"]
