"""Lengths and sizes in memory as people write them.

A `Length` is three numbers (D, H, W) with one unit, such as `1.5mm`, `800um` or `3,5,3vox`. It becomes voxels
once, where a kernel meets the spacing of its volume.
"""

import re
from dataclasses import dataclass

from lucid_core.errors import ArgumentError

MM_PER_UNIT = {"mm": 1.0, "um": 1e-3, "nm": 1e-6}
"""Physical units and their size in millimetres; `vox` is the one unit that is not physical."""

SHORTEST, LONGEST = 1e-6, 1e9
"""Numbers a length may hold, in its unit."""

NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
"""A number without its sign, as a regular expression."""
_LENGTH = re.compile(rf"({NUMBER}(?:[,x]{NUMBER}){{0,2}})\s*([a-zµ]*)")
_OFFSET = re.compile(rf"([-+]?{NUMBER}(?:[,x][-+]?{NUMBER}){{0,2}})\s*([a-zµ]*)")
_UNITS = (*MM_PER_UNIT, "µm", "vox")
_BETWEEN = re.compile(rf"\d\s*(?:{'|'.join(_UNITS)})\s*[,x]\s*[-+.\d]", re.IGNORECASE)
"""A unit with a number behind it."""
_LEGAL = "write it like 1.5mm, 800um, 2vox or 3,5,3vox"

Spacing = tuple[float, float, float]
"""Millimetres from voxel to voxel along D, H, W."""


@dataclass(frozen=True)
class Length:
    """A length along D, H and W, positive unless it is an offset, all in one unit: mm, um, nm or vox."""

    values: tuple[float, float, float]
    unit: str

    @classmethod
    def parse(cls, text: str, *, signed: bool = False) -> "Length":
        """Read `1.5mm`, `3,5,3vox` and the like; a bare number is an `ArgumentError`, as it could mean either.

        `signed` admits offsets, such as `-2,0,1vox`.
        """
        match = _pattern(signed).fullmatch(text.strip())
        numbers = re.split("[,x]", match[1]) if match else []
        unit = match[2].replace("µ", "u") if match else ""
        if not match or len(numbers) == 2:
            raise ArgumentError(f"{text!r} is not a length: {_slip(text.strip(), signed)}{_LEGAL}")
        if unit not in (*MM_PER_UNIT, "vox"):
            given = f"has the unknown unit {unit!r}" if unit else "has no unit"
            raise ArgumentError(f"the length {text!r} {given}: {_LEGAL}")
        values = [float(number) for number in numbers] * (3 // len(numbers))
        if not all(SHORTEST <= abs(value) <= LONGEST or (signed and not value) for value in values):
            raise ArgumentError(f"the length {text!r} is not between {SHORTEST:g} and {LONGEST:g}: {_LEGAL}")
        return cls((values[0], values[1], values[2]), unit)

    def __str__(self) -> str:
        same = len(set(self.values)) == 1
        return ",".join(_plain(value) for value in self.values[: 1 if same else 3]) + self.unit

    def millimetres(self) -> Spacing:
        """Return the length in mm along D, H, W; a length in voxels is an `ArgumentError`."""
        if self.unit == "vox":
            raise ArgumentError(f"{self} is in voxels where a physical length is needed: write mm, um or nm")
        d, h, w = (value * MM_PER_UNIT[self.unit] for value in self.values)
        return d, h, w

    def voxels(self, spacing: Spacing | None) -> tuple[float, float, float]:
        """Return the length in voxels of a volume with `spacing` mm along D, H, W."""
        if self.unit == "vox":
            return self.values
        if spacing is None:
            raise ArgumentError(
                f"{self} needs the spacing of the volume, which its file does not hold: "
                "give it as --spacing 1.5,1,1mm (D,H,W), or the length in vox"
            )
        d, h, w = (length / step for length, step in zip(self.millimetres(), spacing, strict=True))
        return d, h, w


def _pattern(signed: bool) -> re.Pattern[str]:
    return _OFFSET if signed else _LENGTH


def _slip(text: str, signed: bool) -> str:
    """Return what is wrong with a text that is not a length, where it is a common slip, else ''."""
    if _pattern(signed).fullmatch(text):
        return "two numbers are neither one nor three (D,H,W), and decimals have a point; "
    small = _pattern(signed).fullmatch(text.lower())
    if text != text.lower() and small and small[2] in _UNITS:
        return "its unit has small letters; "
    if _BETWEEN.search(text):
        return "the unit stands once, behind the last number; "
    if re.search(r",\s*[a-zµ]*$", text):
        return "no number stands behind its last comma; "
    return "it is negative; " if not signed and _OFFSET.fullmatch(text) else ""


def length_pattern(*, signed: bool = False) -> str:
    """Return a regular expression of the lengths that `Length.parse` reads, but for their size."""
    number = f"[-+]?{NUMBER}" if signed else NUMBER
    units = "|".join(_UNITS)
    return rf"{number}(?:[,x]{number}[,x]{number})?\s*(?:{units})"


def _plain(value: float) -> str:
    """Return a number with as many digits as tell it from others."""
    short = f"{value:.10g}"
    return short if float(short) == value else repr(value)


_BYTES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BYTES |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
SIZE = r"(\d+\.?\d*|\.\d+)\s*([kKmMgGtT][iI]?)[bB]?"
"""A size in memory, as a regular expression."""


@dataclass(frozen=True)
class ByteSize:
    """A size in memory: `512M` and `2GB` count in powers of 1000, `1GiB` in powers of 1024."""

    count: int
    text: str

    @classmethod
    def parse(cls, text: str) -> "ByteSize":
        """Read a number with its unit; a bare number is an `ArgumentError`."""
        match = re.fullmatch(SIZE, text.strip())
        if not match:
            raise ArgumentError(f"{text!r} is not a size in memory: write it like 512M, 2G or 1GiB")
        return cls(int(float(match[1]) * _BYTES[match[2].lower()]), text.strip())

    def __str__(self) -> str:
        return self.text


def format_bytes(count: float) -> str:
    """Return a number of bytes as people read it: `512 B`, `1.5 GiB`."""
    units = iter(("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = next(units)
    while count >= 1024 and unit != "PiB":
        count, unit = count / 1024, next(units)
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
