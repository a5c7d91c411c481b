"""What reads TIFF files, by tifffile. It works in a child process (`isolation`): a damaged file may keep it busy.

Pages that lie in other files are never read: the file would decide which.

`TiffImage` is the first image of a file: its axes, its spacing, and its pages.
"""

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from lucid_cli.failures import looks_like
from lucid_cli.lengths import mm_per
from lucid_cli.talk import silent
from lucid_cli.volumes import Array
from lucid_core.errors import InputError, LucidError
from lucid_core.optional import require
from lucid_core.units import Spacing

tifffile: Any = require("tifffile", "formats")

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
KNOWN = {"Z": "z", "Y": "y", "X": "x", "T": "t", "C": "c", "S": "c"}
"""Letters of the axes that TIFF files name, and ours."""
MOST_WARNINGS = 2
"""Of what the library says of a file, so much is shown."""
_OBJECT, _BROKEN = re.compile(r"<tifffile\.Tiff[^>]*>"), re.compile("invalid page offset|corrupted")
SPARE = "ztc"
"""What unnamed axes are, from the last one on, where there is none of these yet."""


@dataclass(frozen=True)
class Description:
    """What a file says of its first image."""

    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype[Any]
    """Type of the voxels, in the byte order of the file."""
    offset: int | None
    """Where the voxels begin that lie one behind the other, None where they do not, or are compressed."""
    page_shape: tuple[int, ...]
    """Sizes of one page: the last axes, but those of size 1."""
    spacing: Spacing | None
    compression: str | None
    kind: str
    """Whose TIFF it is: imagej, ome, or any other."""
    warnings: tuple[str, ...]


class _Heard(logging.Handler):
    """Keeps what the library says of a file, which otherwise goes to stderr."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message, without the names of objects in it."""
        self.said.append(_OBJECT.sub("", record.getMessage()).strip())


class TiffImage:
    """The first image of a file. Raises `InputError` where it is no volume."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._heard = _Heard()
        logger = logging.getLogger("tifffile")
        logger.handlers, logger.propagate = [self._heard], False
        with path.open("rb") as file:
            start = file.read(4)
        if start not in MAGICS:
            raise InputError(f"{path}: not a TIFF file{looks_like(start)}")
        with _errors(path), silent():
            self._file = tifffile.TiffFile(path, _multifile=False)
            pages = {one.shape for one in self._file.series}
            if len(self._file.series) > 1 and len(pages) == 1 and len(pages.pop()) == 2:  # written one by one
                self._file = tifffile.TiffFile(path, _multifile=False, is_shaped=False)
            self._series = self._file.series[0]

    def describe(self) -> Description:
        """Return what the file says of the image."""
        with _errors(self._path), silent():
            series, page = self._series, self._series.keyframe
            axes, shape = self._axes()
            spacing, warnings = self._spacing()
            warnings += self._heard_warnings()
            stored = np.dtype(series.dtype)
            return Description(
                shape,
                axes,
                stored.newbyteorder(self._file.byteorder),
                series.dataoffset if stored.kind != "b" else None,
                tuple(size for size in page.shape if size > 1),
                spacing,
                None if page.compression == 1 else page.compression.name.lower(),
                series.kind,
                warnings,
            )

    def _heard_warnings(self) -> tuple[str, ...]:
        """Return what is to be said of the file; raise `InputError` where not all of it is there."""
        if self._file.is_ome and self._series.kind != "ome":
            raise InputError(
                f"{self._path}: its OME-XML is damaged, or says that pages lie in other files, which are not read"
            )
        if broken := next((text for text in self._heard.said if _BROKEN.search(text)), None):
            raise InputError(f"{self._path}: the file is damaged or cut short: {broken}")
        said = [*self._heard.said[:MOST_WARNINGS]]
        if len(self._file.series) > 1:
            said.append(f"holds {len(self._file.series)} images; the first is read")
        return tuple(f"{self._path}: {text}" for text in said)

    def _axes(self) -> tuple[str, tuple[int, ...]]:
        """Return the letters and the sizes of the axes; those of size 1 are left out, but z, y and x."""
        series = self._series
        found = list(zip(series.get_axes(False), series.get_shape(False), strict=True))
        named = [(KNOWN.get(letter, "?"), int(size)) for letter, size in found if letter in "ZYX" or size > 1]
        spare = [letter for letter in SPARE if letter not in dict(named)]
        letters = [letter if letter != "?" or not spare else spare.pop(0) for letter, _ in reversed(named)][::-1]
        axes, shape = "".join(letters), [size for _, size in named]
        if "z" not in axes and "y" in axes:
            shape.insert(axes.index("y"), 1)
            axes = axes.replace("y", "zy")
        if not set("zyx") <= set(axes) <= set("tczyx") or len(set(axes)) < len(axes):
            said = "".join(letter for letter, size in found if size > 1)
            raise InputError(f"{self._path}: its axes {said} are not those of a volume: legal: T, C, Z, Y, X, one each")
        return axes, tuple(shape)

    def _spacing(self) -> tuple[Spacing | None, tuple[str, ...]]:
        """Return the steps in mm that OME-XML or ImageJ say; the resolution of any other TIFF is for printing."""
        steps: list[float | None] = [None, None, None]
        if self._file.is_ome:
            pixels = ElementTree.fromstring(self._file.ome_metadata).find(".//{*}Pixels")
            steps = [None if pixels is None else _ome_step(pixels, axis) for axis in "ZYX"]
        elif self._file.is_imagej:
            said, tags = self._file.imagej_metadata or {}, self._series.keyframe.tags
            unit = mm_per(str(said.get("unit", "")))
            ends = [said.get("spacing"), *(_step(tags.get(name)) for name in ("YResolution", "XResolution"))]
            steps = [None if unit is None or end is None else float(end) * unit for end in ends]
        z, y, x = (step if step and 0 < step < math.inf else None for step in steps)
        if z and y and x:
            return (z, y, x), ()
        if y and x and self._axes()[1][self._axes()[0].index("z")] > 1:
            return None, (f"{self._path}: says its steps along x and y, but not along z; give --spacing",)
        return None, ()

    def read(self, index: int) -> Array:
        """Return one page."""
        with _errors(self._path), silent():
            page = self._series.pages[index]
            if page is None:
                raise InputError(f"{self._path}: page {index} is missing")
            values: Array = page.asarray()
            return values


def _step(tag: Any) -> float | None:
    """Return the length of a step from pixels per unit, a fraction."""
    if tag is None or not tag.value[0]:
        return None
    return float(tag.value[1]) / float(tag.value[0])


def _ome_step(pixels: Any, axis: str) -> float | None:
    """Return the length of a step in mm that OME-XML says."""
    said, unit = pixels.get(f"PhysicalSize{axis}"), mm_per(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return None if said is None or unit is None else float(said) * unit


class _errors:  # noqa: N801 - used like a function
    """Make whatever the library raises for a file an `InputError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, LucidError):
            return
        if "imagecodecs" in str(error):
            raise InputError(
                f"{self._path}: its compression needs the package 'imagecodecs'; "
                "install it with: pip install imagecodecs"
            ) from error
        raise InputError(f"{self._path}: not a readable TIFF file: {type(error).__name__}: {error}") from error
