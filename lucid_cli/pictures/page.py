"""The page of `--report report.html`: an index where there are several files, and a section for each."""

from collections import Counter
from typing import Any

from lucid_cli import report
from lucid_cli.pictures.histogram import Histogram
from lucid_cli.pictures.markup import chart, document, escaped, image, pairs, seconds_bars, table
from lucid_cli.pictures.rows import alike
from lucid_cli.pictures.take import Drawn, Pictures
from lucid_cli.report import Item
from lucid_core.plan import Candidate, Choice, Plan
from lucid_core.units import format_bytes

WHY = (
    "What is asked for is taken, else the fewest predicted seconds of what is not refused; compiled kernels (numba) "
    "must also save what loading them costs."
)


def page(items: list[Item], pictures: list[Pictures | None], command: str) -> str:
    """Return the page as text; `pictures` has an entry an item, and `command` is the command line."""
    order = sorted(range(len(items)), key=lambda number: items[number].status != "failed")
    kernels: dict[Drawn, list[str]] = {}
    for number in order:
        for one in getattr(pictures[number], "kernels", ()):
            kernels.setdefault(one, []).append(_path(items[number]))
    several = len(items) > 1
    body = [f'<pre class="command">{escaped(command)}</pre>']
    body += [_index(order, items, pictures)] if several else []
    body += [_section(number, items[number], pictures[number], several) for number in order]
    body += [_kernel(one, of, several and len(kernels) > 1) for one, of in kernels.items()]
    return document(_title(items), body)


def _title(items: list[Item]) -> str:
    counts = Counter(item.status for item in items)
    known = ", ".join(f"{counts[status]} {status}" for status in sorted(counts, key=lambda one: one != "failed"))
    return f"lucid-conv3d apply: {known}" if len(items) != 1 else f"lucid-conv3d apply: {_path(items[0])}"


def _path(item: Item) -> str:
    return str(item.input["path"])


def _index(order: list[int], items: list[Item], pictures: list[Pictures | None]) -> str:
    """Return a row a file, those that failed first."""
    head = ("", "file", "status", "N,C,D,H,W", "values before", "values after", "seconds")
    return table(head, (_index_row(number, items[number], pictures[number]) for number in order))


def _index_row(number: int, item: Item, pictures: Pictures | None) -> list[str]:
    known = dict(pictures.histograms) if pictures else {}
    sizes = [_sizes(item.shapes[name]) for name in ("input", "output")] if item.shapes else []
    total = item.seconds["total"]
    return [
        image(pictures.thumbnail, f"axial plane of {_path(item)}, after") if pictures and pictures.thumbnail else "",
        f'<td class="name"><a href="#file-{number + 1}">{escaped(_path(item))}</a></td>',
        f"{_status(item)}<br>{escaped(item.error or '')}" if item.error else _status(item),
        " to<br>".join(sizes),
        *(_range(known.get(name)) for name in ("before", "after")),
        "" if total is None else f"{total:.2f}",
    ]


def _status(item: Item) -> str:
    return f'<span class="bad">{item.status}</span>' if item.status == "failed" else escaped(item.status)


def _sizes(sizes: list[int]) -> str:
    return "x".join(map(str, sizes))


def _range(histogram: Histogram | None) -> str:
    if histogram is None:
        return ""
    return f"{histogram.least:.5g} to {histogram.most:.5g}" if histogram.finite else "none finite"


def _section(number: int, item: Item, pictures: Pictures | None, folded: bool) -> str:
    """Return all that is known of a file, folded up where it is one of several."""
    parts = [f'<p class="bad">{escaped(item.error)}</p>'] if item.error else []
    parts += ["<p>Its output is finished and was left as it is.</p>"] if item.status == "skipped" else []
    if pictures:
        parts += [f'<p class="warning">{escaped(warning)}</p>' for warning in pictures.warnings]
        parts += _pictures(item, pictures)
    if item.plan is not None and item.layer is not None and item.shapes is not None:
        parts += ["<h3>Shapes</h3>", _shapes(item.shapes), pairs(report.rows(item))]
    if pictures and pictures.histograms:
        parts += ["<h3>Values</h3>", *_charts(dict(pictures.histograms))]
    if item.plan is not None and item.layer is not None:
        parts += ["<h3>Seconds</h3>", seconds_bars(item.seconds), "<h3>Plan</h3>", *_plan(item.plan)]
        parts += ["<h3>Layer</h3>", *(_layer(one) for one in item.layer.get("layers", [item.layer]))]
    inside = "\n".join([f'<div id="file-{number + 1}">', *parts, "</div>"])
    summary = f"<summary>{escaped(_path(item))}: {_status(item)}</summary>"
    return f"<details>{summary}\n{inside}</details>" if folded else inside


def _pictures(item: Item, pictures: Pictures) -> list[str]:
    if pictures.planes is None:
        return [f'<p class="faint">No pictures: {escaped(pictures.lacking)}</p>']
    shown = " and ".join(name for name, _ in pictures.histograms)
    return [image(pictures.planes, f"axial, coronal and sagittal planes of {_path(item)}, {shown}")]


def _shapes(shapes: dict[str, list[int]]) -> str:
    rows = ((f"<th>{escaped(name)}</th>", *map(str, sizes)) for name, sizes in shapes.items())
    return table(("", "N", "C", "D", "H", "W"), rows)


def _charts(histograms: dict[str, Histogram]) -> list[str]:
    """Return the histograms, over one range where their ranges are alike."""
    ranges = {}
    for name, histogram in histograms.items():
        bars = histogram.bars() or [(0.0, 0.0, 0)]
        ranges[name] = (bars[0][0], bars[-1][1])
    if len(ranges) > 1 and alike(*ranges.values()):
        both = (min(low for low, _ in ranges.values()), max(high for _, high in ranges.values()))
        ranges = dict.fromkeys(ranges, both)
    note = '<p class="faint">All volumes and channels; counts are drawn logarithmically.</p>'
    return [note, *(chart(name, histogram, *ranges[name]) for name, histogram in histograms.items())]


def _plan(plan: Plan) -> list[str]:
    """Return what was chosen and what was weighed."""
    known = [
        ("chosen", f"{plan.algorithm} ({plan.engine}) on {plan.threads} threads"),
        ("tiles", f"{plan.tiles} of {_sizes(list(plan.tile))} output voxels (D, H, W)"),
        ("memory", f"{format_bytes(plan.memory.peak_bytes)} at most, predicted"),
    ]
    head = ("algorithm", "engine", "predicted seconds", "error bound", "factor")
    parts = [pairs(known), f'<p class="faint">{escaped(WHY)}</p>']
    for number, choice in enumerate(plan.choices, start=1):
        parts += [f"<p>Convolution {number}</p>"] * (len(plan.choices) > 1)
        parts.append(table(head, (_candidate(one, choice) for one in choice.candidates)))
    return parts


def _candidate(one: Candidate, choice: Choice) -> list[str]:
    chosen = (one.algorithm, one.engine) == (choice.algorithm, choice.engine)
    verdict = f"refused: {escaped(one.refused)}" if one.seconds is None else f"{one.seconds:.3g}"
    cells = [escaped(one.algorithm), escaped(one.engine), verdict, escaped(one.accuracy), f"{one.error_bound:.2g}"]
    return [f'<td class="chosen">{cell}</td>' for cell in [f"{cells[0]} (chosen)", *cells[1:]]] if chosen else cells


def _layer(layer: Any) -> str:
    """Return every argument of a layer, or an operation between layers."""
    if not isinstance(layer, dict):
        return pairs([("then", layer)])
    return pairs((name, _words(value)) for name, value in layer.items())


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {_words(one)}" for name, one in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)


def _kernel(kernel: Drawn, paths: list[str], several: bool) -> str:
    of = f'<p class="faint">For {escaped(", ".join(paths))}</p>' if several else ""
    picture = image(kernel.png, f"mid-planes and frequency response of {kernel.name}")
    return f"<h2>Kernel: {escaped(kernel.name)}</h2>{of}\n{picture}\n<pre>{escaped(kernel.table)}</pre>"
