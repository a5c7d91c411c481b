"""Kernels in words: the list of all, and what one holds."""

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.kernel_file import Filters
from lucid_cli.named import centre
from lucid_core.kernels import kernels
from lucid_core.registry import members

Array = npt.NDArray[Any]
SHOWN_FILTERS, SHOWN_TAPS = 8, 9
"""Filters, and taps along an axis, that the table shows."""
MOST_TAPS = 1 << 20
"""Taps that the JSON holds; more are left out."""
MOST_RANKED = 1 << 17
"""Taps of a kernel whose rank is found."""
NO_RANK = 1e-7
"""Singular values below this share of the largest are 0: the precision of float32."""


def _about() -> dict[str, str]:
    """Return the first line of documentation of every kernel."""
    modules = members("lucid_core.kernels")
    return {name: str(modules[name].__doc__).split("\n", 1)[0].replace("`", "").rstrip(".") for name in kernels()}


def listing() -> str:
    """Return a line a kernel, and one with its options."""
    width = max(map(len, kernels()))
    lines = []
    for name, text in _about().items():
        options = " ".join(f"--{option}" for option in kernels()[name].options)
        lines += [f"{name:<{width}}  {text}", f"{'':<{width}}  {options}".rstrip()]
    return "\n".join(lines) + "\n"


def listing_json() -> str:
    """Return the kernels as JSON."""
    found = [{"name": name, "about": text, "options": list(kernels()[name].options)} for name, text in _about().items()]
    return json.dumps(found, indent=2) + "\n"


def describe(filters: Filters, most: int | None = None) -> dict[str, Any]:
    """Return what is known of filters: an entry of `filters` for each up to `most`, taps only where they are few."""
    channels, share, *size = filters.weight.shape
    taps = filters.weight.reshape(-1, *size)
    steps = filters.spacing
    return {
        "name": filters.name,
        "options": {name: list(one) if isinstance(one, tuple) else one for name, one in filters.options.items()},
        "shape": [channels, share, *size],
        "dtype": filters.weight.dtype.name,
        "bias": None if filters.bias is None else filters.bias.tolist(),
        "size": list(size),
        "size_mm": None if steps is None else [count * step for count, step in zip(size, steps, strict=True)],
        "filters": [_one(one, with_taps=taps.size <= MOST_TAPS) for one in taps[:most]],
    }


def _one(taps: Array, *, with_taps: bool) -> dict[str, Any]:
    exact = taps.astype(np.float64)
    ranks = [rank(np.moveaxis(exact, axis, 0).reshape(exact.shape[axis], -1)) for axis in range(3)]
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(exact.sum())
    return {
        "sum": total if math.isfinite(total) else None,
        "centre": centre(exact) if math.isfinite(total) else None,
        "rank": ranks,
        "separable": None if None in ranks else set(ranks) <= {0, 1},
        "taps": exact.tolist() if with_taps else None,
    }


def rank(matrix: Array) -> int | None:
    """Return the rank of a matrix, but for float32 roundings; None where it is too large to be found soon."""
    if matrix.size > MOST_RANKED:
        return None
    values = np.linalg.svd(matrix / (np.abs(matrix).max(initial=0) or 1.0), compute_uv=False)
    return int((values > NO_RANK * values.max(initial=0)).sum())


def dump(filters: Filters) -> str:
    """Return filters as JSON."""
    return json.dumps(describe(filters), indent=2, allow_nan=False) + "\n"


def table(filters: Filters) -> str:
    """Return a line a property, and the taps along the three axes through the middle."""
    found = describe(filters, SHOWN_FILTERS)
    rows = [("kernel", filters.name)]
    options = ", ".join(f"{name} {_list(one)}" for name, one in found["options"].items())
    rows += [("made from", options + (", in voxels" if filters.spacing else ""))] if options else []
    mm = found["size_mm"]
    rows.append(("size", "x".join(map(str, found["size"])) + " voxels" + (f", {_list(mm, 'x')} mm" if mm else "")))
    channels, share, *_ = found["shape"]
    rows.append(("filters", f"{channels} of {share} channels, {found['dtype']}" + (", bias" if found["bias"] else "")))
    taps = filters.weight.reshape(-1, *found["size"])
    for number, one in enumerate(found["filters"]):
        rows += _filter_rows(number if len(taps) > 1 else None, one, taps[number])
    if len(taps) > SHOWN_FILTERS:
        rows.append(("", f"and {len(taps) - SHOWN_FILTERS} more; --json shows all"))
    return "\n".join(f"{name:>10}  {text}".rstrip() for name, text in rows) + "\n"


def _filter_rows(number: int | None, one: dict[str, Any], taps: Array) -> list[tuple[str, str]]:
    """Return the rows of a filter, headed by its number where there are several."""
    middle = "none, the sum is 0" if one["centre"] is None else f"{_list(one['centre'])} voxels from the middle"
    kind = {True: "separable", False: "not separable", None: "not looked for, the kernel is large"}[one["separable"]]
    ranks = "" if one["separable"] is None else f"{_list(one['rank'])} along D, H, W: "
    d, h, w = (size // 2 for size in taps.shape)
    return [
        *([] if number is None else [(f"filter {number}", "")]),
        ("sum", "beyond float64" if one["sum"] is None else f"{round(one['sum'], 9) + 0.0:.6g}"),
        ("centre", middle),
        ("rank", ranks + kind),
        ("along D", _taps(taps[:, h, w])),
        ("along H", _taps(taps[d, :, w])),
        ("along W", _taps(taps[d, h])),
    ]


def _list(values: Any, between: str = ",") -> str:
    return between.join(f"{one:.4g}" for one in values) if isinstance(values, (list, tuple)) else str(values)


def _taps(values: Array) -> str:
    """Return taps, of a long axis those around the middle."""
    first = max(0, len(values) - SHOWN_TAPS) // 2
    shown = values[first : first + SHOWN_TAPS]
    before, behind = ("... " if first else ""), (" ..." if first + SHOWN_TAPS < len(values) else "")
    return before + " ".join(f"{one + 0.0:.4g}" for one in shown) + behind
