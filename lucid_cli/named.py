"""A named kernel from its options: lengths become voxels with the spacing of the volume that it meets."""

from dataclasses import dataclass, fields
from inspect import signature
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.settings import Settings
from lucid_core.errors import ArgumentError
from lucid_core.kernels import kernels, named_kernel, taps
from lucid_core.units import Length, Spacing

Array = npt.NDArray[Any]
WHOLE = ("size",)
"""Lengths that are rounded to whole voxels."""
NO_SUM = 1e-9
"""A sum below this share of the sum of magnitudes is 0: a kernel without a centre."""


@dataclass(frozen=True)
class Kernel:
    """The taps of a named kernel in voxels, and what they were made from."""

    name: str
    options: dict[str, Any]
    bank: Array
    """(B, K_D, K_H, K_W), float64; B is 1 but for a bank."""
    pools: bool

    @property
    def size(self) -> tuple[int, int, int]:
        """Voxels along D, H, W."""
        _, d, h, w = self.bank.shape
        return d, h, w

    @property
    def stride(self) -> int | tuple[int, int, int]:
        """The stride, unless another is said."""
        return self.size if self.pools else 1

    @property
    def changes_nothing(self) -> bool:
        """Whether it is one tap of 1: every voxel comes out as it was."""
        return bool(self.bank.size == 1 and self.bank.item() == 1)

    def to_json(self) -> dict[str, Any]:
        """Return what the report holds: sizes in voxels along D, H, W; a list a filter where there are several."""
        sums, centres = [float(one.sum()) for one in self.bank], [centre(one) for one in self.bank]
        several = len(sums) > 1
        return {
            "name": self.name,
            "options": {name: list(one) if isinstance(one, tuple) else one for name, one in self.options.items()},
            "size": list(self.size),
            "radius": [(count - 1) / 2 for count in self.size],
            "sum": sums if several else sums[0],
            "centre": centres if several else centres[0],
        }


def centre(filters: Array) -> list[float] | None:
    """Return the centroid of taps (K_D, K_H, K_W) in voxels from their middle, None where they sum to 0."""
    total = filters.sum()
    if abs(total) <= NO_SUM * np.abs(filters).sum():
        return None
    along = [filters.sum(axis=(1, 2)), filters.sum(axis=(0, 2)), filters.sum(axis=(0, 1))]
    places = [np.arange(len(one)) - (len(one) - 1) / 2 for one in along]
    return [round(float(at @ one / total), 9) + 0.0 for at, one in zip(places, along, strict=True)]


def made(settings: Settings, spacing: Spacing | None) -> Kernel:
    """Make the kernel that the settings name, for a volume with this spacing."""
    kernel = named_kernel(str(settings.kernel))
    options = {name: _in_voxels(name, value, spacing) for name, value in given_options(settings).items()}
    if "axis" in kernel.options:
        options = {"axis": signature(kernel.make).parameters["axis"].default} | options
    filters = taps(kernel.name, **options)
    return Kernel(kernel.name, options, filters if filters.ndim == 4 else filters[np.newaxis], kernel.pools)


def too_narrow(settings: Settings, kernel: Kernel) -> tuple[str, ...]:
    """Return a warning of a kernel whose lengths are below a voxel, unless one that does nothing was asked for."""
    asked = kernel.name == "identity" or (settings.size is not None and settings.size.unit == "vox")
    if asked or not kernel.changes_nothing:
        return ()
    said = [(name, value) for name, value in given_options(settings).items() if isinstance(value, Length)]
    lengths = "".join(f" --{name} {value}" for name, value in said)
    return (f"--kernel {kernel.name}{lengths}: the kernel is one voxel: it changes nothing; give a greater length",)


def given_options(settings: Settings) -> dict[str, Any]:
    """Return the options of kernels that are given."""
    known = {option for kernel in kernels().values() for option in kernel.options}
    values = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name in known}
    return {name: value for name, value in values.items() if value is not None}


def _in_voxels(name: str, value: Any, spacing: Spacing | None) -> Any:
    """Return an option as `taps` takes it: lengths in voxels, exact but for whole sizes; one order alone is refused."""
    if name == "order" and isinstance(value, int):
        raise ArgumentError(
            f"--order {value}: a derivative needs its order along each of D, H, W; give three, such as 0,0,{value or 1}"
        )
    if not isinstance(value, Length):
        return value
    d, h, w = value.voxels(spacing)
    return tuple(_whole(value, one) for one in (d, h, w)) if name in WHOLE else (d, h, w)


def _whole(size: Length, voxels: float) -> int:
    if size.unit == "vox" and voxels != int(voxels):
        raise ArgumentError(f"--size {size}: a kernel has whole voxels, not {voxels:g}")
    return max(1, int(voxels + 0.5))


def rounded(weights: Array, dtype: np.dtype[Any]) -> Array:
    """Return weights or bias in the arithmetic dtype; values beyond its range are refused."""
    with np.errstate(over="ignore"):
        made_of = weights.astype(dtype)
    if not np.isfinite(made_of).all():
        raise ArgumentError(f"the weights hold values beyond {dtype}; give --dtype float64")
    return made_of
