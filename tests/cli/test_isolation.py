"""A library that crashes, hangs or takes all memory on a damaged file: an error of that file, and of nothing else."""

import ctypes
import faulthandler
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from lucid_cli import hdf5_file, isolation
from lucid_cli.isolation import Isolated
from lucid_core.errors import InputError, ShapeError
from tests.cli.conftest import contents, make_volume, noise, run

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")


def segfault():
    """Crash as a library does, without what pytest would print of it."""
    faulthandler.disable()
    ctypes.string_at(0)


class Library:
    """What is called in the child."""

    def __init__(self, start="fine"):
        if start == "crash":
            segfault()
        if start == "refuse":
            raise ShapeError("a message of its own")
        if start == "loop":
            while True:
                pass
        if start == "bomb":
            np.ones(3 << 30, np.uint8)

    def double(self, values):
        return values * 2

    def text(self):
        return {"one": (1, "zwei")}

    def crash(self):
        segfault()

    def leave(self):
        os._exit(3)

    def hang(self):
        time.sleep(600)

    def pid(self):
        return os.getpid()


@pytest.fixture
def child():
    made = Isolated("a.h5", Library)
    yield made
    made.close()


@pytest.mark.parametrize(
    "array",
    (
        np.arange(24.0).reshape(2, 3, 4),
        np.arange(5, dtype=">i2")[::-1],
        np.empty((0, 3)),
        np.array(7.0),
        noise(300, 100, 40),
    ),
    ids=("c", "big-endian", "empty", "scalar", "large"),
)
def test_arrays_come_back_as_they_are(child, array):
    found = child.call("double", array)
    assert found.dtype == (array * 2).dtype
    np.testing.assert_array_equal(found, array * 2)


def test_other_values_come_back_too(child):
    assert child.call("text") == {"one": (1, "zwei")}


@pytest.mark.parametrize(("method", "what"), (("crash", "SIGSEGV"), ("leave", "exit code 3")))
def test_a_crash_is_an_error(child, method, what):
    for _ in range(2):
        with pytest.raises(InputError, match=rf"a\.h5: the library that reads it crashed \({what}\)"):
            child.call(method)


def test_a_hang_is_an_error(child, monkeypatch):
    monkeypatch.setattr(isolation, "SILENT_SECONDS", 0.05)
    with pytest.raises(InputError, match=r"a\.h5: reading it gave no answer for 0 s"):
        child.call("hang")


def test_errors_keep_their_kind():
    with pytest.raises(ShapeError, match="a message of its own"):
        Isolated("a.h5", Library, "refuse")
    with pytest.raises(InputError, match="SIGSEGV"):
        Isolated("a.h5", Library, "crash")


@needs_proc
def test_opening_takes_bounded_memory():
    with pytest.raises(MemoryError):
        Isolated("a.h5", Library, "bomb")


def test_opening_takes_bounded_time(monkeypatch):
    monkeypatch.setattr(isolation, "OPENING_SECONDS", 1)
    with pytest.raises(InputError, match=r"a\.h5: the library that reads it did not come to an end \(SIGXCPU\)"):
        Isolated("a.h5", Library, "loop")


@needs_proc
@pytest.mark.parametrize("end", ("close", "kill"))
def test_the_child_ends_with_its_parent(end):
    """Whether the parent is done with it or killed."""
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        made = Isolated("a.h5", Library)
        os.write(writing, str(made.call("pid")).encode())
        if end == "close":
            made.close()
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    os.waitpid(parent, 0)
    with os.fdopen(reading, "rb") as pipe:
        pid = int(pipe.read())  # the end of the pipe: nobody holds it any more
    late = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "(zombie)" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < late
        time.sleep(0.01)


@pytest.mark.parametrize("method", ("__init__", "describe", "read"))
def test_a_crash_of_the_library_leaves_the_rest_of_the_batch(folder, monkeypatch, method):
    """One of three files crashes it."""
    for name in ("a.h5", "b.h5", "c.nii"):
        make_volume(name, noise(4, 5, 6))
    Path("out").mkdir()
    whole = getattr(hdf5_file.Hdf5Dataset, method)

    def crashing(self, *args):
        if method == "__init__":
            self.path = args[0]
        if "b.h5" in str(vars(self)):
            segfault()
        return whole(self, *args)

    monkeypatch.setattr(hdf5_file.Hdf5Dataset, method, crashing)
    result = run("apply", "a.h5", "b.h5", "c.nii", "-o", "out", "--kernel", "identity", "-q")
    assert result.code == 7
    assert result.err.startswith("Error: b.h5: the library that reads it crashed (SIGSEGV)")
    assert result.err.count("\n") == 1
    assert sorted(contents("out")) == ["a_conv3d.h5", "c_conv3d.nii"]
