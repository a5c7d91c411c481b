"""The layers and volumes that are timed: built-in ones, and a layer of the command line on a file's shape."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.formats import parse_spec
from lucid_cli.job import prepare
from lucid_cli.layer import Layer, recipe
from lucid_cli.settings import Settings
from lucid_cli.talk import say
from lucid_core.arguments import LayerArguments, Size, layer_arguments, triple
from lucid_core.errors import ArgumentError
from lucid_core.factors import factors
from lucid_core.kernels import taps
from lucid_core.padding import RENORMALIZE
from lucid_core.problem import ConvProblem, conv_problem
from lucid_core.registry import choose
from lucid_core.volume import Shape5

Array = npt.NDArray[Any]
QUICK = 32
"""Voxels an axis at most with `--quick`."""


@dataclass(frozen=True, eq=False)
class Workload:
    """A layer on volumes of one shape. Weights of None are random, and so are all volumes."""

    name: str
    shape: Shape5
    layer: LayerArguments
    weight: Array | None = None
    bias: Array | None = None
    dtype: str = "float32"

    @property
    def problem(self) -> ConvProblem:
        """What the planner sees."""
        separable = self.weight is not None and factors(self.weight) is not None
        return conv_problem(self.shape, self.layer, bias=self.bias is not None, dtype=self.dtype, separable=separable)

    @property
    def sizes(self) -> str:
        """The volumes, such as 64x64x64 or, of a batch, 4 of 64x64x64."""
        sizes = "x".join(map(str, self.shape[2:]))
        return sizes if self.shape[0] == 1 else f"{self.shape[0]} of {sizes}"

    def __str__(self) -> str:
        layer = self.layer
        extras = {"stride": _short(layer.stride), "dilation": _short(layer.dilation), "groups": str(layer.groups)}
        shown = [f"{name} {value}" for name, value in extras.items() if value != "1"]
        shown += ["separable"] if self.problem.separable else []
        channels = f"{layer.in_channels}->{layer.out_channels}"
        return ", ".join([channels, f"kernel {_short(layer.kernel_size)}", self.sizes, *shown])

    def small(self) -> "Workload":
        """Return the same layer on volumes of at most `QUICK` voxels an axis."""
        n, c, *sizes = self.shape
        d, h, w = (min(size, QUICK) for size in sizes)
        return replace(self, shape=(n, c, d, h, w))

    def arrays(self) -> tuple[Array, Array]:
        """Return the volumes and the weights, the same every time."""
        rng = np.random.default_rng(0)
        layer, dtype = self.layer, np.dtype(self.dtype)
        x = rng.standard_normal(self.shape, np.float32).astype(dtype, copy=False)
        if self.weight is not None:
            return x, self.weight
        shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        return x, rng.standard_normal(shape, np.float32).astype(dtype, copy=False)


def _short(sizes: tuple[int, int, int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else "x".join(map(str, sizes))


def _workload(
    name: str,
    channels: tuple[int, int],
    kernel: Size,
    size: Size,
    *,
    batch: int = 1,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    weight: Array | None = None,
) -> Workload:
    """Return a workload with the pads that keep the size at stride 1."""
    padding = tuple(dilation * (k - 1) // 2 for k in triple("kernel_size", kernel, 1))
    layer = layer_arguments(*channels, kernel, stride, padding, dilation, groups)
    return Workload(name, (batch, channels[0], *triple("size", size, 1)), layer, weight)


MNI = (181, 217, 181)
"""Voxels of the MNI152 brain at 1 mm."""
GAUSSIAN = taps("gaussian", sigma=(1.0, 1.0, 1.0)).astype(np.float32)[np.newaxis, np.newaxis]
"""9 taps an axis."""
WORKLOADS = (
    _workload("1-1-k3", (1, 1), 3, 256),
    _workload("1-1-k9", (1, 1), 9, 192),
    _workload("1-16-k3", (1, 16), 3, 128),
    _workload("16-32-k3-s2", (16, 32), 3, 96, stride=2),
    _workload("32-32-k3", (32, 32), 3, 64),
    _workload("64-64-k3", (64, 64), 3, 32),
    _workload("depthwise-32-k3", (32, 32), 3, 96, groups=32),
    _workload("16-16-k3-d2", (16, 16), 3, 96, dilation=2),
    _workload("32-64-k1", (32, 64), 1, 96),
    _workload("16-16-k1x3x3", (16, 16), (1, 3, 3), (32, 112, 112)),
    _workload("1-8-k5", (1, 8), 5, 128),
    _workload("8-8-k3-s2", (8, 8), 3, 128, stride=2),
    _workload("48-48-k3", (48, 48), 3, 40),
    _workload("depthwise-64-k5", (64, 64), 5, 48, groups=64),
    _workload("16-16-k3-d3", (16, 16), 3, 64, dilation=3),
    _workload("16-16-k5x1x1", (16, 16), (5, 1, 1), 64),
    _workload("1-1-k3-mni", (1, 1), 3, MNI),
    _workload("8-8-k3-mni", (8, 8), 3, MNI),
    _workload("batch-4-16-16-k3", (16, 16), 3, 48, batch=4),
    _workload("separable-k9", (1, 1), 9, 256, weight=GAUSSIAN),
)


def built_in(names: tuple[str, ...]) -> list[Workload]:
    """Return the built-in workloads of these names."""
    found = {load.name: load for load in WORKLOADS}
    return [found[choose("workload", name, found)] for name in names]


def of_inputs(inputs: tuple[str, ...], settings: Settings) -> list[Workload]:
    """Return the layer of the settings on the shape of each input, of which only the header is read."""
    if settings.layers or settings.mask or settings.nan != "propagate" or settings.padding_mode == RENORMALIZE:
        raise ArgumentError("bench times one plain convolution: no layers, no mask, nothing renormalized")
    made = recipe(settings)
    loads = []
    for text in inputs:
        with ExitStack() as stack:
            job = prepare(parse_spec(text), None, made, stack)
            problem, layer = job.plan.problem, job.layer
            assert isinstance(layer, Layer)
            for warning in job.inputs.warnings:
                say(f"Warning: {warning}")
            loads.append(Workload(text, problem.in_shape, layer.arguments, layer.weight, layer.bias, problem.dtype))
    return loads
