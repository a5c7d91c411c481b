"""A process that has loaded what the tests need but nothing of the project, and forks once for every mutant."""

import json
import os
import signal
import sys
import time
from contextlib import suppress

LONGEST = 45.0
"""Seconds after which a mutant is said to hang."""


def main() -> None:
    """Answer each line of test names with what came of them."""
    load()
    for line in sys.stdin:
        print(outcome(json.loads(line)), flush=True)


def load() -> None:
    """Import the large packages of the tests."""
    import click  # noqa: F401
    import h5py  # noqa: F401
    import hypothesis  # noqa: F401
    import nibabel  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401
    import scipy.ndimage  # noqa: F401
    import yaml  # noqa: F401


def outcome(tests: list[str]) -> str:
    """Run tests in a child and say whether one of them failed."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        run(tests)
    with suppress(PermissionError):
        os.setpgid(child, child)
    status = waited(child)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
        return "hangs"
    return "survived" if status == 0 else "killed"


def run(tests: list[str]) -> None:
    """Run tests in this process and end it."""
    import pytest

    silence = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(silence, number)
    code = 1
    try:
        code = pytest.main(["-x", "-n0", "-p", "no:cacheprovider", "-p", "no:cov", *tests])
    finally:
        os._exit(min(int(code), 127))


def waited(child: int) -> int | None:
    """Wait for a child; return its status, or None where it takes too long."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.01)
    return None


if __name__ == "__main__":
    main()
