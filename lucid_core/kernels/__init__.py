"""Named kernels, one a module: each has a `KERNEL` that is a `NamedKernel`.

A kernel is made in voxels: lengths were converted with the spacing of the volume before. What every member
promises, and `tests/contracts/test_kernels.py` checks: taps are a float64 array (K_D, K_H, K_W), the same for the
same options; only the options a kernel declares are taken; cross-correlation, so an asymmetric kernel is not flipped.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from lucid_core.errors import ArgumentError, LimitError
from lucid_core.registry import choose, members

Taps = npt.NDArray[Any]


@dataclass(frozen=True)
class NamedKernel:
    """A kernel known by name."""

    name: str
    options: tuple[str, ...]
    """Options it takes, of `sigma`, `fwhm`, `size` (numbers of voxels along D, H, W) and `axis` (D, H or W)."""
    make: Callable[..., Taps]
    """Returns the taps (K_D, K_H, K_W) from those options that were given."""


MOST_TAPS = 1 << 24
"""A kernel with more taps is refused before it is made."""


def bounded(size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of a kernel, or raise `LimitError` where it has more taps than `MOST_TAPS`."""
    if math.prod(size) > MOST_TAPS:
        shown = "x".join(map(str, size))
        raise LimitError(f"a kernel of {shown} voxels takes too much memory; legal: at most {MOST_TAPS} taps")
    return size


def kernels() -> dict[str, NamedKernel]:
    """Return every named kernel."""
    return {name: module.KERNEL for name, module in members(__name__).items()}


def named_kernel(name: str) -> NamedKernel:
    """Return the kernel `name`, or raise `ArgumentError` with the names there are and the nearest."""
    return kernels()[choose("kernel", name, kernels())]


def taps(name: str, **options: Any) -> Taps:
    """Return the taps (K_D, K_H, K_W), float64, of a named kernel.

    Raises `ArgumentError` for an unknown kernel, for an option it does not take and for one it needs.

    >>> taps("box", size=(1, 1, 2))
    array([[[0.5, 0.5]]])
    """
    kernel = named_kernel(name)
    for option in options:
        if option not in kernel.options:
            legal = f"it takes {', '.join(kernel.options)}" if kernel.options else "it takes no options"
            raise ArgumentError(f"the kernel {name!r} has no {option}: {legal}")
    return kernel.make(**options)
