"""What the page shows of a file that has just been finished, taken by the process that computed it."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lucid_cli import kernel_plot, kernel_report
from lucid_cli.failures import message
from lucid_cli.formats import Spec
from lucid_cli.kernel_file import Filters
from lucid_cli.layer import Layer
from lucid_cli.layers import Layers
from lucid_cli.opening import opened
from lucid_cli.pictures.figure import drawn, thumbnail
from lucid_cli.pictures.histogram import Histogram
from lucid_cli.pictures.rows import pictured
from lucid_cli.pictures.scans import Scan
from lucid_cli.report import Item
from lucid_cli.talk import show_trace
from lucid_core.units import Spacing

DPI, KERNEL_DPI = 72, 60
"""Of small pictures: a scan takes 20 to 100 KB in the page."""
MOST_KERNELS = 4
"""Convolutions of a stack whose weights are drawn."""


@dataclass(frozen=True)
class Drawn:
    """The weights of one convolution: a PNG and the table of `kernel show`."""

    name: str
    png: bytes
    table: str


@dataclass(frozen=True)
class Pictures:
    """PNGs and numbers of one file, to be sent between processes; None where there are none, and then why."""

    planes: bytes | None = None
    thumbnail: bytes | None = None
    histograms: tuple[tuple[str, Histogram], ...] = ()
    """Before and after."""
    kernels: tuple[Drawn, ...] = ()
    warnings: tuple[str, ...] = ()
    lacking: str | None = None


def take(spec: Spec, out: Spec, item: Item, layer: Layer | Layers, warnings: tuple[str, ...] = ()) -> Pictures:
    """Read a finished file's input and output once more and draw them; `item` is that of the report.

    Raises nothing: the output stands whatever becomes of its pictures.
    """
    try:
        with ExitStack() as stack:
            scans = [_scan(spec, item.input, stack)] if not spec.is_pipe else []
            scans += [_scan(out, item.output or {}, stack)] if not out.is_pipe else []
            kernels = tuple(_kernels(layer, _spacing(item.input)))
            if not scans:
                return Pictures(
                    kernels=kernels, warnings=warnings, lacking="what went through a pipe is not there again"
                )
            picture = pictured(scans[0], scans[1] if len(scans) > 1 else None, same_way=True)
            names = ["before"] * (not spec.is_pipe) + ["after"] * (not out.is_pipe)
            histograms = [Histogram.of(scan.values(), whole=scan.is_whole) for scan in scans]
            return Pictures(
                drawn(picture, DPI, small=True),
                thumbnail(picture.rows[len(scans) - 1]),
                tuple(zip(names, histograms, strict=True)),
                kernels,
                warnings,
            )
    except Exception as error:
        show_trace(error)
        return Pictures(warnings=warnings, lacking=message(error))


def _scan(spec: Spec, volume: dict[str, Any], stack: ExitStack) -> Scan:
    """Open a file again, with the axes, spacing and affine that the run took or gave it."""
    source = opened(spec, stack)
    affine = None if volume["affine"] is None else np.array(volume["affine"])
    return Scan(source, replace(source.info, axes=volume["axes"], spacing=_spacing(volume), affine=affine))


def _spacing(volume: dict[str, Any]) -> Spacing | None:
    """Return the spacing along D, H, W from the report's, which is in the order of the axes."""
    if volume["spacing_mm"] is None:
        return None
    letters = [letter for letter in volume["axes"] if letter in "xyz"]
    along = dict(zip(letters, volume["spacing_mm"], strict=True))
    return along["z"], along["y"], along["x"]


def _kernels(layer: Layer | Layers, spacing: Spacing | None) -> list[Drawn]:
    parts = [layer] if isinstance(layer, Layer) else [part for part in layer.parts if isinstance(part, Layer)]
    filters = [_filters(part, spacing) for part in parts[:MOST_KERNELS]]
    return [
        Drawn(one.name, kernel_plot.picture(one, KERNEL_DPI, small=True), kernel_report.table(one)) for one in filters
    ]


def _filters(layer: Layer, spacing: Spacing | None) -> Filters:
    """Return what `kernel show` shows of a layer; a named kernel once, not for every channel."""
    if layer.kernel is None:
        sizes = "x".join(map(str, layer.weight.shape))
        return Filters(f"weights {sizes}", {}, layer.weight, layer.bias, spacing)
    each = layer.weight[: layer.arguments.out_channels // layer.arguments.in_channels]
    return Filters(layer.kernel["name"], layer.kernel["options"], each, layer.bias, spacing)
