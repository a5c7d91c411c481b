"""Named kernels, one a module: each has a `KERNEL` that is a `NamedKernel`.

A kernel is made in voxels: lengths were converted with the spacing of the volume before. What every member
promises, and `tests/contracts/test_kernels.py` checks: taps are a float64 array (K_D, K_H, K_W), or (B, K_D, K_H, K_W)
for a bank of B filters, the same for the same options; only the options a kernel declares are taken;
cross-correlation, so an asymmetric kernel is not flipped; derivatives are per voxel. The first line of a module's
documentation says what its kernel is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ArgumentError, LimitError
from lucid_core.registry import choose, members

Taps = npt.NDArray[Any]


@dataclass(frozen=True)
class NamedKernel:
    """A kernel known by name."""

    name: str
    options: tuple[str, ...]
    """Options it takes; lengths are numbers of voxels along D, H, W."""
    make: Callable[..., Taps]
    """Returns the taps (K_D, K_H, K_W), or a bank (B, K_D, K_H, K_W), from those options that were given."""
    pools: bool = False
    """Whether, unless said otherwise, blocks of the kernel's size lie side by side and reduce the grid."""


MOST_TAPS = 1 << 24
"""A kernel with more taps is refused before it is made."""


def bounded(size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of a kernel, or raise `LimitError` where it has more taps than `MOST_TAPS`."""
    if math.prod(size) > MOST_TAPS:
        shown = "x".join(map(str, size))
        raise LimitError(f"a kernel of {shown} voxels takes too much memory; legal: at most {MOST_TAPS} taps")
    return size


AXES = {"D": (0,), "H": (1,), "W": (2,), "z": (0,), "y": (1,), "x": (2,), "all": (0, 1, 2)}
"""Axes by their names; `all` is a bank of three filters, along D, H and W."""


def outer(*axes: npt.ArrayLike) -> Taps:
    """Return the product of 1-D kernels along D, H and W."""
    return reduce(np.multiply.outer, [np.asarray(axis, np.float64) for axis in axes])


def differences(axis: str, along: npt.ArrayLike, across: npt.ArrayLike) -> Taps:
    """Return one 1-D kernel along an axis of `AXES` and another along the other two; a bank of three for `all`."""
    places = AXES[choose("axis", axis, AXES)]
    bank = [outer(*(along if one == place else across for place in range(3))) for one in places]
    return bank[0] if len(bank) == 1 else np.stack(alike(*bank))


def alike(*filters: Taps) -> list[Taps]:
    """Return filters of odd sizes with zeros around them, so that they have one size and one centre."""
    size = np.max([one.shape for one in filters], axis=0)
    return [np.pad(one, [(spare, spare) for spare in (size - one.shape) // 2]) for one in filters]


def kernels() -> dict[str, NamedKernel]:
    """Return every named kernel."""
    return {name: module.KERNEL for name, module in members(__name__).items()}


def named_kernel(name: str) -> NamedKernel:
    """Return the kernel `name`, or raise `ArgumentError` with the names there are and the nearest."""
    return kernels()[choose("kernel", name, kernels())]


def taps(name: str, **options: Any) -> Taps:
    """Return the taps (K_D, K_H, K_W), float64, of a named kernel, or (B, K_D, K_H, K_W) of a bank of filters.

    Raises `ArgumentError` for an unknown kernel, for an option it does not take and for one it needs.

    >>> taps("box", size=(1, 1, 2))
    array([[[0.5, 0.5]]])
    """
    kernel = named_kernel(name)
    for option in options:
        check_option(kernel, option)
    return kernel.make(**options)


def check_option(kernel: NamedKernel, option: str) -> None:
    """Raise `ArgumentError` for an option that a kernel does not take."""
    if option not in kernel.options:
        legal = f"it takes {', '.join(kernel.options)}" if kernel.options else "it takes no options"
        raise ArgumentError(f"the kernel {kernel.name!r} has no {option}: {legal}")
