"""The padding modes: ONE table of their names here and in other libraries, and the voxel each puts where."""

import math
from dataclasses import dataclass

from lucid_core.errors import ArgumentError, ArgumentTypeError
from lucid_core.registry import did_you_mean


@dataclass(frozen=True)
class PaddingMode:
    """One padding mode: its name here and what others call it; "" where they have none.

    `symmetric` mirrors at the border, the outermost voxel twice; `reflect` in the outermost voxel, as in PyTorch.
    """

    name: str
    numpy: str
    scipy: str
    torch: str
    scipy_grid: str = ""


PADDING_MODES = {
    mode.name: mode
    for mode in (
        PaddingMode("zeros", "constant", "constant", "constant", "grid-constant"),
        PaddingMode("reflect", "reflect", "mirror", "reflect"),
        PaddingMode("replicate", "edge", "nearest", "replicate"),
        PaddingMode("circular", "wrap", "wrap", "circular", "grid-wrap"),
        PaddingMode("symmetric", "symmetric", "reflect", "", "grid-mirror"),
    )
}


RENORMALIZE = "renormalize"
"""Beyond the names of voxels: leave out what lies beyond, and divide by the sum of the weights that lie inside."""
LEGAL = (*PADDING_MODES, RENORMALIZE)


def padding_mode(name: str) -> str:
    """Return `name` if it is a padding mode; otherwise raise `ArgumentError` naming the mode meant."""
    if not isinstance(name, str):
        raise ArgumentTypeError(f"padding_mode must be a name, not {name!r}; legal: {', '.join(LEGAL)}")
    if name in LEGAL:
        return name
    legal = ", ".join(LEGAL)
    for mode in PADDING_MODES.values():
        if name and name in (mode.numpy, mode.scipy, mode.torch, mode.scipy_grid):
            raise ArgumentError(f"padding_mode {name!r} is called {mode.name!r} here; legal: {legal}")
    raise ArgumentError(f"unknown padding_mode {name!r}; legal: {legal}.{did_you_mean(name, LEGAL)}")


def pad_fits(mode: str, pad: int, size: int) -> bool:
    """Say whether an axis of `size` voxels can be padded by `pad` voxels in this mode."""
    return pad <= widest_pad(mode, size)


def widest_pad(mode: str, size: int) -> float:
    """Return the widest pad of an axis of `size` voxels in this mode; infinity where there is no bound."""
    return {"reflect": size - 1, "circular": size, "symmetric": size}.get(mode, math.inf)


def border_reach(pad: int, size: int, mode: str) -> int:
    """Return how many voxels more than it holds a box of positions may reach, to a border and what stands behind it."""
    return {"reflect": pad, "symmetric": pad, "circular": size}.get(mode, 0) if pad else 0


def source_index(position: int, size: int, mode: str) -> int | None:
    """Return the voxel of an axis of `size` that stands at `position` (may lie outside), None for a zero."""
    if 0 <= position < size:
        return position
    if mode == "replicate":
        return min(max(position, 0), size - 1)
    if mode == "circular":
        return position % size
    if mode == "reflect":
        return -position if position < 0 else 2 * (size - 1) - position
    if mode == "symmetric":
        return -1 - position if position < 0 else 2 * size - 1 - position
    return None
