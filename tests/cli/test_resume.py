"""`--resume`: what an ended run keeps, what a killed one leaves, and that going on gives the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lucid_cli import journal
from lucid_cli.temporary import JOURNAL, PARTIAL, VOXELS, hidden
from tests.cli.conftest import contents, finished, make_volume, noise, ok, program, run, save_weights

FORMATS = (".nii", ".nii.gz", ".nii.zst", ".img", ".h5", ".npy", ".mgh", ".mgz")
LAYER = ("--weights", "w.npz", "--padding", 3, "--tile", "2,99,99", "--progress", "log")


@pytest.fixture
def scene(folder):
    """Make a volume and filters whose convolution takes a second in 45 tiles."""
    make_volume(folder / "a.npy", noise(96, 96, 96))
    save_weights(folder / "w.npz", noise(2, 1, 13, 13, 13, seed=1), noise(2, seed=2))
    return folder


def hidden_names(folder):
    return sorted(name.rpartition(".")[2] for name in contents(folder) if name.startswith(".lucid-conv3d-"))


def statistics(result):
    output = json.loads(result.out)["items"][0]["output"]
    return {name: output[name] for name in ("min", "max", "mean", "nan_count", "clipped_count")}


def ended(number, *args, tiles=5):
    """Start a run, end it by a signal when so many tiles are done, and return what it left to say."""
    with program("apply", *args) as process:
        for _ in range(tiles // 5 + 1):
            assert " % of " in process.stderr.readline()
        process.send_signal(number)
        return finished(process)


@pytest.mark.parametrize("out", FORMATS)
def test_a_run_that_was_killed_goes_on_and_gives_the_same_bytes(scene, out):
    whole = ok("apply", "a.npy", "-o", f"whole{out}", *LAYER, "--report", "-")
    ended(signal.SIGKILL, "a.npy", "-o", f"b{out}", *LAYER, "--resume", tiles=10)
    left = journal.read_journal(hidden(scene / f"b{out}", JOURNAL))
    assert left.tiles >= 4
    assert not (scene / f"b{out}").exists()
    again = ok("apply", "a.npy", "-o", f"b{out}", *LAYER, "--resume", "--report", "-")
    first = next(line for line in again.err.splitlines() if " % of " in line)
    assert int(first.split(": ")[1].split()[0]) >= 100 * left.tiles // 45
    names = (f"b{out}",) if out != ".img" else ("b.img", "b.hdr")
    for name in names:
        assert (scene / name).read_bytes() == (scene / name.replace("b", "whole")).read_bytes()
    assert statistics(again) == statistics(whole)
    assert hidden_names(scene) == []


@pytest.mark.parametrize("out", (".nii.gz", ".npy"))
def test_a_run_that_is_killed_again_and_again_gets_there(scene, out):
    ok("apply", "a.npy", "-o", f"whole{out}", *LAYER)
    dice = random.Random(0)
    for _ in range(60):
        with program("apply", "a.npy", "-o", f"b{out}", *LAYER, "--resume") as process:
            time.sleep(0.2 + dice.random())
            process.kill()
            finished(process)
        if (scene / f"b{out}").exists():
            break
    assert (scene / f"b{out}").read_bytes() == (scene / f"whole{out}").read_bytes()


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
def test_a_run_that_is_ended_keeps_its_journal_and_says_so(scene, number):
    result = ended(number, "a.npy", "-o", "b.nii.gz", *LAYER, "--resume")
    assert result.code == 128 + number
    assert "% is kept: run again with --resume to go on" in result.err.splitlines()[-1]
    assert hidden_names(scene) == [JOURNAL, PARTIAL, VOXELS]


@pytest.mark.parametrize("out", FORMATS)
def test_a_run_that_was_terminated_goes_on(scene, out):
    ok("apply", "a.npy", "-o", f"whole{out}", *LAYER)
    assert ended(signal.SIGTERM, "a.npy", "-o", f"b{out}", *LAYER, "--resume").code == 143
    ok("apply", "a.npy", "-o", f"b{out}", *LAYER, "--resume")
    assert (scene / f"b{out}").read_bytes() == (scene / f"whole{out}").read_bytes()


@pytest.mark.parametrize("out", (".nii", ".nii.gz", ".h5"))
@pytest.mark.parametrize("gone", ("removed", "emptied", "another"))
def test_a_journal_without_its_voxels_is_begun_anew(scene, out, gone):
    ok("apply", "a.npy", "-o", f"whole{out}", *LAYER)
    ended(signal.SIGKILL, "a.npy", "-o", f"b{out}", *LAYER, "--resume")
    for kind in (VOXELS, PARTIAL):
        path = hidden(scene / f"b{out}", kind)
        if path.exists():
            data = b"" if gone == "emptied" else bytes(path.stat().st_size)
            if gone != "emptied":
                path.rename(scene / f"moved.{kind}")
            if gone != "removed":
                path.write_bytes(data)
    ok("apply", "a.npy", "-o", f"b{out}", *LAYER, "--resume")
    assert (scene / f"b{out}").read_bytes() == (scene / f"whole{out}").read_bytes()


COMMIT = """
import os, sys
from lucid_cli import {module}
from lucid_cli.main import main
whole = {module}.{name}
{module}.{name} = lambda *args, **kwargs: (whole(*args, **kwargs), os.kill(os.getpid(), {number}))
sys.argv[0] = "lucid-conv3d"
main()
"""


@pytest.mark.parametrize("number", (signal.SIGKILL, signal.SIGTERM))
@pytest.mark.parametrize("overwrite", ((), ("--overwrite",)), ids=("new", "overwrite"))
@pytest.mark.parametrize("out", ("b.npy", "b.nii.gz", "b.h5"))
@pytest.mark.parametrize(
    ("module", "name"), (("output", "_place"), ("output", "_sync_folder"), ("temporary", "hidden"))
)
def test_a_run_that_is_ended_while_it_puts_its_output_in_place(folder, number, overwrite, out, module, name):
    """It once left a journal of an output that was gone: the next run filled an empty file with nothing."""
    make_volume("a.npy", noise(6, 7, 8))
    whole = Path(f"whole{out[1:]}")
    command = ("apply", "a.npy", *("--kernel", "box", "--size", "3vox", "--tile", "2,9,9", "-q"))
    ok(*command, "-o", whole)
    if overwrite:
        Path(out).write_bytes(b"old")
    script = COMMIT.format(module=module, name=name, number=int(number))
    args = [sys.executable, "-c", script, *command, "-o", out, "--resume", *overwrite]
    code = subprocess.run(args, capture_output=True).returncode
    assert code in (-number, 128 + number)
    assert not Path(out).exists() or Path(out).read_bytes() in (b"old", whole.read_bytes())
    ok(*command, "-o", out, "--resume", "--overwrite")
    assert Path(out).read_bytes() == whole.read_bytes()
    assert hidden_names(folder) == []


def test_a_line_that_was_not_written_to_its_end_is_cut_off(scene):
    ended(signal.SIGKILL, "a.npy", "-o", "b.npy", *LAYER, "--resume")
    path = hidden(scene / "b.npy", JOURNAL)
    path.write_text(path.read_text() + '{"tiles": 4, "statis')
    ended(signal.SIGKILL, "a.npy", "-o", "b.npy", *LAYER, "--resume")
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_plain_run_removes_what_another_left(scene):
    ended(signal.SIGKILL, "a.npy", "-o", "b.nii.gz", *LAYER, "--resume")
    assert hidden_names(scene) == [JOURNAL, PARTIAL, VOXELS]
    ok("apply", "a.npy", "-o", "b.nii.gz", *LAYER)
    assert hidden_names(scene) == []
    ended(signal.SIGKILL, "a.npy", "-o", "b.nii.gz", *LAYER, "--overwrite")
    assert hidden_names(scene) == [PARTIAL]
    ok("apply", "a.npy", "-o", "b.nii.gz", *LAYER, "--overwrite")
    assert hidden_names(scene) == []


@pytest.mark.parametrize(
    ("changed", "change"),
    (
        ("input", lambda folder: make_volume(folder / "a.npy", noise(96, 96, 96, seed=9))),
        ("weights", lambda folder: save_weights(folder / "w.npz", noise(2, 1, 13, 13, 13, seed=9), noise(2, seed=2))),
        ("configuration", lambda folder: None),
    ),
)
def test_a_run_of_something_else_is_refused(scene, changed, change):
    ended(signal.SIGKILL, "a.npy", "-o", "b.npy", *LAYER, "--resume")
    change(scene)
    other = ("--padding-mode", "replicate") if changed == "configuration" else ()
    before = contents(scene)
    result = run("apply", "a.npy", "-o", "b.npy", *LAYER, *other, "--resume")
    assert result.code == 4
    assert f"its {changed} changed" in result.err
    assert contents(scene) == before


def test_the_same_contents_under_a_new_time_go_on(scene):
    ended(signal.SIGKILL, "a.npy", "-o", "b.npy", *LAYER, "--resume")
    os.utime("a.npy", (1, 1))
    ok("apply", "a.npy", "-o", "b.npy", *LAYER, "--resume")


def test_threads_limits_and_tiles_may_change(scene):
    ok("apply", "a.npy", "-o", "whole.nii", *LAYER)
    ended(signal.SIGKILL, "a.npy", "-o", "b.nii", *LAYER, "-j", 2, "--resume")
    ok(
        "apply",
        "a.npy",
        "-o",
        "b.nii",
        *LAYER[:4],
        "-j",
        1,
        "--max-memory",
        "8GiB",
        "--tile",
        "7,5,3",
        "--resume",
        "-q",
    )
    assert (scene / "b.nii").read_bytes() == (scene / "whole.nii").read_bytes()


STACK = ("--layers", "[{weights: w.npz, padding: 3}, relu, {kernel: box, size: 3vox}]", *LAYER[4:])
READINGS = {
    "mask": (LAYER, ("--mask", "m.npy"), ("--mask", "./m.npy"), ("--mask", "other.npy")),
    "outside": (LAYER, ("--mask", "m.npy"), ("--mask", "m.npy"), ("--mask", "m.npy", "--outside", "1")),
    "normalize": (LAYER, ("--normalize", "zscore"), ("--normalize", "zscore"), ("--normalize", "minmax")),
    "layers": (STACK, (), (), ("--layers", "[{weights: w.npz, padding: 3}, abs, {kernel: box, size: 3vox}]")),
}


@pytest.mark.parametrize("what", READINGS)
def test_masks_scaling_and_stacks_go_on_and_are_told_from_others(scene, what):
    layer, options, same, other = READINGS[what]
    mask = (noise(96, 96, 96, seed=3) > 0).astype(np.uint8)
    make_volume("m.npy", mask)
    make_volume("other.npy", 1 - mask)
    ok("apply", "a.npy", "-o", "whole.npy", *layer, *options)
    ended(signal.SIGKILL, "a.npy", "-o", "b.npy", *layer, *options, "--resume", tiles=10)
    assert journal.read_journal(hidden(scene / "b.npy", JOURNAL)).tiles >= 4
    refused = run("apply", "a.npy", "-o", "b.npy", *layer, *other, "--resume")
    assert (refused.code, "changed since" in refused.err) == (4, True)
    ok("apply", "a.npy", "-o", "b.npy", *layer, *same, "--resume")
    assert (scene / "b.npy").read_bytes() == (scene / "whole.npy").read_bytes()


def test_a_rescaled_output_goes_on_with_the_scaling_it_began_with(scene):
    cast = ("--out-dtype", "int16", "--cast", "rescale")
    ok("apply", "a.npy", "-o", "whole.nii", *LAYER, *cast)
    with program("apply", "a.npy", "-o", "b.nii", *LAYER, *cast, "--resume") as process:
        while not hidden(scene / "b.nii", JOURNAL).exists():
            process.stderr.readline()
        process.stderr.readline()
        process.kill()
        finished(process)
    ok("apply", "a.npy", "-o", "b.nii", *LAYER, *cast, "--resume")
    assert (scene / "b.nii").read_bytes() == (scene / "whole.nii").read_bytes()


def test_after_a_crash_of_the_machine_only_flushed_tiles_count(scene, monkeypatch, tmp_path):
    ended(signal.SIGKILL, "a.npy", "-o", "b.npy", *LAYER, "--resume")
    path = hidden(scene / "b.npy", JOURNAL)
    assert journal.read_journal(path).tiles > 0
    monkeypatch.setattr(journal, "BOOT", tmp_path / "boot")
    (tmp_path / "boot").write_text("another boot")
    assert journal.read_journal(path) is None
    voxels = journal._identity(hidden(scene / "b.npy", PARTIAL))
    line = json.dumps({"tiles": 3, "statistics": {}, "flushed": True, "voxels": voxels})
    path.write_text(f"{path.read_text()}{line}\n" + '{"tiles": 4, "statis')
    assert journal.read_journal(path).tiles == 3
    ok("apply", "a.npy", "-o", "whole.npy", *LAYER, "-q")
    (tmp_path / "boot").unlink()


@pytest.mark.parametrize("out", FORMATS)
@pytest.mark.parametrize("resume", ((), ("--resume",)))
def test_a_long_file_that_another_run_left_leaves_no_trace(scene, out, resume):
    ok("apply", "a.npy", "-o", f"whole{out}", *LAYER)
    for kind in (PARTIAL, VOXELS):
        hidden(scene / f"b{out}", kind).write_bytes(b"left" * 2_000_000)
    ok("apply", "a.npy", "-o", f"b{out}", *LAYER, *resume)
    assert (scene / f"b{out}").read_bytes() == (scene / f"whole{out}").read_bytes()
    assert hidden_names(scene) == []


@pytest.mark.parametrize("flushed", (True, False))
def test_a_line_that_says_flushed_stands_behind_flushed_voxels(scene, monkeypatch, flushed):
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0.0 if flushed else 1e9)
    events = []
    line, flush = journal.Journal._line, journal._flush
    monkeypatch.setattr(journal.Journal, "_line", lambda self, values: (events.append(values), line(self, values)))
    monkeypatch.setattr(journal, "_flush", lambda path: (events.append(path), flush(path)))
    ok("apply", "a.npy", "-o", "b.npy", *LAYER, "-q", "--resume")
    lines = [one for one in events[1:] if isinstance(one, dict)]
    assert [one["tiles"] for one in lines] == list(range(1, 46))
    assert all(one["flushed"] is flushed for one in lines)
    assert [isinstance(one, dict) for one in events[1:]] == ([False, True] if flushed else [True]) * 45


@pytest.mark.parametrize("text", ("", "no journal", '{"hashes": {}}\n', "[]\n[]\n"))
def test_a_damaged_journal_is_a_new_start(scene, text):
    hidden(scene / "b.npy", JOURNAL).write_text(text)
    ok("apply", "a.npy", "-o", "b.npy", *LAYER, "-q", "--resume")
    ok("apply", "a.npy", "-o", "whole.npy", *LAYER, "-q")
    assert (scene / "b.npy").read_bytes() == (scene / "whole.npy").read_bytes()


def test_an_input_that_turns_out_damaged_keeps_nothing(scene):
    path = make_volume(scene / "a.nii.gz", noise(96, 96, 96))
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    result = run("apply", "a.nii.gz", "-o", "b.nii", *LAYER, "-q", "--resume")
    assert (result.code, hidden_names(scene)) == (3, [])


class TestTemporaryNames:
    def test_a_second_run_on_the_same_output_is_refused(self, scene):
        with program("apply", "a.npy", "-o", "b.npy", *LAYER) as process:
            process.stderr.readline()
            result = run("apply", "a.npy", "-o", "b.npy", *LAYER, "-q")
            first = finished(process)
        assert (result.code, first.code) == (4, 0)
        assert "another run is writing it" in result.err
        ok("apply", "a.npy", "-o", "whole.npy", *LAYER, "-q")
        assert (scene / "b.npy").read_bytes() == (scene / "whole.npy").read_bytes()

    def test_a_link_at_the_temporary_name_is_not_followed(self, scan, folder):
        (folder / "victim").write_bytes(b"precious")
        hidden(folder / "b.npy", PARTIAL).symlink_to(folder / "victim")
        ok("apply", scan, "-o", "b.npy", "--kernel", "identity", "-q")
        assert (folder / "victim").read_bytes() == b"precious"
        assert np.load("b.npy").shape == (5, 6, 7)

    def test_a_hard_link_at_the_temporary_name_is_not_written_through(self, scan, folder):
        (folder / "victim").write_bytes(b"precious")
        hidden(folder / "b.npy", PARTIAL).hardlink_to(folder / "victim")
        ok("apply", scan, "-o", "b.npy", "--kernel", "identity", "-q")
        assert (folder / "victim").read_bytes() == b"precious"

    def test_a_pipe_at_the_temporary_name_is_removed(self, scan, folder):
        os.mkfifo(hidden(folder / "b.npy", PARTIAL))
        ok("apply", scan, "-o", "b.npy", "--kernel", "identity", "-q")
        assert sorted(contents(folder)) == ["b.npy", "scan.npy"]

    @pytest.mark.parametrize("kind", (VOXELS, JOURNAL))
    def test_a_link_at_the_name_of_what_is_kept_is_not_followed(self, scan, folder, kind):
        (folder / "victim").write_bytes(b"precious")
        hidden(folder / "b.nii.gz", kind).symlink_to(folder / "victim")
        result = run("apply", scan, "-o", "b.nii.gz", "--kernel", "identity", "-q", "--resume")
        assert (folder / "victim").read_bytes() == b"precious"
        assert "Traceback" not in result.err
