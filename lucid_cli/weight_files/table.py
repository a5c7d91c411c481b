"""`.csv` and `.txt`: rows of numbers along W, a line each; a blank line begins the next plane along D. `#` comments."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lucid_cli.weight_files import Array, ArrayFile, check_size
from lucid_core.errors import InputError


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Read the table: commas, semicolons or blanks stand between numbers."""
    check_size(path, "the table", path.stat().st_size)
    planes: list[list[list[float]]] = [[]]
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        cells = [cell for cell in re.split(r"[,;\s]+", line.partition("#")[0].strip()) if cell]
        if cells:
            planes[-1].append([_number(cell, path, number) for cell in cells])
        elif planes[-1] and "#" not in line:
            planes.append([])
    taps = _regular([plane for plane in planes if plane], path)
    yield ArrayFile(path, [""], lambda _: taps.shape, lambda _: taps)


def _number(cell: str, path: Path, line: int) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise InputError(f"weights {path}, line {line}: {cell!r} is not a number") from error


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
