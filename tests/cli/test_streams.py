"""Streams: compressed files are read once and written block by block; NIfTI goes through pipes."""

import gzip
import subprocess
import sys
import threading
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st

from lucid_cli import compression, planes, streams
from lucid_cli.crc import combined
from tests.cli.conftest import contents, make_volume, noise, ok, program, read_volume, run, save_weights

STREAMS = (".nii.gz", ".nii.zst")
SIZE = (7, 6, 5)
LAYER = ("--padding", 1, "-q")


def plain(path):
    """Return what a compressed file holds."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else compression.zstandard().decompress(data)


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 5000))
def test_checksums_of_parts_make_that_of_the_whole(first, second, zeros):
    second += bytes(zeros)
    assert combined(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@pytest.mark.parametrize("library", ("isal", "zlib"))
@pytest.mark.parametrize("level", (0, 1, 3, 6, 9))
def test_blocks_are_one_gzip_member(monkeypatch, library, level):
    if library == "zlib":
        monkeypatch.setattr(compression, "_isal", lambda: None)
    codec = compression.Gzip(level)
    pieces = [noise(1000).tobytes(), b"", bytes(70000), b"end"]
    size = crc = 0
    data = codec.begin
    for piece in pieces:
        block = codec.block(memoryview(piece))
        size, crc = block.then(size, crc)
        data += block.data
    data += codec.end(size, crc)
    member = zlib.decompressobj(31)
    assert member.decompress(data) == b"".join(pieces)
    assert (member.eof, member.unused_data) == (True, b"")


@pytest.mark.parametrize("suffix", STREAMS)
@pytest.mark.parametrize("block", (1, 100, 250, 1 << 20))
@pytest.mark.parametrize("tile", ("99", "1,99,99", "2,99,99", "3,4,5"))
@pytest.mark.parametrize("channels", (1, 3))
def test_a_stream_holds_the_same_bytes_as_a_plain_file(folder, monkeypatch, suffix, block, tile, channels):
    monkeypatch.setattr(streams, "BLOCK_BYTES", block)
    make_volume("a.nii", noise(2, *SIZE))
    save_weights("w.npz", noise(channels, 1, 3, 3, 3))
    layer = ("--weights", "w.npz", "--in-channels", 1, *LAYER)
    ok("apply", "a.nii", "-o", "b.nii", *layer)
    ok("apply", "a.nii", "-o", f"b{suffix}", *layer, "--tile", tile)
    assert plain(folder / f"b{suffix}") == (folder / "b.nii").read_bytes()
    assert len(contents(folder)) == 4


@pytest.mark.parametrize("channels", (1, 4))
def test_other_programs_read_what_is_written(folder, channels):
    make_volume("a.nii.gz", noise(*SIZE))
    save_weights("w.npz", noise(channels, 1, 3, 3, 3))
    ok("apply", "a.nii.gz", "-o", "b.nii.gz", "--weights", "w.npz", *LAYER)
    ok("apply", "a.nii.gz", "-o", "b.npy", "--weights", "w.npz", *LAYER)
    expected = np.load("b.npy").reshape(channels, *SIZE)
    np.testing.assert_array_equal(np.asarray(nib.load("b.nii.gz").dataobj).T.reshape(channels, *SIZE), expected)
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("b.nii.gz"))
    np.testing.assert_array_equal(read.reshape(channels, *SIZE), expected)


@pytest.mark.parametrize("suffix", STREAMS)
@pytest.mark.parametrize("library", ("isal", "zlib"))
def test_any_damage_of_a_stream_is_an_error(folder, monkeypatch, suffix, library):
    if library == "zlib":
        monkeypatch.setattr(compression, "_isal", lambda: None)
    path = make_compressed(folder / f"a{suffix}", noise(*SIZE))
    whole = path.read_bytes()
    kernel = ("--kernel", "identity", "-q", "--overwrite")
    ok("apply", path, "-o", "b.npy", *kernel)
    for cut in (len(whole) - 1, len(whole) - 5, len(whole) // 2, 30):
        path.write_bytes(whole[:cut])
        assert run("apply", path, "-o", "b.npy", *kernel).code == 3, cut
    for bit in range(0, 8 * len(whole), 301):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        result = run("apply", path, "-o", "c.npy", *kernel)
        assert result.code == 3 or (result.code == 0 and np.array_equal(np.load("c.npy"), np.load("b.npy"))), bit


def make_compressed(path, volume):
    """Write a compressed NIfTI."""
    data = make_volume(path.with_name("plain.nii"), volume).read_bytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else _zstd_with_checksum(data))
    return path


def _zstd_with_checksum(data):
    library = compression.zstandard()
    return library.compress(data, options={library.CompressionParameter.checksum_flag: 1})


@pytest.mark.parametrize("into", (*STREAMS, ".nii"))
def test_a_file_is_known_by_its_bytes_whatever_its_name(folder, into):
    path = make_compressed(folder / f"a{into}", noise(*SIZE)) if into != ".nii" else make_volume("a.nii", noise(*SIZE))
    for other in (".nii", *STREAMS):
        (folder / f"other{other}").write_bytes((folder / path).read_bytes())
        ok("apply", f"other{other}", "-o", "b.npy", "--kernel", "identity", "-q", "--overwrite")
        np.testing.assert_array_equal(np.load("b.npy"), noise(*SIZE))


def test_every_plane_of_a_stream_is_read_once(folder, monkeypatch):
    make_volume("a.nii.gz", noise(*SIZE))
    read = []
    once = planes.read_exactly
    monkeypatch.setattr(planes, "read_exactly", lambda *args: (read.append(len(args[1])), once(*args)))
    ok("apply", "a.nii.gz", "-o", "b.nii", "--kernel", "box", "--size", "5vox", "--tile", "1,2,3", "-q")
    assert read.count(6 * 5 * 4) == 7


@pytest.mark.parametrize("suffix", (".nii", ".npy", ".h5"))
def test_every_voxel_of_a_plain_file_is_read_once(folder, monkeypatch, suffix):
    from lucid_cli.boxes import BoxReader

    make_volume(f"a{suffix}", noise(9, *SIZE[1:]))
    counted, real = [], BoxReader.planes

    def planes_read(self, batch, first, count):
        stored = real(self, batch, first, 2)
        counted.extend(range(first, first + stored.shape[1]))
        return stored

    monkeypatch.setattr(BoxReader, "planes", planes_read)
    ok("apply", f"a{suffix}", "-o", "b.npy", "--kernel", "box", "--size", "5vox", "--tile", "2,3,2", "-q")
    assert counted == list(range(9))


class TestPipes:
    KERNEL = ("--kernel", "gaussian", "--sigma", "1vox", "-q", "--no-provenance")

    def through(self, data, *args):
        """Run the command line as a program with bytes on its stdin."""
        process = subprocess.run(
            [sys.executable, "-m", "lucid_cli", "apply", *map(str, args)], input=data, capture_output=True, check=False
        )
        return process.returncode, process.stdout, process.stderr.decode()

    @pytest.mark.parametrize("suffix", (".nii", *STREAMS))
    def test_a_volume_goes_through(self, folder, suffix):
        make_compressed(folder / f"a{suffix}", noise(*SIZE)) if suffix != ".nii" else make_volume("a.nii", noise(*SIZE))
        ok("apply", f"a{suffix}", "-o", "b.nii", *self.KERNEL)
        before = contents(folder)
        code, out, err = self.through((folder / f"a{suffix}").read_bytes(), "-", "-o", "-", *self.KERNEL)
        assert (code, err) == (0, "")
        assert out == (folder / "b.nii").read_bytes()
        assert contents(folder) == before

    @pytest.mark.parametrize("tile", ("99", "2,3,4"))
    def test_channels_and_batches_go_through(self, folder, tile):
        save_weights("w.npz", noise(3, 1, 3, 3, 3))
        make_volume("a.nii", noise(2, *SIZE))
        layer = ("--weights", "w.npz", "--in-channels", 1, "--tile", tile, *LAYER, "--no-provenance")
        ok("apply", "a.nii", "-o", "b.nii", *layer)
        code, out, err = self.through((folder / "a.nii").read_bytes(), "-", "-o", "-", *layer)
        assert (code, err, out == (folder / "b.nii").read_bytes()) == (0, "", True)

    def test_channels_of_a_stream_come_in(self, folder):
        save_weights("w.npz", noise(1, 2, 3, 3, 3))
        make_volume("a.nii", noise(2, *SIZE))
        layer = ("--weights", "w.npz", *LAYER, "--no-provenance")
        ok("apply", "a.nii", "-o", "b.nii", *layer)
        code, out, err = self.through((folder / "a.nii").read_bytes(), "-", "-o", "-", *layer)
        assert (code, err, out == (folder / "b.nii").read_bytes()) == (0, "", True)

    def test_it_is_a_true_stream(self, folder):
        """The first planes come out while the last ones have not been put in."""
        data = make_volume("a.nii", noise(400, 64, 64)).read_bytes()
        options = {"text": False, "stdin": subprocess.PIPE, "bufsize": 0}
        args = ("--kernel", "identity", "-q", "--tile", "1,99,99", "--no-provenance")
        with program("apply", "-", "-o", "-", *args, **options) as process:
            half, gate = len(data) // 2, threading.Event()

            def feed():
                process.stdin.write(data[:half])
                gate.wait()
                process.stdin.write(data[half:])
                process.stdin.close()

            threading.Thread(target=feed).start()
            start = b""
            while len(start) < 2000:
                start += process.stdout.read(2000)
            assert start[352:] == data[352 : len(start)]
            gate.set()
            assert len(start + process.stdout.read()) == len(data)
        assert process.returncode == 0

    def test_into_a_file_and_out_of_one(self, folder):
        data = make_volume("a.nii", noise(*SIZE)).read_bytes()
        code, _, err = self.through(data, "-", "-o", "b.npy", *self.KERNEL)
        assert (code, err) == (0, "")
        code, out, _ = self.through(b"", "b.npy", "-o", "-", "--kernel", "identity", "-q", "--compression", 6)
        assert code == 0
        np.testing.assert_array_equal(
            np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(out)).dataobj).T, np.load("b.npy")
        )

    def test_into_a_folder(self, folder):
        data = make_volume("a.nii", noise(*SIZE)).read_bytes()
        code, _, err = self.through(data, "-", "-o", ".", *self.KERNEL)
        assert (code, err) == (0, "")
        assert (folder / "stdin_conv3d.nii").exists()

    @pytest.mark.parametrize(
        ("args", "code", "words"),
        (
            (("-", "-o", "-", "--report", "-"), 2, "stdout"),
            (("-", "-", "-o", "."), 2, "once"),
            (("-", "-o", "-", "--resume"), 2, "--resume"),
            (("-", "-o", "b.nii", "--resume"), 2, "--resume"),
            (("-", "-o", "b.nii", "--out-dtype", "int16", "--cast", "rescale"), 2, "twice"),
            (("a.nii", "-o", "-", "--compression", "0"), 2, "legal"),
        ),
    )
    def test_what_pipes_cannot_do(self, folder, args, code, words):
        data = make_volume("a.nii", noise(*SIZE)).read_bytes()
        found, out, err = self.through(data, *args, *self.KERNEL)
        assert (found, out) == (code, b""), err
        assert words in err
        assert list(contents(folder)) == ["a.nii"]

    @pytest.mark.parametrize("data", (b"", b"no volume", b"\x1f\x8bdamaged"))
    def test_what_is_no_volume(self, folder, data):
        code, out, err = self.through(data, "-", "-o", "-", *self.KERNEL)
        assert (code, out) == (3, b"")
        assert err.startswith("Error: stdin: ")
        assert "Traceback" not in err

    def test_a_volume_that_is_cut_short(self, folder):
        data = make_volume("a.nii", noise(*SIZE)).read_bytes()
        code, _, err = self.through(data[:-10], "-", "-o", "b.nii", *self.KERNEL)
        assert (code, "ends too early" in err, list(contents(folder))) == (3, True, ["a.nii"])

    def test_the_reader_of_the_output_goes_away(self, folder):
        make_volume("a.nii", noise(64, 64, 64))
        with program("apply", "a.nii", "-o", "-", *self.KERNEL, text=False) as process:
            process.stdout.close()
            assert process.wait() == 141
            assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("suffix", (".nii.gz", ".nii.zst"))
@pytest.mark.parametrize("channels", (1, 2))
def test_planes_larger_than_a_block_come_in_pieces(folder, suffix, channels):
    make_volume("a.npy", noise(3, 300, 301))
    layer = ("--kernel-size", 1, "--out-channels", channels, "--tile", "2,300,150")
    ok("apply", "a.npy", "-o", f"b{suffix}", *layer)
    ok("apply", "a.npy", "-o", "b.nii", *layer)
    np.testing.assert_array_equal(read_volume(f"b{suffix}"), read_volume("b.nii"))
