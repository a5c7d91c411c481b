"""The arguments of a Conv3d by themselves: what can be wrong without seeing a volume is refused here."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from lucid_core.padding import padding_mode
from lucid_core.regions import Triple

AXES = ("D", "H", "W")
MOST = 2**62
"""Largest integer an argument may be: strides beyond it overflow."""
Size = int | Sequence[int]
"""An int for all three axes, or one for each of D, H, W."""
Pads = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Voxels added below and above each axis."""


@dataclass(frozen=True)
class LayerArguments:
    """The arguments of a Conv3d, checked by themselves: what can be wrong without seeing a volume is refused here."""

    in_channels: int
    out_channels: int
    kernel_size: Triple
    stride: Triple
    padding: Triple | str
    dilation: Triple
    groups: int
    padding_mode: str

    @property
    def pads(self) -> Pads:
        """Voxels added below and above each axis; the odd voxel of an even kernel's "same" goes above."""
        d, h, w = (self._axis_pads(axis) for axis in range(3))
        return d, h, w

    def _axis_pads(self, axis: int) -> tuple[int, int]:
        if self.padding == "valid":
            return 0, 0
        if isinstance(self.padding, str):
            total = self.dilation[axis] * (self.kernel_size[axis] - 1)
            return total // 2, total - total // 2
        return self.padding[axis], self.padding[axis]


def layer_arguments(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode_name: str = "zeros",
    *,
    strided_same: bool = False,
) -> LayerArguments:
    """Check the arguments of a Conv3d and return them with every size as a triple (D, H, W).

    `strided_same` admits "same" with a stride (the pads are those of stride 1): a named kernel keeps its grid so.
    Raises `ArgumentError`, `ArgumentTypeError` for a wrong type, `ShapeError` for channels that do not divide.
    """
    arguments = LayerArguments(
        integer("in_channels", in_channels, 1),
        integer("out_channels", out_channels, 1),
        triple("kernel_size", kernel_size, 1),
        triple("stride", stride, 1),
        _padding(padding),
        triple("dilation", dilation, 1),
        integer("groups", groups, 1),
        padding_mode(padding_mode_name),
    )
    for name, channels in (("in_channels", arguments.in_channels), ("out_channels", arguments.out_channels)):
        if channels % arguments.groups:
            raise ShapeError(
                f"groups={arguments.groups} does not divide {name}={channels}; "
                f"legal: {', '.join(map(str, _divisors(arguments.in_channels, arguments.out_channels)))}"
            )
    if arguments.padding == "same" and arguments.stride != (1, 1, 1) and not strided_same:
        raise ArgumentError(
            f"padding='same' needs stride 1, not {arguments.stride}; give the padding as numbers, "
            f"for the pads of stride 1: {tuple(lo for lo, _ in arguments.pads)}"
        )
    return arguments


def integer(name: str, value: Any, least: int) -> int:
    """Return `value` as an int from `least` to `MOST`, else raise `ArgumentTypeError` or `ArgumentError`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ArgumentTypeError(f"{name} must be an integer, not {value!r}") from None
    if number < least:
        raise ArgumentError(f"{name} must be at least {least}, not {number}")
    if number > MOST:
        raise ArgumentError(f"{name} must be at most 2**62, not {number}")
    return number


def triple(name: str, value: Any, least: int) -> Triple:
    """Return an int or three of them (D, H, W) as a triple, each at least `least`."""
    if isinstance(value, (tuple, list)):
        if len(value) != 3:
            raise ArgumentError(f"{name} must be one integer or three (D, H, W), not {len(value)}: {value!r}")
        d, h, w = (integer(f"{name} along {axis}", v, least) for axis, v in zip(AXES, value, strict=True))
        return d, h, w
    number = integer(name, value, least)
    return number, number, number


def _padding(value: Any) -> Triple | str:
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise ArgumentError(f"padding must be an integer, three (D, H, W), 'same' or 'valid', not {value!r}")
        return value
    return triple("padding", value, 0)


def _divisors(first: int, second: int) -> list[int]:
    common = math.gcd(first, second)
    return [n for n in range(1, min(common, 1024) + 1) if common % n == 0]
