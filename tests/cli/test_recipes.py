"""The recipes in `configs/recipes` run, with the tools that are installed: outputs, awkward names, failures."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ok

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"
BIN = Path(sys.executable).parent
LAYER = ("--kernel", "box", "--size", "3vox")


def call(*words, **environment):
    """Run a program of the shell with ours on the PATH."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    argv = [str(word) for word in words]
    return subprocess.run(
        argv, env=os.environ | {"PATH": path} | environment, capture_output=True, text=True, timeout=120, check=False
    )


def needs(program):
    return pytest.mark.skipif(
        not shutil.which(program, path=f"{BIN}{os.pathsep}{os.environ['PATH']}"), reason=f"{program} is not installed"
    )


def names(folder):
    return sorted(path.name for path in Path(folder).glob("*.nii.gz"))


@pytest.fixture
def scans(folder):
    """Return the names of two scans in `scans`."""
    Path("scans").mkdir()
    for name in ("a", "b"):
        ok("sample", "noise", "-o", f"scans/{name}.nii.gz", "--shape", "5", "--seed", ord(name))
    return ["a.nii.gz", "b.nii.gz"]


@pytest.fixture
def odd(scans):
    """Return the same with a third scan, of a name that has to be quoted."""
    name = "it's a $(scan); c.nii.gz"
    ok("sample", "noise", "-o", f"scans/{name}", "--shape", "5")
    return sorted([*scans, name])


def test_every_recipe_says_how_to_run_it_and_is_tried_here():
    tried = Path(__file__).read_text()
    for path in RECIPES.iterdir():
        assert f"configs/recipes/{path.name}" in path.read_text()
        assert f'RECIPES / "{path.name}"' in tried


def test_the_smoke_job(folder):
    done = call("sh", RECIPES / "smoke.sh")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(folder.iterdir()) == []


def test_the_smoke_job_fails_where_a_step_does(folder):
    done = call("sh", RECIPES / "smoke.sh", LUCID_CONV3D_KERNEL="box", LUCID_CONV3D_SIZZE="3vox")
    assert done.returncode == 2
    assert "LUCID_CONV3D_SIZZE" in done.stderr


def make(*words):
    return call("make", "-f", RECIPES / "Makefile", "-j2", "LAYER=" + " ".join(LAYER), *words)


@needs("make")
class TestMake:
    """`Makefile`."""

    def test_it_does_what_is_missing_or_older(self, scans):
        assert make("IN=scans", "OUT=out").returncode == 0
        assert names("out") == scans
        assert "apply" not in make("IN=scans", "OUT=out").stdout
        os.utime("scans/a.nii.gz", (4e9, 4e9))
        assert make("IN=scans", "OUT=out").stdout.count("apply") == 1

    def test_a_failure_is_passed_on_and_leaves_nothing(self, scans):
        Path("scans/a.nii.gz").write_bytes(b"no scan")
        done = make("-k", "IN=scans", "OUT=out")
        assert done.returncode == 2
        assert names("out") == ["b.nii.gz"]

    def test_names_that_it_cannot_hold_are_refused(self, odd):
        done = make("IN=scans", "OUT=out")
        assert (done.returncode, Path("out").exists()) == (2, False)
        assert "names that make cannot hold: scans/it's a $(scan); c.nii.gz" in done.stderr

    def test_a_folder_without_scans_is_refused(self, folder):
        done = make("IN=nowhere")
        assert done.returncode == 2
        assert "no .nii.gz in nowhere itself (its subfolders are not searched)" in done.stderr


def parallel(*words):
    return call("sh", RECIPES / "parallel.sh", *words)


@needs("parallel")
class TestParallel:
    """`parallel.sh`."""

    def test_it_takes_any_name_and_does_what_is_missing(self, odd):
        done = parallel("scans", "an output", *LAYER)
        assert (done.returncode, names("an output")) == (0, odd), done.stderr
        Path("an output", odd[0]).unlink()
        assert parallel("scans", "an output", *LAYER).returncode == 0
        assert names("an output") == odd

    def test_its_exit_code_counts_the_failures(self, scans):
        for name in scans:
            Path("scans", name).write_bytes(b"no scan")
        assert parallel("scans", "out", *LAYER).returncode == 2

    def test_wrong_words_are_refused(self, folder):
        assert parallel("scans").returncode == 2
        assert parallel("nowhere", "out", *LAYER).returncode == 3
        assert not Path("out").exists()

    def test_a_folder_without_scans_is_refused(self, scans):
        Path("above").mkdir()
        Path("scans").rename("above/scans")
        done = parallel("above", "out", *LAYER)
        assert (done.returncode, Path("out").exists()) == (3, False)
        assert "no .nii.gz in above itself (its subfolders are not searched)" in done.stderr


def task(index, count, *words):
    """Run a task of an array as SLURM would."""
    return call(
        "bash",
        RECIPES / "slurm.sh",
        *words,
        SLURM_ARRAY_TASK_ID=str(index),
        SLURM_ARRAY_TASK_COUNT=str(count),
        SLURM_CPUS_PER_TASK="1",
        SLURM_MEM_PER_NODE="4096",
    )


class TestSlurm:
    """`slurm.sh`, and the report of all its tasks."""

    def merged(self):
        return call("bash", "-c", "lucid-conv3d merge out/shard-*.json -o out/batch.json --overwrite")

    def test_the_tasks_together_do_every_scan_once(self, odd):
        for index in (1, 2):
            done = task(index, 2, "scans", "out", *LAYER)
            assert done.returncode == 0, done.stderr
        assert len(names("out")) == 3
        assert self.merged().returncode == 0
        items = json.loads(Path("out/batch.json").read_text())["items"]
        assert sorted(Path(item["input"]["path"]).name for item in items) == odd

    def test_a_task_that_failed_is_submitted_again(self, scans):
        good = Path("scans/a.nii.gz").read_bytes()
        Path("scans/a.nii.gz").write_bytes(b"no scan")
        assert [task(index, 2, "scans", "out", *LAYER).returncode for index in (1, 2)] == [7, 0]
        assert self.merged().returncode == 7
        Path("scans/a.nii.gz").write_bytes(good)
        again = task(1, 2, "scans", "out", *LAYER)
        assert again.returncode == 0, again.stderr
        assert self.merged().returncode == 0


@needs("snakemake")
class TestSnakemake:
    """`Snakefile`; Snakemake is no part of what the tests install, as it brings some fifty packages."""

    def snakemake(self):
        words = ("--cores", "1", "--quiet", "all", "--config", "scans=scans", "smooth=an output")
        return call("snakemake", "-s", RECIPES / "Snakefile", *words, XDG_CACHE_HOME=str(Path.cwd()))

    def test_it_does_every_scan_and_passes_a_failure_on(self, odd):
        done = self.snakemake()
        assert (done.returncode, names("an output")) == (0, odd), done.stderr
        Path("scans/a.nii.gz").write_bytes(b"no scan")
        assert self.snakemake().returncode == 1


def test_the_command_of_the_nextflow_script(odd):
    """Nextflow needs Java and a download, so its script is not run: only the command in it, as a task would."""
    (line,) = [line for line in (RECIPES / "main.nf").read_text().splitlines() if " lucid-conv3d apply" in line]
    for name in odd:
        shutil.rmtree("in", ignore_errors=True)
        Path("in").mkdir()
        shutil.copy(Path("scans", name), "in")
        done = call("bash", "-ue", "-c", line.replace("${task.cpus}", "1"))
        assert done.returncode == 0, done.stderr
    assert names(".") == odd
