"""A convolution as a problem: shapes and geometry, no data.

`ConvProblem` is built from legal arguments only: `conv_problem` joins checked ones with a shape and says where they do
not fit. Everything that follows from the shapes (output size, the input region of an output region, where output voxels
lie) is a method here, and nowhere else.
"""

import math
from dataclasses import dataclass, replace

from lucid_core.arguments import AXES, LayerArguments, Pads
from lucid_core.boundary import planes_read, voxels_read
from lucid_core.errors import ShapeError
from lucid_core.normalization import Normalization
from lucid_core.padding import RENORMALIZE, pad_fits, widest_pad
from lucid_core.regions import Region, Triple


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
    normalization: Normalization | None = None
    """What the result is divided by, None for a plain convolution."""

    @property
    def of_mask(self) -> "ConvProblem | None":
        """The convolution s(M) of what counts, None where no voxel is looked at."""
        if self.normalization is None or not self.normalization.of_voxels:
            return None
        plain = replace(self, bias=False, normalization=None)
        return plain if self.normalization.missing else replace(plain, in_channels=1, groups=1)

    @property
    def block_channels(self) -> int:
        """Channels of a padded block: of the input, then of M, then of the mask where M is more than that."""
        of_mask, normalization = self.of_mask, self.normalization
        if of_mask is None or normalization is None:
            return self.in_channels
        return self.in_channels + of_mask.in_channels + (normalization.mask and normalization.missing)

    @property
    def keeps_input(self) -> bool:
        """Whether nothing is changed in place in what is read, so that it may be a view of the caller's array."""
        return True

    @property
    def problems(self) -> "tuple[ConvProblem, ...]":
        """The convolutions of the problem: itself."""
        return (self,)

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

    def planes_read(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first and one past the last D plane that output planes are computed from, (0, 0) for none."""
        source = self.input_region(Region((start, 0, 0), (stop, 1, 1)))
        return planes_read(source, self.size, self.padding_mode)

    def work(self, out: Triple) -> float:
        """Return the work that an output box of shape `out` takes, halo included, in any unit: the voxels it reads."""
        return math.prod(self.block_shape(out))

    def reads(self, out: Region) -> Region:
        """Return the input voxels, a box inside the volume, that an output region is computed from.

        It reaches to a border behind which something is read. Where nothing is read it is the nearest voxel.
        """
        return voxels_read(self.input_region(out), self.size, self.padding_mode)


def conv_problem(
    in_shape: tuple[int, int, int, int, int],
    layer: LayerArguments,
    *,
    bias: bool = False,
    dtype: str = "float32",
    separable: bool = False,
    normalization: Normalization | None = None,
) -> ConvProblem:
    """Join checked layer arguments with an input of shape (N, C, D, H, W).

    With padding mode "renormalize" the border is zeros, and the result normalised by what lies inside.

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
        "zeros" if layer.padding_mode == RENORMALIZE else layer.padding_mode,
        bias,
        dtype,
        separable,
        normalization or (Normalization() if layer.padding_mode == RENORMALIZE else None),
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
