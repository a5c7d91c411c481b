"""Bad inputs and faults, by subject, that no other test here holds.

Headers that lie and small files that unpack to gigabytes take bounded memory: NIfTI, `.npy`, `.h5`, weights, YAML.
Damage at random: HDF5 files and NIfTI headers. Values: big-endian NIfTI-2, subnormals, a negative pixdim. HDF5:
cycles, groups in other files, the place of plugins. Layers that do not fit, before a voxel is read. Pipes, devices,
odd names. A kill at each call of the system, files that may not grow, file systems that know little or are read-only.
Runs side by side, changes while a run reads, folders that vanish, threads that fail, clocks, closed streams, a ladder
of address space. Pipes as weights; escapes, pickles and infinities in them.
"""

import errno
import gzip
import itertools
import json
import os
import pickle
import random
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest

import lucid_cli.executors
from lucid_cli.compression import zstandard
from lucid_cli.planes import PlaneWindow
from lucid_cli.sink import CastingWriter
from tests.cli.conftest import (
    SIZE,
    Result,
    contents,
    finished,
    make_nifti,
    make_volume,
    nifti_header,
    noise,
    ok,
    program,
    read_volume,
    run,
    save_weights,
)

KERNEL = ("--kernel", "identity", "-q")
FORMATS = (".nii", ".nii.gz", ".nii.zst", ".img", ".h5", ".npy")
MOST_BYTES = 300e6
linux = pytest.mark.skipif(sys.platform != "linux", reason="the limits of Linux")

MEASURE = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(json.dumps([code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""
"""A small parent: a child of this process would inherit its peak."""


def measured(*args, seconds=20):
    """Run the program and return its result and its peak of memory in bytes; it is killed when it takes too long."""
    command = [sys.executable, "-S", "-c", MEASURE, sys.executable, "-m", "lucid_cli", *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    try:
        result = finished(process, seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail(f"no end after {seconds} s")
    code, peak = json.loads(result.out)
    return Result(code, "", result.err), peak * (1 if sys.platform == "darwin" else 1024)


def is_clean(result, codes, *words):
    """Expect one or two lines of an error with one of these codes and these words."""
    lines = result.err.splitlines()
    assert result.code in codes, result
    assert 1 <= len(lines) <= 2, result.err
    assert all(line.startswith("Error: ") for line in lines), result.err
    assert len(result.err) <= 4096
    for word in ("Traceback", "unexpected failure"):
        assert word not in result.err, result.err
    for word in words:
        assert word in result.err, result.err


def forked(prepare, *args):
    """Run the command line in a copy of this process, prepared first; return its result, None if it was killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            prepare()
            result = run(*args)
            os.write(writing, json.dumps([result.code, result.out, result.err]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return None if os.WIFSIGNALED(status) else Result(*json.loads(said))


def nifti_bytes(*fields, voxels=b"", size=348):
    """Return a small NIfTI with other fields (offset, form, values...) in its header, and these voxels if any."""
    version = 1 if size == 348 else 2
    made = bytearray(make_nifti("made.nii", noise(*SIZE).T, sform=np.eye(4), version=version).read_bytes())
    Path("made.nii").unlink()
    for offset, form, *values in fields:
        struct.pack_into(form, made, offset, *values)
    return bytes(made[: size + 4]) + voxels if voxels else bytes(made)


def zeros_of(start, mebibytes):
    """Return gzip members of some bytes and of so many mebibytes of zeros behind them."""
    return gzip.compress(start) + gzip.compress(bytes(8 << 20), 1) * (mebibytes // 8)


def zipped_weights(path, shape, data=b"", mebibytes=0, name="weight.npy"):
    """Write an `.npz` whose only member claims a shape and holds some data, or zeros."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        member.write(data)
        for _ in range(mebibytes):
            member.write(bytes(1 << 20))


class TestMemory:
    """The program as a process of its own: its peak, and an end within seconds."""

    CLAIMS = {  # noqa: RUF012
        "13GB.nii": lambda: nifti_bytes((40, "<4h", 3, 1500, 1500, 1500)),
        "2p62.nii": lambda: nifti_bytes((16, "<4q", 3, *[2**62] * 3), size=540),
        "2GB.nii.zst": lambda: zstandard().compress(nifti_bytes((40, "<4h", 3, 800, 800, 800))),
        "series.nii.gz": lambda: gzip.compress(nifti_bytes((40, "<5h", 4, 800, 800, 800, 9))),
        "1GB.npy": lambda: npy_claim("(1000, 1000, 256)"),
        "header.npy": lambda: b"\x93NUMPY\2\0" + b"\xff" * 4 + b"{}",
    }

    @pytest.mark.parametrize("name", CLAIMS)
    def test_a_header_that_claims_gigabytes_is_refused_from_what_is_there(self, folder, name):
        (folder / name).write_bytes(self.CLAIMS[name]())
        result, peak = measured("apply", name, "-o", "out.nii", *KERNEL)
        is_clean(result, (3,), name)
        assert peak < MOST_BYTES
        assert list(contents(folder)) == [name]

    @pytest.mark.parametrize("layout", ({}, {"chunks": (64, 64, 64), "compression": "gzip"}))
    def test_an_hdf5_dataset_of_petabytes_is_refused_by_its_size(self, folder, layout):
        with h5py.File("a.h5", "w") as file:
            file.create_dataset("data", (10**5, 10**5, 10**5), "f4", **layout)
        result, peak = measured("apply", "a.h5", "-o", "b.nii.gz", *KERNEL)
        is_clean(result, (3, 6))
        assert peak < MOST_BYTES
        assert list(contents(folder)) == ["a.h5"]

    def test_an_hdf5_chunk_of_gigabytes_is_refused_under_a_limit(self, folder):
        with h5py.File("a.h5", "w") as file:
            file.create_dataset("data", (800, 800, 800), "f4", chunks=(800, 800, 800), compression="gzip")
        result, peak = measured("apply", "a.h5", "-o", "b.npy", *KERNEL, "--max-memory", "300M")
        is_clean(result, (6,), "needs at least", "286.1 MiB may be taken")
        assert peak < MOST_BYTES

    def test_zeros_behind_the_voxels_of_a_stream_are_read_in_bounded_memory(self, folder):
        (folder / "a.nii.gz").write_bytes(zeros_of(nifti_bytes(), 600))
        result, peak = measured("apply", "a.nii.gz", "-o", "b.npy", *KERNEL)
        assert (result.code, result.err) == (0, "")
        assert peak < MOST_BYTES
        np.testing.assert_array_equal(np.load("b.npy"), noise(*SIZE))

    def test_a_volume_of_600_megavoxels_in_a_small_file_is_streamed(self, folder):
        header = nifti_bytes((40, "<4h", 3, 1024, 1024, 600), (70, "<2h", 2, 8))[:352]
        (folder / "a.nii.gz").write_bytes(zeros_of(header, 600))
        result, peak = measured("apply", "a.nii.gz", "-o", "b.npy", *KERNEL, "--stride", 20)
        assert (result.code, result.err) == (0, "")
        assert peak < MOST_BYTES
        assert np.load("b.npy").shape == (30, 52, 52)

    @pytest.mark.parametrize("shape", ((80 << 20,), (1, 1, 64, 512, 512)), ids=("flat", "kernel"))
    def test_a_zip_bomb_of_weights_is_refused_by_its_header(self, scan, folder, shape):
        zipped_weights("w.npz", shape, mebibytes=4 * int(np.prod(shape)) >> 20)
        assert (folder / "w.npz").stat().st_size < 2 << 20
        result, peak = measured("apply", scan, "-o", "b.npy", "--weights", "w.npz", "-q")
        is_clean(result, (3, 5, 6))
        assert peak < MOST_BYTES

    def test_weights_of_hdf5_that_are_not_stored_take_no_memory(self, scan):
        with h5py.File("w.h5", "w") as file:
            file.create_dataset("weight", (1, 1, 64, 512, 512), "f4", chunks=(1, 1, 64, 64, 64))
        result, peak = measured("apply", scan, "-o", "b.npy", "--weights", "w.h5", "-q")
        is_clean(result, (3, 5, 6))
        assert peak < MOST_BYTES

    def test_a_member_that_claims_more_than_it_holds_is_refused(self, scan, folder):
        zipped_weights("w.npz", (1, 1, 1000, 1000, 1000), bytes(64))
        result, peak = measured("apply", scan, "-o", "b.npy", "--weights", "w.npz", "-q")
        is_clean(result, (3,), "w.npz")
        assert peak < MOST_BYTES

    @pytest.mark.parametrize(
        "text",
        (
            "a: &a [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
            "a: &a [*a]",
            "stride: " + "[" * 1_000_000,
            "stride: " + "{a: " * 200_000,
            "- " * 500_000,
        ),
        ids=("bomb", "itself", "lists", "mappings", "dashes"),
    )
    def test_a_configuration_that_would_grow_is_refused_in_bounded_memory(self, scan, text):
        Path("c.yaml").write_text(text)
        result, peak = measured("plan", scan, "--kernel", "identity", "-c", "c.yaml")
        is_clean(result, (2,), "c.yaml")
        assert peak < MOST_BYTES

    def test_a_configuration_of_many_keys_is_refused_in_seconds(self, scan):
        Path("c.yaml").write_text("".join(f"k{number}: 1\n" for number in range(20_000)))
        result, peak = measured("plan", scan, "--kernel", "identity", "-c", "c.yaml", seconds=4)
        is_clean(result, (2,), "c.yaml")
        assert peak < MOST_BYTES


def npy_claim(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(64)


@linux
@pytest.mark.parametrize("suffix", (".nii.gz", ".h5"))
@pytest.mark.parametrize("mebibytes", (112, 192, 256, 512))
def test_a_ladder_of_address_space_ends_well_or_leaves_nothing(folder, suffix, mebibytes):
    source = make_volume(folder / f"a{suffix}", noise(48, 64, 64))
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (mebibytes << 20,) * 2)
    command = ("apply", source, "-o", "b.nii.gz", "--kernel", "box", "--size", "3vox", "-q", "-j", 2)
    with program(*command, preexec_fn=limit) as one:
        result = finished(one)
    assert "Traceback" not in result.err
    assert (result.code == 0) == (sorted(contents(folder)) == sorted([source.name, "b.nii.gz"]))
    assert result.code == 0 or list(contents(folder)) == [source.name]
    assert result.code == 0 or (result.code == 6 and mebibytes < 512)


@linux
def test_too_little_address_space_is_an_error_of_memory(scan):
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (64 << 20,) * 2)
    with program("apply", scan, "-o", "b.npy", *KERNEL, preexec_fn=limit) as process:
        is_clean(finished(process), (6,))


class TestDamage:
    """Bytes changed at random."""

    def every(self, path, data, span, count, most, *options):
        dice = random.Random(0)
        (path.parent / "out").mkdir()
        for _ in range(count):
            changed = bytearray(data)
            for _ in range(dice.randint(1, most)):
                changed[dice.randrange(span)] = dice.randrange(256)
            path.write_bytes(changed)
            result = run("apply", path, "-o", "out/b.npy", *KERNEL, *options)
            if result.code:
                is_clean(result, (3, 5, 6))
            assert list(contents("out")) == ["b.npy"] * (result.code == 0)
            Path("out/b.npy").unlink(missing_ok=True)

    @pytest.mark.parametrize("version", (1, 2))
    def test_a_nifti_header_is_refused_or_read(self, folder, version):
        path = make_nifti(folder / "a.nii", noise(*SIZE).T, sform=np.eye(4), version=version)
        self.every(path, path.read_bytes(), 348 if version == 1 else 540, 60, 3, "--axis4", "batch")

    def test_an_hdf5_file_is_refused_or_read(self, folder):
        with h5py.File("a.h5", "w") as file:
            file.create_dataset("g/data", data=noise(*SIZE), chunks=(2, 3, 4), compression="gzip")
        data = Path("a.h5").read_bytes()
        self.every(folder / "a.h5", data, len(data), 30, 30)

    @pytest.mark.parametrize("start", (b"", b"\x89HDF\r\n\x1a\n"), ids=("bytes", "signature"))
    def test_bytes_that_are_no_hdf5_are_refused(self, folder, start):
        (folder / "a.h5").write_bytes(start + random.Random(0).randbytes(5000))
        is_clean(run("apply", "a.h5", "-o", "b.npy", *KERNEL), (3,), "a.h5")


class TestValues:
    @pytest.mark.parametrize("code", ("i2", "f4", "f8"))
    def test_a_nifti_2_in_big_endian_order(self, folder, code):
        volume = noise(*SIZE).astype(code)
        source = make_nifti("a.nii", volume.T, sform=np.diag([2.0, 3, 4, 1]), version=2, endianness=">")
        ok("apply", source, "-o", "b.nii", "--out-dtype", "float64", *KERNEL)
        np.testing.assert_array_equal(read_volume("b.nii"), volume)
        np.testing.assert_array_equal(nifti_header("b.nii").get_sform(), np.diag([2.0, 3, 4, 1]))

    def test_the_smallest_and_largest_numbers_are_kept(self, folder):
        limits = np.finfo(np.float32)
        volume = np.zeros((2, 2, 8), np.float32)
        volume[0, 0, :4] = limits.smallest_subnormal, -limits.smallest_subnormal, limits.tiny / 2, limits.max
        make_volume("a.nii", volume)
        ok("apply", "a.nii", "-o", "b.nii", *KERNEL)
        np.testing.assert_array_equal(read_volume("b.nii"), volume)

    @pytest.mark.parametrize("sform", (None, np.eye(4)))
    def test_a_negative_pixdim_is_carried(self, folder, sform):
        make_nifti("a.nii", noise(*SIZE), sform=sform, pixdim=(-1.0, 2.0, -3.0))
        ok("apply", "a.nii", "-o", "b.nii", *KERNEL)
        np.testing.assert_array_equal(read_volume("b.nii").T, noise(*SIZE))
        np.testing.assert_array_equal(nifti_header("b.nii")["pixdim"][1:4], [-1, 2, -3])

    def test_a_bitpix_that_lies_is_warned_of(self, folder):
        (folder / "a.nii").write_bytes(nifti_bytes((72, "<h", 8)))
        assert "Warning: " in ok("apply", "a.nii", "-o", "b.nii", "--kernel", "identity").err

    @pytest.mark.parametrize("suffix", (".npy", ".h5"))
    def test_a_pointer_of_git_lfs_is_named_in_every_format(self, folder, suffix):
        (folder / f"a{suffix}").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        is_clean(run("apply", f"a{suffix}", "-o", "b.npy", *KERNEL), (3,), "git lfs pull")


class TestHdf5:
    def test_a_cycle_of_hard_links_ends(self, folder):
        with h5py.File("a.h5", "w") as file:
            file["g/data"] = noise(*SIZE)
            file["g/up"] = file["/"]
            file["again"] = file["g"]
        for inner in ("", ":/g/up/again/data"):
            result, _ = measured("apply", f"a.h5{inner}", "-o", "b.npy", *KERNEL, "--overwrite")
            assert result.code == 0
            np.testing.assert_array_equal(np.load("b.npy"), noise(*SIZE))

    @pytest.mark.parametrize("other", ("other.h5", "absent.h5"))
    def test_a_group_that_is_a_link_to_another_file_is_not_followed(self, folder, other):
        make_volume("other.h5", noise(*SIZE))
        with h5py.File("a.h5", "w") as file:
            file["g"] = h5py.ExternalLink(other, "/")
        for name in ("a.h5", "a.h5:/g/data"):
            is_clean(run("apply", name, "-o", "b.npy", *KERNEL), (3,), "a.h5")

    def test_weights_in_other_files_are_not_read(self, scan):
        Path("secret.bin").write_bytes(bytes(4))
        make_volume("other.h5", noise(1, 1, 1, 1, 1))
        with h5py.File("w.h5", "w") as file:
            file["linked"] = h5py.ExternalLink("other.h5", "/data")
            file.create_dataset("raw", (1, 1, 1, 1, 1), "f4", external=[("secret.bin", 0, 4)])
            layout = h5py.VirtualLayout((1, 1, 1, 1, 1), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "data", (1, 1, 1, 1, 1))
            file.create_virtual_dataset("virtual", layout)
        for key in ("", ":linked", ":raw", ":virtual"):
            is_clean(run("apply", scan, "-o", "b.npy", "--weights", f"w.h5{key}"), (3,), "w.h5")

    def test_plugins_are_looked_for_nowhere(self):
        shown = "lambda: print(os.environ['HDF5_PLUGIN_PATH']) or 0"
        code = f"import os; from lucid_cli import main; main._run = {shown}; main.main()"
        environment = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{os.devnull}\n"


class TestWeights:
    def test_a_member_that_names_a_file_elsewhere_is_refused(self, folder, monkeypatch):
        inside = folder / "a/b"
        inside.mkdir(parents=True)
        monkeypatch.chdir(inside)
        make_volume("scan.npy", noise(*SIZE))
        zipped_weights("w.npz", (1, 1, 1, 1, 1), bytes(4), name="../../w_escape.npy")
        before = contents(folder)
        result = run("apply", "scan.npy", "-o", "b.npy", "--weights", "w.npz", "-q")
        assert not (folder / "w_escape.npy").exists()
        is_clean(result, (3,), "w.npz")
        assert contents(folder) == before

    @pytest.mark.parametrize("suffix", (".npy", ".npz", ".h5", ".safetensors"))
    def test_a_pickle_under_another_name_is_not_loaded(self, scan, folder, suffix):
        class Sentinel:
            def __reduce__(self):
                return (os.mkdir, ("SENTINEL",))

        (folder / f"w{suffix}").write_bytes(pickle.dumps(Sentinel()))
        is_clean(run("apply", scan, "-o", "b.npy", "--weights", f"w{suffix}"), (3,), f"w{suffix}")
        assert not (folder / "SENTINEL").exists()

    @pytest.mark.parametrize(("weight", "bias"), ((np.inf, 0), (-np.inf, 0), (1, np.nan), (1, np.inf)))
    def test_weights_that_are_not_finite_are_refused(self, scan, weight, bias):
        save_weights("w.npz", np.full((1, 1, 1, 1, 1), weight), np.full(1, bias, np.float32))
        is_clean(run("apply", scan, "-o", "b.npy", "--weights", "w.npz"), (3,), "w.npz")


@pytest.mark.parametrize(
    ("layer", "code"),
    (
        (("--padding", "same", "--stride", "2", "--kernel-size", "3"), 2),
        (("--kernel-size", "9"), 5),
        (("--kernel-size", "3", "--padding", "5", "--padding-mode", "reflect"), 5),
        (("--kernel-size", "3", "--padding", "8", "--padding-mode", "circular"), 5),
        (("--kernel-size", "3", "--out-channels", 10**12), 6),
        (("--kernel-size", "3", "--groups", "2"), 5),
    ),
)
def test_a_layer_that_does_not_fit_is_refused_before_a_voxel_is_read(scan, folder, layer, code):
    with mock.patch("lucid_cli.formats.npy.NpySource.reader", side_effect=AssertionError("it reads")):
        assert "it reads" in run("apply", scan, "-o", "b.npy", *KERNEL).err
        is_clean(run("apply", scan, "-o", "b.npy", *layer), (code,))
    assert list(contents(folder)) == ["scan.npy"]


@pytest.mark.parametrize("name", ("small.npy", "lies.nii.gz"))
def test_what_does_not_fit_one_of_several_inputs_says_which(folder, name):
    make_volume("fits.npy", noise(9, 8, 8))
    make_volume("small.npy", noise(3, 8, 8))
    (folder / "lies.nii.gz").write_bytes(gzip.compress(nifti_bytes((16, "<4q", 3, *[2**62] * 3), size=540)))
    (folder / "out").mkdir()
    result = run("apply", "fits.npy", name, "-o", "out", "--kernel-size", "4,1,1", "-q")
    is_clean(result, (7,), name)
    assert list(contents("out")) == ["fits_conv3d.npy"]


class TestNames:
    @pytest.fixture
    def odd(self, folder):
        """Return what is no file, by its name."""
        make_volume("scan.npy", noise(*SIZE))
        os.mkfifo("pipe.npy")
        for name, target in (
            ("zero.npy", "/dev/zero"),
            ("null.npy", "/dev/null"),
            ("gone.npy", "no"),
            ("self.npy",) * 2,
        ):
            (folder / name).symlink_to(target)
        (folder / "folder.npy").mkdir()
        return ("pipe.npy", "zero.npy", "null.npy", "gone.npy", "self.npy", "folder.npy", "absent.npy")

    def test_what_is_no_file_is_refused_within_seconds(self, odd, folder):
        (folder / "out").mkdir()
        before = contents(folder)
        result, _ = measured("apply", *odd, "-o", "out", *KERNEL, seconds=15)
        assert result.code == 7
        for name, line in zip(odd, result.err.splitlines(), strict=True):
            is_clean(Result(7, "", line), (7,), name)
        assert contents(folder) == before

    @pytest.mark.parametrize("suffix", (".npz", ".h5"))
    def test_weights_that_are_a_pipe_are_refused_within_seconds(self, scan, suffix):
        os.mkfifo(f"w{suffix}")
        result, _ = measured("apply", scan, "-o", "b.npy", "--weights", f"w{suffix}", "-q", seconds=15)
        is_clean(result, (3,), f"w{suffix}")

    def test_a_device_is_no_configuration(self, scan):
        result, _ = measured("plan", scan, "-c", "/dev/zero", "--kernel", "identity", seconds=15)
        is_clean(result, (2,), "/dev/zero")

    def test_voxels_of_a_pair_that_are_a_pipe_are_refused_within_seconds(self, folder):
        make_nifti("a.hdr", noise(*SIZE).T, sform=np.eye(4))
        (folder / "a.img").unlink()
        os.mkfifo("a.img")
        for name in ("a.hdr", "a.img"):
            result, _ = measured("apply", name, "-o", "b.npy", *KERNEL, seconds=15)
            is_clean(result, (3,), name)

    @pytest.mark.parametrize("stem", ("-dash", "--", "two\nlines", "Ünï 日本", "a.b..c", "n" * 236, "tab\t'\"$(x)"))
    @pytest.mark.parametrize("suffix", (".npy", ".nii.gz"))
    def test_names_of_every_kind_come_in_and_go_out(self, folder, stem, suffix):
        make_volume("plain" + suffix, noise(*SIZE))
        name = (stem + suffix)[-240:]
        (folder / f"plain{suffix}").rename(folder / name)
        (folder / "out").mkdir()
        ok("apply", "-o", f"out/{name}", *KERNEL, "--", name)
        ok("apply", f"./{name}", "-o", f"./out/{name}", *KERNEL, "--overwrite")
        np.testing.assert_array_equal(read_volume(f"out/{name}"), noise(*SIZE))
        assert sorted(contents(folder)) == sorted([name, "out", f"out/{name}"])
        refused = run("apply", f"./{name}", "-o", f"./out/{name}", *KERNEL)
        is_clean(refused, (4,), "exists")

    def test_a_name_that_is_no_unicode(self, folder):
        name = os.fsdecode(b"\xff.npy")
        make_volume("a.npy", noise(*SIZE)).rename(folder / name)
        with program("apply", name, "-o", f"b{name}", "--kernel", "identity", "--report", "-") as process:
            result = finished(process)
        assert result.code == 0, result
        assert json.loads(result.out)["items"][0]["input"]["path"] == name
        np.testing.assert_array_equal(np.load(f"b{name}"), noise(*SIZE))

    def test_a_name_that_the_encoding_of_stdout_has_not(self, folder):
        make_volume("ü.npy", noise(*SIZE))
        with program("info", "ü.npy", env=os.environ | {"PYTHONIOENCODING": "ascii"}) as process:
            result = finished(process)
        assert (result.code, result.err) == (0, "")

    @pytest.mark.parametrize("args", (("--kernel-size", "x" * 6000), ("--kernel", "x" * 6000), ("-o", "x" * 6000)))
    def test_a_message_is_no_longer_than_four_kilobytes(self, scan, args):
        is_clean(run("apply", scan, "--kernel-size", "1", "-o", "b.npy", *args), (2, 4))

    def test_a_number_of_thousands_of_digits_is_a_wrong_usage(self, scan):
        result = run("plan", scan, "--kernel-size", "9" * 4400)
        assert (result.code, "unexpected failure" in result.err) == (2, False)


CALLS = ("open", "pwrite", "ftruncate", "posix_fallocate", "fsync", "link", "replace", "rename", "unlink", "close")
"""What the program calls to change a folder; each call is a place to be killed at."""


class TestKills:
    def kill_at(self, number):
        """Let the call of this number, counted over all kinds, be the last thing that this process does."""
        counted = itertools.count(1)

        def patched(real, *args, **options):
            if next(counted) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        for name in CALLS:
            if hasattr(os, name):
                setattr(os, name, partial(patched, getattr(os, name)))

    @pytest.mark.parametrize("old", (b"old", None), ids=("over an old one", "anew"))
    @pytest.mark.parametrize("suffix", (".nii", ".nii.gz", ".img", ".h5"))
    def test_a_kill_at_any_call_leaves_the_old_output_or_the_new(self, folder, suffix, old):
        """Each run is killed one call later than the one before, until one passes."""
        make_volume("a.npy", noise(*SIZE))
        ok("apply", "a.npy", "-o", f"out{suffix}", *KERNEL)
        names = [path.name for path in folder.glob("out.*")]
        whole = {name: (folder / name).read_bytes() for name in names}
        for number in range(1, 200):
            for name in names:
                (folder / name).write_bytes(old) if old else (folder / name).unlink(missing_ok=True)
            command = ("apply", "a.npy", "-o", f"out{suffix}", *KERNEL, *(["--overwrite"] if old else []))
            result = forked(partial(self.kill_at, number), *command)
            if result is not None:
                break
            for name in names:
                found = (folder / name).read_bytes() if (folder / name).exists() else None
                assert found in (old, whole[name]), (number, name)
        assert number > 8
        assert result.code == 0, result.err
        assert contents(folder) == {"a.npy": (folder / "a.npy").read_bytes(), **whole}

    @pytest.mark.parametrize("suffix", (".nii", ".nii.gz", ".h5"))
    def test_a_kill_at_any_time_leaves_the_old_output_or_the_new(self, folder, suffix):
        make_volume("a.npy", noise(32, 64, 64))
        command = ("apply", "a.npy", "-o", f"out{suffix}", "--kernel", "box", "--size", "3vox", "-q", "--overwrite")
        began = time.monotonic()
        ok(*command)
        seconds, whole = time.monotonic() - began, (folder / f"out{suffix}").read_bytes()
        dice = random.Random(0)
        for _ in range(34):
            (folder / f"out{suffix}").write_bytes(b"old")
            forked(partial(die_in, seconds * dice.uniform(0.05, 1.0)), *command)
            assert (folder / f"out{suffix}").read_bytes() in (b"old", whole)
        ok(*command)
        assert sorted(contents(folder)) == ["a.npy", f"out{suffix}"]
        assert (folder / f"out{suffix}").read_bytes() == whole


def die_in(seconds):
    """Let this process be killed, wherever it then is."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


class TestDisk:
    @pytest.mark.parametrize("share", (0, 0.1, 0.5, 0.99))
    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_file_that_may_not_grow_to_its_end_is_an_error(self, folder, suffix, share):
        make_volume("a.npy", noise(16, 32, 32))
        ok("apply", "a.npy", "-o", f"out{suffix}", *KERNEL)
        limit = int((folder / f"out{suffix}").stat().st_size * share)
        for path in folder.glob("out.*"):
            path.unlink()
        bound = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
        is_clean(forked(bound, "apply", "a.npy", "-o", f"out{suffix}", *KERNEL), (6,), f"out{suffix}")
        assert list(contents(folder)) == ["a.npy"]

    @pytest.mark.parametrize("suffix", FORMATS)
    @pytest.mark.parametrize("overwrite", ((), ("--overwrite",)))
    def test_a_file_system_that_knows_little_is_enough(self, scan, folder, suffix, overwrite):
        real = os.fsync

        def fsync(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "no folders")
            real(descriptor)

        with ExitStack() as patches:
            patches.enter_context(mock.patch.object(os, "fsync", fsync))
            for name, number in (("link", errno.EPERM), ("posix_fallocate", errno.EOPNOTSUPP)):
                patches.enter_context(mock.patch.object(os, name, side_effect=OSError(number, "no")))
            patches.enter_context(mock.patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "no locks")))
            ok("apply", scan, "-o", f"out{suffix}", *KERNEL, *overwrite)
        np.testing.assert_array_equal(read_volume(f"out{suffix}"), noise(*SIZE))
        assert not [name for name in contents(folder) if name.startswith(".")]

    @pytest.mark.parametrize("suffix", FORMATS)
    @pytest.mark.parametrize("number", (errno.EROFS, errno.EACCES))
    def test_a_folder_that_cannot_be_written_is_seen_before_the_work(self, scan, folder, suffix, number):
        real = os.open

        def refusing(path, flags, *args, **options):
            if flags & os.O_CREAT:
                raise OSError(number, os.strerror(number))
            return real(path, flags, *args, **options)

        with (
            mock.patch.object(lucid_cli.executors, "execute", side_effect=AssertionError("it computes")),
            mock.patch.object(os, "open", refusing),
        ):
            result = run("apply", scan, "-o", f"out{suffix}", *KERNEL)
        is_clean(result, (4,), os.strerror(number))
        assert list(contents(folder)) == ["scan.npy"]

    @pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs /sys")
    def test_a_real_file_system_without_files_of_ours(self, scan):
        is_clean(run("apply", scan, "-o", "/sys/kernel/out.nii", *KERNEL), (4, 6), "/sys/kernel")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
    def test_a_device_stays_one(self, scan, folder):
        try:
            os.mknod("out.nii", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except OSError:
            pytest.skip("no devices here")
        is_clean(run("apply", scan, "-o", "out.nii", *KERNEL, "--overwrite"), (4,), "not a regular file")
        assert stat.S_ISCHR((folder / "out.nii").lstat().st_mode)


def meanwhile(monkeypatch, happens):
    """Let something happen once, when the first tile has been computed."""
    execute = lucid_cli.executors.execute

    def wrapped(plan, filters, reader, writer, observe, **options):
        waiting = [happens]

        def observed(event):
            while waiting:
                waiting.pop()()
            observe(event)

        execute(plan, filters, reader, writer, observed, **options)
        assert not waiting

    monkeypatch.setattr(lucid_cli.executors, "execute", wrapped)


class TestMeanwhile:
    TILES = ("--tile", "1,999,999", *KERNEL)

    @pytest.mark.parametrize("change", ("cut", "replaced", "overwritten"))
    @pytest.mark.parametrize("suffix", (".nii", ".nii.gz", ".h5", ".npy"))
    def test_an_input_that_changes_between_two_tiles_gives_no_output(self, folder, monkeypatch, suffix, change):
        source = make_volume(folder / f"a{suffix}", noise(64, 128, 128))
        names, data = list(contents(folder)), source.read_bytes()

        def happens():
            if change == "cut":
                os.truncate(source, len(data) // 8)
            elif change == "replaced":
                (folder / "new").write_bytes(data)
                (folder / "new").replace(source)
            else:
                source.write_bytes(data[:2000] + bytes(len(data) - 2000))

        meanwhile(monkeypatch, happens)
        is_clean(run("apply", source, "-o", "out.npy", *self.TILES), (3,), source.name)
        assert list(contents(folder)) == names

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_a_folder_that_vanishes_is_an_error(self, folder, monkeypatch, suffix):
        make_volume("a.npy", noise(*SIZE))
        (folder / "out").mkdir()
        meanwhile(monkeypatch, lambda: shutil.rmtree("out"))
        result = run("apply", "a.npy", "-o", f"out/b{suffix}", *self.TILES)
        assert 1 <= result.code < 126
        assert result.err.startswith("Error: ")
        assert "Traceback" not in result.err
        assert list(contents(folder)) == ["a.npy"]

    @pytest.mark.parametrize("suffix", FORMATS)
    @pytest.mark.parametrize(("kind", "code"), ((RuntimeError, 1), (MemoryError, 6), (OSError, 1)))
    @pytest.mark.parametrize(
        ("owner", "method"), ((PlaneWindow, "read"), (CastingWriter, "encode"), (CastingWriter, "write"))
    )
    def test_a_thread_that_fails_fails_the_run(self, folder, monkeypatch, suffix, kind, code, owner, method):
        make_volume("a.npy", noise(8, *SIZE[1:]))
        calls, real = itertools.count(1), getattr(owner, method)

        def failing(*args, **options):
            if next(calls) == 4:
                raise kind("in a thread")
            return real(*args, **options)

        monkeypatch.setattr(owner, method, failing)
        result = run("apply", "a.npy", "-o", f"out{suffix}", *self.TILES, "-j", 3)
        assert result.code == code
        assert result.err.startswith("Error: ")
        assert f"{kind.__name__}: in a thread" in result.err
        assert list(contents(folder)) == ["a.npy"]

    @pytest.mark.parametrize("overwrite", ((), ("--overwrite",)))
    def test_four_runs_on_one_output_never_show_a_damaged_file(self, folder, overwrite):
        make_volume("a.npy", noise(16, 48, 48))
        layer = ("--kernel-size", 3, "--padding", 1, "-q")
        wanted = []
        for seed in range(4):
            ok("apply", "a.npy", "-o", "one.nii.gz", *layer, "--seed", seed, "--overwrite")
            wanted.append((folder / "one.nii.gz").read_bytes())
        (folder / "one.nii.gz").unlink()
        out = folder / "b.nii.gz"
        started = [program("apply", "a.npy", "-o", out.name, *layer, "--seed", seed, *overwrite) for seed in range(4)]
        while any(process.poll() is None for process in started):
            assert not out.exists() or out.read_bytes() in wanted
            time.sleep(0.001)
        results = [finished(process) for process in started]
        for result in results:
            assert result.code == 0 or not is_clean(result, (4,), out.name)
        passed = [result.code for result in results].count(0)
        assert passed >= 1 if overwrite else passed == 1
        assert out.read_bytes() in wanted
        assert sorted(contents(folder)) == ["a.npy", out.name]

    def test_a_clock_that_goes_backwards_changes_nothing(self, scan, folder, monkeypatch):
        ok("apply", scan, "-o", "first.nii.gz", *KERNEL)
        ticks = itertools.count()
        for name in ("time", "time_ns"):
            monkeypatch.setattr(time, name, lambda: 10**9 - 1000 * next(ticks))
        os.utime(scan, (2**33, 2**33))
        for kind in ("log", "json", "bar", "none"):
            command = ("apply", scan, "-o", "second.nii.gz", "--kernel", "identity", "--tile", "1", "--overwrite")
            result = ok(*command, "--progress", kind, "--report", "-")
            assert all(seconds >= 0 for seconds in json.loads(result.out)["items"][0]["seconds"].values())
            assert (folder / "second.nii.gz").read_bytes() == (folder / "first.nii.gz").read_bytes()


class TestClosedStreams:
    @pytest.mark.parametrize("closed", ((1, 2), (0, 1, 2)))
    @pytest.mark.parametrize("suffix", (".nii.gz", ".h5"))
    def test_several_closed_at_once_do_not_spoil_the_output(self, folder, suffix, closed):
        make_volume(f"a{suffix}", noise(*SIZE))
        command = ("apply", f"a{suffix}", "-o", f"b{suffix}", "--kernel", "identity")
        with program(*command, preexec_fn=lambda: [os.close(one) for one in closed]) as process:
            result = finished(process)
        assert (result.code, result.out, "Traceback" in result.err) == (0, "", False)
        np.testing.assert_array_equal(read_volume(f"b{suffix}"), noise(*SIZE))

    def test_a_closed_stdout_cannot_be_the_output(self, folder):
        make_volume("a.nii", noise(*SIZE))
        with program("apply", "a.nii", "-o", "-", *KERNEL, preexec_fn=partial(os.close, 1)) as process:
            is_clean(finished(process), (4,), "stdout")

    def test_a_closed_stdin_cannot_be_the_input(self, folder):
        with program("apply", "-", "-o", "b.nii", *KERNEL, preexec_fn=partial(os.close, 0)) as process:
            is_clean(finished(process), (3,), "stdin")
        assert contents(folder) == {}

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_full_stdout_is_heard(self, folder):
        make_volume("a.nii", noise(*SIZE))
        with Path("/dev/full").open("w") as full, program("apply", "a.nii", "-o", "-", *KERNEL, stdout=full) as process:
            is_clean(finished(process), (1, 4, 6))

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_report_that_does_not_fit_spoils_nothing_and_is_said(self, scan):
        command = ("apply", scan, "-o", "b.npy", *KERNEL, "--report", "-")
        with Path("/dev/full").open("w") as full, program(*command, stdout=full) as process:
            result = finished(process)
        np.testing.assert_array_equal(np.load("b.npy"), noise(*SIZE))
        is_clean(result, (1, 4, 6))
