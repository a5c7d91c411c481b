"""What the working folder and the folder of temporary data can do: outputs are linked, renamed, locked and flushed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from lucid_cli.doctor.findings import OK, PROBLEM, Finding
from lucid_core.units import format_bytes

LEAST_BYTES = 1 << 30
"""With less room on a disk, the next output may not fit."""


def find() -> list[Finding]:
    """Try the working folder, and say where temporary data go."""
    here = Path.cwd()
    return [_working(here), *_abilities(here), _temporary()]


def _working(folder: Path) -> Finding:
    return _with_room("working folder", folder, "name outputs on another disk")


def _temporary() -> Finding:
    try:
        folder = Path(tempfile.gettempdir())
    except OSError as error:
        return Finding(
            "temporary data", str(error), PROBLEM, "name a folder that can be written: export TMPDIR=/FOLDER"
        )
    return _with_room("temporary data", folder, "name a folder with more room: export TMPDIR=/FOLDER")


def _with_room(name: str, folder: Path, advice: str) -> Finding:
    free = shutil.disk_usage(folder).free
    little = free < LEAST_BYTES
    return Finding(name, f"{folder}, {format_bytes(free)} free", PROBLEM if little else OK, advice if little else "")


def _abilities(folder: Path) -> list[Finding]:
    """Write, link, rename, lock and flush a file in a folder of its own inside `folder`, which is removed."""
    try:
        with tempfile.TemporaryDirectory(prefix=".lucid-conv3d-doctor-", dir=folder) as inside:
            return [_tried(name, attempt, advice, Path(inside)) for name, (attempt, advice) in ATTEMPTS.items()]
    except OSError as error:
        return [Finding("writing", f"cannot be done: {error.strerror}", PROBLEM, ATTEMPTS["writing"][1])]


def _tried(name: str, attempt: Callable[[Path], None], advice: str, folder: Path) -> Finding:
    try:
        attempt(folder)
    except OSError as error:
        return Finding(name, f"cannot be done: {error.strerror}", PROBLEM, advice)
    return Finding(name, "can be done")


def _write(folder: Path) -> None:
    with (folder / "a").open("wb") as file:
        file.write(bytes(1 << 16))
        file.flush()
        os.fsync(file.fileno())


def _link(folder: Path) -> None:
    os.link(folder / "a", folder / "b")


def _rename(folder: Path) -> None:
    (folder / "a").replace(folder / "c")


def _lock(folder: Path) -> None:
    with (folder / "c").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


ATTEMPTS = {
    "writing": (_write, "name outputs in another folder: -o /FOLDER/out.nii.gz"),
    "hard links": (_link, "outputs are renamed instead; let no two programs write the same output here"),
    "renaming": (_rename, "name outputs in another folder: -o /FOLDER/out.nii.gz"),
    "locks": (_lock, "let no two runs write the same output here; for HDF5 set HDF5_USE_FILE_LOCKING=FALSE"),
    "flushing folders": (_flush, "outputs are whole, but after a power cut the last ones may be missing"),
}
"""What is tried, in this order, and what to do where it cannot be done."""
