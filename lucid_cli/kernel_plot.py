"""Pictures of kernels: the three planes through the middle, and the frequency response along the axes."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.kernel_file import Filters
from lucid_cli.output import check_target, protect, write_bytes
from lucid_cli.pictures.drawing import DIVERGING, figure, png
from lucid_core.errors import ArgumentError

Array = npt.NDArray[Any]
MOST_ROWS = 8
"""Filters that are drawn, a row each."""
LEAST_SAMPLES = 512
"""Samples that a transform is taken of, at least: zeros are put behind the taps."""
LEAST_RESPONSE = 1e-3
"""Share of the sum of magnitudes that fills the panel where there is no response but roundings."""
INCHES = 3.0
"""Width and height of a panel."""
DPI = 100


def draw(filters: Filters, path: Path, overwrite: bool) -> None:
    """Draw filters into a PNG, the first eight where there are more.

    Raises `ExtraError` without matplotlib, `OutputError` where the file must not be written.
    """
    if path.suffix.lower() != ".png":
        raise ArgumentError(f"--plot {path}: the picture is a PNG; give a name that ends in .png")
    target = check_target(path, protect(filters.files), overwrite, skips=False)
    write_bytes(target, picture(filters, DPI), overwrite)


def picture(filters: Filters, dpi: int, *, small: bool = False) -> bytes:
    """Return filters as a PNG, the first eight where there are more."""
    taps = filters.weight.reshape(-1, *filters.weight.shape[2:]).astype(np.float64)[:MOST_ROWS]
    made = figure(figsize=(4 * INCHES + 1, len(taps) * INCHES), layout="constrained")
    axes = made.subplots(len(taps), 4, squeeze=False)
    for row, one in zip(axes, taps, strict=True):
        _planes(made, row[:3], one, filters.spacing or (1.0, 1.0, 1.0))
        _response(row[3], one, filters.spacing)
    made.suptitle(filters.name, parse_math=False)
    return png(made, dpi, small=small)


def _planes(made: Any, panels: Any, taps: Array, spacing: tuple[float, float, float]) -> None:
    """Draw the planes across D, H and W; 0 is white, voxels have their shape in the world."""
    largest = np.abs(taps).max() or 1.0
    for axis, panel in enumerate(panels):
        plane = np.take(taps, taps.shape[axis] // 2, axis=axis)
        rows, columns = (name for name in "DHW" if name != "DHW"[axis])
        high, wide = (step for place, step in enumerate(spacing) if place != axis)
        image = panel.imshow(plane, cmap=DIVERGING, vmin=-largest, vmax=largest, aspect=high / wide, origin="lower")
        panel.set(title=f"{'DHW'[axis]} = {taps.shape[axis] // 2}", xlabel=columns, ylabel=rows)
    made.colorbar(image, ax=panels[-1], shrink=0.8)


def _response(panel: Any, taps: Array, spacing: tuple[float, float, float] | None) -> None:
    """Draw the magnitude of the transfer function along each axis, up to the highest frequency of its voxels."""
    top = LEAST_RESPONSE * float(np.abs(taps).sum())
    for axis, name in enumerate("DHW"):
        along = taps.sum(axis=tuple(one for one in range(3) if one != axis))
        response = np.abs(np.fft.rfft(along, max(LEAST_SAMPLES, len(along))))
        frequencies = np.linspace(0, 0.5, len(response))
        scale = 1.0 if spacing is None else spacing[axis]
        top = max(top, 1.05 * response.max())
        panel.plot(frequencies / scale, response, label=name, linestyle=("-", "--", ":")[axis])
    panel.set(title="frequency response", xlabel=f"cycles / {'voxel' if spacing is None else 'mm'}", ylim=(0, top or 1))
    panel.legend()
