"""Zarr of both formats: in folders, zips and groups, each chunk written once, and nothing there before it is whole."""

import gzip
import json
import os
import re
import resource
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lucid_cli.offers import volumes
from lucid_cli.sink import OUT_DTYPES
from tests.cli.conftest import SIZE, contents, finished, make_volume, noise, ok, program, read_volume, run, save_weights

zarr = pytest.importorskip("zarr")

IDENTITY = ("--kernel", "identity", "-q")
ARRAY = {
    "zarr_format": 2,
    "shape": list(SIZE),
    "chunks": list(SIZE),
    "dtype": "<f4",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}
"""The metadata of an array of format 2 in one chunk."""
NEWER = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": list(SIZE),
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(SIZE)}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0.0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "attributes": {},
}


def hierarchy(path, metadata, chunk=None, name="0.0.0"):
    """Write an array as it stands in a folder: its metadata, as a dictionary or as text, and one chunk."""
    path = Path(path)
    path.mkdir(parents=True)
    text = metadata if isinstance(metadata, str | bytes) else json.dumps(metadata)
    key = "zarr.json" if isinstance(metadata, dict) and metadata.get("zarr_format") == 3 else ".zarray"
    (path / key).write_bytes(text if isinstance(text, bytes) else text.encode())
    if chunk is not None:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(chunk)
    return path


def group_of(path, **arrays):
    group = zarr.create_group(path, zarr_format=3)
    for name, array in arrays.items():
        group.create_array(name, data=array)
    return group


class TestStorage:
    @pytest.mark.parametrize(
        ("change", "data"),
        (
            ({"order": "F"}, noise(*SIZE).tobytes(order="F")),
            ({"dtype": ">f4"}, noise(*SIZE).astype(">f4").tobytes()),
            ({"compressor": {"id": "gzip", "level": 1}}, gzip.compress(noise(*SIZE).tobytes())),
            ({"chunks": [8, 8, 8]}, np.pad(noise(*SIZE), ((0, 3), (0, 2), (0, 1))).tobytes()),
        ),
        ids=("fortran", "big-endian", "gzip", "larger than the array"),
    )
    def test_format_2_is_read_as_it_was_written_elsewhere(self, folder, change, data):
        hierarchy("a.zarr", ARRAY | change, data)
        ok("apply", "a.zarr", "-o", "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load("b.npy"), noise(*SIZE))

    @pytest.mark.parametrize("out", ("b.zarr", "b.zarr/in/b", "b.zarr.zip", "b.zarr.zip/in/b", "b.ome.zarr", "b.ozx"))
    @pytest.mark.parametrize("options", ((), ("--zarr-format", 2), ("--chunks", "2,3,4", "--shards", "4,6,8")))
    def test_every_place_and_way_to_store_holds_the_values(self, folder, out, options):
        make_volume("a.npy", noise(*SIZE))
        ok("apply", "a.npy", "-o", out, *options, *IDENTITY)
        ok("apply", out, "-o", "c.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load("c.npy"), noise(*SIZE))
        assert sorted(path.name for path in folder.iterdir()) == sorted(("a.npy", "c.npy", out.split("/")[0]))

    @pytest.mark.parametrize("level", ("none", 1, 9))
    @pytest.mark.parametrize("shuffle", ("--shuffle", "--no-shuffle"))
    @pytest.mark.parametrize("number", (2, 3))
    def test_compression_is_what_was_asked_for(self, folder, number, level, shuffle):
        make_volume("a.npy", noise(*SIZE))
        ok("apply", "a.npy", "-o", "b.zarr", "--compression", level, shuffle, "--zarr-format", number, *IDENTITY)
        array = zarr.open_array("b.zarr", mode="r")
        np.testing.assert_array_equal(array[...], noise(*SIZE))
        assert array.metadata.zarr_format == number
        if level == "none":
            assert not array.compressors
        else:
            text = json.dumps(array.metadata.to_dict(), default=str)
            wanted = {"--shuffle": r'"shuffle": (1|"shuffle")', "--no-shuffle": r'"shuffle": (0|"noshuffle")'}[shuffle]
            assert re.search(rf'"clevel": {level}', text)
            assert re.search(wanted, text)

    @pytest.mark.parametrize("number", (2, 3))
    def test_every_type_is_stored_as_such(self, folder, number):
        volume = np.arange(24).reshape(2, 3, 4)
        make_volume("a.npy", volume.astype(np.float32))
        for name in OUT_DTYPES["zarr"]:
            options = ("--out-dtype", name, "--zarr-format", number, "--overwrite", *IDENTITY)
            ok("apply", "a.npy", "-o", "b.zarr", *options)
            found = read_volume("b.zarr")
            assert found.dtype == np.dtype(name)
            np.testing.assert_array_equal(found, volume)

    def test_format_chunks_and_attributes_of_the_input_are_kept(self, folder):
        array = zarr.create_array("a.zarr", data=noise(*SIZE), chunks=(2, 3, 7), zarr_format=2)
        array.attrs.update({"species": "mouse", "element_size_um": [3.0, 2.0, 1.0], "units": "um"})
        ok("apply", "a.zarr", "-o", "b.zarr", "--stride", "1,2,1", *IDENTITY)
        found = zarr.open_array("b.zarr", mode="r")
        assert (found.metadata.zarr_format, found.chunks) == (2, (2, 3, 7))
        assert (found.attrs["species"], found.attrs["element_size_um"]) == ("mouse", [3.0, 4.0, 1.0])
        assert found.attrs["_ARRAY_DIMENSIONS"] == ["z", "y", "x"]

    def test_many_small_chunks_of_the_input_are_not_those_of_the_output(self, folder, monkeypatch):
        monkeypatch.setattr("lucid_cli.zarr_layout.MOST_SMALL_CHUNKS", 35)
        zarr.create_array("a.zarr", data=noise(*SIZE), chunks=(2, 2, 2))
        zarr.create_array("b.zarr", data=noise(*SIZE), chunks=(2, 2, 3))
        for name, chunks in (("a", SIZE), ("b", (2, 2, 3))):
            ok("apply", f"{name}.zarr", "-o", f"{name}.out.zarr", *IDENTITY)
            assert zarr.open_array(f"{name}.out.zarr", mode="r").chunks == chunks

    @pytest.mark.parametrize(
        ("options", "words"),
        (
            (("--shards", "5", "--chunks", "2"), "--shards 5,5,5: is no multiple of the chunks, 2,2,2"),
            (("--shards", "4", "--zarr-format", 2), "--shards needs Zarr format 3"),
            (("--level", 1), "is no OME-Zarr"),
        ),
    )
    def test_what_does_not_go_together_is_said(self, folder, options, words):
        make_volume("a.npy", noise(*SIZE))
        result = run("apply", "a.npy", "-o", "b.zarr", *options, *IDENTITY)
        assert (result.code, words in result.err) == (2, True), result.err

    @pytest.mark.parametrize("name", ("--shards", "--zarr-format", "--pyramid"))
    def test_options_of_zarr_are_refused_elsewhere(self, folder, name):
        make_volume("a.npy", noise(*SIZE))
        value = {"--shards": ("8",), "--zarr-format": ("2",), "--pyramid": ()}[name]
        result = run("apply", "a.npy", "-o", "b.nii", name, *value, *IDENTITY)
        assert (result.code, f"{name} does not go with .nii" in result.err) == (2, True), result.err

    def test_axes_are_taken_from_the_names_of_dimensions(self, folder):
        volume = noise(4, 2, 5, 6)
        zarr.create_array("a.zarr", data=volume, dimension_names=["x", "c", "y", "z"])
        ok("apply", "a.zarr", "-o", "b.zarr", "--kernel", "box", "--size", "3,1,1vox", "-q")
        found = zarr.open_array("b.zarr", mode="r")
        padded = np.pad(volume, ((0, 0),) * 3 + ((1, 1),), mode="edge")
        expected = (padded[..., :-2].astype(float) + padded[..., 1:-1] + padded[..., 2:]) / 3  # D is z, the last here
        np.testing.assert_allclose(found[...], expected, rtol=1e-5, atol=1e-5)
        assert found.metadata.dimension_names == ("x", "c", "y", "z")


class TestWriting:
    LAYER = ("--kernel", "gaussian", "--sigma", "0.8vox", "-q")

    @pytest.mark.parametrize("suffix", (".zarr", ".zarr.zip"))
    @pytest.mark.parametrize("storage", (("--chunks", "4"), ("--chunks", "2", "--shards", "4"), ("--pyramid",)))
    def test_no_way_to_compute_changes_a_byte(self, folder, storage, suffix):
        make_volume("a.npy", noise(9, 10, 11))
        ways = {
            "whole": ("--tile", "99"),
            "odd": ("--tile", "7,5,9"),
            "one thread": ("--tile", "4,8,8", "-j", 1),
            "threads": ("--tile", "4", "-j", 3),
            "small": ("--tile", "2,2,3"),
        }
        found = []
        for name, options in ways.items():
            path = Path(name, f"b{suffix}")
            path.parent.mkdir()
            ok("apply", "a.npy", "-o", path, *storage, *options, *self.LAYER)
            found.append(contents(path) if path.is_dir() else path.read_bytes())
        assert all(one == found[0] for one in found)

    @pytest.mark.parametrize("storage", (("--chunks", "4"), ("--chunks", "2", "--shards", "4"), ("--pyramid",)))
    @pytest.mark.parametrize("tile", ("99", "7,5,9", "4,8,8", "1"))
    def test_every_object_is_written_once(self, folder, monkeypatch, storage, tile):
        keys = []
        stored = zarr.storage.LocalStore.set

        async def noted(store, key, value):
            keys.append(key)
            await stored(store, key, value)

        monkeypatch.setattr(zarr.storage.LocalStore, "set", noted)
        make_volume("a.npy", noise(9, 10, 11))
        ok("apply", "a.npy", "-o", "b.zarr", *storage, "--tile", tile, "-j", 3, *self.LAYER)
        chunks = [name for name, data in contents("b.zarr").items() if data and not name.endswith("zarr.json")]
        assert sorted(keys) == sorted(chunks)

    def test_what_was_killed_left_nothing_and_goes_on_to_the_same_bytes(self, folder):
        make_volume("a.npy", noise(96, 64, 64))
        options = (
            "--kernel",
            "gaussian",
            "--sigma",
            "2vox",
            "--chunks",
            16,
            "--tile",
            16,
            "-j",
            1,
            "--engine",
            "numpy",
        )
        ok("apply", "a.npy", "-o", "whole.zarr", *options, "-q")
        for count in (3, 40):
            with program("apply", "a.npy", "-o", "b.zarr", *options, "--resume", "--progress", "json") as process:
                while process.poll() is None and len(list(folder.glob(".*.tree/c/*/*/*"))) < count:
                    time.sleep(0.005)
                assert not Path("b.zarr").exists()
                process.send_signal(signal.SIGKILL)
                process.communicate()
            assert not Path("b.zarr").exists()
            assert not list(folder.glob(".*.tree/zarr.json"))
        with program("apply", "a.npy", "-o", "b.zarr", *options, "--resume", "-q", "--report", "-") as process:
            result = finished(process)
        assert result.code == 0, result.err
        assert contents("b.zarr") == contents("whole.zarr")
        assert sorted(path.name for path in folder.iterdir()) == ["a.npy", "b.zarr", "whole.zarr"]

    @pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
    def test_what_is_stopped_leaves_nothing_and_says_one_line(self, folder, number):
        zarr.create_array("a.zarr", data=noise(96, 64, 64), chunks=(16, 16, 16))
        with program(
            "apply", "a.zarr", "-o", "b.zarr", "--kernel", "gaussian", "--sigma", "4vox", "--tile", 4
        ) as process:
            while process.poll() is None and not list(folder.glob(".*.tree")):
                time.sleep(0.005)
            process.send_signal(number)
            result = finished(process)
        assert result.code == 128 + number
        assert len([line for line in result.err.splitlines() if "%" not in line]) <= 2, result.err
        assert "Traceback" not in result.err
        assert [path.name for path in folder.iterdir()] == ["a.zarr"]

    def test_a_folder_is_replaced_only_when_it_may_be_and_at_once(self, folder):
        make_volume("a.npy", noise(*SIZE))
        ok("apply", "a.npy", "-o", "b.zarr", *IDENTITY)
        before = contents("b.zarr")
        result = run("apply", "a.npy", "-o", "b.zarr", "--stride", 2, *IDENTITY)
        assert (result.code, "--overwrite" in result.err) == (4, True)
        assert contents("b.zarr") == before
        ok("apply", "a.npy", "-o", "b.zarr", "--stride", 2, "--overwrite", *IDENTITY)
        np.testing.assert_array_equal(read_volume("b.zarr"), noise(*SIZE)[::2, ::2, ::2])
        assert sorted(path.name for path in folder.iterdir()) == ["a.npy", "b.zarr"]

    @pytest.mark.parametrize("name", ("folder.zarr", "file.zarr"))
    def test_what_is_no_zarr_is_never_replaced(self, folder, name):
        make_volume("a.npy", noise(*SIZE))
        Path("folder.zarr/mine").mkdir(parents=True)
        Path("file.zarr").write_text("mine")
        before = contents(folder)
        result = run("apply", "a.npy", "-o", name, "--overwrite", *IDENTITY)
        assert (result.code, result.err.count("\n")) == (4, 1), result.err
        assert contents(folder) == before

    @pytest.mark.parametrize("out", ("g.zarr/a", "g.zarr", "g.zarr/a/b", "link.zarr/a"))
    def test_an_input_is_never_replaced_nor_a_part_of_it(self, folder, out):
        group_of("g.zarr", a=noise(*SIZE))
        Path("link.zarr").symlink_to("g.zarr")
        before = contents("g.zarr")
        result = run("apply", "g.zarr/a", "-o", out, "--overwrite", *IDENTITY)
        assert (result.code, result.err.count("\n")) == (4, 1), result.err
        assert contents("g.zarr") == before

    @pytest.mark.parametrize(
        "out", ("g.zarr/zarr.json", "g.zarr/.zgroup", "g.zarr/__x", "g.zarr/a/b", "new.zarr/zarr.json")
    )
    def test_a_name_that_is_no_node_is_refused(self, folder, out):
        group_of("g.zarr", a=noise(*SIZE))
        make_volume("a.npy", noise(*SIZE))
        before = contents(folder)
        result = run("apply", "a.npy", "-o", out, "--overwrite", *IDENTITY)
        assert (result.code, result.err.count("\n")) == (4, 1), result.err
        assert contents(folder) == before

    @pytest.mark.parametrize("number", (2, 3))
    def test_a_node_in_a_group_leaves_the_others_alone_and_is_listed(self, folder, number):
        group = zarr.create_group("g.zarr", zarr_format=number)
        group.create_array("sub/a", data=noise(*SIZE))
        zarr.consolidate_metadata("g.zarr")
        before = contents("g.zarr/sub/a")
        for stride in (1, 2):
            ok("apply", "g.zarr/sub/a", "-o", "g.zarr/sub/new", "--stride", stride, "--overwrite", *IDENTITY)
            found = zarr.open_consolidated("g.zarr")["sub/new"]
            np.testing.assert_array_equal(found[...], noise(*SIZE)[::stride, ::stride, ::stride])
            assert found.metadata.zarr_format == number
        assert contents("g.zarr/sub/a") == before
        result = run("apply", "g.zarr/sub/a", "-o", "g.zarr/c", "--zarr-format", 5 - number, *IDENTITY)
        assert (result.code, f"is a Zarr of format {number}" in result.err) == (2, True)

    @pytest.mark.parametrize("out", ("b.zarr", "b.zarr.zip", "b.ome.zarr"))
    def test_a_full_disk_leaves_nothing(self, folder, out):
        def bounded():
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

        make_volume("a.npy", noise(32, 32, 32))
        with program("apply", "a.npy", "-o", out, "--chunks", 32, *IDENTITY, preexec_fn=bounded) as process:
            result = finished(process)
        assert (result.code, result.err.count("\n")) == (6, 1), result.err
        assert [path.name for path in folder.iterdir()] == ["a.npy"]

    @pytest.mark.parametrize("exchanges", (True, False))
    def test_folders_change_places_on_any_file_system(self, folder, monkeypatch, exchanges):
        if not exchanges:
            monkeypatch.setattr("lucid_cli.exchange._exchanged", lambda one, other: False)
        make_volume("a.npy", noise(*SIZE))
        for stride in (1, 2, 1):
            ok("apply", "a.npy", "-o", "b.zarr/sub/x.partial", "--stride", stride, "--overwrite", *IDENTITY)
            found = zarr.open_array("b.zarr/sub/x.partial", mode="r")[...]
            np.testing.assert_array_equal(found, noise(*SIZE)[::stride, ::stride, ::stride])
        assert sorted(path.name for path in folder.rglob("*") if path.is_dir()) == [
            *("0", "0", "b.zarr", "c", "sub", "x.partial")
        ]

    def test_a_zip_can_be_unpacked_by_anyone(self, folder):
        make_volume("a.npy", noise(*SIZE))
        ok("apply", "a.npy", "-o", "b.zarr.zip", *IDENTITY)
        with zipfile.ZipFile("b.zarr.zip") as packed:
            assert all(entry.external_attr >> 16 & 0o444 == 0o444 for entry in packed.infolist())
            assert packed.namelist()[0] == "zarr.json"
            packed.extractall("c.zarr")
        np.testing.assert_array_equal(read_volume("c.zarr"), noise(*SIZE))


class TestBatches:
    def test_folders_and_patterns_find_each_hierarchy_once_and_go_on(self, folder):
        for name in ("in/a.zarr", "in/deep/b.ome.zarr", "in/c.zarr.zip"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            make_volume("a.npy", noise(*SIZE))
            ok("apply", "a.npy", "-o", name, *IDENTITY)
        group_of("in/plain", a=noise(*SIZE))
        ok("apply", "in", "--out-dir", "out", "-J", 2, *IDENTITY)
        made = {"a_conv3d.zarr", "deep/b_conv3d.ome.zarr", "c_conv3d.zarr.zip"}
        assert {str(path.relative_to("out")) for path in Path("out").rglob("*_conv3d*")} == made
        ok("apply", "in/*.zarr", "--out-dir", "again", *IDENTITY)
        assert [path.name for path in Path("again").iterdir()] == ["a_conv3d.zarr"]
        for options in (("--skip-existing",), ("--resume",)):
            result = ok("apply", "in", "--out-dir", "out", *options, *IDENTITY[:2])
            assert result.err.count(": skipped, ") == 3, result.err

    def test_an_output_that_is_not_whole_is_not_skipped(self, folder):
        make_volume("a.npy", noise(*SIZE))
        command = ("apply", "a.npy", "-o", "b.zarr", "--chunks", "2", *IDENTITY)
        ok(*command)
        next(Path("b.zarr").rglob("c/0/0/1")).unlink()
        result = run(*command, "--skip-existing")
        assert (result.code, "1 of its 36 chunks are missing" in result.err) == (4, True), result.err
        ok(*command, "--skip-existing", "--overwrite")
        np.testing.assert_array_equal(read_volume("b.zarr"), noise(*SIZE))

    def test_a_mask_may_be_one_and_weights_may_not(self, folder):
        make_volume("a.npy", noise(*SIZE))
        mask = (noise(*SIZE, seed=1) > 0).astype(np.uint8)
        for name in ("m.npy", "m.zarr"):
            make_volume(name, mask)
            ok("apply", "a.npy", "-o", f"{name}.npy", "--mask", name, "--kernel", "box", "--size", "3vox", "-q")
        np.testing.assert_array_equal(np.load("m.npy.npy"), np.load("m.zarr.npy"))
        result = run("apply", "a.npy", "-o", "b.npy", "--weights", "m.zarr")
        assert (result.code, result.err.count("\n")) == (2, 1), result.err

    def test_what_made_it_is_kept_and_made_again(self, folder):
        make_volume("a.zarr", noise(*SIZE))
        save_weights("w.npz", noise(1, 1, 3, 3, 3))
        ok("apply", "a.zarr", "-o", "b.zarr", "--weights", "w.npz", "-q")
        assert "same" in ok("replay", "b.zarr").out
        array = zarr.open_array("a.zarr", mode="r+")
        array[0, 0, 0] = 1
        with program("replay", "b.zarr") as process:  # this one has hashed the input
            assert finished(process).code == 3


HOSTILE = {
    "a pickle for a filter": (ARRAY | {"filters": [{"id": "pickle", "protocol": 5}]}, True),
    "a pickle for a compressor": (ARRAY | {"compressor": {"id": "pickle", "protocol": 5}}, True),
    "objects": (ARRAY | {"dtype": "|O", "filters": [{"id": "pickle"}], "fill_value": None}, True),
    "json for a filter": (ARRAY | {"dtype": "|O", "filters": [{"id": "json2"}], "fill_value": None}, True),
    "an unknown codec": (ARRAY | {"compressor": {"id": "nonsense"}}, True),
    "a pickle in format 3": (NEWER | {"codecs": [{"name": "numcodecs.pickle"}, *NEWER["codecs"]]}, True),
    "no codec": (NEWER | {"codecs": []}, True),
    "a node of another kind": (NEWER | {"node_type": "table"}, True),
    "a chunk without voxels": (ARRAY | {"chunks": [0, 6, 7]}, True),
    "a chunk of negative size": (ARRAY | {"chunks": [-1, 6, 7]}, True),
    "no voxels": (ARRAY | {"shape": [0, 6, 7]}, False),
    "a negative shape": (ARRAY | {"shape": [-5, 6, 7]}, True),
    "half a voxel": (ARRAY | {"shape": [5.5, 6, 7]}, True),
    "a shape and chunks of other ranks": (ARRAY | {"chunks": [6, 7]}, True),
    "two axes": (ARRAY | {"shape": [6, 7], "chunks": [6, 7]}, True),
    "six axes": (ARRAY | {"shape": [1] * 6, "chunks": [1] * 6}, False),
    "complex numbers": (ARRAY | {"dtype": "<c8", "fill_value": None}, True),
    "dates": (ARRAY | {"dtype": "<M8[ns]"}, True),
    "records": (ARRAY | {"dtype": [["a", "<f4"]], "fill_value": None}, True),
    "no type": (ARRAY | {"dtype": "<q9"}, True),
    "an unknown format": (ARRAY | {"zarr_format": 9}, True),
    "half of the JSON": ('{"zarr_format": 2,', True),
    "a list": ("[]", True),
    "nothing": ("null", True),
    "an empty file": ("", True),
    "any bytes": (bytes(range(256)), True),
    "depths": ("[" * 100_000, True),
    "2**62 voxels along each axis": (ARRAY | {"shape": [2**62] * 3, "chunks": [64] * 3}, False),
    "2**60 voxels": (ARRAY | {"shape": [2**20] * 3, "chunks": [64] * 3}, False),
}


class TestHostile:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_metadata_that_cannot_be_are_one_line(self, folder, name):
        metadata, has_chunk = HOSTILE[name]
        evil = b"cos\nsystem\n(S'touch ran'\ntR."
        hierarchy("a.zarr", metadata, evil if has_chunk else None)
        result = run("apply", "a.zarr", "-o", "b.npy", *IDENTITY)
        assert (result.code, result.err.count("\n")) == (6 if "2**6" in name else 3, 1), result.err
        assert "unexpected" not in result.err
        assert "a.zarr" in result.err or result.code == 6
        assert sorted(path.name for path in folder.iterdir()) == ["a.zarr"]

    @pytest.mark.parametrize(
        "data", (b"", noise(*SIZE).tobytes()[:-1], noise(*SIZE).tobytes() * 2), ids=("no", "cut", "two")
    )
    @pytest.mark.parametrize(
        "compressor", (None, {"id": "gzip", "level": 1}, {"id": "blosc", "cname": "lz4"}, {"id": "zstd"})
    )
    def test_a_chunk_that_is_damaged_is_one_line(self, folder, compressor, data):
        hierarchy("a.zarr", ARRAY | {"compressor": compressor}, data)
        result = run("apply", "a.zarr", "-o", "b.npy", *IDENTITY)
        assert (result.code, result.err.count("\n")) == (3, 1), result.err
        assert sorted(path.name for path in folder.iterdir()) == ["a.zarr"]

    @pytest.mark.parametrize("key", (".zarray", "0.0.0"))
    @pytest.mark.parametrize("kind", ("pipe", "device", "folder", "link", "link to nothing"))
    def test_only_files_of_its_own_are_read(self, folder, kind, key):
        path = hierarchy("a.zarr", ARRAY, noise(*SIZE).tobytes()) / key
        path.rename("outside")
        made = {
            "pipe": lambda: os.mkfifo(path),
            "device": lambda: path.symlink_to("/dev/zero"),
            "folder": path.mkdir,
            "link": lambda: path.symlink_to(Path("outside").absolute()),
            "link to nothing": lambda: path.symlink_to("gone"),
        }
        made[kind]()
        with program("apply", "a.zarr", "-o", "b.npy", *IDENTITY) as process:
            result = finished(process, 20)
        assert (result.code, result.err.count("\n"), key in result.err) == (3, 1, True), result.err

    def test_groups_in_a_circle_come_to_an_end(self, folder):
        Path("a.zarr/in").mkdir(parents=True)
        for name in ("a.zarr", "a.zarr/in"):
            Path(name, ".zgroup").write_text('{"zarr_format": 2}')
        Path("a.zarr/in/back").symlink_to("..")
        Path("a.zarr/in/forth").symlink_to("..")
        result = run("info", "a.zarr")
        assert (result.code, result.err.count("\n")) == (3, 1), result.err

    def test_a_chunk_of_gigabytes_is_refused_by_what_it_takes(self, folder):
        hierarchy("a.zarr", ARRAY | {"shape": [1024] * 3, "chunks": [1024] * 3})
        result = run("apply", "a.zarr", "-o", "b.npy", "--max-memory", "2G", *IDENTITY)
        assert (result.code, "needs at least" in result.err) == (6, True), result.err

    @pytest.mark.parametrize(("name", "data"), (("a.zarr.zip", b"no zip"), ("a.ozx", b""), ("a.zarr", b"a file")))
    def test_a_file_that_is_none_is_one_line(self, folder, name, data):
        Path(name).write_bytes(data)
        result = run("apply", name, "-o", "b.npy", *IDENTITY)
        assert (result.code, result.err.count("\n")) == (3, 1), result.err

    def test_several_arrays_are_listed_and_none_is_guessed(self, folder):
        group_of("a.zarr", one=noise(*SIZE), two=noise(*SIZE), table=noise(3, 4))
        result = run("info", "a.zarr")
        assert (result.code, "several arrays: one, two; name one, such as a.zarr/one" in result.err) == (3, True)
        assert json.loads(ok("info", "a.zarr/two", "--json").out)["shape"] == list(SIZE)
        result = run("info", "a.zarr/three")
        assert (result.code, "a.zarr holds one, table, two" in result.err) == (3, True), result.err


def test_a_shell_is_offered_a_hierarchy_as_one_thing(folder):
    group_of("a.zarr", one=noise(*SIZE))
    Path("away").mkdir()
    assert [(item.value, item.type) for item in volumes("a")] == [("away/", "dir"), ("a.zarr", "file")]
    assert [item.value for item in volumes("a.zarr/")] == ["a.zarr/one/"]


def test_a_missing_extra_is_named(folder, monkeypatch):
    make_volume("a.zarr", noise(*SIZE))
    make_volume("a.npy", noise(*SIZE))
    code = "import sys; sys.modules['zarr'] = None; from lucid_cli.main import main; main()"
    for args in (("info", "a.zarr"), ("apply", "a.npy", "-o", "b.zarr", *IDENTITY)):
        done = subprocess.run([os.sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
        assert (done.returncode, "pip install 'lucid-conv3d[zarr]'" in done.stderr) == (2, True), done.stderr


def test_no_chunk_of_an_output_holds_several_volumes(tmp_path):
    """They are written at the same time, and each would write what it read of the other, from before."""
    volumes = noise(3, 5, 6, 7)
    zarr.create_array(str(tmp_path / "a.zarr"), data=volumes, chunks=(2, 3, 3, 4))
    ok("apply", tmp_path / "a.zarr", "-o", tmp_path / "b.zarr", "--axes", "NDHW", *IDENTITY)
    made = zarr.open(str(tmp_path / "b.zarr"), mode="r")
    assert made.chunks == (1, 3, 3, 4)
    np.testing.assert_array_equal(made[:], volumes)
