"""The 3-D convolution layer."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.arguments import LayerArguments, Size, layer_arguments
from lucid_core.arrays import is_dask
from lucid_core.errors import ArgumentError, ArgumentTypeError
from lucid_core.functional import conv3d, layer_of
from lucid_core.gradients import conv3d_backward
from lucid_core.nn.init import kaiming_bound, uniform
from lucid_core.nn.module import Array, Module, Parameter, boolean, in_memory
from lucid_core.tensors.devices import resolve

DTYPES = ("float16", "float32", "float64")


class Conv3d(Module):
    """3-D cross-correlation of (N, C, D, H, W), or of one volume (C, D, H, W).

    Sizes are an int or three (D, H, W). `padding` also takes "same" (stride 1; an odd total puts the extra voxel
    at the high end) or "valid"; `padding_mode` is zeros, reflect, replicate, circular, or symmetric
    and renormalize, which PyTorch does not have; `device` is "cpu" or None, or where torch is to compute: "cuda",
    "cuda:1", "metal"; `dtype` is float16, float32 (the default)
    or float64.

    `weight` (out_channels, in_channels / groups, K_D, K_H, K_W) starts Kaiming uniform, U(-b, b) with
    b = sqrt(6 / fan_in) (He et al., ICCV 2015); `bias` (out_channels,), or None, starts U(-c, c) with
    c = 1 / sqrt(fan_in); fan_in = in_channels / groups * K_D * K_H * K_W. `lucid_core.manual_seed` makes them
    the same again.

    Gradients are computed on the CPU, whatever the `device`; padding_mode "renormalize" has none. A call keeps of its
    input nothing but the shape where the weight requires no grad.

    Wrong arguments raise `ValueError` or `TypeError` here, not at the first call.

    >>> Conv3d(1, 16, 3, padding=1)
    Conv3d(1, 16, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        layer = layer_arguments(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        bias = boolean("bias", bias)
        self.in_channels = layer.in_channels
        self.out_channels = layer.out_channels
        self.kernel_size = layer.kernel_size
        self.stride = layer.stride
        self.padding = layer.padding
        self.dilation = layer.dilation
        self.groups = layer.groups
        self.padding_mode = layer.padding_mode
        self.device = "cpu" if device is None else str(resolve(str(device)))
        self.dtype = _dtype(dtype)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        fan_in = math.prod(shape[1:])
        self.weight = Parameter(uniform(shape, kaiming_bound(fan_in), self.dtype))
        self.bias = Parameter(uniform(shape[:1], 1 / math.sqrt(fan_in), self.dtype)) if bias else None

    @property
    def arguments(self) -> LayerArguments:
        """The checked arguments, as the weights and attributes have them now."""
        bias = None if self.bias is None else self.bias.data
        return layer_of(
            self.weight.data, bias, self.stride, self.padding, self.dilation, self.groups, self.padding_mode
        )

    def forward(self, x: npt.ArrayLike) -> Array:
        """Convolve x: see `lucid_core.conv3d`."""
        arguments = self.stride, self.padding, self.dilation, self.groups, self.padding_mode
        return conv3d(x, self.weight, self.bias, *arguments, device=self.device)

    def gradient(self, x: npt.ArrayLike, grad: npt.ArrayLike) -> Array:
        """Return the gradient of x, and add those of weight and bias: see `lucid_core.conv3d_backward`."""
        found = self._gradients(x, grad, "x", *self._learning())
        assert found is not None  # it was asked for
        return found

    def add_gradients(self, x: npt.ArrayLike, grad: npt.ArrayLike) -> None:
        """Add the gradients of weight and bias; that of x is not computed."""
        if self._learning():
            self._gradients(x, grad, *self._learning())

    def _learning(self) -> list[str]:
        """Return the names of the parameters that require grad."""
        own = {"weight": self.weight, "bias": self.bias}
        return [name for name, parameter in own.items() if parameter is not None and parameter.requires_grad]

    def _gradients(self, x: npt.ArrayLike, grad: npt.ArrayLike, *wanted: str) -> Array | None:
        """Add the gradients of the parameters that are wanted, and return that of x, or None where it is not."""
        if isinstance(x, _Forgotten) and "weight" in wanted:
            raise ArgumentError(
                "the weight requires grad only since the last call, which kept nothing of its input: call it again"
            )
        found = conv3d_backward(
            in_memory("grad", grad),
            in_memory("x", x),
            self.weight,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.padding_mode,
            wanted=wanted,
        )
        for parameter, one in ((self.weight, found.weight), (self.bias, found.bias)):
            if parameter is not None and one is not None:
                parameter.add_grad(one)
        return found.x

    def _needed(self, x: Any, out: Array) -> Any:
        """Return x, or its shape where the weight, whose gradient alone looks at x, requires no grad."""
        return x if self.weight.requires_grad or is_dask(x) else _Forgotten(np.shape(x), out.dtype)

    def extra_repr(self) -> str:
        """Return the arguments: the first five always, the others where they differ from the default."""
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}",
            f"stride={self.stride}, padding={self.padding}",
        ]
        parts += [f"dilation={self.dilation}"] if self.dilation != (1, 1, 1) else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        parts += ["bias=False"] if self.bias is None else []
        parts += [f"padding_mode={self.padding_mode}"] if self.padding_mode != "zeros" else []
        return ", ".join(parts)


class _Forgotten:
    """An input of which nothing is known but shape and dtype: an array of NaN that takes no memory."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.broadcast_to(np.array(np.nan, self.dtype), self.shape)


def _dtype(dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    """Return a layer's dtype, float32 by default; anything but a float of 16, 32 or 64 bits is refused."""
    try:
        given = np.dtype(np.float32 if dtype is None else dtype)
    except TypeError as error:
        raise ArgumentTypeError(f"dtype {dtype!r} is not known; legal: {', '.join(DTYPES)}") from error
    if given.name not in DTYPES:
        raise ArgumentError(f"dtype {given.name!r} is not a float of the layer; legal: {', '.join(DTYPES)}")
    return given.newbyteorder("=")
