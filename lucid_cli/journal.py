"""How far a run with `--resume` has come: a file of lines beside its temporary files.

The first line says what is computed, from what and how: hashes of the input, of the weights and of the configuration,
and the tile. Every further line says how many tiles stand in the file of voxels, which file that is, and the statistics
of the voxels. A line counts where nothing but this program was killed since it was written, or where the voxels were
flushed to the disk before it (`flushed`), so that a crash of the machine cannot leave a line without its voxels; and
where the file of voxels is still there, the same and as large.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lucid_cli.sink import Statistics
from lucid_cli.temporary import tree_of
from lucid_core.errors import OutputError
from lucid_core.regions import Triple

FLUSH_SECONDS = 5.0
"""Time between two lines whose voxels are on the disk."""
HASH_BYTES = 4 << 20
BOOT = Path("/proc/sys/kernel/random/boot_id")
"""What is new whenever the machine has started."""


@dataclass(frozen=True)
class Start:
    """What a run computes: its first line."""

    hashes: dict[str, str]
    tile: Triple
    slope: float = 1.0
    inter: float = 0.0

    def check(self, other: "Start", final: Path) -> None:
        """Raise `OutputError` where a run that shall go on was of something else."""
        changed = [name for name, value in self.hashes.items() if other.hashes.get(name) != value]
        changed += ["tile"] if self.tile != other.tile else []
        if changed:
            raise OutputError(
                f"{final}: an interrupted run is kept for --resume, but its {' and '.join(changed)} changed since; "
                "run once without --resume to begin anew"
            )


@dataclass(frozen=True)
class Left:
    """What an interrupted run left: how it began, the tiles that are done, and their statistics."""

    start: Start
    tiles: int
    statistics: Statistics


def read_journal(path: Path) -> Left | None:
    """Return what a journal says, None where there is none, no line of it counts, or its voxels are gone."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        first, *rest = [json.loads(line) for line in lines if line]
        start = Start(first["hashes"], tuple(first["tile"]), first["slope"], first["inter"])
        same_boot = first["boot"] != "" and first["boot"] == _boot()
        last = [line for line in rest if line["flushed"] or same_boot][-1]
        if last["voxels"] != _identity(path.with_name(Path(last["voxels"][0]).name)):
            return None
        return Left(start, int(last["tiles"]), Statistics(**last["statistics"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _identity(voxels: Path) -> list[Any]:
    """Return what tells a file of voxels from another one, and from one that was emptied."""
    found = voxels.lstat()
    return [voxels.name, found.st_dev, found.st_ino, found.st_size]


class Journal:
    """Appends lines to a journal, a new one unless a run goes on."""

    def __init__(self, path: Path, start: Start, *, append: bool) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
        self.path = path
        self._descriptor = os.open(path, flags, 0o666)
        self._last = time.monotonic()
        if append:
            self._end_last_line()
        else:
            self._line(vars(start) | {"boot": _boot()})

    def note(self, tiles: int, statistics: Statistics, voxels: Path) -> None:
        """Note that so many tiles stand in the file of voxels; flush it first where the last time is a while ago."""
        flushed = time.monotonic() - self._last >= FLUSH_SECONDS
        if flushed:
            if tree_of(voxels).is_dir():
                os.sync()  # the chunks of a Zarr are files without number
            else:
                _flush(voxels)
            self._last = time.monotonic()
        found = _identity(voxels)
        self._line({"tiles": tiles, "statistics": vars(statistics), "flushed": flushed, "voxels": found})

    def _line(self, values: dict[str, Any]) -> None:
        data = f"{json.dumps(values)}\n".encode()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _end_last_line(self) -> None:
        """Cut off a last line that was not written to its end."""
        os.ftruncate(self._descriptor, self.path.read_bytes().rfind(b"\n") + 1)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Close and remove the file."""
        self.close()
        with contextlib.suppress(OSError):
            self.path.unlink()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _boot() -> str:
    try:
        return BOOT.read_text()
    except OSError:
        return ""


def hash_files(paths: Iterable[Path]) -> str:
    """Return one SHA-256 of the contents of files."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            feed(whole, file)
    return whole.hexdigest()


def feed(whole: Any, file: IO[bytes]) -> None:
    """Let a hash take in what a file holds."""
    while chunk := file.read(HASH_BYTES):
        whole.update(chunk)


def hash_values(*values: Any) -> str:
    """Return one SHA-256 of arrays and of what JSON holds."""
    whole = hashlib.sha256()
    for value in values:
        data = value.tobytes() if hasattr(value, "tobytes") else json.dumps(value, sort_keys=True, default=str).encode()
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()
