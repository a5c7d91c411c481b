"""Every mistake is a line or two that say what is wrong, with its exit code, and leaves the folder as it was."""

import gzip
import json
import os
import pickle
import struct
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from tests.cli.conftest import (
    SIZE,
    contents,
    finished,
    make_nifti,
    make_volume,
    noise,
    npy_bytes,
    program,
    run,
    save_weights,
)

pytestmark = pytest.mark.filterwarnings("error")  # a warning would be a third line

APPLY = ("-o", "out.npy", "--kernel", "identity")


class Sentinel:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("SENTINEL",))


def save(name, data):
    Path(name).write_bytes(data)


def nifti_files():
    good = make_nifti("good.nii", noise(*SIZE).T, sform=np.eye(4)).read_bytes()
    packed = gzip.compress(good, 1, mtime=0)

    def patched(name, *patches, data=good):
        changed = bytearray(data)
        for offset, form, *values in patches:
            struct.pack_into(form, changed, offset, *values)
        save(name, gzip.compress(bytes(changed)) if name.endswith(".gz") else bytes(changed))

    save("good.nii.gz", packed)
    save("empty.nii", b"")
    save("empty.nii.gz", b"")
    save("short.nii", good[:100])
    save("header_only.nii", good[:352])
    save("last_byte.nii", good[:-1])
    save("half.nii", good[: len(good) // 2])
    save("trunc.nii.gz", packed[: len(packed) // 2])
    save("trunc_end.nii.gz", packed[:-4])
    save("gz_header.nii.gz", packed[:10])
    save("crc.nii.gz", packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:])
    save("flipped.nii.gz", packed[:-300] + bytes([packed[-300] ^ 4]) + packed[-299:])
    save("garbage.nii.gz", packed + b"garbage after the last member")
    save("short_inside.nii.gz", gzip.compress(good[:-1]))
    # (offset, format, values): dim 40, datatype 70, pixdim 76, vox_offset 108, scl 112, codes 252, quaternion 256
    patched("dims_13GB.nii", (40, "<4h", 3, 1500, 1500, 1500))
    patched("dims_2GB.nii.gz", (40, "<4h", 3, 800, 800, 800))
    patched("dims_overflow.nii", (40, "<8h", 7, *[32767] * 7))
    patched("dim_negative.nii", (42, "<h", -5))
    patched("dim_zero.nii", (44, "<h", 0))
    patched("dim0_is_0.nii", (40, "<h", 0))
    patched("dim0_is_9.nii", (40, "<h", 9))
    patched("two_axes.nii", (40, "<3h", 2, 5, 6))
    patched("six_axes.nii", (40, "<7h", 6, 7, 6, 1, 1, 1, 5))
    for name, value in (("nan", np.nan), ("inf", np.inf), ("negative", -352.0), ("1e9", 1e9), ("100", 100.0)):
        patched(f"vox_offset_{name}.nii", (108, "<f", value))
    patched("vox_offset_1e9.nii.gz", (108, "<f", 1e9))
    patched("magic.nii", (344, "4s", b"nope"))
    patched("sizeof_hdr.nii", (0, "<i", 999))
    for code in (0, 1, 3, 32, 128, 1536, 1792, 2304):
        patched(f"datatype_{code}.nii", (70, "<h", code))
    patched("inter_nan.nii", (112, "<2f", 1.0, np.nan))
    patched("quaternion.nii", (252, "<2h", 1, 0), (256, "<3f", 1.0, 1.0, 1.0))
    for name, esize in (("huge", 2**31 - 16), ("negative", -16), ("zero", 0), ("thirteen", 13)):
        body = struct.pack("<4b2i", 1, 0, 0, 0, esize, 6) + bytes(24)
        patched(f"esize_{name}.nii", (108, "<f", 384.0), data=good[:348] + body + bytes(4) + good[352:])

    two = make_nifti("good2.nii", noise(*SIZE).T, sform=np.eye(4), version=2).read_bytes()
    patched("n2_dims.nii", (16, "<4q", 3, 2**62, 2**62, 2**62), data=two)
    patched("n2_dim0.nii", (16, "<q", 200), data=two)
    make_nifti("no_img.hdr", noise(*SIZE).T, sform=np.eye(4))
    Path("no_img.img").unlink()
    make_nifti("no_hdr.hdr", noise(*SIZE).T, sform=np.eye(4))
    Path("no_hdr.hdr").unlink()
    make_nifti("short_pair.hdr", noise(*SIZE).T, sform=np.eye(4))
    save("short_pair.img", Path("short_pair.img").read_bytes()[:-1])
    make_nifti("pair.hdr", noise(*SIZE).T, sform=np.eye(4))
    save("pair_header.nii", Path("pair.hdr").read_bytes())
    save("text.nii", b"This is a scan, honestly.\n" * 40)
    save("page.nii.gz", b"<!DOCTYPE html><html>Please log in</html>" * 20)
    save("pointer.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 12345\n")


def npy_files():
    def with_header(name, text, data=b"", version=b"\1\0"):
        text = text.encode("latin1")
        save(name, b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data)

    good = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
    save("object.npy", npy_bytes(np.array([[[Sentinel(), None]]], dtype=object)))
    save("pickle.npy", pickle.dumps(Sentinel()))
    save("structured.npy", npy_bytes(np.zeros((2, 2, 2), [("a", "f4"), ("b", "f4")])))
    save("string.npy", npy_bytes(np.full((2, 2, 2), "text")))
    save("datetime.npy", npy_bytes(np.zeros((2, 2, 2), "M8[s]")))
    save("complex.npy", npy_bytes(np.zeros((2, 2, 2), "c8")))
    save("longdouble.npy", npy_bytes(np.zeros((2, 2, 2), np.longdouble)))
    for rank in (0, 1, 2, 6):
        save(f"rank{rank}.npy", npy_bytes(np.zeros((2,) * rank, np.float32)))
    save("no_voxels.npy", npy_bytes(np.zeros((3, 0, 3), np.float32)))
    for name, shape in (
        ("4TB", "(10000, 10000, 10000)"),
        ("1GB", "(1000, 1000, 256)"),
        ("2p62", f"({2**62}, 4, 4)"),
        ("negative", "(-2, 2, 2)"),
        ("float", "(2.0, 2, 2)"),
    ):
        with_header(f"claims_{name}.npy", good % shape, bytes(64))
    with_header("long.npy", good % "(2, 2, 2)" + " " * 60000, bytes(32))
    with_header("parentheses.npy", good % ("(" * 9000 + ")" * 9000), bytes(32))
    with_header("code.npy", "__import__('os').mkdir('SENTINEL')", bytes(32))
    with_header("no_shape.npy", "{'descr': '<f4', 'fortran_order': False}", bytes(32))
    with_header("f3.npy", (good % "(2, 2, 2)").replace("<f4", "<f3"), bytes(32))
    with_header("version.npy", good % "(2, 2, 2)", bytes(32), b"\x63\0")
    save("length.npy", b"\x93NUMPY\2\0" + b"\xff" * 4 + b"{}")
    save("cut.npy", npy_bytes(noise(*SIZE))[:50])
    save("short.npy", npy_bytes(noise(*SIZE))[:-1])
    save("empty.npy", b"")
    np.savez("two.npz", a=noise(*SIZE), b=noise(*SIZE))


def hdf5_files():
    def file(name):
        return h5py.File(name, "w")

    with file("two.h5") as one:
        one["first"], one["second/deep"] = noise(*SIZE), noise(*SIZE)
    with file("none.h5") as one:
        one.create_group("group")
    with file("scalar.h5") as one:
        one["data"] = 1.0
    with file("kinds.h5") as one:
        one["compound"] = np.zeros((2, 2, 2), [("a", "f4")])
        one["string"] = np.full((2, 2, 2), b"text")
        one.create_dataset("vlen", (2, 2, 2), h5py.vlen_dtype(np.float32))
        one.create_dataset("text", (2, 2, 2), h5py.string_dtype())
        one.create_dataset("reference", (2, 2, 2), h5py.ref_dtype)
        one["null"] = h5py.Empty("f4")
        one["complex"] = np.zeros((2, 2, 2), "c8")
        one["flat"] = noise(3, 4)
        one.create_dataset("no_voxels", (3, 0, 3), "f4")
        one["gone"] = h5py.SoftLink("/nothing")
        one["round"] = h5py.SoftLink("/round")
        one.create_group("group")
        one["good"] = noise(*SIZE)
    save("secret.bin", noise(*SIZE).tobytes())
    with file("external.h5") as one:
        one.create_dataset("data", SIZE, "f4", external=[("secret.bin", 0, h5py.h5f.UNLIMITED)])
    with file("linked.h5") as one:
        one["data"] = h5py.ExternalLink("kinds.h5", "/good")
    with file("virtual.h5") as one:
        layout = h5py.VirtualLayout(SIZE, "f4")
        layout[:] = h5py.VirtualSource("kinds.h5", "good", SIZE)
        one.create_virtual_dataset("data", layout)
    with file("petabytes.h5") as one:
        one.create_dataset("data", (10**5, 10**5, 10**5), "f4", chunks=(64, 64, 64))
    with file("packed.h5") as one:
        data = one.create_dataset("data", data=noise(*SIZE), chunks=SIZE, compression="gzip")
        at = data.id.get_chunk_info(0).byte_offset
    good = Path("packed.h5").read_bytes()
    save("truncated.h5", good[: len(good) // 2])
    save("signature.h5", good[:8])
    save("text.h5", b"This is a scan, honestly.\n" * 40)
    save("empty.h5", b"")
    save("chunk.h5", good[: at + 20] + b"damaged!" * 4 + good[at + 52 :])
    known = b"\x01\x00\x08\x00\x01\x00\x01\x00deflate\0"
    assert good.count(known) == 1
    save("filter.h5", good.replace(known, b"\xe9\x7f" + known[2:]))


def other_files():
    make_volume("scan.npy", noise(*SIZE))
    make_volume("channels.npy", noise(4, *SIZE))
    save("w4.npy", npy_bytes(noise(2, 3, 3, 3)))
    save("w_object.npy", npy_bytes(np.array([Sentinel()], dtype=object)))
    save("w_text.npy", b"weights")
    save("w_complex.npy", npy_bytes(np.zeros((1, 1, 1, 1, 1), "c8")))
    save_weights("w_bias.npz", noise(2, 1, 1, 1, 1), noise(3))
    save_weights("w_empty.npz", noise(0, 1, 1, 1, 1))
    save_weights("w_nan.npz", np.full((1, 1, 1, 1, 1), np.nan))
    save_weights("w_channels.npz", noise(2, 3, 1, 1, 1))
    np.savez("w_keys.npz", **{"enc.weight": noise(1, 1, 1, 1, 1), "dec.weight": noise(1, 1, 1, 1, 1)})
    np.savez("w_object.npz", weight=np.array([Sentinel()], dtype=object))
    save("w_cut.npz", Path("w_keys.npz").read_bytes()[:100])
    save("w_text.npz", b"weights")
    save("w.pt", pickle.dumps(Sentinel()))
    save("w_text.safetensors", b"weights" * 9)
    save("w.xyz", b"1,2,3")
    save("taken.nii", b"old")
    save("taken.json", b"old")
    Path("folder").mkdir()
    Path("folder.nii").mkdir()
    Path("dangling.npy").symlink_to("nowhere")
    Path("loop.npy").symlink_to("loop.npy")
    Path("zero.npy").symlink_to("/dev/zero")
    Path("null.nii").symlink_to("/dev/null")
    Path("alias.npy").symlink_to("scan.npy")
    os.link("scan.npy", "hardlink.npy")
    os.mkfifo("pipe.nii")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Return a folder of everything that can be wrong; no test changes it."""
    folder = tmp_path_factory.mktemp("zoo")
    before = Path.cwd()
    os.chdir(folder)
    try:
        nifti_files()
        npy_files()
        hdf5_files()
        other_files()
    finally:
        os.chdir(before)
    return folder


def check(result, code, *words):
    """Expect a clean error: its code, one or two lines, and these words."""
    lines = result.err.splitlines()
    assert 1 <= len(lines) <= 2, result.err
    assert all(line.startswith("Error: ") for line in lines), result.err
    assert len(result.err) < 4096
    assert "Traceback" not in result.err
    assert "unexpected failure" not in result.err
    for word in words:
        assert word in result.err, result.err
    assert result.out == ""
    assert result.code == code, result.err


@pytest.fixture
def refused(zoo, monkeypatch):
    """Return a function that runs a command line in the zoo and expects a clean error that changes no file."""
    monkeypatch.chdir(zoo)

    def call(args, code, *words):
        before = contents(zoo)
        result = run(*args)
        after = contents(zoo)
        for name in set(after) - set(before):  # so that one that slips through fails alone
            (zoo / name).unlink()
        check(result, code, *words)
        assert after == before

    return call


BAD_INPUTS = {
    "empty.nii": "empty",
    "empty.nii.gz": "empty",
    "short.nii": "expected",
    "header_only.nii": "expected 840 bytes",
    "last_byte.nii": "found 839",
    "half.nii": "expected 840 bytes",
    "trunc.nii.gz": "damaged or cut short",
    "trunc_end.nii.gz": "damaged or cut short",
    "gz_header.nii.gz": "damaged or cut short",
    "crc.nii.gz": "CRC check failed",
    "flipped.nii.gz": "damaged or cut short",
    "garbage.nii.gz": "damaged or cut short",
    "short_inside.nii.gz": "ends too early",
    "dims_13GB.nii": "expected 13500000000 bytes",
    "dims_2GB.nii.gz": "ends too early",
    "dims_overflow.nii": "3, 4 or 5 axes",
    "dim_negative.nii": "at least 1",
    "dim_zero.nii": "at least 1",
    "dim0_is_0.nii": "1 to 7 axes",
    "dim0_is_9.nii": "1 to 7 axes",
    "n2_dims.nii": "expected",
    "n2_dim0.nii": "1 to 7 axes",
    "two_axes.nii": "has 2",
    "six_axes.nii": "has 6",
    "vox_offset_nan.nii": "vox_offset is nan",
    "vox_offset_inf.nii": "vox_offset is inf",
    "vox_offset_negative.nii": "vox_offset is -352",
    "vox_offset_1e9.nii": "vox_offset",
    "vox_offset_1e9.nii.gz": "vox_offset",
    "vox_offset_100.nii": "vox_offset is 100",
    "magic.nii": "magic",
    "sizeof_hdr.nii": "not a NIfTI file",
    "datatype_0.nii": "datatype 0",
    "datatype_1.nii": "datatype 1 ",
    "datatype_3.nii": "datatype 3 is not known",
    "datatype_32.nii": "complex64",
    "datatype_128.nii": "RGB",
    "datatype_1536.nii": "float128",
    "datatype_1792.nii": "complex128",
    "datatype_2304.nii": "RGBA",
    "inter_nan.nii": "scl_inter is nan",
    "quaternion.nii": "quaternion",
    "esize_huge.nii": "extension",
    "esize_negative.nii": "extension",
    "esize_zero.nii": "extension",
    "esize_thirteen.nii": "extension",
    "no_img.hdr": "no_img.img is not there",
    "no_hdr.img": "no_hdr.hdr is not there",
    "short_pair.hdr": "expected 840 bytes",
    "pair_header.nii": "pair",
    "text.nii": "not a NIfTI file",
    "page.nii.gz": "not a NIfTI file",
    "pointer.nii.gz": "git lfs pull",
    "object.npy": "not a readable .npy file",
    "pickle.npy": "not a .npy file: it begins with",
    "structured.npy": "dtype",
    "string.npy": "dtype",
    "datetime.npy": "dtype",
    "complex.npy": "complex64",
    "longdouble.npy": "dtype",
    "rank0.npy": "has 0",
    "rank1.npy": "has 1",
    "rank2.npy": "has 2",
    "rank6.npy": "has 6",
    "no_voxels.npy": "",
    "claims_4TB.npy": "not a readable .npy file",
    "claims_1GB.npy": "not a readable .npy file",
    "claims_2p62.npy": "not a readable .npy file",
    "claims_negative.npy": "not a readable .npy file",
    "claims_float.npy": "not a readable .npy file",
    "long.npy": "not a readable .npy file",
    "parentheses.npy": "not a readable .npy file",
    "code.npy": "not a readable .npy file",
    "no_shape.npy": "not a readable .npy file",
    "f3.npy": "not a readable .npy file",
    "version.npy": "not a readable .npy file",
    "length.npy": "not a readable .npy file",
    "cut.npy": "not a readable .npy file",
    "short.npy": "not a readable .npy file",
    "empty.npy": "not a .npy file: it is empty",
    "two.h5": "/first, /second/deep",
    "none.h5": "holds 0",
    "scalar.h5": "holds 0",
    "scalar.h5:/data": "3, 4 or 5 axes",
    "kinds.h5:/compound": "dtype",
    "kinds.h5:/string": "dtype",
    "kinds.h5:/vlen": "dtype",
    "kinds.h5:/text": "dtype",
    "kinds.h5:/reference": "dtype",
    "kinds.h5:/null": "axes",
    "kinds.h5:/complex": "complex64",
    "kinds.h5:/flat": "has 2",
    "kinds.h5:/no_voxels": "empty",
    "kinds.h5:/gone": "/good",
    "kinds.h5:/round": "",
    "kinds.h5:/group": "group",
    "kinds.h5:/absent": "/good",
    "external.h5": "other files",
    "linked.h5:/data": "other files",
    "virtual.h5": "other files",
    "truncated.h5": "not a readable HDF5 file",
    "signature.h5": "not a readable HDF5 file",
    "text.h5": "not an HDF5 file: it begins with",
    "empty.h5": "not an HDF5 file: it is empty",
    "chunk.h5": "damaged or unreadable data",
    "filter.h5": "damaged or unreadable data",
    "absent.npy": "no such file",
    "absent.nii.gz": "no such file",
    "absent/scan.npy": "no such file",
    "scan.npy/scan.npy": "",
    "folder.nii": "not a regular file",
    "dangling.npy": "link to nothing",
    "loop.npy": "link to nothing",
    "zero.npy": "not a regular file",
    "null.nii": "not a regular file",
    "pipe.nii": "not a regular file",
    "n" * 300 + ".npy": "",
}
"""Inputs that cannot be read, and words of their message."""


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_an_input_that_cannot_be_read(refused, name):
    refused(("apply", name, *APPLY, "-q"), 3, name.split(":")[0], BAD_INPUTS[name])
    assert not Path("SENTINEL").exists()


HEADER_IS_FINE = {
    "trunc.nii.gz",
    "trunc_end.nii.gz",
    "crc.nii.gz",
    "flipped.nii.gz",
    "garbage.nii.gz",
    "short_inside.nii.gz",
    "dims_2GB.nii.gz",
    "chunk.h5",
    "filter.h5",
}
"""Inputs whose fault lies in their voxels."""


@pytest.mark.parametrize("command", (("info",), ("plan", "--kernel", "identity", "-q")), ids=("info", "plan"))
def test_info_and_plan_refuse_what_apply_refuses_by_its_header(zoo, monkeypatch, command):
    monkeypatch.chdir(zoo)
    for name in BAD_INPUTS:
        result = run(*command, name)
        # what is so short that it is read whole with its header may be refused as well
        assert result.code in ((0, 3) if name in HEADER_IS_FINE else (3,)), (name, result)
        assert ("Error: " in result.err) == (result.code == 3)
        assert "unexpected failure" not in result.err, name


def test_a_bit_flipped_anywhere_in_the_packed_voxels_is_seen(tmp_path):
    packed = make_nifti(tmp_path / "a.nii.gz", noise(3, 4, 5), sform=np.eye(4)).read_bytes()
    for at, bit in zip(range(10, len(packed), 7), count()):
        changed = packed[:at] + bytes([packed[at] ^ (1 << bit % 8)]) + packed[at + 1 :]
        (tmp_path / "a.nii.gz").write_bytes(changed)
        result = run("apply", tmp_path / "a.nii.gz", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
        assert result.code == 3, at
        assert not (tmp_path / "b.npy").exists()


@pytest.mark.parametrize("channels", (1, 2))
def test_the_checksum_behind_the_last_voxel_is_compared(folder, channels):
    """The header and the voxels are 1 MiB together, so that no read on the way goes beyond them."""
    packed = make_nifti("a.nii.gz", np.zeros((61, 179, 24 // channels, channels), np.float32)).read_bytes()
    Path("a.nii.gz").write_bytes(packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:])
    command = ("apply", "a.nii.gz", "-o", "out.nii", "--kernel", "identity", "--axis4", "channel", "-q")
    check(run(*command), 3, "CRC check failed")
    assert list(contents(folder)) == ["a.nii.gz"]


@pytest.mark.parametrize("name", ("dims_2GB.nii.gz", "vox_offset_1e9.nii", "vox_offset_1e9.nii.gz"))
def test_a_header_that_lies_takes_no_memory(zoo, name):
    with program("apply", name, "-o", "out.nii.gz", "--kernel", "identity", "--report", "-", "-q", cwd=zoo) as one:
        result = finished(one)
    assert result.code == 3
    assert json.loads(result.out)["items"][0]["peak_rss_bytes"] < 300e6


LAYER = ("scan.npy", "-o", "out.npy", "--kernel-size", "3")
BAD_USAGE = [
    # (arguments of apply, exit code, words of the message)
    ((), 2, "no INPUT is given"),
    (("scan.npy", "--kernel", "identity"), 2, "-o OUTPUT"),
    (("scan.npy", "-o", "out.npy"), 2, "--kernel NAME"),
    (("scan.npy", *APPLY, "--srtide", "2"), 2, "--stride"),
    (("two.npz", *APPLY), 2, ".npy"),
    (("w.xyz", *APPLY), 2, "suffix"),
    (("folder", *APPLY), 3, "not a regular file"),
    (("scan", *APPLY), 3, "no such file"),
    (("scan.npy", "-o", "out.xyz", "--kernel", "identity"), 2, "legal: .nii"),
    (("scan.npy", "-o", "out", "--kernel", "identity"), 2, "legal: .nii"),
    # layer
    *(((*LAYER, "--stride", value), 2, "--stride") for value in ("0", "-1", "true", "1.5", "1,1", "", "010", "1:30")),
    *(((*LAYER, "--stride", value), 2, "--stride") for value in ("1,1,1,1", "two", "1e0", "1,,1", "nan")),
    *(((*LAYER, "--padding", value), 2, "--padding") for value in ("-1", ".nan", "full", "SAME", "1,same,1")),
    *(((*LAYER, "--dilation", value), 2, "--dilation") for value in ("0", "-2", "1.0")),
    *(((*LAYER, "--groups", value), 2, "--groups") for value in ("0", "-1", "1,1,1")),
    *(((*LAYER, "--out-channels", value), 2, "--out-channels") for value in ("0", "-1", "x")),
    (("scan.npy", "-o", "out.npy", "--kernel-size", "0"), 2, "--kernel-size"),
    ((*LAYER, "--dilation", str(2**62)), 5, "larger than the padded input"),
    ((*LAYER, "--groups", "2"), 5, "groups=2 does not divide"),
    (("channels.npy", "-o", "out.npy", "--kernel-size", "3", "--groups", "3"), 5, "legal: 1, 2, 4"),
    (("channels.npy", "-o", "out.npy", "--kernel-size", "3", "--in-channels", "2"), 5, "has 4"),
    ((*LAYER, "--padding-mode", "mirror"), 2, "called 'reflect'"),
    ((*LAYER, "--padding-mode", "edge"), 2, "called 'replicate'"),
    ((*LAYER, "--padding-mode", "replicat"), 2, "Did you mean 'replicate'"),
    *(((*LAYER, "--dtype", value), 2, "--dtype") for value in ("object", "int32", "float16")),
    ((*LAYER, "--device", "cuda"), 2, "device"),
    ((*LAYER, "--out-channels", str(10**12)), 6, "would take"),
    ((*LAYER, "--padding", "same", "--stride", "2"), 2, "needs stride 1"),
    (("scan.npy", "-o", "out.npy", "--kernel-size", "6,6,8"), 5, "along D"),
    (("scan.npy", "-o", "out.npy", "--kernel-size", "1,1,8"), 5, "along W: it spans 8 voxels"),
    ((*LAYER, "--padding", "5,1,1", "--padding-mode", "reflect"), 5, "at most 4"),
    ((*LAYER, "--padding", "1,1,8", "--padding-mode", "circular"), 5, "at most 7"),
    ((*LAYER, "--seed", "-1"), 2, "--seed"),
    # named kernels and lengths
    (("scan.npy", "-o", "out.npy", "--kernel", "gausian"), 2, "Did you mean 'gaussian'"),
    (("scan.npy", "-o", "out.npy", "--kernel", "gaussian"), 2, "--sigma 1.5mm"),
    (("scan.npy", "-o", "out.npy", "--kernel", "gaussian", "--sigma", "1vox", "--fwhm", "1vox"), 2, "either"),
    (("scan.npy", "-o", "out.npy", "--kernel", "gaussian", "--size", "3vox"), 2, "no size"),
    (("scan.npy", "-o", "out.npy", "--kernel", "box"), 2, "--size"),
    (("scan.npy", "-o", "out.npy", "--kernel", "box", "--size", "2.5vox"), 2, "whole voxels"),
    (("scan.npy", "-o", "out.npy", "--kernel", "sobel", "--axis", "q"), 2, "legal: D, H, W"),
    (("scan.npy", "-o", "out.npy", "--kernel", "laplacian", "--axis", "z"), 2, "it takes neighbours"),
    *(
        (("scan.npy", "-o", "out.npy", "--kernel", "gaussian", "--sigma", value), 2, "write it like 1.5mm")
        for value in ("1.5", "1.5furlong", "-1mm", "0mm", "1,2mm", "mm", "nanmm", "1e999mm", "1 2mm")
    ),
    (("scan.npy", "-o", "out.npy", "--kernel", "box", "--size", "100000vox"), 6, "memory"),
    (("scan.npy", "-o", "out.npy", "--kernel", "gaussian", "--sigma", "1000vox"), 6, "memory"),
    ((*LAYER, "--sigma", "1mm"), 2, "--kernel NAME"),
    (("scan.npy", *APPLY, "--bias"), 2, "no bias"),
    (("scan.npy", *APPLY, "--out-channels", "2"), 5, "by itself"),
    (("scan.npy", *APPLY, "--kernel-size", "3"), 5, "kernel_size"),
    (("scan.npy", *APPLY, "--spacing", "2vox"), 2, "physical length"),
    (("scan.npy", *APPLY, "--axis4", "time"), 2, "--axis4"),
    # weights
    (("scan.npy", *APPLY, "--weights", "w4.npy"), 2, "give one"),
    (("scan.npy", "-o", "out.npy", "--weights", "w4.npy"), 5, "(2, 3, 3, 3)"),
    (("scan.npy", "-o", "out.npy", "--weights", "w_channels.npz"), 5, "3 input channels"),
    (("scan.npy", "-o", "out.npy", "--weights", "w_bias.npz"), 5, "bias has shape (3,)"),
    (("scan.npy", "-o", "out.npy", "--weights", "w_empty.npz"), 5, "(0, 1, 1, 1, 1)"),
    (("scan.npy", "-o", "out.npy", "--weights", "w_nan.npz"), 3, "NaN"),
    (("scan.npy", "-o", "out.npy", "--weights", "w_complex.npy"), 3, "complex64"),
    (("scan.npy", "-o", "out.npy", "--weights", "w_keys.npz"), 3, "dec.weight (1x1x1x1x1), enc.weight (1x1x1x1x1)"),
    (("scan.npy", "-o", "out.npy", "--weights", "w_keys.npz:mid"), 3, "mid.weight"),
    (("scan.npy", "-o", "out.npy", "--weights", "scan.npy:key"), 2, "without a name"),
    *(
        (("scan.npy", "-o", "out.npy", "--weights", name), 3, f"{name}: not a readable")
        for name in ("w_object.npy", "w_object.npz", "w_text.npy", "w_cut.npz", "w_text.npz", "w_text.safetensors")
    ),
    (("scan.npy", "-o", "out.npy", "--weights", "text.h5"), 3, "text.h5"),
    (("scan.npy", "-o", "out.npy", "--weights", "w.pt"), 2, ".safetensors"),
    (("scan.npy", "-o", "out.npy", "--weights", "w.xyz"), 2, "legal: .npy"),
    (("scan.npy", "-o", "out.npy", "--weights", "absent.npy"), 3, "no such file"),
    (("scan.npy", "-o", "out.npy", "--weights", "folder"), 3, "not a regular file"),
    # running
    (("scan.npy", *APPLY, "--algorithm", "ftt"), 2, "legal: auto, direct, fft, gemm, native, separable, winograd"),
    (("scan.npy", *APPLY, "--algorithm", "fft"), 2, "ask for accuracy='normwise'"),
    (("scan.npy", *APPLY, "--engine", "nunba"), 2, "legal: auto, numpy, numba, torch. Did you mean 'numba'?"),
    ((*LAYER, "--algorithm", "separable"), 2, "use 'auto'"),
    (("scan.npy", *APPLY, "--engine", "cuda"), 2, "legal: auto, numpy"),
    (("scan.npy", *APPLY, "--accuracy", "sloppy"), 2, "legal: componentwise"),
    (("scan.npy", *APPLY, "--threads", "-1"), 2, "--threads"),
    (("scan.npy", *APPLY, "--tile", "0"), 2, "--tile"),
    (("scan.npy", *APPLY, "--batch-size", "0"), 2, "--batch-size"),
    (("scan.npy", *APPLY, "--progress", "loud"), 2, "--progress"),
    (("scan.npy", *APPLY, "--name", "x.npy"), 2, "--name"),
    # output and report
    (("scan.npy", "-o", "taken.nii", "--kernel", "identity"), 4, "--overwrite"),
    (("scan.npy", "-o", "absent/out.nii", "--kernel", "identity"), 4, "does not exist"),
    (("scan.npy", "-o", "scan.npy/out.nii", "--kernel", "identity"), 4, "does not exist"),
    (("scan.npy", "-o", "absent/", "--kernel", "identity"), 4, "mkdir"),
    (("scan.npy", "-o", "folder.nii", "--kernel", "identity"), 4, "folder"),
    (("scan.npy", "-o", "pipe.nii", "--kernel", "identity", "--overwrite"), 4, "not a regular file"),
    (("scan.npy", "-o", "null.nii", "--kernel", "identity", "--overwrite"), 4, "not a regular file"),
    (("scan.npy", "-o", "dangling.npy", "--kernel", "identity", "--overwrite"), 4, "link to nothing"),
    (("scan.npy", "-o", "loop.npy", "--kernel", "identity", "--overwrite"), 4, "loop.npy"),
    (("scan.npy", "-o", "n" * 300 + ".npy", "--kernel", "identity"), 4, ""),
    (("scan.npy", "-o", "scan.npy", "--kernel", "identity", "--overwrite"), 4, "same file as the input"),
    (("scan.npy", "-o", "alias.npy", "--kernel", "identity", "--overwrite"), 4, "same file as the input"),
    (("scan.npy", "-o", "hardlink.npy", "--kernel", "identity", "--overwrite"), 4, "same file as the input"),
    (("alias.npy", "-o", "scan.npy", "--kernel", "identity", "--overwrite"), 4, "same file as the input"),
    (("pair.hdr", "-o", "pair.img", "--kernel", "identity", "--overwrite"), 4, "same file as the input"),
    (("scan.npy", "-o", "w4.npy", "--weights", "w4.npy", "--overwrite"), 5, "(2, 3, 3, 3)"),
    (("channels.npy", "-o", "w4.npy", "--weights", "./w4.npy", "--overwrite"), 5, "(2, 3, 3, 3)"),
    (("scan.npy", "-o", "out.h5:/", "--kernel", "identity"), 4, "out.h5:/"),
    (("scan.npy", *APPLY, "--report", "r.txt"), 2, "FILE.json"),
    (("scan.npy", *APPLY, "--report", "taken.json"), 4, "exists"),
    (("scan.npy", *APPLY, "--report", "absent/r.json"), 4, "does not exist"),
    (("scan.npy", *APPLY, "--report", "r.json", "--dry-run"), 2, "--report -"),
]


def as_typed(value):
    """Name a test by the end of its command line."""
    return " ".join(value)[-60:] or "nothing" if isinstance(value, tuple) else ""


@pytest.mark.parametrize(("args", "code", "word"), BAD_USAGE, ids=as_typed)
def test_a_command_line_that_is_wrong(refused, args, code, word):
    refused(("apply", *args, "-q"), code, word)
    assert not Path("SENTINEL").exists()


@pytest.mark.parametrize(
    ("args", "code", "word"),
    (
        (("apli",), 2, "Did you mean 'apply'"),
        (("aply", "scan.npy"), 2, "legal: apply, bench, "),
        (("--verison",), 2, "--version"),
        (("info",), 2, "INPUT"),
        (("info", "absent.npy"), 3, "no such file"),
        (("info", "scan.npy", "--jsn"), 2, "--json"),
        (("plan",), 2, "no INPUT is given"),
        (("plan", "scan.npy"), 2, "--kernel NAME"),
        (("sample",), 2, "--output"),
        (("sample", "phantm", "-o", "out.npy"), 2, "Did you mean 'phantom'"),
        (("sample", "ramp", "-o", "out.xyz"), 2, "legal: .nii"),
        (("sample", "ramp", "-o", "taken.nii"), 4, "--overwrite"),
        (("sample", "ramp", "-o", "absent/out.nii"), 4, "does not exist"),
        (("sample", "ramp", "-o", "pipe.nii", "--overwrite"), 4, "not a regular file"),
        (("sample", "ramp", "-o", "out.npy", "--shape", "0"), 2, "--shape"),
        (("sample", "ramp", "-o", "out.npy", "--shape", "100000"), 6, "memory"),
        (("sample", "ramp", "-o", "out.npy", "--spacing", "1"), 2, "has no unit"),
        (("sample", "ramp", "-o", "out.npy", "--dtype", "complex64"), 2, "legal: float16"),
        (("sample", "ramp", "-o", "out.npy", "more"), 2, "more"),
    ),
    ids=as_typed,
)
def test_other_commands_that_are_wrong(refused, args, code, word):
    refused(args, code, word)


@pytest.mark.parametrize("padding", (10**8, 2**62))
def test_a_padding_beyond_all_reason_is_refused_at_once(zoo, padding):
    for command in (("plan", "scan.npy"), ("apply", "scan.npy", "-o", "out.npy")):
        with program(*command, "--kernel-size", "3", "--padding", padding, "-q", cwd=zoo) as one:
            try:
                assert finished(one, timeout=20).code in (5, 6)
            finally:
                one.kill()


def test_weights_that_are_the_output(zoo, monkeypatch, folder):
    save_weights("w.npz", noise(1, 1, 1, 1, 1))
    Path("w.npy").symlink_to("w.npz")
    make_volume("scan.npy", noise(*SIZE))
    check(run("apply", "scan.npy", "-o", "w.npy", "--weights", "w.npz", "--overwrite"), 4, "same file as the input")


def test_a_configuration_that_is_the_output(folder):
    make_volume("scan.npy", noise(*SIZE))
    Path("c.yaml").write_text("kernel: identity")
    os.link("c.yaml", "out.npy")
    check(run("apply", "scan.npy", "-o", "out.npy", "-c", "c.yaml", "--overwrite"), 4, "same file as the input")


def test_the_voxels_of_a_pair_are_an_input_too(folder):
    make_nifti("a.hdr", noise(*SIZE).T, sform=np.eye(4))
    Path("b.img").symlink_to("a.img")
    before = contents(folder)
    check(
        run("apply", "a.hdr", "-o", "b.img", "--kernel", "identity", "--overwrite", "-q"), 4, "same file as the input"
    )
    assert contents(folder) == before


def test_a_report_that_is_the_input(folder):
    make_volume("scan.npy", noise(*SIZE))
    Path("r.json").symlink_to("scan.npy")
    command = ("apply", "scan.npy", *APPLY, "--report", "r.json", "--overwrite")
    check(run(*command), 4, "same file as the input")


@pytest.mark.parametrize("suffix", (".npy", ".nii", ".img", ".h5"))
def test_a_disk_without_room_is_seen_before_the_work(folder, monkeypatch, suffix):
    make_volume("scan.npy", noise(*SIZE))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    check(run("apply", "scan.npy", "-o", f"out{suffix}", "--kernel", "identity", "-q"), 6, "free")
    assert list(contents(folder)) == ["scan.npy"]


def test_memory_that_is_not_there_is_seen_before_the_work(folder, monkeypatch):
    make_volume("scan.npy", noise(*SIZE))
    monkeypatch.setattr("lucid_core.machine.available_bytes", lambda: 1000)
    for command in (("plan",), ("apply", "-o", "out.npy")):
        result = run(*command, "scan.npy", "--kernel", "identity", "-q")
        assert result.code == 6
        assert "may be taken" in result.err
    assert list(contents(folder)) == ["scan.npy"]


def test_debug_shows_where(zoo):
    with program("apply", "text.nii", *APPLY, "--debug", cwd=zoo) as one:
        result = finished(one)
    assert result.code != 0
    assert "Traceback" in result.err
    assert "not a NIfTI file" in result.err


def test_what_is_odd_but_plain_is_no_error(zoo, monkeypatch, tmp_path):
    monkeypatch.chdir(zoo)
    lies = bytearray(Path("good.nii").read_bytes())
    struct.pack_into("<h", lies, 72, 8)
    (tmp_path / "bitpix.nii").write_bytes(lies)
    for name in ("good.nii", "good2.nii", "good.nii.gz", "kinds.h5:/good", "alias.npy", tmp_path / "bitpix.nii"):
        result = run("apply", name, "-o", tmp_path / "out.npy", "--kernel", "identity", "--overwrite", "-q")
        assert (result.code, result.err) == (0, ""), name
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), noise(*SIZE))
