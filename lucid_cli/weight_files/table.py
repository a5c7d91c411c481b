"""`.csv` and `.txt`: rows of numbers along W, a line each; a blank line begins the next plane along D. `#` comments.

Commas, or semicolons, or else blanks stand between numbers; a number has a decimal point.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lucid_cli.weight_files import Array, ArrayFile
from lucid_core.errors import InputError

MOST_BYTES = 1 << 23
NUMBER = re.compile(r"[-+]?(\d+(?:\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.IGNORECASE)


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Read the table."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InputError(f"weights {path}: a table of {size} bytes; legal: at most {MOST_BYTES}; use .npy or .npz")
    planes: list[list[list[float]]] = [[]]
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if text:
            between = next((mark for mark in ";," if mark in text), None)
            planes[-1].append([_number(cell.strip(), path, number) for cell in text.split(between)])
        elif planes[-1] and "#" not in line:
            planes.append([])
    taps = _regular([plane for plane in planes if plane], path)
    yield ArrayFile(path, [""], lambda _: taps.shape, lambda _: taps)


def _number(cell: str, path: Path, line: int) -> float:
    if not NUMBER.fullmatch(cell):
        raise InputError(f"weights {path}, line {line}: {cell!r} is not a number")
    return float(cell)


def _regular(planes: list[list[list[float]]], path: Path) -> Array:
    """Return planes as (K_D, K_H, K_W), or raise `InputError` where rows or planes differ in size."""
    widths = {len(row) for plane in planes for row in plane}
    heights = {len(plane) for plane in planes}
    if len(widths) != 1 or len(heights) != 1:
        raise InputError(
            f"weights {path}: rows of {_list(widths)} numbers and planes of {_list(heights)} rows; legal: all alike, "
            "a line a row, a blank line between planes"
        )
    return np.array(planes)


def _list(sizes: set[int]) -> str:
    return " and ".join(map(str, sorted(sizes))) or "no"
