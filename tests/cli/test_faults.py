"""What goes wrong from outside: signals, full disks, files that change; the output is whole or it is not there."""

import errno
import os
import resource
import signal
import stat
from functools import partial

import numpy as np
import pytest

import lucid_cli.executors
from tests.cli.conftest import (
    SIZE,
    contents,
    finished,
    make_nifti,
    make_volume,
    noise,
    ok,
    program,
    read_volume,
    run,
    save_weights,
)

LAYER = ("--kernel-size", 3, "--padding", 1)
LONG = (*LAYER, "--tile", "1,8,8", "--progress", "log", "-j", 2)
KERNEL = ("--kernel", "identity", "-q")
FORMATS = (".nii", ".nii.gz", ".img", ".h5", ".npy")


@pytest.fixture
def large(folder):
    """Return a volume whose convolution by `LONG` takes seconds."""
    return make_volume(folder / "large.npy", noise(64, 128, 128))


def running(*args):
    """Start a program and wait until it has done its first tenth."""
    process = program("apply", *args)
    line = process.stderr.readline()
    assert " % of " in line, line + process.stderr.read()
    return process


def leftovers(folder):
    return [name for name in contents(folder) if name.endswith(".partial") or name.startswith("tmp")]


class TestSignals:
    @pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    def test_a_run_that_is_ended_leaves_nothing(self, large, folder, number):
        before = contents(folder)
        with running(large, "-o", "out.nii", *LONG) as process:
            assert not (folder / "out.nii").exists()
            assert len(leftovers(folder)) == 1
            process.send_signal(number)
            result = finished(process)
        assert result.code == 128 + number
        assert "Traceback" not in result.err
        assert result.err.splitlines()[-1].startswith("Error: ")
        assert contents(folder) == before

    @pytest.mark.parametrize("out", ("out.nii.gz", "out.img", "out.h5", "out.npy"))
    def test_the_old_output_stays_in_every_format(self, large, folder, out):
        save_weights("w.npz", noise(2, 1, 3, 3, 3))
        (folder / out).write_bytes(b"old")
        before = contents(folder)
        with running(large, "-o", out, "--weights", "w.npz", *LONG[4:], "--overwrite") as process:
            process.send_signal(signal.SIGTERM)
            result = finished(process)
        assert (result.code, "Traceback" in result.err) == (143, False)
        assert contents(folder) == before

    def test_a_run_that_is_killed_leaves_no_output_and_is_run_again(self, large, folder):
        with running(large, "-o", "out.nii", *LONG) as process:
            process.kill()
            finished(process)
        assert not (folder / "out.nii").exists()
        assert all(name.startswith(".lucid-conv3d-") for name in set(contents(folder)) - {"large.npy"})
        ok("apply", large, "-o", "out.nii", *LAYER, "-q")
        assert (folder / "out.nii").exists()


class TestDisk:
    @pytest.mark.parametrize("share", (0.0, 0.5, 1.0))
    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_file_that_may_not_grow_is_never_an_output(self, folder, suffix, share):
        volume = make_volume(folder / "a.npy", noise(16, 32, 32))
        ok("apply", volume, "-o", f"out{suffix}", *KERNEL)
        limit = max(0, int((folder / f"out{suffix}").stat().st_size * share) - 1)
        (folder / f"out{suffix}").write_bytes(b"old")
        before = contents(folder)
        command = ("apply", volume, "-o", f"out{suffix}", *KERNEL, "--overwrite")
        bound = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
        with program(*command, preexec_fn=bound) as process:
            result = finished(process)
        assert result.code in (1, 6)
        assert result.err.startswith("Error: ")
        assert "Traceback" not in result.err
        assert contents(folder) == before

    @pytest.mark.parametrize("suffix", FORMATS)
    @pytest.mark.parametrize("name", ("pwrite", "fsync", "posix_fallocate", "replace", "open"))
    @pytest.mark.parametrize("number", (errno.ENOSPC, errno.EIO))
    def test_every_call_that_fails_is_heard(self, folder, monkeypatch, suffix, name, number):
        """Fail the first call, then the second, and so on, until a run passes."""
        make_volume(folder / "a.npy", noise(*SIZE))
        command = ("apply", "a.npy", "-o", f"out{suffix}", *KERNEL, "--overwrite")
        ok(*command)
        whole = contents(folder)
        for file in folder.glob("out.*"):
            file.write_bytes(b"old")
        old = contents(folder)
        real, allowed = getattr(os, name), 0
        mixed = [{**old, "out.img": whole["out.img"]}] if suffix == ".img" else []
        while True:
            calls = 0

            def failing(*args, allowed=allowed, **options):
                nonlocal calls
                calls += 1
                if calls == allowed + 1:
                    raise OSError(number, os.strerror(number))
                return real(*args, **options)

            with monkeypatch.context() as patch:
                patch.setattr(os, name, failing)
                result = run(*command)
            if calls <= allowed:
                assert result.code == 0
                break
            if name == "posix_fallocate" and number == errno.EIO:
                assert result.code == 0, "a file system may not know it"
            else:
                assert result.code != 0
                # once renamed, an output is complete; only its folder's entry was not flushed
                assert contents(folder) in (old, whole, *mixed)
            allowed += 1
            assert allowed < 50
        assert contents(folder) == whole

    @pytest.mark.parametrize("overwrite", ((), ("--overwrite",)))
    @pytest.mark.parametrize("suffix", FORMATS)
    def test_all_is_on_the_disk_before_it_has_its_name_and_the_name_too(self, folder, monkeypatch, suffix, overwrite):
        make_volume(folder / "a.npy", noise(*SIZE))
        real = {name: getattr(os, name) for name in ("fsync", "link", "replace")}
        done = []

        def fsync(descriptor):
            found = os.fstat(descriptor)
            done.append("folder" if stat.S_ISDIR(found.st_mode) else (found.st_ino, found.st_size))
            real["fsync"](descriptor)

        def named(name, source, target, **options):
            done.append("named")
            real[name](source, target, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            for name in ("link", "replace"):
                patch.setattr(os, name, partial(named, name))
            ok("apply", "a.npy", "-o", f"out{suffix}", *KERNEL, *overwrite)
        files = [(path.stat().st_ino, path.stat().st_size) for path in folder.glob("out.*")]
        assert sorted(done[: len(files)]) == sorted(files)
        assert done[len(files) :] == ["named"] * len(files) + ["folder"]

    def test_the_mask_of_the_user_says_who_may_read(self, folder):
        make_volume(folder / "a.npy", noise(*SIZE))
        for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
            before = os.umask(mask)
            try:
                ok("apply", "a.npy", "-o", "out.nii", *KERNEL, "--overwrite", "--report", "r.json")
            finally:
                os.umask(before)
            for name in ("out.nii", "r.json"):
                assert stat.S_IMODE((folder / name).stat().st_mode) == mode

    def test_an_output_is_one_file_of_its_own(self, folder):
        make_volume(folder / "a.npy", noise(*SIZE))
        ok("apply", "a.npy", "-o", "out.nii", *KERNEL)
        assert (folder / "out.nii").stat().st_nlink == 1
        assert sorted(contents(folder)) == ["a.npy", "out.nii"]


def meanwhile(monkeypatch, happens):
    """Let something happen when the voxels have been computed, before the output takes its place."""
    execute = lucid_cli.executors.execute

    def wrapped(*args, **options):
        execute(*args, **options)
        happens()

    monkeypatch.setattr(lucid_cli.executors, "execute", wrapped)


class TestMeanwhile:
    @pytest.mark.parametrize("suffix", FORMATS)
    @pytest.mark.parametrize("change", ("time", "longer", "another", "gone"))
    def test_an_input_that_changes_gives_no_output(self, folder, monkeypatch, suffix, change):
        source = make_volume(folder / f"a{suffix}", noise(*SIZE))
        names = set(contents(folder))

        def happens():
            if change == "time":
                os.utime(source, ns=(1, 1))
            elif change == "longer":
                with source.open("ab") as file:
                    file.write(b"more")
            else:
                source.rename("b")
                if change == "another":
                    source.write_bytes((folder / "b").read_bytes())
                (folder / "b").unlink()

        meanwhile(monkeypatch, happens)
        result = run("apply", source, "-o", "out.nii", *KERNEL)
        assert result.code == 3
        assert str(source) in result.err
        assert set(contents(folder)) == (names - {source.name} if change == "gone" else names)

    @pytest.mark.parametrize("suffix", (".npy", ".nii"))
    def test_an_input_cut_short_during_the_run_is_an_error_not_a_crash(self, folder, suffix):
        source = make_volume(folder / f"large{suffix}", noise(64, 128, 128))
        with running(source, "-o", "out.h5", *LONG) as process:
            os.truncate(source, 4096)
            result = finished(process)
        assert result.code == 3
        assert "Traceback" not in result.err
        assert list(contents(folder)) == [source.name]

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_an_output_that_appears_is_not_replaced(self, folder, monkeypatch, suffix):
        make_volume(folder / "a.npy", noise(*SIZE))
        meanwhile(monkeypatch, lambda: (folder / f"out{suffix}").write_bytes(b"someone else's"))
        before = contents(folder)
        result = run("apply", "a.npy", "-o", f"out{suffix}", *KERNEL)
        assert result.code == 4
        assert "appeared" in result.err
        assert contents(folder) == before | {f"out{suffix}": b"someone else's"}

    def test_the_header_of_a_pair_that_appears_leaves_no_half_of_it(self, folder, monkeypatch):
        make_volume(folder / "a.npy", noise(*SIZE))
        meanwhile(monkeypatch, lambda: (folder / "out.hdr").write_bytes(b"someone else's"))
        before = contents(folder)
        assert run("apply", "a.npy", "-o", "out.img", *KERNEL).code == 4
        assert contents(folder) == before | {"out.hdr": b"someone else's"}

    def test_a_folder_that_goes_away(self, folder, monkeypatch):
        make_volume(folder / "a.npy", noise(*SIZE))
        (folder / "out").mkdir()

        def happens():
            for path in (folder / "out").iterdir():
                path.unlink()
            (folder / "out").rmdir()

        meanwhile(monkeypatch, happens)
        result = run("apply", "a.npy", "-o", "out/b.nii", *KERNEL)
        assert result.code != 0
        assert result.err.startswith("Error: ")
        assert list(contents(folder)) == ["a.npy"]

    def test_runs_side_by_side_never_mix(self, folder):
        make_volume(folder / "a.npy", noise(16, 32, 32))
        seeds = range(3)
        wanted = {}
        for seed in seeds:
            ok("apply", "a.npy", "-o", "one.npy", *LAYER, "--seed", seed, "-q", "--overwrite")
            wanted[seed] = (folder / "one.npy").read_bytes()
        (folder / "one.npy").unlink()
        for overwrite in ((), ("--overwrite",)):
            started = [
                program("apply", "a.npy", "-o", "b.npy", *LAYER, "--seed", seed, "-q", *overwrite) for seed in seeds
            ]
            codes = [finished(process).code for process in started]
            assert sorted(codes) == [0, 4, 4] if not overwrite else set(codes) in ({0}, {0, 4})
            assert (folder / "b.npy").read_bytes() in wanted.values()
            assert sorted(contents(folder)) == ["a.npy", "b.npy"]


class TestLinks:
    def test_an_output_that_is_a_link_is_written_through_it(self, folder):
        make_volume(folder / "a.npy", noise(*SIZE))
        (folder / "deep").mkdir()
        (folder / "deep/real.npy").write_bytes(b"old")
        (folder / "link.npy").symlink_to("deep/real.npy")
        assert run("apply", "a.npy", "-o", "link.npy", *KERNEL).code == 4
        ok("apply", "a.npy", "-o", "link.npy", *KERNEL, "--overwrite")
        assert (folder / "link.npy").is_symlink()
        np.testing.assert_array_equal(np.load("deep/real.npy"), noise(*SIZE))
        assert sorted(contents(folder)) == ["a.npy", "deep", "deep/real.npy", "link.npy"]

    def test_another_name_of_an_old_output_keeps_the_old(self, folder):
        make_volume(folder / "a.npy", noise(*SIZE))
        (folder / "out.npy").write_bytes(b"old")
        os.link("out.npy", "kept.npy")
        ok("apply", "a.npy", "-o", "out.npy", *KERNEL, "--overwrite")
        assert (folder / "kept.npy").read_bytes() == b"old"
        np.testing.assert_array_equal(np.load("out.npy"), noise(*SIZE))

    @pytest.mark.parametrize("kind", ("symlink", "hardlink", "folder link", "dots", "absolute"))
    def test_an_input_under_another_name_is_never_written_onto(self, folder, kind):
        source = make_volume(folder / "a.npy", noise(*SIZE))
        (folder / "deep").mkdir()
        names = {"dots": "deep/../a.npy", "absolute": str(source), "folder link": "here/a.npy"}
        out = names.get(kind, "b.npy")
        if kind == "symlink":
            (folder / out).symlink_to("a.npy")
        elif kind == "hardlink":
            os.link("a.npy", out)
        elif kind == "folder link":
            (folder / "here").symlink_to(".")
        before = source.read_bytes()
        result = run("apply", "a.npy", "-o", out, *KERNEL, "--overwrite")
        assert (result.code, "same file as the input" in result.err) == (4, True)
        assert source.read_bytes() == before


class TestPipes:
    def test_a_reader_that_has_gone_does_not_spoil_the_output(self, folder):
        make_volume(folder / "a.npy", noise(*SIZE))
        read, write = os.pipe()
        os.close(read)
        with program("apply", "a.npy", "-o", "out.npy", *KERNEL, "--report", "-", stdout=write) as process:
            os.close(write)
            result = finished(process)
        assert result.code == 141
        assert "Traceback" not in result.err
        np.testing.assert_array_equal(np.load("out.npy"), noise(*SIZE))
        assert sorted(contents(folder)) == ["a.npy", "out.npy"]

    @pytest.mark.parametrize("descriptor", (0, 1, 2))
    def test_a_closed_stream_does_not_spoil_the_output(self, folder, descriptor):
        make_nifti(folder / "a.nii", noise(*SIZE).T)
        command = ("apply", "a.nii", "-o", "out.nii", "--kernel", "identity")
        with program(*command, preexec_fn=partial(os.close, descriptor)) as process:
            result = finished(process)
        assert (result.code, result.out, "Traceback" in result.err) == (0, "", False)
        np.testing.assert_array_equal(read_volume("out.nii"), noise(*SIZE))

    def test_a_stderr_that_nobody_reads_does_not_spoil_the_output(self, folder):
        make_nifti(folder / "a.nii", noise(*SIZE).T)
        read, write = os.pipe()
        os.close(read)
        with program("apply", "a.nii", "-o", "out.nii", "--kernel", "identity", stderr=write) as process:
            os.close(write)
            finished(process)
        np.testing.assert_array_equal(read_volume("out.nii"), noise(*SIZE))
