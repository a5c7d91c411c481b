"""The shape report: its keys, what stands in it, where it goes, and that planning reads headers only."""

import json
import math
import os

import h5py
import numpy as np
import pytest

import lucid_core
from tests.cli.conftest import SIZE, contents, make_nifti, make_volume, noise, ok, run

AFFINE = np.array([[0.0, 0, 3, -10], [-0.75, 0, 0, 20], [0, 1.5, 0, 5], [0, 0, 0, 1]])
REPORT = ["schema", "version", "command", "status", "layer", "items"]
ITEM = ["input", "output", "shapes", "parameters", "macs", "plan", "seconds", "peak_rss_bytes", "status", "error"]
VOLUME = ["path", "format", "shape", "axes", "dtype", "spacing_mm", "affine"]
VALUES = ["min", "max", "mean", "nan_count", "clipped_count"]
PLAN = [
    "algorithm",
    "engine",
    "device",
    "threads",
    "tile",
    "tiles",
    "halo",
    "peak_bytes",
    "limit_bytes",
    "candidates",
]
LAYER = {
    "in_channels": 1,
    "out_channels": 2,
    "kernel_size": [3, 3, 3],
    "stride": [1, 2, 1],
    "padding": [1, 1, 1],
    "dilation": [1, 1, 1],
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "device": "cpu",
    "dtype": "float32",
}
OPTIONS = ("--out-channels", 2, "--kernel-size", 3, "--stride", "1,2,1", "--padding", 1)


def strict(text):
    """Read JSON that holds no NaN and no infinity."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def placed(folder):
    """Return `scan.nii.gz` in the working folder, with an affine."""
    return make_nifti(folder / "scan.nii.gz", noise(*SIZE).T, sform=AFFINE, pixdim=(0.75, 1.5, 3)).name


def check_common(report, command, status):
    assert list(report) == REPORT
    assert report["schema"] == "lucid-conv3d/report-1"
    assert report["version"] == lucid_core.__version__
    assert (report["command"], report["status"]) == (command, status)
    assert report["layer"] == LAYER
    (item,) = report["items"]
    assert list(item) == [*ITEM, *["provenance"] * (status == "ok")]
    assert item["input"] == {
        "path": "scan.nii.gz",
        "format": "nifti",
        "shape": [7, 6, 5],
        "axes": "xyz",
        "dtype": "float32",
        "spacing_mm": [0.75, 1.5, 3.0],
        "affine": AFFINE.tolist(),
    }
    assert list(item["output"]) == VOLUME + VALUES
    assert item["shapes"] == {"input": [1, 1, 5, 6, 7], "padded": [1, 1, 7, 8, 9], "output": [1, 2, 5, 3, 7]}
    assert (item["parameters"], item["macs"]) == (2 * 27 + 2, 2 * 5 * 3 * 7 * 27)
    assert list(item["plan"]) == PLAN
    assert item["plan"]["tiles"] == math.prod(
        math.ceil(n / t) for n, t in zip((5, 3, 7), item["plan"]["tile"], strict=True)
    )
    assert item["plan"]["halo"] == [[1, 1]] * 3
    assert item["plan"]["peak_bytes"] > 0
    assert [one["algorithm"] for one in item["plan"]["candidates"]].count(item["plan"]["algorithm"]) == 1
    assert list(item["seconds"]) == ["read", "compute", "write", "total"]
    assert item["peak_rss_bytes"] > 1e6
    assert item["error"] is None
    return item


class TestApply:
    def test_every_key_on_stdout(self, placed):
        result = ok("apply", placed, "-o", "out.nii", *OPTIONS, "--report", "-")
        item = check_common(strict(result.out), "apply", "ok")
        assert item["status"] == "ok"
        output = np.load(make_copy("out.nii"))
        found = item["output"]
        assert {name: found[name] for name in VOLUME[:5]} == {
            "path": "out.nii",
            "format": "nifti",
            "shape": [7, 3, 5, 2],
            "axes": "xyzc",
            "dtype": "float32",
        }
        np.testing.assert_allclose(found["spacing_mm"], [0.75, 3.0, 3.0], rtol=1e-6)
        np.testing.assert_allclose(found["affine"], AFFINE @ np.diag([1, 2, 1, 1]), rtol=1e-6)
        assert (found["min"], found["max"]) == (output.min(), output.max())
        assert abs(found["mean"] - output.mean(dtype=np.float64)) < 1e-9
        assert (found["nan_count"], found["clipped_count"]) == (0, 0)
        assert all(seconds >= 0 for seconds in item["seconds"].values())

    def test_the_table_goes_to_stderr(self, placed):
        result = ok("apply", placed, "-o", "out.nii", *OPTIONS, "--progress", "none")
        assert result.out == ""
        for word in ("scan.nii.gz", "out.nii", "1x1x5x6x7 -> 1x1x7x8x9 -> 1x2x5x3x7", "56 parameters", "0.75x1.5x3 mm"):
            assert word in result.err

    def test_quiet_says_nothing(self, placed):
        assert ok("apply", placed, "-o", "out.nii", *OPTIONS, "-q") == ok(
            "apply", placed, "-o", "b.nii", *OPTIONS, "-q"
        )
        assert ok("apply", placed, "-o", "c.nii", *OPTIONS, "-q").err == ""

    def test_verbose_weighs_every_algorithm(self, placed):
        err = ok("apply", placed, "-o", "out.nii", *OPTIONS, "-v").err
        for name in ("direct", "gemm", "separable"):
            assert f" {name} (numpy): " in err

    def test_a_file_holds_the_same_and_is_not_overwritten(self, placed, folder):
        ok("apply", placed, "-o", "out.nii", *OPTIONS, "--report", "r.json", "-q")
        check_common(strict((folder / "r.json").read_text()), "apply", "ok")
        assert sorted(contents(folder)) == ["out.nii", "r.json", placed]
        assert run("apply", placed, "-o", "b.nii", *OPTIONS, "--report", "r.json").code == 4
        assert not (folder / "b.nii").exists()
        ok("apply", placed, "-o", "out.nii", *OPTIONS, "--report", "r.json", "--overwrite", "-q")

    def test_a_failure_is_reported(self, placed, folder):
        (folder / placed).write_bytes((folder / placed).read_bytes()[:-9])
        result = run("apply", placed, "-o", "out.nii", *OPTIONS, "--report", "-", "-q")
        report = strict(result.out)
        (item,) = report["items"]
        assert (result.code, report["status"], item["status"]) == (3, "failed", "failed")
        assert list(report) == REPORT
        assert list(item) == ITEM
        assert item["input"]["path"] == placed
        assert item["error"] in result.err
        assert not (folder / "out.nii").exists()

    def test_dry_run_writes_nothing(self, placed, folder):
        result = ok("apply", placed, "-o", "out.nii", *OPTIONS, "--dry-run", "--report", "-")
        item = check_common(strict(result.out), "apply", "planned")
        assert item["status"] == "planned"
        assert [item["output"][name] for name in VALUES] == [None] * 5
        assert list(contents(folder)) == [placed]

    def test_what_no_number_can_say_is_null(self, folder):
        make_volume(folder / "a.npy", np.full(SIZE, np.nan, np.float32))
        output = strict(ok("apply", "a.npy", "-o", "b.npy", "--kernel", "identity", "--report", "-").out)["items"][0]
        output = output["output"]
        assert [output[name] for name in VALUES] == [None, None, None, math.prod(SIZE), 0]

    @pytest.mark.filterwarnings("error")
    def test_sums_beyond_float64_make_no_invalid_json(self, folder):
        make_volume(folder / "a.npy", np.full((2, 2, 2), 1.5e308))
        command = ("apply", "a.npy", "-o", "b.npy", "--kernel", "identity", "--out-dtype", "float64", "--report", "-")
        output = strict(ok(*command).out)["items"][0]["output"]
        assert output["max"] == 1.5e308
        assert output["mean"] in (None, 1.5e308)

    def test_padding_by_name_stands_as_it_was_said(self, scan):
        report = strict(ok("plan", scan, "--kernel-size", 2, "--padding", "same", "--json").out)
        assert report["layer"]["padding"] == "same"
        assert report["items"][0]["plan"]["halo"] == [[0, 1]] * 3

    def test_axes_letters(self, folder):
        make_nifti(folder / "series.nii", noise(4, *SIZE).T, sform=np.eye(4))
        for kernel, out, letters in (
            (("--kernel", "identity"), "b.nii", ("xyzt", "xyzt")),
            (("--in-channels", 4, "--kernel-size", 1), "c.npy", ("xyzt", "czyx")),
            (("--kernel", "identity"), "d.npy", ("xyzt", "nzyx")),
        ):
            result = ok("apply", "series.nii", "-o", out, *kernel, "--report", "-")
            item = strict(result.out)["items"][0]
            assert (item["input"]["axes"], item["output"]["axes"]) == letters


def make_copy(name):
    """Apply the identity to a file, for its values in the file's C order as `.npy`."""
    ok("apply", name, "-o", "copy.npy", "--kernel", "identity", "-q", "--overwrite")
    return "copy.npy"


class TestPlan:
    def test_json_has_every_key_and_writes_nothing(self, placed, folder):
        result = ok("plan", placed, *OPTIONS, "--json")
        item = check_common(strict(result.out), "plan", "planned")
        assert item["status"] == "planned"
        assert item["output"]["path"] is None
        assert result.err == ""
        assert list(contents(folder)) == [placed]

    def test_it_says_what_apply_does(self, placed):
        planned = strict(ok("plan", placed, "-o", "out.h5:/x", *OPTIONS, "--json").out)["items"][0]
        done = strict(ok("apply", placed, "-o", "out.h5:/x", *OPTIONS, "--report", "-").out)["items"][0]
        for name in ("input", "shapes", "parameters", "macs"):
            assert planned[name] == done[name]
        for name in VOLUME:
            assert planned["output"][name] == done["output"][name]
        planned["plan"].pop("limit_bytes"), done["plan"].pop("limit_bytes")
        peaks = [one["plan"].pop("peak_bytes") for one in (planned, done)]  # what the process took grows meanwhile
        assert peaks[0] == pytest.approx(peaks[1], rel=0.05)
        assert planned["plan"] == done["plan"]

    def test_a_table_on_stdout(self, placed):
        result = ok("plan", placed, *OPTIONS)
        for word in ("scan.nii.gz", "1x1x5x6x7 -> 1x1x7x8x9 -> 1x2x5x3x7", "56 parameters", "refused"):
            assert word in result.out
        assert result.err == ""

    def test_it_needs_only_the_header(self, folder):
        source = make_nifti(folder / "large.nii.gz", noise(64, 96, 128), sform=np.eye(4))
        whole = ok("plan", "large.nii.gz", *OPTIONS, "--json").out
        source.write_bytes(source.read_bytes()[: 1500 << 10])
        plan, again = strict(ok("plan", "large.nii.gz", *OPTIONS, "--json").out), strict(whole)
        assert plan["items"][0]["shapes"] == again["items"][0]["shapes"]
        assert run("apply", "large.nii.gz", "-o", "b.nii", *OPTIONS, "-q").code == 3
        assert list(contents(folder)) == ["large.nii.gz"]

    def test_it_reads_no_voxel_of_a_sparse_file(self, folder):
        source = make_nifti(folder / "sparse.nii", noise(1, 1, 1), sform=np.eye(4))
        header = bytearray(source.read_bytes()[:352])
        header[40:56] = np.array([3, 2000, 2000, 2000, 1, 1, 1, 1], "<i2").tobytes()
        source.write_bytes(header)
        os.truncate(source, 352 + 4 * 2000**3)
        (item,) = strict(ok("plan", "sparse.nii", *OPTIONS, "--json").out)["items"]
        assert item["shapes"]["output"] == [1, 2, 2000, 1000, 2000]

    def test_a_volume_larger_than_memory_fits_tile_by_tile(self, folder):
        with h5py.File("big.h5", "w") as file:
            file.create_dataset("data", (3000, 3000, 3000), "f4", chunks=(64, 64, 64))
        plan = strict(ok("plan", "big.h5", *OPTIONS, "--json").out)["items"][0]["plan"]
        assert plan["peak_bytes"] < 2 << 30

    def test_several_inputs(self, placed, folder):
        (folder / "bad.nii").write_bytes(b"bad")
        result = run("plan", placed, "bad.nii", *OPTIONS, "--json")
        report = strict(result.out)
        assert result.code == 7
        assert (report["status"], [item["status"] for item in report["items"]]) == ("failed", ["planned", "failed"])

    def test_the_options_of_apply_are_heard(self, scan):
        plan = strict(ok("plan", scan, *OPTIONS, "--tile", "2,3,4", "-j", 1, "--algorithm", "direct", "--json").out)
        plan = plan["items"][0]["plan"]
        assert [plan[name] for name in ("algorithm", "threads", "tile", "tiles")] == ["direct", 1, [2, 3, 4], 6]

    def test_the_algorithm_depends_on_neither_threads_nor_tiles(self, scan):
        names = set()
        for options in ((), ("-j", 1), ("-j", 9), ("--tile", 1), ("--tile", "1,9,9"), ("--batch-size", 1)):
            names.add(strict(ok("plan", scan, *OPTIONS, *options, "--json").out)["items"][0]["plan"]["algorithm"])
        assert len(names) == 1


class TestInfo:
    def test_json_of_a_nifti(self, folder):
        make_nifti(
            folder / "a.nii.gz",
            np.zeros((4, 5, 6, 2), np.int16),
            sform=AFFINE,
            scaling=(0.5, -10),
            edit=lambda header: header.set_xyzt_units("mm", "sec"),
        )
        result = ok("info", "a.nii.gz", "--json")
        info = strict(result.out)
        assert list(info)[: len(VOLUME)] == VOLUME
        assert (info["shape"], info["axes"], info["dtype"]) == ([4, 5, 6, 2], "xyzt", "int16")
        np.testing.assert_allclose(info["spacing_mm"], [0.75, 1.5, 3.0], rtol=1e-6)
        np.testing.assert_allclose(info["affine"], AFFINE, rtol=1e-6)
        assert info["orientation"] == "PSR"
        assert info["units"] == {"space": "mm", "time": "sec"}
        assert info["scaling"] == {"slope": 0.5, "inter": -10.0}
        assert info["compression"] == "gzip"
        assert result.err == ""

    def test_json_of_an_hdf5_dataset(self, folder):
        with h5py.File("a.h5", "w") as file:
            data = file.create_dataset("x/y", data=noise(2, *SIZE), chunks=(1, 2, 3, 4), compression="lzf")
            data.attrs["element_size_um"] = [3000.0, 1500, 800]
        info = strict(ok("info", "a.h5", "--json").out)
        assert (info["path"], info["format"], info["shape"], info["axes"]) == ("a.h5:/x/y", "hdf5", [2, *SIZE], "czyx")
        assert info["spacing_mm"] == [3.0, 1.5, 0.8]
        assert (info["chunks"], info["compression"]) == ([1, 2, 3, 4], "lzf")

    def test_json_of_an_npy_and_of_several(self, scan):
        one, two = strict(ok("info", scan, scan, "--json").out)
        assert one == two == strict(ok("info", scan, "--json").out)
        assert {name: one[name] for name in VOLUME[1:]} == {
            "format": "npy",
            "shape": list(SIZE),
            "axes": "zyx",
            "dtype": "float32",
            "spacing_mm": None,
            "affine": None,
        }

    @pytest.mark.parametrize(
        ("option", "printed"), (("--shape", "7 6 5\n"), ("--dtype", "float32\n"), ("--spacing", "0.75 1.5 3\n"))
    )
    def test_one_thing_for_a_script(self, placed, option, printed):
        result = ok("info", placed, option)
        assert (result.out, result.err) == (printed, "")

    def test_a_table_for_people(self, placed, scan):
        out = ok("info", placed, scan).out
        for word in (
            "scan.nii.gz",
            "7x6x5 (xyz)",
            "float32",
            "0.75 1.5 3 mm",
            "PSR",
            "gzip",
            "scan.npy",
            "5x6x7 (zyx)",
        ):
            assert word in out


class TestProgress:
    def test_a_line_every_tenth(self, scan):
        err = ok("apply", scan, "-o", "b.npy", *OPTIONS, "--tile", "1,1,1", "--progress", "log").err
        lines = [line for line in err.splitlines() if line.startswith("scan.npy: ")]
        assert 5 <= len(lines) <= 11
        assert lines[-1].startswith("scan.npy: 100 % of 210 voxels")

    def test_json_lines(self, scan):
        result = ok("apply", scan, "-o", "b.npy", *OPTIONS, "--tile", "1,1,1", "--progress", "json")
        events = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
        assert {tuple(event) for event in events} == {("event", "input", "done", "total", "rate", "seconds_left")}
        assert (events[-1]["done"], events[-1]["total"]) == (210, 210)
        assert [event["done"] for event in events] == sorted(event["done"] for event in events)
        assert result.out == ""

    def test_a_bar_and_none(self, scan):
        assert "scan.npy" in ok("apply", scan, "-o", "b.npy", *OPTIONS, "--progress", "bar").err.split("\n")[0]
        assert " % of " not in ok("apply", scan, "-o", "c.npy", *OPTIONS, "--progress", "none").err
