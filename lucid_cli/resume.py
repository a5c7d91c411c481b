"""`--resume`: a run that is ended keeps what it has computed, and the next one goes on from there."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from lucid_cli.journal import Journal, Left, Start, read_journal
from lucid_cli.output import Replacement
from lucid_cli.sink import Statistics
from lucid_cli.temporary import JOURNAL, PARTIAL, VOXELS, hidden
from lucid_core.errors import InputError
from lucid_core.plan import Plan
from lucid_core.regions import Triple


def tile_left(final: Path) -> Triple | None:
    """Return the tile of the interrupted run that is kept for an output, None where there is none."""
    left = read_journal(hidden(final, JOURNAL))
    return left.start.tile if left else None


class Resumption:
    """The journal of a run; a context manager that keeps it, and the voxels, where the run is ended.

    `left` is what an interrupted run of the same thing left, None where this one begins. Raises `OutputError` where
    what was left is of something else.
    """

    def __init__(
        self, final: Path, replacement: Replacement, plan: Plan, hashes: dict[str, str], *, in_place: bool
    ) -> None:
        self.voxels = hidden(final, PARTIAL if in_place else VOXELS)
        self._replacement = replacement
        self._plan = plan
        self._path = hidden(final, JOURNAL)
        self._hashes = hashes
        self._journal: Journal | None = None
        self.left = self._found(final)
        self.tiles = self.left.tiles if self.left else 0

    def _found(self, final: Path) -> Left | None:
        left = read_journal(self._path)
        if left is None:
            self._replacement.empty()
            hidden(final, VOXELS).unlink(missing_ok=True)
        else:
            self._replacement.kept = True
            Start(self._hashes, self._plan.tile).check(left.start, final)
            self._replacement.kept = False
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(self.voxels, flags if left else flags | os.O_TRUNC, 0o666))
        return left

    def begin(self, slope: float, inter: float) -> None:
        """Open the journal; a new one says how integers are scaled."""
        start = Start(self._hashes, self._plan.tile, slope, inter)
        self._journal = Journal(self._path, start, append=self.left is not None)

    def note(self, statistics: Statistics) -> None:
        """Note that one more tile stands in the file of voxels."""
        assert self._journal is not None
        self.tiles += 1
        self._journal.note(self.tiles, statistics, self.voxels)

    def done(self) -> None:
        """Give up the journal: all tiles are written, and the output is about to stand in its place."""
        if self._journal is not None:
            self._journal.remove()
            self._journal = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal is not None:
            self._journal.close()
        if error is not None and self._journal and self.tiles and not isinstance(error, InputError):
            self._replacement.kept = True
            share = 100 * self.tiles // max(self._plan.tiles, 1)
            error.add_note(f"{share} % is kept: run again with --resume to go on.")
            return
        for path in (self._path, self.voxels):
            path.unlink(missing_ok=True)
