"""Synthetic volumes: the same bytes every time, for trying things out and for tests."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.axes import output_axes
from lucid_cli.formats import SUFFIXES, format_of, parse_spec
from lucid_cli.output import check_far, check_memory, check_target, written
from lucid_cli.sink import CastingWriter, out_dtype
from lucid_cli.volumes import Target
from lucid_core.arguments import triple
from lucid_core.geometry import affine_of
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region, Triple
from lucid_core.registry import choose
from lucid_core.units import Length

Array = npt.NDArray[Any]

ELLIPSOIDS = (
    (1000.0, (0.0, 0.0, 0.0), (0.92, 0.72, 0.69)),
    (-700.0, (0.0, 0.0, 0.0), (0.86, 0.66, 0.62)),
    (-150.0, (0.0, 0.0, 0.24), (0.36, 0.32, 0.12)),
    (-150.0, (0.0, 0.0, -0.24), (0.42, 0.36, 0.16)),
    (250.0, (0.1, -0.35, 0.0), (0.22, 0.18, 0.24)),
    (120.0, (-0.3, 0.25, 0.1), (0.08, 0.08, 0.08)),
)
"""The phantom: a value added inside each ellipsoid with this centre and these half axes (D, H, W; the box is -1 to 1).
A shell, an inside, two hollows and two bodies, as in a head (after Shepp and Logan, IEEE Trans. Nucl. Sci. 1974)."""


def phantom(shape: Triple, seed: int) -> Array:  # noqa: ARG001 - only noise has a seed
    """Return nested ellipsoids with values from 0 to 1000."""
    grid = np.ogrid[tuple(slice(-1, 1, count * 1j) if count > 1 else slice(0, 1, 1j) for count in shape)]
    volume = np.zeros(shape)
    for value, centre, axes in ELLIPSOIDS:
        distance = sum(((x - c) / a) ** 2 for x, c, a in zip(grid, centre, axes, strict=True))
        volume[distance <= 1] += value
    return volume


def ramp(shape: Triple, seed: int) -> Array:  # noqa: ARG001
    """Return d + 2h + 4w + 1: a linear volume, on which a normalised symmetric kernel changes nothing inside."""
    d, h, w = np.ogrid[tuple(slice(count) for count in shape)]
    volume: Array = 1.0 + d + 2 * h + 4 * w
    return volume


def impulse(shape: Triple, seed: int) -> Array:  # noqa: ARG001
    """Return zeros with a one at the centre: convolved, it shows the kernel, mirrored."""
    volume = np.zeros(shape)
    volume[tuple(count // 2 for count in shape)] = 1
    return volume


def checkerboard(shape: Triple, seed: int) -> Array:  # noqa: ARG001
    """Return cubes of 8 voxels of 0 and 100."""
    d, h, w = np.ogrid[tuple(slice(count) for count in shape)]
    board: Array = 100.0 * ((d // 8 + h // 8 + w // 8) % 2)
    return board


def noise(shape: Triple, seed: int) -> Array:
    """Return normal noise of mean 100 and deviation 20."""
    return np.random.default_rng(seed).normal(100, 20, shape)


SAMPLE_COPIES = 3
"""Copies of a sample in float64 that making and casting it take."""

KINDS: dict[str, Callable[[Triple, int], Array]] = {
    "phantom": phantom,
    "ramp": ramp,
    "impulse": impulse,
    "checkerboard": checkerboard,
    "noise": noise,
}


def make_sample(kind: str, shape: Triple, channels: int, seed: int) -> Array:
    """Return (C, D, H, W), float64; channel c is the volume times c + 1, for noise one with the seed + c."""
    make = KINDS[choose("sample", kind, KINDS)]
    if kind == "noise":
        return np.stack([make(shape, seed + channel) for channel in range(channels)])
    return np.stack([make(shape, seed) * (channel + 1) for channel in range(channels)])


def write_sample(
    kind: str, output: str, *, shape: Any, channels: int, spacing: Length | None, dtype: str, seed: int, overwrite: bool
) -> None:
    """Write a sample as every output is written; values outside an integer type saturate."""
    spec = parse_spec(output)
    size = triple("shape", shape, 1)
    check_memory(8 * SAMPLE_COPIES * channels * math.prod(size), "the sample")
    volume = make_sample(kind, size, channels, seed)
    check_far(spec, overwrite)
    finals = [
        check_target(path, {}, overwrite, skips=False, is_folder=spec.is_folder) for path in format_of(spec).files(spec)
    ]
    format_name = SUFFIXES[spec.suffix]
    steps = (spacing or Length((1.0, 1.0, 1.0), "mm")).millimetres()
    target = Target(
        shape=(1, channels, *size),
        axes=output_axes(format_name, "npy", "zyx" if channels == 1 else "czyx", 1, channels),
        dtype=out_dtype(dtype, "clip", format_name),
        problem=ConvProblem(1, channels, channels, size, (1, 1, 1)),
        source=None,
        spacing=steps,
        affine=affine_of(steps),
        input_spacing=None,
        compression=None,
        chunks=None,
        shuffle=None,
        tile=size,
    )
    with written(spec, finals, target, overwrite) as sink:
        writer, region = CastingWriter(sink, target.dtype, "clip"), Region((0, 0, 0), size)
        writer.write(0, region, writer.encode(0, region, volume))
