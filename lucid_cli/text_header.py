"""Headers of lines of text, as MetaImage and NRRD have them: their fields, as numbers where they are."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lucid_cli.formats import Spec
from lucid_core.errors import InputError

MOST_BYTES = 1 << 20
"""A header that is longer is none."""


@dataclass(frozen=True)
class TextHeader:
    """The fields of a header, and where it ends in its file."""

    name: str
    """What messages call the file."""
    fields: dict[str, str]
    end: int

    def numbers(self, *keys: str, count: int | None = None) -> list[float] | None:
        """Return the numbers of the first of these fields that is there, None where none is."""
        key = next((one for one in keys if one in self.fields), None)
        if key is None:
            return None
        try:
            found = [float(word) for word in self.fields[key].split()]
        except ValueError:
            found = []
        if not found or not all(map(math.isfinite, found)) or count not in (None, len(found)):
            raise self.wrong(key, "numbers" if count is None else f"{count} numbers")
        return found

    def whole(self, key: str, default: str | None = None, count: int = 1, least: int = 1) -> list[int]:
        """Return the whole numbers of a field."""
        try:
            found = [int(word) for word in (self.fields.get(key, default) or "").split()]
        except ValueError:
            found = []
        if len(found) != count or min(found) < least:
            wanted = "a whole number" if count == 1 else f"{count} whole numbers"
            raise self.wrong(key, f"{wanted} of at least {least}")
        return found

    def flag(self, *keys: str) -> bool:
        """Say whether one of these fields is there and true."""
        return any(self.fields.get(key, "").lower() in ("true", "t", "1", "yes") for key in keys)

    def wrong(self, key: str, legal: str) -> InputError:
        """Return the error of a field that is missing or not legal."""
        given = repr(self.fields[key]) if key in self.fields else "missing"
        return InputError(f"{self.name}: {key} is {given}, legal: {legal}")


def words(values: Iterable[float], between: str = " ") -> str:
    """Return numbers as text, each with all its digits."""
    return between.join(f"{value:.17g}" for value in values)


def detached_files(spec: Spec, suffix: str) -> list[Path]:
    """Return the files of an output: the voxels beside the header where its suffix is that of detached ones."""
    return [spec.path.parent / f"{spec.stem}.raw", spec.path] if spec.suffix == suffix else [spec.path]


def files_of_header(path: Path, data_file: Callable[[], Path]) -> list[Path]:
    """Return the files of an input: its header and, where that can be read, the file of the voxels."""
    try:
        return [path, data_file()] if path.is_file() else [path]
    except InputError:
        return [path]
