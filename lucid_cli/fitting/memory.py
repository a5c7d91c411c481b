"""The memory of a fit: how many threads keep the limit."""

from dataclasses import dataclass

from lucid_cli.budget import LATER_BYTES, memory_limit
from lucid_cli.fitting.settings import FitSettings
from lucid_core import compiled, machine
from lucid_core.cutting import SPARE_BYTES
from lucid_core.errors import LimitError
from lucid_core.plan import COMPILER_BYTES, PROCESS_BYTES
from lucid_core.units import format_bytes


@dataclass(frozen=True)
class Memory:
    """What a fit takes, in bytes, and with how many threads."""

    threads: int
    peak_bytes: int
    limit_bytes: int | None


def within(settings: FitSettings, fixed: int, each: int, *, compiles: bool) -> Memory:
    """Return the most threads that keep the limit: `fixed` bytes beside the process, and `each` for every thread.

    What `compiles` may load compiled kernels.

    Raises `LimitError` where one thread does not.
    """
    limit, threads = memory_limit(settings), settings.threads or machine.cores()
    process = (machine.resident_bytes() or PROCESS_BYTES) + LATER_BYTES
    if compiles and compiled.refusal() is None and not compiled.loaded():
        process += COMPILER_BYTES
    while limit is not None and threads > 1 and process + fixed + threads * each > limit:
        threads -= 1
    peak = process + fixed + threads * each
    if limit is not None and peak > limit:
        parts = {"process": process, "sums and readers": fixed, "a tile in work": each}
        part, size = max(parts.items(), key=lambda item: item[1])
        raise LimitError(
            f"this needs at least {format_bytes(peak)} of memory ({part}: {format_bytes(size)}), but "
            f"{format_bytes(limit)} may be taken; a smaller --tile takes less, or allow --max-memory "
            f"{(peak + SPARE_BYTES >> 20) + 1}MiB",
            peak,
        )
    return Memory(threads, peak, limit)
