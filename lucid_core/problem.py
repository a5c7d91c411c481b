"""A convolution as a problem: shapes and geometry, no data.

`ConvProblem` is built from legal arguments only: `conv_problem` checks them and says what is wrong. Everything
that follows from the shapes (output size, the input region of an output region, where output voxels lie) is a
method here, and nowhere else.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from lucid_core.padding import pad_fits, padding_mode, widest_pad
from lucid_core.regions import Region, Triple

AXES = ("D", "H", "W")
MOST = 2**62
"""Largest integer an argument may be: strides beyond it overflow."""
Size = int | Sequence[int]
"""An int for all three axes, or one for each of D, H, W."""
Pads = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Voxels added below and above each axis."""


@dataclass(frozen=True)
class ConvProblem:
    """A 3-D cross-correlation of a batch of volumes (N, C, D, H, W), its arguments already checked."""

    batch: int
    in_channels: int
    out_channels: int
    size: Triple
    kernel_size: Triple
    stride: Triple = (1, 1, 1)
    pads: Pads = ((0, 0), (0, 0), (0, 0))
    dilation: Triple = (1, 1, 1)
    groups: int = 1
    padding_mode: str = "zeros"
    bias: bool = False
    dtype: str = "float32"
    separable: bool = False
    """Whether every filter of the weights is a product of three 1-D kernels, closely enough (see `factors`)."""

    @property
    def taps(self) -> int:
        """Voxels of one kernel."""
        return math.prod(self.kernel_size)

    @property
    def terms(self) -> int:
        """Products summed for one output voxel: K of the error bounds."""
        return self.in_channels // self.groups * self.taps

    @property
    def padded_size(self) -> Triple:
        """Voxels along D, H, W with the pads."""
        d, h, w = (n + lo + hi for n, (lo, hi) in zip(self.size, self.pads, strict=True))
        return d, h, w

    @property
    def out_size(self) -> Triple:
        """Output voxels along D, H, W: floor((X + 2p - d(k-1) - 1) / s + 1)."""
        d, h, w = (
            (padded - dilation * (k - 1) - 1) // stride + 1
            for padded, k, stride, dilation in zip(
                self.padded_size, self.kernel_size, self.stride, self.dilation, strict=True
            )
        )
        return d, h, w

    @property
    def in_shape(self) -> tuple[int, int, int, int, int]:
        """Shape (N, C, D, H, W) of the input."""
        return (self.batch, self.in_channels, *self.size)

    @property
    def padded_shape(self) -> tuple[int, int, int, int, int]:
        """Shape (N, C, D, H, W) of the padded input, which never exists as a whole."""
        return (self.batch, self.in_channels, *self.padded_size)

    @property
    def out_shape(self) -> tuple[int, int, int, int, int]:
        """Shape (N, C, D, H, W) of the output."""
        return (self.batch, self.out_channels, *self.out_size)

    @property
    def parameters(self) -> int:
        """Numbers in the weights and the bias."""
        return self.out_channels * self.terms + (self.out_channels if self.bias else 0)

    @property
    def macs(self) -> int:
        """Multiplications and additions of the definition."""
        return math.prod(self.out_shape) * self.terms

    @property
    def halo(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Input voxels that a tile needs below and above those its own outputs start at."""
        d, h, w = (
            (lo, max(dilation * (k - 1) - lo, 0))
            for (lo, _), k, dilation in zip(self.pads, self.kernel_size, self.dilation, strict=True)
        )
        return d, h, w

    @property
    def centre_shift(self) -> tuple[float, float, float]:
        """b = d(k-1)/2 - lo per axis: output voxel o is centred on input index s*o + b."""
        d, h, w = (
            dilation * (k - 1) / 2 - lo
            for (lo, _), k, dilation in zip(self.pads, self.kernel_size, self.dilation, strict=True)
        )
        return d, h, w

    def block_shape(self, out: Triple) -> Triple:
        """Return the input voxels, pads included, that an output box of shape `out` is computed from."""
        d, h, w = (
            (count - 1) * stride + dilation * (k - 1) + 1
            for count, stride, k, dilation in zip(out, self.stride, self.kernel_size, self.dilation, strict=True)
        )
        return d, h, w

    def input_region(self, out: Region) -> Region:
        """Return the input region, which may reach into the pads, that an output region is computed from."""
        d, h, w = (
            start * stride - lo for start, stride, (lo, _) in zip(out.start, self.stride, self.pads, strict=True)
        )
        extent = self.block_shape(out.shape)
        return Region((d, h, w), (d + extent[0], h + extent[1], w + extent[2]))


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


def conv_problem(
    in_shape: tuple[int, int, int, int, int],
    layer: LayerArguments,
    *,
    bias: bool = False,
    dtype: str = "float32",
    separable: bool = False,
) -> ConvProblem:
    """Join checked layer arguments with an input of shape (N, C, D, H, W).

    Raises `ShapeError` where they do not fit: channels, a kernel larger than the padded input, a pad too wide.
    """
    batch, channels, *size = in_shape
    if channels != layer.in_channels:
        raise ShapeError(
            f"the layer takes {layer.in_channels} input channels, but the input has {channels} "
            f"(shape {tuple(in_shape)} as N, C, D, H, W)"
        )
    problem = ConvProblem(
        batch,
        channels,
        layer.out_channels,
        (size[0], size[1], size[2]),
        layer.kernel_size,
        layer.stride,
        layer.pads,
        layer.dilation,
        layer.groups,
        layer.padding_mode,
        bias,
        dtype,
        separable,
    )
    for axis, name in enumerate(AXES):
        _check_axis(problem, axis, name)
    return problem


def _check_axis(problem: ConvProblem, axis: int, name: str) -> None:
    size, padded, mode = problem.size[axis], problem.padded_size[axis], problem.padding_mode
    kernel, dilation, pads = problem.kernel_size[axis], problem.dilation[axis], problem.pads[axis]
    extent = dilation * (kernel - 1) + 1
    if size < 1:
        raise ShapeError(f"the input has no voxels along {name}: its size is {problem.size} (D, H, W)")
    if not all(pad_fits(mode, pad, size) for pad in pads):
        raise ShapeError(
            f"padding {max(pads)} along {name} is too wide for padding_mode={mode!r}: the axis has {size} voxels, "
            f"so at most {widest_pad(mode, size)}; use a smaller padding, 'zeros' or 'replicate'"
        )
    if extent > padded:
        spread = f" (dilation {dilation} * ({kernel} - 1) + 1)" if dilation > 1 else ""
        raise ShapeError(
            f"the kernel is larger than the padded input along {name}: it spans {extent} voxels{spread}, "
            f"the input has {size} + {pads[0]} + {pads[1]} = {padded}; use a smaller kernel or more padding"
        )


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
