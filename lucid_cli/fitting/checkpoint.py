"""How far a fit with `--resume` has come: arrays and a few words, in one file beside the output that is replaced whole.

Its arrays are read without pickles, and what an interrupted run computed from must be the same.
"""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.temporary import JOURNAL, VOXELS, hidden
from lucid_core.errors import OutputError

Parts = Mapping[str, Mapping[str, Any]]
"""Arrays and numbers by name, of several things by theirs."""
WORDS = "words"
"""The array that holds JSON."""


class Checkpoint:
    """The file of one output; `hashes` say what is computed from what, each by a name that an error tells."""

    def __init__(self, final: Path, hashes: Mapping[str, str]) -> None:
        self._final = final
        self._path = hidden(final, JOURNAL)
        self._hashes = dict(hashes)
        self.kept = self._path.exists()
        """Whether another run can go on from here."""

    def load(self) -> tuple[dict[str, dict[str, npt.NDArray[Any]]], dict[str, Any]] | None:
        """Return the parts and the words of an interrupted run, None where there is none that is whole.

        Raises `OutputError` where it was of something else.
        """
        try:
            with np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            words = json.loads(arrays.pop(WORDS).tobytes())
            hashes = dict(words.pop("hashes"))
        except Exception:  # not there, cut short, or damaged in any way: as good as none
            return None
        if changed := [name for name, value in self._hashes.items() if hashes.get(name) != value]:
            raise OutputError(
                f"{self._final}: an interrupted run is kept for --resume, but its {' and '.join(changed)} changed "
                "since; run once without --resume to begin anew"
            )
        parts: dict[str, dict[str, npt.NDArray[Any]]] = {}
        for name, array in arrays.items():
            part, _, inner = name.partition(":")
            parts.setdefault(part, {})[inner] = array
        return parts, words

    def save(self, parts: Parts, words: Mapping[str, Any]) -> None:
        """Replace the file; it is on the disk when this returns."""
        text = json.dumps(dict(words) | {"hashes": self._hashes}).encode()
        plain: dict[str, Any] = {f"{part}:{name}": one for part, named in parts.items() for name, one in named.items()}
        plain[WORDS] = np.frombuffer(text, np.uint8)
        fresh = hidden(self._final, VOXELS)
        with fresh.open("wb") as file:
            np.savez(file, **plain)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self.kept = True

    def remove(self) -> None:
        """Remove the file."""
        for kind in (JOURNAL, VOXELS):
            hidden(self._final, kind).unlink(missing_ok=True)
