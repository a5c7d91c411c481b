"""What the micro-kernel computes at once: M output channels, R rows and V vectors of voxels."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from lucid_core.compiled.strips import Table
from lucid_core.machine import vectors


@dataclass(frozen=True)
class Blocking:
    """The output channels of a group, in blocks of equal size; the last overlaps the one before it."""

    total: int
    """Output channels of one group."""
    channels: int
    """Output channels of one block, M."""
    rows: int
    """Neighbouring rows computed at once, R."""
    columns: int
    """Vectors of voxels computed at once, V."""

    @cached_property
    def firsts(self) -> Table:
        """First channel of each block, and last the number of channels."""
        blocks = -(-self.total // self.channels)
        firsts = np.minimum(np.arange(blocks, dtype=np.int64) * self.channels, self.total - self.channels)
        return np.append(firsts, np.int64(self.total))

    @cached_property
    def members(self) -> Table:
        """The channels (blocks, M) of each block."""
        return self.firsts[:-1, None] + np.arange(self.channels, dtype=np.int64)


@lru_cache(maxsize=256)
def blocking(total: int, shared_rows: int = 1, vectors_along: int = 0) -> Blocking:
    """Choose the blocks: all sums, V vectors of voxels and one of weights fit the registers.

    M is at most 8 with 32 registers and 4 with 16, and R at most 4: enough that loads do not bound the
    multiplications. `shared_rows` is how many rows may be computed at once; several channels leave no room for them.
    V is a third less where that wastes fewer of `vectors_along` vectors in its last group.
    """
    found = vectors()
    registers = found.count if found else 16
    most = 8 if registers >= 32 else 4
    channels = -(-total // -(-total // most))
    rows = min(shared_rows, 4) if channels == 1 else 1
    columns = registers // 4 if channels == rows == 1 else min(6, (registers - 2) // (channels * rows + 1))
    fewer = max(1, columns * 2 // 3)
    if -(-vectors_along // fewer) * fewer < -(-vectors_along // columns) * columns:
        columns = fewer
    return Blocking(total, channels, rows, columns)
