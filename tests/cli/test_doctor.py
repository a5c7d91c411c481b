"""`doctor`: it finds what is well, and what is broken on purpose is said to be broken, with what to do."""

import errno
import importlib
import json
import os
import signal
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from lucid_cli import doctor
from lucid_cli.doctor import computer, engines, environment, folders, packages, selftest, trials, words
from lucid_cli.doctor.findings import FAILED, NOTE, OK, PROBLEM, Finding
from lucid_cli.formats import READ_ONLY, SUFFIXES
from lucid_core import compiled, machine
from lucid_core.algorithms import algorithms
from lucid_core.errors import ExtraError
from tests.cli.conftest import contents, ok, run


@pytest.fixture
def quick(monkeypatch):
    """Spend no time on kernels that Numba would have to compile."""
    monkeypatch.setattr(selftest, "COMPILING_SECONDS", 0.0)


def named(findings):
    return {one.name: one for one in findings}


def test_all_is_well_here_and_nothing_is_left_behind(folder, quick, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    result = ok("doctor")
    assert (result.err, contents(folder)) == ("", {})
    assert [line for line in result.out.splitlines() if line in doctor.SECTIONS] == list(doctor.SECTIONS)
    for name, way in algorithms().items():
        assert f"{way.name} ({way.engine})" in result.out, name
    tried = {suffix for suffix in SUFFIXES if f" {suffix} written and read" in result.out}
    assert {SUFFIXES[suffix] for suffix in tried} == {SUFFIXES[one] for one in SUFFIXES if one not in READ_ONLY}
    assert " failed " not in result.out


def test_json_holds_the_same(folder, quick):
    found = json.loads(ok("doctor", "--json").out)
    assert (found["schema"], found["ok"]) == ("lucid-conv3d/doctor-1", True)
    assert {one["section"] for one in found["findings"]} == set(doctor.SECTIONS)
    assert {one["status"] for one in found["findings"]} <= {OK, NOTE, PROBLEM}
    (numpy,) = (one for one in found["findings"] if one["name"] == "numpy" and one["section"] == "packages")
    assert numpy["text"].startswith(f"{np.__version__}, BLAS ")


def broken_run(self, problem, prepared, bias, window, region, out, scratch):
    out[...] = 1


def test_a_wrong_algorithm_fails(folder, quick, monkeypatch):
    monkeypatch.setattr(type(algorithms()["gemm"]), "run", broken_run)
    result = run("doctor")
    lines = {
        " ".join(line.split()[1:3]): line.split()[0]
        for line in result.out.splitlines()
        if line.startswith("  ") and "->" not in line
    }
    assert result.code == 1
    assert (lines["gemm (numpy)"], lines["fft (numpy)"]) == ("failed", "ok")
    assert "gemm is wrong: 1 at output voxel" in result.out
    assert "1 failed, " in result.out.splitlines()[-1]


def test_a_format_that_changes_a_value_fails(folder, monkeypatch):
    from lucid_cli.formats import npy

    class Doubling(npy.RawSink):
        def write(self, batch, region, encoded):
            super().write(batch, region, encoded * 2)

    monkeypatch.setattr(npy, "RawSink", Doubling)
    with pytest.raises(Exception, match="what was read is not what was written: 480 of 480 voxels differ"):
        selftest._round_trip(folder, ".npy")
    assert selftest._round_trip(folder, ".h5") == "the same values"


def test_a_check_that_crashes_ends_no_other(monkeypatch):
    def crash():
        os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    def lacking():
        raise ExtraError("not installed")

    checks = {
        "first": lambda: "well",
        "second": crash,
        "third": lacking,
        "fourth": lambda: 1 / 0,
        "last": lambda: "well",
    }
    found = trials.outcomes(checks, 20, "")
    assert [one.name for one in found] == list(checks)
    assert [one.status for one in found] == [OK, FAILED, NOTE, FAILED, OK]
    assert found[1].text == "crashed (SIGKILL)"
    assert found[3].text.startswith("ZeroDivisionError")


def test_a_check_without_an_end_is_left(monkeypatch):
    checks = {"first": lambda: "well", "second": lambda: time.sleep(600) or "", "third": lambda: "well"}
    found = trials.outcomes(checks, 1.5, "wait")
    assert [(one.status, one.advice) for one in found] == [(OK, ""), (NOTE, "wait"), (NOTE, "wait")]


@pytest.mark.parametrize("section", doctor.SECTIONS)
def test_a_section_whose_package_is_broken_is_a_failure_that_names_it(quick, monkeypatch, section):
    def find():
        raise ImportError("libfoo.so: cannot open shared object file")

    monkeypatch.setattr(importlib.import_module(f"lucid_cli.doctor.{section}"), "find", find)
    (finding,) = doctor._found(section)
    assert (finding.status, "libfoo.so" in finding.text) == (FAILED, True)
    assert not words.passed({section: [finding]})


# Packages

LINES = [
    'numpy>=1.26; python_version < "3.0"',
    'numpy>=2.1; python_version >= "3.13" or python_version >= "3.0"',
    "click>=8.1",
    'numba>=0.60; extra == "fast"',
    'backports.zstd>=1.0; python_version < "3.14" and extra == "formats"',
    'old>=1; python_version < "3.5" and extra == "formats"',
    "PyYAML; extra == 'yaml'",
    'lucid-conv3d[fast,formats]; extra == "all"',
    'pytest>=8; extra == "test"',
]


def test_requirements_are_read_as_metadata_hold_them(monkeypatch):
    monkeypatch.setattr("sys.version_info", (3, 13, 1))
    found = [(one.name, one.least, one.extra) for one in packages.requirements(LINES)]
    assert found == [
        ("numpy", "2.1", None),
        ("click", "8.1", None),
        ("numba", "0.60", "fast"),
        ("backports.zstd", "1.0", "formats"),
        ("PyYAML", "", "yaml"),
    ]


@pytest.mark.parametrize(
    ("version", "status", "text"),
    (
        ("0.60.0", OK, "0.60.0"),
        ("0.61.2rc1", OK, "0.61.2rc1"),
        ("0.9", PROBLEM, "0.9, older than 0.60"),
        (None, NOTE, "not installed"),
    ),
)
def test_versions_of_optional_packages(monkeypatch, version, status, text):
    def found(name):
        if version is None:
            raise PackageNotFoundError(name)
        return version

    monkeypatch.setattr(packages, "version", found)
    finding = packages._finding(packages.Requirement("numba", "0.60", "fast"))
    assert (finding.status, finding.text) == (status, text)
    assert finding.advice == ("" if status == OK else "pip install --upgrade 'lucid-conv3d[fast]'")


def test_a_needed_package_that_is_missing_or_broken_fails(monkeypatch):
    assert packages._finding(packages.Requirement("no-such-package", "1", None)).status == FAILED

    def broken(name):
        raise ImportError("libhdf5.so is missing")

    monkeypatch.setattr(packages, "_inside", broken)
    finding = packages._finding(packages.Requirement("h5py", "3", None))
    assert (finding.status, finding.advice) == (FAILED, "pip install h5py again")
    assert finding.text.endswith("which cannot be imported: libhdf5.so is missing")


def test_where_the_program_is_not_installed_its_packages_are_not_known(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "requires", missing)
    *_, last = packages.find()
    assert (last.status, last.text, "pip install" in last.advice) == (PROBLEM, "not known", True)


# Computer and folders


def test_cores_and_memory_come_with_what_bounds_them(monkeypatch, tmp_path):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    (tmp_path / "memory.max").write_text(f"{3 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 20}\n")
    found = named(computer.find())
    assert found["cores"].text == "3 (affinity 8, SLURM_CPUS_PER_TASK 3, cgroup 4)"
    assert (found["memory"].status, "cgroup 2.0 MiB" in found["memory"].text) == (PROBLEM, True)
    assert found["memory"].text.startswith("2.0 MiB available")


def test_memory_and_vectors_that_are_not_known(monkeypatch):
    monkeypatch.setattr(machine, "memory_limits", dict)
    monkeypatch.setattr(machine, "vectors", lambda: None)
    found = named(computer.find())
    assert found["memory"].text == "not known"
    assert "--max-memory" in found["memory"].advice
    assert "numba cannot run" in found["processor"].advice


def test_what_a_folder_cannot_do_is_said(folder, monkeypatch):
    assert {one.status for one in folders.find()} == {OK}

    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr("fcntl.flock", refused)
    found = named(folders.find())
    assert [name for name, one in found.items() if one.status == PROBLEM] == ["hard links", "locks"]
    assert found["locks"].text == "cannot be done: Operation not permitted"
    assert "HDF5_USE_FILE_LOCKING" in found["locks"].advice
    assert contents(folder) == {}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc cannot be written, by root neither")
def test_a_folder_that_cannot_be_written(monkeypatch):
    monkeypatch.chdir("/proc")
    found = named(folders.find())
    assert (found["writing"].status, "name outputs in another folder" in found["writing"].advice) == (PROBLEM, True)


def test_a_disk_that_is_nearly_full(folder, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    found = named(folders.find())
    assert found["temporary data"].status == found["working folder"].status == PROBLEM
    assert "TMPDIR" in found["temporary data"].advice


# Engines and environment


@pytest.mark.parametrize(
    ("kept", "status", "text"),
    (
        (("/cache", 3), OK, "ready; 3 compiled kernels are kept in /cache"),
        (("/cache", 0), NOTE, "no kernel is compiled yet"),
        ((None, 0), PROBLEM, "every process compiles its kernels anew"),
    ),
)
def test_kernels_of_numba(monkeypatch, kept, status, text):
    if compiled.refusal() is not None:
        pytest.skip(compiled.refusal())
    monkeypatch.setattr("lucid_core.compiled.jit.kept", lambda: kept)
    found = named(engines.find())["numba"]
    assert (found.status, text in found.text) == (status, True)


@pytest.mark.parametrize(("installed", "status"), ((False, NOTE), (True, PROBLEM)))
def test_an_engine_that_cannot_run(monkeypatch, installed, status):
    monkeypatch.setattr(compiled, "refusal", lambda: "it cannot be used")
    monkeypatch.setattr(compiled, "installed", lambda: installed)
    monkeypatch.setattr("lucid_core.blas.controls", lambda: None)
    found = named(engines.find())
    assert (found["numba"].status, found["numba"].text) == (status, "it cannot be used")
    assert (found["numpy"].status, "OMP_NUM_THREADS=1" in found["numpy"].advice) == (PROBLEM, True)


def test_variables_of_the_environment(monkeypatch):
    for name in environment.OTHERS:
        monkeypatch.delenv(name, raising=False)
    assert environment.find() == [Finding("variables", "none that matters is set")]
    values = {"STRIDE": "2", "PADING": "1", "AXIS4": "best", "BIAS": "false", "SIGMA": "3"}
    for name, value in values.items():
        monkeypatch.setenv(f"LUCID_CONV3D_{name}", value)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # as this program itself sets it
    found = {name.removeprefix("LUCID_CONV3D_"): one for name, one in named(environment.find()).items()}
    assert found["STRIDE"].text == "2: the default of --stride"
    assert "Did you mean 'LUCID_CONV3D_PADDING'" in found["PADING"].text
    assert [name for name, one in found.items() if one.status == PROBLEM] == ["AXIS4", "PADING", "SIGMA"]
    assert list(found)[-1] == "OMP_NUM_THREADS"
    assert found["OMP_NUM_THREADS"].text.startswith("5: changes nothing here")
