"""Many inputs: which files are meant, where their outputs go, files at once, and what a failure costs."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from lucid_cli import batch, single
from lucid_cli.board import Board
from lucid_cli.formats import parse_spec
from lucid_cli.output import temporaries
from lucid_cli.report import bare_item
from lucid_cli.single import Outcome, Task
from lucid_cli.workers import Told
from lucid_core.events import Progress
from tests.cli.conftest import contents, finished, make_volume, noise, ok, program, run

KERNEL = ("--kernel", "box", "--size", "3vox")


def made(*names, size=(5, 6, 7)):
    """Write volumes that differ, in their folders."""
    for seed, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        make_volume(name, noise(*size, seed=seed))


def outputs(folder="out"):
    """Return the files below a folder, by their path in it."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


class TestWhichInputs:
    def test_a_folder_means_the_scans_in_it_and_its_tree_is_kept(self, folder):
        made("in/b.nii.gz", "in/a/deep/c.npy", "in/a/d.nii", "in/.hidden.nii", "in/.cache/e.nii", "in/p.img")
        Path("in/notes.txt").write_text("none")
        ok("apply", "in", "--out-dir", "out", *KERNEL, "-q")
        names = ["a/d_conv3d.nii", "a/deep/c_conv3d.npy", "b_conv3d.nii.gz", "p_conv3d.hdr", "p_conv3d.img"]
        assert outputs() == sorted(names)

    def test_a_second_run_does_not_take_the_outputs_of_the_first(self, folder):
        made("in/a.nii", "in/b.nii")
        for _ in range(2):
            ok("apply", "in", "--out-dir", "in/out", *KERNEL, "-q", "--overwrite")
        assert outputs("in") == ["a.nii", "b.nii", "out/a_conv3d.nii", "out/b_conv3d.nii"]

    def test_nor_where_they_stand_among_the_inputs(self, folder):
        made("in/a.nii", "in/b.nii")
        for options in ((), ("--resume",), ("--overwrite",)):
            ok("apply", "in", "-o", "in", *KERNEL, "-q", *options)
        assert outputs("in") == ["a.nii", "a_conv3d.nii", "b.nii", "b_conv3d.nii"]

    def test_a_quoted_pattern_keeps_the_tree_below_its_fixed_part(self, folder):
        made("in/s1/anat/t1.nii", "in/s2/anat/t1.nii", "in/s2/func/t1.nii", "in/s1/anat/t1.json.nii")
        ok("apply", "in/*/anat/t1.nii", "--out-dir", "out", *KERNEL, "-q")
        assert outputs() == ["s1/anat/t1_conv3d.nii", "s2/anat/t1_conv3d.nii"]
        ok("apply", "in/**/t1.nii", "--out-dir", "all", *KERNEL, "-q")
        assert len(outputs("all")) == 3

    def test_a_pattern_may_name_a_dataset(self, folder):
        for name in ("a.h5", "b.h5"):
            with h5py.File(name, "w") as file:
                file["raw"], file["other"] = noise(3, 4, 5), noise(3, 4, 5)
        ok("apply", "*.h5:/raw", "--out-dir", "out", *KERNEL, "-q")
        assert outputs() == ["a_conv3d.h5", "b_conv3d.h5"]

    def test_a_file_whose_name_looks_like_a_pattern_is_that_file(self, folder):
        made("a[1].npy", "a1.npy")
        ok("apply", "a[1].npy", "--out-dir", "out", *KERNEL, "-q")
        assert outputs() == ["a[1]_conv3d.npy"]

    @pytest.mark.parametrize("text", ("in", "in/*", "none/*.nii", "in/**/*.h5"))
    def test_where_no_scan_is_found_nothing_is_begun(self, folder, text):
        made("a.npy")
        Path("in").mkdir()
        Path("in/notes.txt").write_text("none")
        result = run("apply", "a.npy", text, "--out-dir", "out", *KERNEL)
        assert (result.code, Path("out").exists()) == (3, False)
        assert result.err.startswith(f"Error: {text}: ")
        assert "no scan is found there; legal are names in .nii, " in result.err

    @pytest.mark.parametrize("end", ("\n", "\r\n", "\0"))
    def test_a_list_names_inputs(self, folder, end):
        made("a b.npy", "c.npy", "d.npy")
        comment = ("# of today",) if end != "\0" else ()
        Path("list").write_text(end.join((*comment, "a b.npy", "", "c.npy", "")), newline="")
        ok("apply", "d.npy", "--from-file", "list", "--out-dir", "out", *KERNEL, "-q")
        assert outputs() == ["a b_conv3d.npy", "c_conv3d.npy", "d_conv3d.npy"]

    @pytest.mark.parametrize(
        ("args", "code", "words"),
        (
            (("scan", "--out-dir", "out"), 3, "scan: no such file or folder. Did you mean 'scans'?"),
            (("scans", "\u2014kernel", "box", "--out-dir", "out"), 2, "begins with a long dash"),
            (("scans/a.npy", "-o", "--overwrite"), 2, "-o is followed by '--overwrite', which looks like an option"),
            (("scans/a.npy", "out.npy"), 2, "name it with -o OUTPUT: -o out.npy, or a folder"),
            (("scans", "-o", "out.npy"), 4, "out.npy: is no folder, and 2 inputs (scans/a.npy, scans/b.npy, ...) need"),
        ),
    )
    def test_slips(self, folder, args, code, words):
        made("scans/a.npy", "scans/b.npy")
        result = run("apply", *args, *KERNEL)
        assert (result.code, result.err.count("\n")) == (code, 1)
        assert words in result.err

    def test_a_list_may_come_on_stdin(self, folder, monkeypatch):
        made("a.npy", "b.npy")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.npy\nb.npy\n")))
        ok("apply", "--from-file", "-", "--out-dir", "out", *KERNEL, "-q")
        assert len(outputs()) == 2

    @pytest.mark.parametrize(
        ("content", "words"), ((None, "No such file"), (b"\n \n", "names no input; write one a line"))
    )
    def test_a_list_that_is_none(self, folder, content, words):
        if content is not None:
            Path("list").write_bytes(content)
        result = run("apply", "--from-file", "list", "--out-dir", "out", *KERNEL)
        assert result.code == 2
        assert words in result.err


class TestWhereOutputsGo:
    def test_out_dir_is_made_and_the_folder_of_a_plain_output_is_not(self, folder):
        made("a.npy")
        ok("apply", "a.npy", "--out-dir", "x/y", *KERNEL, "-q")
        assert outputs("x") == ["y/a_conv3d.npy"]
        for output in ("z/", "z/b.npy"):
            result = run("apply", "a.npy", "-o", output, *KERNEL)
            assert (result.code, Path("z").exists()) == (4, False)

    def test_a_tree_is_made_in_an_existing_output_folder_too(self, folder):
        made("in/a/b.npy", "in/c.npy")
        Path("out").mkdir()
        ok("apply", "in", "-o", "out", *KERNEL, "-q", "--report", "out/r.json")
        assert outputs() == ["a/b_conv3d.npy", "c_conv3d.npy", "r.json"]

    @pytest.mark.parametrize(
        ("args", "words"),
        (
            (("a.nii", "a.npy", "--out-dir", "out", "--sidecar"), "two inputs would be written to out/a_conv3d.json"),
            (("a.nii", "-o", "a.npy", "--sidecar", "--overwrite"), "a.json: is the same file as the input a.json"),
            (("a.nii", "-o", "b.nii", "--sidecar", "--report", "b.json"), "is one of the files that the run itself"),
            (("a.nii", "a_conv3d.nii", "-o", "."), "a_conv3d.nii: is an input, and the output of a.nii too"),
            (("b.nii", "--from-file", "list.json", "--out-dir", "out", "--report", "list.json", "--overwrite"), "same"),
        ),
    )
    def test_files_that_would_clash(self, folder, args, words):
        made("a.nii", "a.npy", "b.nii", "a_conv3d.nii")
        Path("a.json").write_text("{}")
        Path("list.json").write_text("a.nii\n")
        before = contents(".")
        result = run("apply", *args, *KERNEL)
        assert (result.code, contents(".")) == (4, before)
        assert words in result.err

    def test_nothing_is_made_for_an_input_that_fails(self, folder):
        Path("bad.nii").write_bytes(b"bad")
        assert run("apply", "bad.nii", "--out-dir", "out", *KERNEL).code == 3
        assert not Path("out").exists()

    def test_names_are_made_of_stem_suffix_kernel_and_parent(self, folder):
        made("s1/a.nii.gz", "s2/a.nii.gz")
        pattern = "{parent}_{stem}_{kernel}{suffix}"
        ok("apply", "s1/a.nii.gz", "s2/a.nii.gz", "--out-dir", "out", "--name", pattern, *KERNEL, "-q")
        assert outputs() == ["s1_a_box.nii.gz", "s2_a_box.nii.gz"]
        ok("apply", "s1/a.nii.gz", "--out-dir", "w", "--name", "{kernel}.npy", "--kernel-size", "1", "-q")
        assert outputs("w") == ["conv3d.npy"]

    @pytest.mark.parametrize(
        ("args", "code", "words"),
        (
            (("-o", "out", "--out-dir", "out"), 2, "leave one"),
            (("--out-dir", "a.npy"), 4, "a.npy: is a folder whose name ends like a file's"),
            (("--out-dir", "plain"), 4, "is a file, and the outputs go into a folder"),
            (("--out-dir", "out", "--name", "{stm}"), 2, "legal: {stem}, {suffix}, {kernel} and {parent}"),
            ((), 2, "or a folder with --out-dir FOLDER"),
        ),
    )
    def test_what_is_refused(self, folder, args, code, words):
        made("a.npy")
        Path("plain").write_text("")
        result = run("apply", "a.npy", *args, *KERNEL)
        assert result.code == code
        assert words in result.err

    def test_two_inputs_with_one_output_are_told_apart_by_the_message(self, folder):
        made("s1/a.npy", "s2/a.npy")
        result = run("apply", "s1/a.npy", "s2/a.npy", "--out-dir", "out", *KERNEL)
        assert result.code == 4
        assert "s1/a.npy and s2/a.npy" in result.err
        assert "{parent}_{stem}{suffix}" in result.err


class TestFilesAtOnce:
    @pytest.mark.parametrize("jobs", (1, 2, 0))
    def test_the_bytes_are_those_of_each_file_by_itself(self, folder, jobs):
        names = [f"in/{letter}.nii.gz" for letter in "abcde"]
        made(*names)
        for name in names:
            ok("apply", name, "--out-dir", "alone", *KERNEL, "-q")
        ok("apply", "in", "--out-dir", "out", *KERNEL, "-q", "-J", jobs, "--report", "r.json")
        assert contents("out") == contents("alone")
        report = json.loads(Path("r.json").read_text())
        assert [item["input"]["path"] for item in report["items"]] == names
        assert {item["status"] for item in report["items"]} == {"ok"}

    def test_a_line_tells_of_each_file_and_one_of_all(self, folder):
        made("a.npy", "b.npy")
        lines = ok("apply", "a.npy", "b.npy", "--out-dir", "out", *KERNEL).err.splitlines()
        assert lines[0].startswith("[1/2] a.npy -> out/a_conv3d.npy, 0.")
        assert lines[1].startswith("[2/2] b.npy -> out/b_conv3d.npy, 0.")
        assert lines[2].startswith("2 inputs: 2 done, in ")
        assert len(lines) == 3
        again = ok("apply", "a.npy", "b.npy", "--out-dir", "out", *KERNEL, "--skip-existing").err.splitlines()
        assert again[0] == "[1/2] a.npy: skipped, out/a_conv3d.npy is finished"
        assert again[2].startswith("2 inputs: 2 skipped, in ")

    def test_progress_as_json_tells_of_each_end(self, folder):
        made("a.npy", "b.npy")
        lines = ok("apply", "a.npy", "b.npy", "--out-dir", "out", *KERNEL, "--progress", "json").err.splitlines()
        known = {"event": "ended", "input": "a.npy", "output": "out/a_conv3d.npy", "status": "ok", "error": None}
        assert json.loads(lines[0]) == known | {"done": 1, "total": 2}

    @pytest.mark.parametrize("jobs", (1, 2))
    def test_a_failing_file_stops_no_other(self, folder, jobs):
        made("a.npy", "c.npy")
        Path("b.nii").write_bytes(b"bad")
        result = run("apply", "a.npy", "b.nii", "absent.npy", "c.npy", "--out-dir", "out", *KERNEL, "-J", jobs)
        assert result.code == 7
        assert outputs() == ["a_conv3d.npy", "c_conv3d.npy"]
        *_, summary, first, second = result.err.splitlines()
        assert summary.startswith("4 inputs: 2 done, 2 failed, in ")
        assert first.startswith("  b.nii       not a NIfTI file")
        assert second.startswith("  absent.npy  no such file")
        assert result.err.count("Error: ") == 2

    def test_fail_fast_begins_nothing_more(self, folder):
        made("b.npy", "c.npy")
        Path("a.nii").write_bytes(b"bad")
        result = run("apply", "a.nii", "b.npy", "c.npy", "--out-dir", "out", *KERNEL, "--fail-fast", "--report", "-")
        assert result.code == 7
        assert "3 inputs: 1 failed, 2 not done" in result.err
        assert not Path("out").exists()
        assert len(json.loads(result.out)["items"]) == 1

    def test_a_crash_costs_its_file_only(self, folder, monkeypatch):
        made("a.npy", "b.npy", "c.npy")
        honest = single.run

        def crashing(job, finals, observe):
            if job.input.path.name == "b.npy":
                temporary = temporaries(finals, overwrite=False)
                temporary.__enter__()
                os.kill(os.getpid(), signal.SIGKILL)
            return honest(job, finals, observe)

        monkeypatch.setattr(single, "run", crashing)
        result = run("apply", "a.npy", "b.npy", "c.npy", "--out-dir", "out", *KERNEL)
        assert result.code == 7
        assert (
            "Error: b.npy: the process that worked on it was ended by SIGKILL; perhaps for want of memory" in result.err
        )
        assert outputs() == ["a_conv3d.npy", "c_conv3d.npy"]

    def test_one_done_and_one_refused_is_some_that_failed(self, folder):
        made("a.npy", "b.nii.gz")
        result = run("apply", "b.nii.gz", "a.npy", "--out-dir", "out", *KERNEL, "--compression", 5)
        assert (result.code, outputs()) == (7, ["b_conv3d.nii.gz"])

    def test_a_file_too_large_beside_others_is_done_alone(self, folder, monkeypatch):
        made("a.npy", "b.npy")
        honest = batch.shared
        shares = []

        def scarce(settings, jobs):
            shares.append(jobs)
            return honest(settings, jobs) if jobs == 1 else honest(settings, 10**6)

        monkeypatch.setattr(batch, "shared", scarce)
        result = ok("apply", "a.npy", "b.npy", "--out-dir", "out", *KERNEL, "-J", 2, "-j", 2, "--max-memory", "4G")
        assert (shares, len(outputs())) == ([2, 1], 2)
        assert "Error" not in result.err

    def test_one_that_is_too_large_alone_is_said_once(self, folder):
        made("a.npy", "b.npy")
        result = run("apply", "a.npy", "b.npy", "--out-dir", "out", *KERNEL, "-J", 2, "-j", 2, "--max-memory", "1M")
        assert result.code == 7
        assert result.err.count("Error: a.npy: ") == 1

    def test_jobs_share_memory_and_threads(self, folder):
        made("a.npy", "b.npy", "c.npy", "d.npy")
        names = ("a.npy", "b.npy", "c.npy", "d.npy")
        options = ("--out-dir", "out", *KERNEL, "-q", "-j", 4, "--max-memory", "4G", "--report", "-")
        plans = [item["plan"] for item in json.loads(ok("apply", *names, *options, "-J", 4).out)["items"]]
        assert {plan["threads"] for plan in plans} == {1}
        assert all(0.5e9 < plan["limit_bytes"] < 2e9 for plan in plans)

    def test_an_input_on_stdin_may_be_one_of_several(self, folder):
        made("a.nii", "b.npy")
        with Path("a.nii").open("rb") as stdin:
            result = finished(program("apply", "-", "b.npy", "--out-dir", "out", *KERNEL, "-q", stdin=stdin))
        assert (result.code, result.err, outputs()) == (0, "", ["b_conv3d.npy", "stdin_conv3d.nii"])


class TestEndedBatches:
    ARGS = ("apply", "in", "--out-dir", "out", "--kernel", "gaussian", "--sigma", "2vox", "--no-provenance", "-j", 1)

    @pytest.fixture
    def names(self, folder):
        made("in/a.nii.gz", size=(64, 128, 128))
        for letter in "bcdefghijkl":
            shutil.copy("in/a.nii.gz", f"in/{letter}.nii.gz")
        return [f"{letter}_conv3d.nii.gz" for letter in "abcdefghijkl"]

    @pytest.mark.parametrize(("number", "code"), ((signal.SIGINT, 130), (signal.SIGTERM, 143)))
    def test_the_rest_is_done_by_the_same_with_resume(self, names, number, code):
        process = program(*self.ARGS, "-J", 1, start_new_session=True)
        assert process.stderr.readline().startswith("[1/12]")
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        result = finished(process)
        assert result.code == code
        assert "of 12 inputs are done; the same with --resume does the rest." in result.err
        done = outputs()
        assert 0 < len(done) < 12
        assert set(done) < set(names)
        result = ok(*self.ARGS, "--resume")
        assert f"12 inputs: {12 - len(done)} done, {len(done)} skipped, in " in result.err
        assert outputs() == names
        assert len({Path("out", name).read_bytes() for name in names}) == 1

    def test_workers_end_where_the_first_process_is_killed(self, names):
        process = program(*self.ARGS, "-J", 2, start_new_session=True)
        assert process.stderr.readline().startswith("[1/12]")
        process.kill()
        process.communicate(timeout=60)  # returns when nobody holds stderr any more
        assert all(name in names for name in outputs() if not name.startswith("."))
        ok(*self.ARGS, "--resume", "-q")
        assert outputs() == names


def test_a_signal_while_a_process_is_forked_is_heard_after_it():
    code = (
        "import os, signal\n"
        "from lucid_cli.signals import Interrupted, held, watch\n"
        "watch()\n"
        "try:\n"
        "    with held():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        print('held', flush=True)\n"
        "    print('too late')\n"
        "except Interrupted as stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print(stop)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "held\nSIGTERM\n", "")


class TestTheBar:
    def test_it_counts_files_and_shares_of_files(self, capsys):
        tasks = [Task(index, parse_spec(f"{index}.npy"), None) for index in range(4)]
        with Board("bar", 4, quiet=False) as board:
            board.end(tasks[0], Outcome(bare_item("0.npy", "skipped", 0)))
            board.told(Told(tasks[1], Progress(50, 100)))
            board.told(Told(tasks[2], "words of a worker"))
        said = capsys.readouterr().err
        assert " 38%|" in said
        assert "1.5/4 files" in said
        assert "words of a worker\n" in said

    def test_a_file_that_takes_long_is_told_of(self, capsys, monkeypatch):
        monkeypatch.setattr("lucid_cli.board.LINE_SECONDS", 1e-9)
        with Board("log", 2, quiet=False) as board:
            board.told(Told(Task(0, parse_spec("in/a.npy"), None), Progress(50, 100)))
        assert capsys.readouterr().err.startswith("in/a.npy: 50 % of 100 voxels")


def test_values_are_those_of_scipy(folder):
    from scipy.ndimage import uniform_filter

    made("a.npy", "b.npy")
    ok("apply", "a.npy", "b.npy", "--out-dir", "out", *KERNEL, "-q", "-J", 2)
    for name in "ab":
        wanted = uniform_filter(np.load(f"{name}.npy").astype(float), 3, mode="nearest")
        np.testing.assert_allclose(np.load(f"out/{name}_conv3d.npy"), wanted, atol=1e-4)
