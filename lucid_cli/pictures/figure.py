"""Draws a `Picture` with matplotlib: every place is computed in inches, so that nothing overlaps."""

import textwrap
from typing import Any

from lucid_cli.pictures.drawing import DIVERGING, NOT_FINITE, figure, png
from lucid_cli.pictures.rows import Picture, Row

WIDTH = 9.6
"""Inches, as all lengths here."""
LEFT, RIGHT, BETWEEN = 0.5, 1.1, 0.42
"""Room beside the panels, the letters at their edges included, and between them."""
HEAD, LINE, ABOVE, BELOW = 0.12, 0.21, 0.54, 0.22
"""Room over the titles, of a line, and over and under a row of panels."""
LEAST_SHARE = 0.45
"""Width of the narrowest panel, as a share of the widest: its title needs it."""
LEAST_HEIGHT, MOST_HEIGHT = 0.6, 4.5
BAR = 0.12
"""Width of the bar of a row's colours."""
NOTE_LETTERS = 150
"""Letters of a line of notes."""
INK, PAPER = "#e8e8e8", "#101010"
SMALL, NORMAL = 8, 9.5
"""Sizes of letters in points."""
THUMB_PIXELS = 88
"""Longer side of a thumbnail."""


def drawn(picture: Picture, dpi: int, *, small: bool = False) -> bytes:
    """Return a picture as a PNG."""
    notes = textwrap.wrap(" ".join(picture.notes), NOTE_LETTERS)
    widths = _widths(picture.rows)
    heights = [_height(row, widths) for row in picture.rows]
    head = HEAD + LINE * len(picture.titles)
    total = head + sum(heights) + (ABOVE + BELOW) * len(heights) + LINE * (len(notes) + 0.5)
    made = figure(figsize=(WIDTH, total), facecolor=PAPER)
    for number, title in enumerate(picture.titles):
        _write(made, 0.15, total - HEAD - LINE * number, title, NORMAL, va="top")
    for number, note in enumerate(notes):
        _write(made, 0.15, LINE * (len(notes) - number) + 0.02, note, SMALL, va="top")
    top = total - head
    for row, height in zip(picture.rows, heights, strict=True):
        top -= ABOVE
        _draw_row(made, row, widths, (top - height, height), total)
        top -= height + BELOW
    return png(made, dpi, small=small)


def thumbnail(row: Row) -> bytes:
    """Return the first panel of a row as a small PNG without words."""
    panel = row.panels[0]
    high, wide = (max(side, 0.05 * max(panel.size)) for side in panel.size)
    made = figure(figsize=(wide / max(high, wide), high / max(high, wide)), facecolor=PAPER)
    axes = made.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    _image(axes, row, 0)
    axes.set_aspect("auto")
    return png(made, THUMB_PIXELS, small=True)


def _widths(rows: list[Row]) -> list[float]:
    """Return the widths of the columns: all panels have one scale where none would be too narrow."""
    wanted = [max(row.panels[column].size[1] for row in rows) for column in range(3)]
    kept = [max(one, LEAST_SHARE * max(wanted)) for one in wanted]
    room = WIDTH - LEFT - RIGHT - 2 * BETWEEN
    return [room * one / sum(kept) for one in kept]


def _height(row: Row, widths: list[float]) -> float:
    needed = max(wide * panel.size[0] / panel.size[1] for panel, wide in zip(row.panels, widths, strict=True))
    return min(max(needed, LEAST_HEIGHT), MOST_HEIGHT)


def _draw_row(made: Any, row: Row, widths: list[float], place: tuple[float, float], total: float) -> None:
    """Draw panels side by side with their bar; `place` is the bottom and the height of the row."""
    bottom, height = place
    left = LEFT
    for number, (panel, wide) in enumerate(zip(row.panels, widths, strict=True)):
        axes = made.add_axes((left / WIDTH, bottom / total, wide / WIDTH, height / total))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        image = _image(axes, row, number)
        axes.set_title(panel.title, fontsize=NORMAL, color=INK, pad=18)
        _letter(axes, panel.edges)
        left += wide + BETWEEN
    bar = made.add_axes(((WIDTH - RIGHT + 0.38) / WIDTH, bottom / total, BAR / WIDTH, height / total))
    _colour_bar(made, bar, image, row)
    if row.label:
        _write(made, 0.13, bottom + height / 2, row.label, NORMAL, rotation=90, va="center", ha="center")


def _image(axes: Any, row: Row, number: int) -> Any:
    from matplotlib import colormaps

    panel, (low, high) = row.panels[number], row.window
    colours = colormaps[DIVERGING if row.diverging else "gray"].with_extremes(bad=NOT_FINITE)
    high_mm, wide_mm = panel.size
    extent = (0, wide_mm, high_mm, 0)
    return axes.imshow(panel.values, cmap=colours, vmin=low, vmax=high, extent=extent, aspect="equal")


def _letter(axes: Any, edges: tuple[str, str, str, str]) -> None:
    """Put letters outside the four edges of a panel, where they hide nothing."""
    places = [
        ((0.0, 0.5), (-4, 0), "right", "center"),
        ((1.0, 0.5), (4, 0), "left", "center"),
        ((0.5, 1.0), (0, 3), "center", "bottom"),
        ((0.5, 0.0), (0, -3), "center", "top"),
    ]
    for text, (at, offset, across, up) in zip(edges, places, strict=True):
        axes.annotate(
            text,
            at,
            offset,
            xycoords="axes fraction",
            textcoords="offset points",
            ha=across,
            va=up,
            color=INK,
            fontsize=NORMAL,
        )


def _colour_bar(made: Any, axes: Any, image: Any, row: Row) -> None:
    """Draw the bar with both ends of the window and its middle."""
    low, high = row.window
    bar = made.colorbar(image, cax=axes)
    ticks = [low, low / 2 + high / 2, high]
    bar.set_ticks(ticks, labels=[f"{tick + 0.0:.4g}" for tick in ticks])
    bar.minorticks_off()
    bar.outline.set_edgecolor(INK)
    axes.tick_params(colors=INK, labelsize=SMALL)


def _write(made: Any, x: float, y: float, text: str, size: float, **options: Any) -> None:
    """Write at a place in inches from the lower left corner."""
    wide, high = made.get_size_inches()
    made.text(x / wide, y / high, text, fontsize=size, color=INK, parse_math=False, **options)
