"""The building blocks of the page: HTML that needs nothing from outside, runs no script, and escapes every word."""

import base64
import html
import math
from collections.abc import Iterable, Sequence

from lucid_cli.pictures.histogram import Histogram

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #6a737d; --line: #d0d7de; --bad: #c62828;
  --bar: #3b76b8; --box: #f4f6f8 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #14171a; --faint: #9aa4ad; --line: #353b41;
  --bad: #ff8a80; --bar: #6aa5e0; --box: #1f2428 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem } h3 { font-size: 1rem; margin: 1.3rem 0 .3rem }
a { color: inherit } img, svg { max-width: 100%; height: auto; display: block } img { border-radius: 4px }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--faint) } td.chosen { font-weight: 600 } td img { max-width: 5.5rem }
.wide { overflow-x: auto; overflow-wrap: normal }
pre { background: var(--box); padding: .6rem .8rem; overflow-x: auto; border-radius: 4px }
pre.command { white-space: pre-wrap } .number { white-space: nowrap }
.faint { color: var(--faint) } .bad { color: var(--bad) }
.warning { border-left: 4px solid #d9a400; padding-left: .6rem }
.name { overflow-wrap: anywhere; min-width: 8rem } .bar { background: var(--bar); height: .8rem; min-width: 1px }
summary { cursor: pointer; padding: .4rem 0 } details { border-top: 1px solid var(--line) }
figure { margin: .5rem 0 } figcaption { color: var(--faint); font-size: .87rem } path { fill: var(--bar) }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load for the page: the pictures and the style that are in it."""
CHART = (640, 90)
"""Width and height of a histogram."""


def escaped(text: object) -> str:
    """Return a text as HTML shows it, whatever a file's name holds."""
    return html.escape(str(text).encode("utf-8", "backslashreplace").decode())


def document(title: str, body: Iterable[str]) -> str:
    """Return a page."""
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escaped(POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escaped(title)}</h1>",
            *body,
            "</body>\n</html>\n",
        ]
    )


def image(png: bytes, alt: str) -> str:
    """Return a picture that is part of the page."""
    return f'<img alt="{escaped(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def table(head: Sequence[object], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that scrolls where the screen is narrow; its head is escaped, its cells are HTML already."""
    top = "<tr>" + "".join(f"<th>{escaped(one)}</th>" for one in head) + "</tr>" if head else ""
    lines = [
        "<tr>" + "".join(one if one.startswith("<t") else f"<td>{one}</td>" for one in row) + "</tr>" for row in rows
    ]
    return f'<div class="wide"><table>{top}{"".join(lines)}</table></div>'


def pairs(rows: Iterable[tuple[object, object]]) -> str:
    """Return a table of names and values."""
    return table((), ((f"<th>{escaped(name)}</th>", escaped(value)) for name, value in rows))


def seconds_bars(seconds: dict[str, float]) -> str:
    """Return a bar a stage, the longest as wide as the table."""
    longest = max(seconds.values(), default=0.0) or 1.0
    rows = [
        (
            f"<th>{escaped(name)}</th>",
            f'<td class="number">{value:.2f} s</td>',
            f'<td style="width:100%"><div class="bar" style="width:{100 * value / longest:.1f}%"></div></td>',
        )
        for name, value in seconds.items()
    ]
    return table((), rows)


def chart(name: str, histogram: Histogram, low: float, high: float) -> str:
    """Return a histogram between two values as a drawing, its counts logarithmic, with the range in words."""
    wide, tall = CHART
    bars, most = histogram.bars(), max((count for *_, count in histogram.bars()), default=1)
    scale = wide / (high - low) if low < high and math.isfinite(high - low) else 0.0
    path = "".join(
        f"M{(left - low) * scale:.1f} {tall}V{tall * (1 - math.log1p(count) / math.log1p(most)):.1f}"
        f"H{(right - low) * scale:.1f}V{tall}Z"
        for left, right, count in bars
        if count
    )
    beyond = histogram.finite - sum(count for *_, count in bars)
    words = [f"{name}: {histogram.least:.6g} to {histogram.most:.6g}" if histogram.finite else f"{name}: none finite"]
    words += [f"{histogram.finite} values"]
    words += [f"{histogram.not_finite} not finite"] * bool(histogram.not_finite)
    words += [f"{beyond} of them beyond the drawing"] * bool(beyond)
    text = escaped(", ".join(words))
    axis = f'<text y="{tall + 16}">{low:.4g}</text>'
    axis += f'<text x="{wide}" y="{tall + 16}" text-anchor="end">{high:.4g}</text>'
    return (
        f'<figure><svg role="img" aria-label="Histogram, {text}" viewBox="0 0 {wide} {tall + 20}" width="{wide}" '
        f'font-size="12" fill="currentColor"><path d="{path}"/><path d="M0 {tall}h{wide}v1h-{wide}z"/>{axis}</svg>'
        f"<figcaption>{text}</figcaption></figure>"
    )
