"""Inputs in forked children: what came of each, whatever it did to the process."""

import faulthandler
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lucid_core.errors import LucidError
from tests.fuzz import checks
from tests.fuzz.fuzzers import Case, Fuzzer

MOST_BYTES = 300 << 20
"""Resident memory that one input may take."""
MOST_VIRTUAL = 4 << 30
"""Address space of a child: what asks for more ends with an error, before the machine does."""
BATCH = 1000
FAILED = "FAILED"
TRIED_AGAIN = 3
"""Inputs that fail alike in a batch and are tried by themselves: a hang takes its time each time."""
SHARED = Path("/dev/shm")
QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Warnings that Python does not show."""


@dataclass
class Tally:
    """What came of the inputs of a fuzzer."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Case] = field(default_factory=dict)
    """The first input of every distinct failure."""
    not_again: Counter[str] = field(default_factory=Counter)
    """Failures that did not happen when the input was tried by itself; for HDF5, in a child of its own."""


def fuzz(fuzzer: Fuzzer, seed: int, numbers: range, tally: Tally) -> None:
    """Try inputs in batches; the first of each kind that fail are tried once more by themselves, which counts."""
    again: dict[str, list[str]] = {}
    for first in range(numbers.start, numbers.stop, BATCH):
        batch = range(first, min(first + BATCH, numbers.stop))
        found = outcomes(fuzzer, lambda number: fuzzer.case(seed, number), batch, alone=False)
        for number, outcome in zip(batch, found, strict=True):
            tried_again = again.setdefault(outcome, [])
            if outcome.startswith(FAILED) and len(tried_again) < TRIED_AGAIN:
                case = fuzzer.case(seed, number)
                tried_again.extend(outcomes(fuzzer, lambda _, case=case: case, [0], alone=True))
                if tried_again[-1].startswith(FAILED):
                    tally.failures.setdefault(tried_again[-1], case)
                else:
                    tally.not_again[f"{outcome} (then: {tried_again[-1]})"] += 1
            settled = tried_again[-1] if tried_again else outcome
            tally.outcomes[FAILED if settled.startswith(FAILED) else settled] += 1


def outcomes(fuzzer: Fuzzer, case: Callable[[int], Case], numbers: Sequence[int], *, alone: bool) -> Iterator[str]:
    """Yield what came of every input, forking again behind one that ended the process."""
    done = 0
    while done < len(numbers):
        with tempfile.TemporaryDirectory(dir=SHARED if SHARED.is_dir() else None) as name:
            status = _forked(fuzzer, case, numbers[done:], folder := Path(name), alone)
            lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
            where = _trace_place((folder / "trace").read_text(errors="replace"))
        yield from lines
        done += len(lines)
        if status and done < len(numbers):
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            what = f"crash: {signal.Signals(number).name if number else status}"
            yield f"{FAILED} {'hang' if number == signal.SIGALRM else what} in {where}"
            done += 1


def _forked(fuzzer: Fuzzer, case: Callable[[int], Case], numbers: Sequence[int], folder: Path, alone: bool) -> int:
    """Try inputs in a child, which writes a line for each into `folder / "log"`, and return its wait status."""
    log, trace, errors = ((folder / name).open("w+b", buffering=0) for name in ("log", "trace", "errors"))
    sys.stdout.flush()
    child = os.fork()
    if child:
        for file in (log, trace, errors):
            file.close()
        status = os.waitpid(child, 0)[1]
        with suppress(ProcessLookupError):  # what it forked may hang without it
            os.killpg(child, signal.SIGKILL)
        return status
    with suppress(BaseException):
        os.setpgid(0, 0)
        os.dup2(errors.fileno(), 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (MOST_VIRTUAL, resource.getrlimit(resource.RLIMIT_AS)[1]))
        faulthandler.enable(trace)
        faulthandler.register(signal.SIGALRM, trace, chain=True)
        with nullcontext() if alone else checks.in_this_process():
            seconds = 2 * checks.HANG_SECONDS if alone else checks.HANG_SECONDS // 3
            for number in numbers:
                log.write(json.dumps(_watched(fuzzer, case(number), folder, seconds)).encode() + b"\n")
        os._exit(0)
    os._exit(1)


def _watched(fuzzer: Fuzzer, case: Case, folder: Path, seconds: int) -> str:
    """Return what comes of one input in a process whose stderr is a file, and which ends when it takes too long."""
    os.ftruncate(2, 0)
    signal.alarm(seconds)
    outcome = tried(fuzzer, case, folder)
    signal.alarm(0)
    said = os.pread(2, 200, 0)
    return f"{FAILED} stderr: {said!r}" if said and not outcome.startswith(FAILED) else outcome


def tried(fuzzer: Fuzzer, case: Case, folder: Path) -> str:
    """Return what comes of one input: `accepted`, the class that refuses it, or a failure and where it lies."""
    for suffix, data in case.items():
        (folder / f"case{suffix}").write_bytes(data)
    before, said, started = _resident(reset=True), [], time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda _, category, *__: said.append((category, _place(traceback.extract_stack()[:-2])))
        outcome = _checked(fuzzer, folder)
    shown = [f"{category.__name__} at {where}" for category, where in said if not issubclass(category, QUIET)]
    if shown and not outcome.startswith(FAILED):
        return f"{FAILED} warning: {shown[0]}"
    if time.process_time() - started > checks.HANG_SECONDS:
        return f"{FAILED} slow: more than {checks.HANG_SECONDS} s, {outcome}"
    if _resident() - before > MOST_BYTES:
        return f"{FAILED} memory: more than {MOST_BYTES >> 20} MiB, {outcome}"
    return outcome


def _checked(fuzzer: Fuzzer, folder: Path) -> str:
    try:
        fuzzer.check(folder / f"case{fuzzer.suffix}")
    except LucidError as error:
        return f"refused: {type(error).__name__}{_crash(str(error))}"
    except MemoryError as error:
        return (
            f"refused: {type(error).__name__}"
            if str(error)
            else f"{FAILED} MemoryError of no size at {_place(traceback.extract_tb(error.__traceback__))}"
        )
    except Exception as error:
        return f"{FAILED} {type(error).__name__} at {_place(traceback.extract_tb(error.__traceback__))}"
    return "accepted"


def _crash(text: str) -> str:
    return " (HDF5 crashed)" if "the library that reads it crashed" in text else ""


def _place(frames: list[traceback.FrameSummary]) -> str:
    """Return the innermost line of this project among some, and the innermost of all."""
    ours = [frame for frame in frames if "/lucid_" in frame.filename] or frames
    ends = [ours[-1], frames[-1]] if ours[-1] is not frames[-1] else [frames[-1]]
    return " < ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in ends)


def _trace_place(text: str) -> str:
    """Return the innermost line of `lucid_cli` that `faulthandler` wrote: those below differ between runs."""
    frames = re.findall(r'File "(.*)", line (\d+)', text)
    return next((f"{_short(name)}:{line}" for name, line in frames if "/lucid_cli/" in name), "no line of ours")


def _short(filename: str) -> str:
    return "/".join(Path(filename).parts[-3:])


def _resident(*, reset: bool = False) -> int:
    """Return the most bytes that were resident since the last reset; 0 where the system does not say."""
    with suppress(OSError, IndexError):
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    return 0
