"""`--executor dask`: the same bytes as one process writes, whatever workers do, or stop doing."""

import asyncio
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from tests.cli.conftest import contents, finished, make_volume, noise, ok, program, run, save_weights

distributed = pytest.importorskip("distributed")
pytest.importorskip("zarr")

GAUSSIAN = ("--kernel", "gaussian", "--sigma", "1.5vox")
SLOW = ("--kernel", "sphere", "--radius", "4vox", "--algorithm", "direct", "--engine", "numpy")
DASK = ("--executor", "dask")
QUIET = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}


@contextmanager
def started(*args):
    """Run a program of dask in a group of its own, which ends with the block."""
    process = subprocess.Popen([sys.executable, "-m", *map(str, args)], start_new_session=True, **QUIET)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def cluster(*options):
    """Give the scheduler's process, its address and the processes of two workers, without nannies."""
    folder = Path.cwd()
    file = folder / "scheduler.json"
    words = ("--no-dashboard", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", file)
    with started("distributed.cli.dask_scheduler", *words) as scheduler:
        wait(lambda: file.exists() and file.read_text().endswith("}"))
        address = re.search(r'"address": "(.*?)"', file.read_text())[1]
        file.unlink()
        words = (
            address,
            "--no-nanny",
            "--no-dashboard",
            "--nthreads",
            1,
            "--local-directory",
            folder / "dask",
            *options,
        )
        with (
            started("distributed.cli.dask_worker", *words) as one,
            started("distributed.cli.dask_worker", *words) as other,
        ):
            wait_for_workers(address, 2)
            yield scheduler, address, (one, other)


def wait_for_workers(address, count):
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


def wait(ready, seconds=60):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The address of two workers that serve all tests of a process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cluster"))
        with cluster() as (_, found, _):
            yield found


def journal():
    """Return the lines of the journal of the interrupted run in this folder."""
    found = list(Path().glob(".lucid-conv3d-*.journal"))
    return found[0].read_text().splitlines() if found else []


FLAKY = """
from lucid_cli import zarr_source

if not hasattr(zarr_source, "whole"):  # this is read more than once
    zarr_source.whole = zarr_source.ArrayBoxes.read_box
    failures = [OSError(5, "no network"), ValueError(lambda: 0)]

    def read_box(self, box):
        if failures:
            raise failures.pop()
        return zarr_source.whole(self, box)

    zarr_source.ArrayBoxes.read_box = read_box
"""
"""What makes the first two reads of a worker fail, one by an error that cannot be sent."""
CASES = {
    "zarr": ("a.zarr", "b.zarr", GAUSSIAN),
    "shards": ("a.zarr", "b.zarr", (*GAUSSIAN, "--chunks", 8, "--shards", "16,16,32")),
    "pyramid": ("a.ome.zarr", "b.ome.zarr", (*GAUSSIAN, "--pyramid", "--stride", "2,1,1", "--chunks", 16)),
    "tiles that are no chunks": ("a.zarr", "b.zarr", (*GAUSSIAN, "--tile", "7,9,100")),
    "from NIfTI": ("a.nii.gz", "b.zarr", (*GAUSSIAN, "--chunks", 8)),
    "to NIfTI": ("a.h5", "b.nii.gz", (*GAUSSIAN, "--tile", "9,50,20")),
    "to integers": ("a.nii", "b.nii", (*GAUSSIAN, "--out-dtype", "int16", "--cast", "rescale", "--tile", 16)),
    "several channels": ("a.npy", "b.zarr", ("--weights", "w.npz", "--padding", 1, "--padding-mode", "circular")),
    "a mask": ("a.nii", "b.zarr", (*GAUSSIAN, "--mask", "m.nii", "--nan", "renormalize", "--chunks", 16)),
    "scaled": ("a.nii", "b.zarr", (*GAUSSIAN, "--normalize", "percentile:1,99", "--chunks", 16)),
    "a batch": ("s.npy", "b.zarr", (*GAUSSIAN, "--batch-size", 1, "--chunks", 16)),
    "a stack": ("a.npy", "b.zarr", ("--set", "layers=[{kernel: sobel, axis: z}, relu, {kernel: box, size: 3vox}]")),
}


@pytest.mark.parametrize("case", CASES)
def test_the_bytes_are_those_of_one_process(folder, address, case):
    into, out, options = CASES[case]
    make_volume(into, noise(34, 40, 50))
    make_volume("s.npy", noise(3, 2, 20, 20, 20))
    make_volume("m.nii", (noise(34, 40, 50, seed=3) > 0).astype(np.uint8))
    save_weights("w.npz", noise(3, 1, 3, 3, 3))
    ok("apply", into, "-o", out, *options, "-q", *DASK, "--scheduler", address, "--report", "-")
    Path("there").mkdir()
    ok("apply", into, "-o", f"there/{out}", *options, "-q")
    if out.endswith(".zarr"):
        assert contents(out) == contents(f"there/{out}")
    else:
        assert Path(out).read_bytes() == Path("there", out).read_bytes()
    assert not list(Path().glob(".lucid*"))


def test_several_inputs_are_done_one_after_the_other(folder, address):
    Path("in").mkdir()
    for name in ("a.zarr", "b.nii"):
        make_volume(f"in/{name}", noise(20, 20, 20))
    result = ok("apply", "in", "--out-dir", "out", *GAUSSIAN, *DASK, "--scheduler", address, "--report", "r.json")
    assert sorted(path.name for path in Path("out").iterdir()) == ["a_conv3d.zarr", "b_conv3d.nii"]
    assert "Error" not in result.err


def test_an_order_holds_no_voxels(folder, address):
    make_volume("a.zarr", noise(64, 64, 64))
    sizes = []
    from lucid_cli.cluster import run as handing

    class Weighed(handing.HandedOut):
        def __init__(self, client, order, **options):
            sizes.append(len(pickle.dumps(order)))
            super().__init__(client, order, **options)

    with mock.patch("lucid_cli.cluster.connection.HandedOut", Weighed):
        ok("apply", "a.zarr", "-o", "b.zarr", *GAUSSIAN, "-q", *DASK, "--scheduler", address)
    assert 0 < max(sizes) < 20_000 < 64**3


def test_a_killed_worker_costs_its_tiles_only(folder):
    make_volume("a.zarr", noise(96, 96, 96))
    ok("apply", "a.zarr", "-o", "whole.zarr", *SLOW, "--chunks", 16, "-q")
    with cluster() as (_, address, workers):
        words = ("apply", "a.zarr", "-o", "b.zarr", *SLOW, "--chunks", 16, "--tile", 16, "-q")
        with program(*words, *DASK, "--scheduler", address) as process:
            wait(lambda: len(journal()) > 20 or process.poll() is not None)
            os.killpg(workers[0].pid, signal.SIGKILL)
            result = finished(process)
    assert result.code == 0, result.err
    assert contents("b.zarr") == contents("whole.zarr")


def test_a_lost_scheduler_is_an_error_and_the_rest_is_done_later(folder):
    make_volume("a.zarr", noise(96, 96, 96))
    words = ("apply", "a.zarr", "-o", "b.zarr", *SLOW, "--chunks", 16, "--tile", 16)
    with cluster() as (scheduler, address, _), program(*words, *DASK, "--scheduler", address) as process:
        wait(lambda: len(journal()) > 20 or process.poll() is not None)
        os.killpg(scheduler.pid, signal.SIGKILL)
        result = finished(process)
    assert result.code == 1
    assert "Error: the scheduler was lost" in result.err
    assert "Traceback" not in result.err
    assert not Path("b.zarr").exists()
    done = len(journal()) - 1
    assert done > 10
    ok(*words, "--resume", "-q")
    ok("apply", "a.zarr", "-o", "whole.zarr", *SLOW, "--chunks", 16, "-q")
    assert contents("b.zarr") == contents("whole.zarr")
    assert not list(Path().glob(".lucid*"))


def test_no_worker_is_waited_for_without_end(folder, monkeypatch):
    from lucid_cli.cluster import run as handing

    monkeypatch.setattr(handing, "WORKER_SECONDS", 1.0)
    make_volume("a.zarr", noise(32, 32, 32))
    with cluster() as (_, address, workers):
        started_with = handing.HandedOut.__init__

        def killed(self, *args, **options):
            for worker in workers:
                os.killpg(worker.pid, signal.SIGKILL)
            started_with(self, *args, **options)

        monkeypatch.setattr(handing.HandedOut, "__init__", killed)
        result = run("apply", "a.zarr", "-o", "b.zarr", *GAUSSIAN, "-q", *DASK, "--scheduler", address)
    assert result.code == 1
    assert "no worker is left" in result.err
    assert not list(Path().glob(".lucid*"))


def test_what_may_pass_is_tried_again(folder):
    Path("flaky.py").write_text(FLAKY)
    make_volume("a.zarr", noise(32, 32, 32))
    with cluster("--preload", folder / "flaky.py") as (_, address, _):
        result = run("apply", "a.zarr", "-o", "b.zarr", *GAUSSIAN, "-q", *DASK, "--scheduler", address)
    assert result.code == 0, result.err
    ok("apply", "a.zarr", "-o", "whole.zarr", *GAUSSIAN, "-q")
    assert contents("b.zarr") == contents("whole.zarr")


def test_workers_here_keep_the_limit(folder):
    make_volume("a.zarr", noise(128, 160, 160))
    words = ("apply", "a.zarr", "-o", "b.zarr", *GAUSSIAN, "--chunks", 32, "-q", "--report", "-")
    with program(*words, *DASK, "--workers", 2, "--max-memory", "330MiB") as process:
        peaks = {}
        while process.poll() is None:
            for pid in below(process.pid):
                with suppress(OSError, TypeError):
                    peaks[pid] = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) << 10
            time.sleep(0.02)
        result = finished(process)
    assert result.code == 0, result.err
    assert sum(size > 64 << 20 for size in peaks.values()) >= 2
    assert max(peaks.values()) <= 330 << 20


def below(pid):
    """Return the processes that a process has started, and those they have."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    children = [int(word) for word in found.stdout.split()]
    return children + [one for child in children for one in below(child)]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--scheduler", "tcp://127.0.0.1:9"), 2, "give --executor dask too"),
        (("--workers", 2), 2, "give --executor dask too"),
        ((*DASK, "-J", 2), 2, "leave it out"),
        ((*DASK, "--workers", 2, "--scheduler", "tcp://127.0.0.1:9"), 2, "leave one out"),
        ((*DASK, "--scheduler", "tcp://127.0.0.1:9"), 1, "no scheduler answers there"),
        ((*DASK, "--scheduler", "nonsense"), 1, "no scheduler answers there"),
        ((*DASK, "--scheduler", "slurm", "--max-memory", "1G"), 1, "no sbatch"),
    ],
)
def test_what_cannot_be(folder, monkeypatch, options, code, words):
    from lucid_cli.cluster import connection

    monkeypatch.setattr(connection, "START_SECONDS", 1.0)
    make_volume("a.npy", noise(8, 8, 8))
    result = run("apply", "a.npy", "-o", "b.npy", *GAUSSIAN, *options)
    assert result.code == code, result.err
    assert words in result.err
    assert not Path("b.npy").exists()


def test_stdin_is_not_for_workers(folder):
    result = run("apply", "-", "-o", "b.npy", *GAUSSIAN, *DASK)
    assert result.code == 2
    assert "name a file" in result.err


@pytest.mark.parametrize("more", [("--workers", 2), ("--scheduler", "slurm", "--max-memory", "1GiB")])
def test_a_plan_starts_no_workers(folder, monkeypatch, more):
    monkeypatch.setattr(distributed, "LocalCluster", None)
    monkeypatch.setattr(distributed, "Client", None)
    make_volume("a.npy", noise(16, 16, 16))
    assert "2 threads" in ok("plan", "a.npy", *GAUSSIAN, *DASK, "--threads", 2, *more).out
    ok("apply", "a.npy", "-o", "b.npy", "--dry-run", *GAUSSIAN, *DASK, "--threads", 2, *more)


def test_a_worker_takes_less_than_where_dask_has_it_pause():
    from lucid_cli.cluster.connection import _memory
    from lucid_cli.settings import Settings
    from lucid_core.units import ByteSize

    found = Settings(executor="dask", scheduler="tcp://there:1")
    assert _memory(found, 2, [1000, 0]) == 750
    assert _memory(found, 2, [0, 0]) is None
    assert _memory(replace(found, max_memory=ByteSize(400, "400")), 2, [1000]) == 400
    assert _memory(replace(found, max_memory=ByteSize(900, "900")), 2, [1000]) == 750


def test_voxels_that_wait_for_the_writer_have_room(monkeypatch):
    from lucid_cli.cluster.connection import _held
    from lucid_core import machine
    from lucid_core.planner import plan
    from lucid_core.problem import ConvProblem

    problem = ConvProblem(1, 1, 1, (256, 256, 256), (3, 3, 3), pads=((1, 1),) * 3)
    chosen = plan(problem, tile=(64, 256, 256))
    monkeypatch.setattr(machine, "available_bytes", lambda: 200 << 20)
    assert _held(chosen, 4, 1, 48) == (1, 6)
    monkeypatch.setattr(machine, "available_bytes", lambda: 64 << 30)
    assert _held(chosen, 4, 2, 48) == (2, 48)


def test_what_a_killed_run_left_open_is_closed(folder, address, monkeypatch):
    from lucid_cli.cluster import connection, work

    class Killed:
        """Carries tiles out in this process, and closes nothing."""

        def __init__(self, client, order, **options):
            self._order = order

        def results(self, tiles):
            for tile in tiles:
                yield tile, work.do(self._order, (tile,))[1][0]

        def close(self):
            pass

    monkeypatch.setattr(connection, "HandedOut", Killed)
    monkeypatch.setattr(work, "IDLE_SECONDS", 0.0)
    make_volume("a.npy", noise(16, 16, 16))
    for name in ("b.zarr", "c.zarr"):
        ok("apply", "a.npy", "-o", name, *GAUSSIAN, "-q", *DASK, "--scheduler", address)
    assert len(work._desks) == 1
    asyncio.run(work.close(*work._desks))
    assert not work._desks


def test_tiles_of_a_run_that_is_over_are_not_carried_out():
    from lucid_cli.cluster import work
    from lucid_core.errors import RunError

    asyncio.run(work.close("over"))
    with pytest.raises(RunError, match="given up"):
        work._desk(mock.Mock(token="over"))


def test_workers_of_another_version_are_refused(folder, address, monkeypatch):
    from lucid_cli.cluster import connection

    monkeypatch.setattr(connection, "__version__", "99")
    make_volume("a.npy", noise(8, 8, 8))
    result = run("apply", "a.npy", "-o", "b.npy", *GAUSSIAN, *DASK, "--scheduler", address)
    assert result.code == 2
    assert "do not have lucid-conv3d 99" in result.err


def test_an_error_of_a_tile_is_the_error_of_the_run(folder, address):
    make_volume("a.nii", 1e6 * noise(16, 16, 16))
    words = ("apply", "a.nii", "-o", "b.zarr", *GAUSSIAN, "--out-dtype", "int8", *DASK, "--scheduler", address)
    result = run(*words)
    assert result.code == 1
    assert "do not fit into int8" in result.err
    assert not Path("b.zarr").exists()


def test_slurm_gets_jobs_of_the_memory_and_threads_that_were_asked_for(folder, monkeypatch):
    jobqueue = pytest.importorskip("dask_jobqueue")
    from lucid_cli.cluster import connection

    asked = {}

    class Cluster:
        def __init__(self, **options):
            asked.update(options)

        def scale(self, jobs):
            asked["jobs"] = jobs

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    class Refused:
        def __init__(self, *args, **options):
            raise OSError("no connection in this test")

    monkeypatch.setattr(jobqueue, "SLURMCluster", Cluster)
    monkeypatch.setattr(connection.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(distributed, "Client", Refused)
    make_volume("a.npy", noise(8, 8, 8))
    words = (*GAUSSIAN, *DASK, "--scheduler", "slurm", "--workers", 5, "-j", 3, "--max-memory", "2GiB")
    assert run("apply", "a.npy", "-o", "b.npy", *words).code == 1
    assert (asked["jobs"], asked["cores"], asked["processes"], asked["memory"]) == (5, 3, 1, f"{2 << 30}B")
