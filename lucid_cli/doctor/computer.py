"""The processor, and the cores and memory that this process may use, with what bounds them."""

from lucid_cli.doctor.findings import OK, PROBLEM, Finding
from lucid_core import machine
from lucid_core.units import format_bytes

LEAST_BYTES = 512 << 20
"""With less memory, tiles become small."""


def find() -> list[Finding]:
    """Look at processor, cores and memory."""
    return [_processor(), _cores(), _memory()]


def _processor() -> Finding:
    vectors = machine.vectors()
    if vectors is None:
        words, advice = "no vectors that multiply and add at once", "the engine numba cannot run here; numpy does"
        return Finding("processor", f"{machine.processor()}, {words}", PROBLEM, advice)
    return Finding("processor", f"{machine.processor()}, vectors of {8 * vectors.bytes} bits")


def _cores() -> Finding:
    limits = ", ".join(f"{why} {count}" for why, count in machine.core_limits().items())
    return Finding("cores", f"{machine.cores()} ({limits})")


def _memory() -> Finding:
    free = machine.available_bytes()
    if free is None:
        return Finding("memory", "not known", PROBLEM, "say how much may be taken: --max-memory 4G")
    limits = ", ".join(f"{why} {format_bytes(count)}" for why, count in machine.memory_limits().items())
    advice = "close other programs, or raise the lowest of these" if free < LEAST_BYTES else ""
    return Finding("memory", f"{format_bytes(free)} available ({limits})", PROBLEM if advice else OK, advice)
