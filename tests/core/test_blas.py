"""One thread for matrix products, and the same bits for every tiling under every kernel of the BLAS."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from lucid_core import blas, conv3d


class Switch:
    """A BLAS that notes the threads it was set to."""

    def __init__(self, threads):
        self.threads = threads
        self.sets = []

    def get(self):
        return self.threads

    def set(self, threads):
        self.threads = threads
        self.sets.append(threads)


@pytest.fixture
def switch(monkeypatch):
    made = Switch(6)
    monkeypatch.setattr(blas, "controls", lambda: (made.get, made.set))
    return made


def test_threads_are_one_inside_and_as_before_after(switch):
    with blas.single_threaded():
        assert switch.threads == 1
    assert switch.sets == [1, 6]


def test_the_last_holder_gives_the_threads_back(switch):
    with blas.single_threaded():
        with blas.single_threaded():
            assert switch.threads == 1
        assert switch.threads == 1
    assert switch.sets == [1, 6]


def test_holders_in_several_threads(switch):
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with blas.single_threaded():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    with blas.single_threaded():
        other.start()
        assert entered.wait(10)
    assert switch.threads == 1
    leave.set()
    other.join()
    assert switch.sets == [1, 6]


def test_an_error_gives_the_threads_back(switch):
    with pytest.raises(RuntimeError, match="inside"), blas.single_threaded():
        raise RuntimeError("inside")
    assert switch.threads == 6


def test_a_blas_without_a_switch(monkeypatch):
    monkeypatch.setattr(blas, "controls", lambda: None)
    with blas.single_threaded():
        assert conv3d(np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 2, 2, 2)), algorithm="gemm").item() == 8


def test_the_switch_of_this_blas_works():
    found = blas.controls()
    if found is None:
        pytest.skip("the BLAS of this NumPy has no switch that is known")
    getter, _ = found
    before = getter()
    with blas.single_threaded():
        assert getter() == 1
    assert getter() == before


TILINGS = textwrap.dedent(
    """
    import numpy as np
    from lucid_core.compute import Filters
    from lucid_core.execute import execute
    from lucid_core.planner import plan
    from lucid_core.arguments import layer_arguments
    from lucid_core.problem import conv_problem
    from lucid_core.scratch import Scratch
    from lucid_core.volume import ArrayReader, ArrayWriter

    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        for channels, out, groups, size, kernel in (
            (3, 7, 1, (3, 40, 131), 3),
            (42, 5, 1, (3, 5, 150), 3),
            (4, 4, 4, (3, 40, 131), 3),
            (6, 1, 1, (3, 17, 53), (1, 2, 3)),
            (1, 33, 1, (2, 9, 201), 1),
        ):
            layer = layer_arguments(channels, out, kernel, groups=groups)
            problem = conv_problem((1, channels, *size), layer, dtype=dtype)
            x = rng.normal(size=problem.in_shape).astype(dtype)
            weight = rng.normal(size=(out, channels // groups, *problem.kernel_size)).astype(dtype)
            depth, height, width = problem.out_size
            results = set()
            for tile in ((depth, height, width), (1, height, width), (depth, 3, 37), (1, 5, 64), (1, height, 7)):
                for threads in (1, 2):
                    y = np.empty(problem.out_shape, dtype)
                    chosen = plan(problem, algorithm="gemm", tile=tile, threads=threads)
                    execute(chosen, [Filters(weight)], ArrayReader(x), ArrayWriter(y))
                    results.add(y.tobytes())
            assert len(results) == 1, (dtype, channels, out, groups)
    print("the same")
    """
)


@pytest.mark.parametrize("core", ("Haswell", "SkylakeX", "Nehalem", "Sandybridge"))
def test_every_tiling_gives_the_same_bits_under_other_kernels_of_the_blas(core):
    """OpenBLAS takes the kernels named by OPENBLAS_CORETYPE; another BLAS ignores it, and the test still holds."""
    environment = {**os.environ, "OPENBLAS_CORETYPE": core}
    run = subprocess.run([sys.executable, "-c", TILINGS], env=environment, capture_output=True, text=True)
    if run.returncode == -signal.SIGILL:
        pytest.skip(f"this processor cannot run the kernels for {core}")
    assert run.stdout == "the same\n", run.stderr
