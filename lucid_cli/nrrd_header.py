"""NRRD headers: read field by field, with what they say of the axes and the voxels.

Follows the definition of NRRD at teem.sourceforge.net, versions 1 to 5.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lucid_cli.failures import looks_like
from lucid_cli.planes import reading
from lucid_cli.text_header import MOST_BYTES, TextHeader
from lucid_core.errors import InputError

NAMES = {
    "i1": "int8, signed char, int8_t",
    "u1": "uint8, uchar, unsigned char, uint8_t",
    "i2": "int16, short, short int, signed short, signed short int, int16_t",
    "u2": "uint16, ushort, unsigned short, unsigned short int, uint16_t",
    "i4": "int32, int, signed int, int32_t",
    "u4": "uint32, uint, unsigned int, uint32_t",
    "i8": "int64, longlong, long long, long long int, signed long long, signed long long int, int64_t",
    "u8": "uint64, ulonglong, unsigned long long, unsigned long long int, uint64_t",
    "f4": "float",
    "f8": "double",
}
TYPES = {name: code for code, names in NAMES.items() for name in names.split(", ")}
"""Spellings of the types of voxels; the first of each is written."""
SPATIAL, SERIES = ("domain", "space"), ("list", "time")
"""Kinds of axes; all others are channels."""
PAIR = ":="
"""Stands before the names of what a header holds beside the fields of the format."""
_VECTOR = re.compile(r"none|\([^()]*\)")


def read_header(path: Path) -> TextHeader:
    """Return the fields of the header of a file, their names in lower case, and its pairs behind `PAIR`."""
    fields: dict[str, str] = {}
    with reading(str(path)), path.open("rb") as file:
        start = file.readline(MOST_BYTES)
        if not re.match(rb"NRRD000\d\r?\n", start):
            raise InputError(f"{path}: not an NRRD file{looks_like(start[:6])}")
        while line := file.readline(MOST_BYTES).decode("utf-8", "replace").rstrip():
            name, colon, value = line.partition(":")
            if file.tell() > MOST_BYTES or not (colon or line.startswith("#")):
                raise InputError(f"{path}: its header has a line that is no field: {line[:60]!r}")
            if line.startswith("#"):
                continue
            if value.startswith("="):
                fields[PAIR + name] = value[1:]
            else:
                fields[name.strip().lower()] = value.strip()
        for short in ("data file", "byte skip", "line skip"):
            if short.replace(" ", "") in fields:
                fields[short] = fields[short.replace(" ", "")]
        return TextHeader(str(path), fields, file.tell())


@dataclass(frozen=True)
class Axes:
    """The axes of a file: a letter each, and the steps of all (None for one that is not in space)."""

    letters: str
    steps: list[list[float] | None] | None


def axes_of(header: TextHeader, dims: int) -> Axes:
    """Return what the header says of its axes."""
    kinds = header.fields.get("kinds", "").lower().split() or ["???"] * dims
    steps = vectors(header, "space directions", dims)
    if len(kinds) != dims:
        raise header.wrong("kinds", f"{dims} of them")
    if steps is not None and kinds == ["???"] * dims:
        kinds = ["list" if step is None else "domain" for step in steps]
    elif kinds == ["???"] * dims:
        kinds = ["domain"] * dims
    spatial = [at for at, kind in enumerate(kinds) if kind in SPATIAL]
    letters = ["t" if kind in (*SERIES, *SPATIAL) else "c" for kind in kinds]
    for at, letter in zip(spatial[:3], "xyz", strict=False):
        letters[at] = letter
    if len(spatial) < 3 or len(set(letters)) < dims:
        said = " ".join(kinds)
        raise InputError(f"{header.name}: a volume has 3 axes of space, one of channels and one of time; kinds: {said}")
    return Axes("".join(letters), steps)


def vectors(header: TextHeader, key: str, count: int) -> list[list[float] | None] | None:
    """Return the vectors of a field, `none` as None; None where there is no such field."""
    if key not in header.fields:
        return None
    try:
        found = [
            None if one == "none" else [float(word) for word in one[1:-1].split(",")]
            for one in _VECTOR.findall(header.fields[key])
        ]
    except ValueError:
        found = []
    if len(found) != count:
        raise header.wrong(key, f"{count} vectors like (1,0,0), or none")
    return found


def stored_dtype(header: TextHeader) -> np.dtype[Any]:
    """Return the type of the stored values in the file's byte order."""
    code = TYPES.get(header.fields.get("type", "").lower())
    if code is None:
        raise header.wrong("type", ", ".join(names.split(",")[0] for names in NAMES.values()))
    order = {"little": "<", "big": ">"}.get(header.fields.get("endian", "").lower())
    if order is None and code[1] != "1":
        raise header.wrong("endian", "little, big")
    return np.dtype((order or "") + code)
