"""matplotlib, as all pictures here use it: a figure without a window, and its bytes, the same for the same figure."""

import io
from typing import Any

from lucid_cli.talk import silent
from lucid_core.optional import require

DIVERGING = "RdBu_r"
"""Colours around a white 0."""
NOT_FINITE = "#f2c500"
SHADES = 33
"""Greys, and as many from blue to red, of a small picture: an odd number, so that 0 stays white."""


def figure(**options: Any) -> Any:
    """Return an empty figure; raises `ExtraError` without matplotlib."""
    require("matplotlib", "viz")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(**options)
    FigureCanvasAgg(made)
    return made


def png(made: Any, dpi: int, *, small: bool = False) -> bytes:
    """Return a figure as a PNG without date and version; a small one has few colours."""
    file = io.BytesIO()
    with silent():  # a name may have letters that the font lacks
        made.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return _packed(file) if small else file.getvalue()


def _packed(file: io.BytesIO) -> bytes:
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb
    from PIL import Image

    steps = [step / (SHADES - 1) for step in range(SHADES)]
    colours = [colormaps[name](step)[:3] for name in ("gray", DIVERGING) for step in steps]
    colours += [to_rgb(name) for name in (NOT_FINITE, "C0", "C1", "C2")]
    palette, packed = Image.new("P", (1, 1)), io.BytesIO()
    palette.putpalette([round(255 * part) for colour in colours for part in colour])
    with Image.open(file) as image:
        image.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE).save(packed, "png", optimize=True)
    return packed.getvalue()
