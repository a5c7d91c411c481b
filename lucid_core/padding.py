"""The four padding modes: ONE table of their names here and in other libraries, and the voxel each puts where."""

from dataclasses import dataclass

from lucid_core.errors import ArgumentError, ArgumentTypeError
from lucid_core.registry import did_you_mean


@dataclass(frozen=True)
class PaddingMode:
    """One padding mode: its name here and what others call it."""

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
    )
}


def padding_mode(name: str) -> str:
    """Return `name` if it is a padding mode; otherwise raise `ArgumentError` naming the mode meant."""
    if not isinstance(name, str):
        raise ArgumentTypeError(f"padding_mode must be a name, not {name!r}; legal: {', '.join(PADDING_MODES)}")
    if name in PADDING_MODES:
        return name
    legal = ", ".join(PADDING_MODES)
    for mode in PADDING_MODES.values():
        if name in (mode.numpy, mode.scipy, mode.torch, mode.scipy_grid):
            raise ArgumentError(f"padding_mode {name!r} is called {mode.name!r} here; legal: {legal}")
    raise ArgumentError(f"unknown padding_mode {name!r}; legal: {legal}.{did_you_mean(name, PADDING_MODES)}")


def pad_fits(mode: str, pad: int, size: int) -> bool:
    """Say whether an axis of `size` voxels can be padded by `pad` voxels in this mode."""
    return pad < size if mode == "reflect" else pad <= size if mode == "circular" else True


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
    return None
