"""What an output keeps of how it was made, and that it can be made again from that."""

import hashlib
import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

from tests.cli.conftest import make_nifti, make_volume, noise, ok, plain_bytes, run, save_weights

KERNEL = ("--kernel", "gaussian", "--sigma", "1.5vox")
COMMENT = 6


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def kept(path):
    """Return the provenance that a file holds, read by another library."""
    path = Path(path)
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return json.loads(file["data"].attrs["lucid_conv3d"])
    header = nib.Nifti1Image.from_bytes(plain_bytes(path)).header
    texts = [one.get_content() for one in header.extensions if one.get_code() == COMMENT]
    found = [json.loads(text) for text in texts if b"provenance-1" in text]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def scan(folder):
    """Return a small NIfTI."""
    return make_volume("scan.nii.gz", noise(6, 7, 8))


class TestWhatIsKept:
    @pytest.mark.parametrize("out", ("out.nii", "out.nii.gz", "out.nii.zst", "out.h5"))
    def test_version_configuration_and_hashes(self, scan, out):
        save_weights("w.npz", noise(2, 1, 3, 3, 3))
        make_volume("m.nii", (noise(6, 7, 8) > 0).astype(np.uint8))
        options = ("--weights", "w.npz", "--padding", 1, "--mask", "m.nii", "--set", "accuracy=normwise", "-j", 1)
        report = json.loads(ok("apply", scan, "-o", out, *options, "--report", "-").out)
        found = kept(out)
        assert found["schema"] == "lucid-conv3d/provenance-1"
        assert (found["command"], found["input"], found["version"]) == ("apply", "scan.nii.gz", report["version"])
        assert found["configuration"]["layer"]["padding"] == [1, 1, 1]
        assert found["configuration"]["run"] == {"accuracy": "normwise", "algorithm": "auto", "engine": "auto"}
        assert found["files"] == [
            {"role": "input", "path": "scan.nii.gz", "sha256": sha256("scan.nii.gz")},
            {"role": "mask", "path": "m.nii", "sha256": sha256("m.nii")},
            {"role": "weights", "path": "w.npz", "sha256": sha256("w.npz")},
        ]
        plan = report["items"][0]["plan"]
        assert found["computed"] == {"algorithm": plan["algorithm"], "engine": plan["engine"]}
        assert report["items"][0]["provenance"] == found

    @pytest.mark.parametrize("out", ("a.nii.gz", "a.nii"))
    def test_neither_clock_nor_name_nor_what_changes_no_value(self, scan, out):
        ok("apply", scan, "-o", out, *KERNEL)
        Path("x").mkdir()
        ok(
            "apply",
            scan,
            "-o",
            f"x/b{Path(out).name[1:]}",
            *KERNEL,
            "-j",
            1,
            "--tile",
            "2,3,4",
            "--report",
            "r.json",
            "-q",
        )
        assert Path(out).read_bytes() == Path(f"x/b{out[1:]}").read_bytes()

    @pytest.mark.parametrize("out", ("out.nii.gz", "out.h5"))
    def test_no_provenance_leaves_it_out_that_of_the_input_too(self, scan, out):
        ok("apply", scan, "-o", f"first{Path(out).suffixes[0]}", *KERNEL)
        ok("apply", f"first{Path(out).suffixes[0]}", "-o", out, *KERNEL, "--no-provenance")
        if out.endswith(".h5"):
            with h5py.File(out) as file:
                assert "lucid_conv3d" not in file["data"].attrs
        else:
            assert not nib.load(out).header.extensions

    def test_an_output_of_an_output_tells_of_the_last_run_and_keeps_what_others_said(self, folder):
        extension = Nifti1Extension(COMMENT, b"said by another")
        make_nifti("scan.nii", noise(4, 5, 6), sform=np.eye(4), extensions=(extension,))
        ok("apply", "scan.nii", "-o", "a.nii", *KERNEL)
        ok("apply", "a.nii", "-o", "b.nii", *KERNEL)
        assert kept("b.nii")["input"] == "a.nii"
        assert next(one.get_content() for one in nib.load("b.nii").header.extensions) == b"said by another"

    @pytest.mark.parametrize("out", ("out.npy", "out.nii.gz", "out.img"))
    def test_a_sidecar_where_it_is_asked_for(self, scan, out):
        ok("apply", scan, "-o", out, *KERNEL, "--sidecar")
        found = json.loads(Path("out.json").read_text())["LucidConv3d"]
        assert found["files"][0]["sha256"] == sha256(scan)
        result = run("apply", scan, "-o", "out.nii", *KERNEL, "--sidecar")
        assert (result.code, Path("out.nii").exists()) == (4, False)
        assert "out.json: exists" in result.err

    def test_a_stream_has_no_hash_of_its_input(self, scan, tmp_path):
        result = run("apply", scan, "-o", "-", *KERNEL, "--sidecar")
        assert (result.code, result.out) == (2, "")


class TestFinishedOutputs:
    @pytest.mark.parametrize("out", ("out.nii.gz", "out.h5"))
    def test_one_made_from_something_else_is_not_skipped(self, scan, out):
        ok("apply", scan, "-o", out, *KERNEL)
        assert run("apply", scan, "-o", out, *KERNEL, "--skip-existing").code == 0
        other = run("apply", scan, "-o", out, "--kernel", "gaussian", "--sigma", "2vox", "--skip-existing")
        assert other.code == 4
        assert "it was made from other settings: weights.sigma 1.5vox instead of 2vox" in other.err
        make_volume("scan.nii.gz", noise(6, 7, 8, seed=9))
        changed = run("apply", scan, "-o", out, *KERNEL, "--skip-existing")
        assert changed.code == 4
        assert "it was made from another input" in changed.err
        assert run("apply", scan, "-o", out, *KERNEL, "--skip-existing", "--overwrite", "-q").code == 0
        assert kept(out)["files"][0]["sha256"] == sha256(scan)

    def test_how_a_size_is_spelled_does_not_matter(self, scan):
        layer = ("--kernel-size", 3, "--padding", "1,1,1", "-q")
        ok("apply", scan, "-o", "out.nii", *layer)
        ok("apply", scan, "-o", "same.nii", "--kernel-size", "3,3,3", "--padding", 1, "-q")
        assert Path("out.nii").read_bytes() == Path("same.nii").read_bytes()

    def test_a_sidecar_tells_it_too(self, scan):
        ok("apply", scan, "-o", "out.npy", *KERNEL, "--sidecar")
        other = ("--kernel", "gaussian", "--sigma", "2vox", "--sidecar", "--skip-existing")
        assert "it was made from other settings" in run("apply", scan, "-o", "out.npy", *other).err

    def test_a_sidecar_without_its_output_is_what_an_ended_run_left(self, scan):
        ok("apply", scan, "-o", "out.npy", *KERNEL, "--sidecar")
        Path("out.npy").unlink()
        assert run("apply", scan, "-o", "out.npy", *KERNEL, "--sidecar").code == 4
        ok("apply", scan, "-o", "out.npy", *KERNEL, "--sidecar", "--resume")
        Path("out.json").write_text("{}")
        Path("out.npy").unlink()
        assert run("apply", scan, "-o", "out.npy", *KERNEL, "--sidecar", "--resume").code == 4
        assert Path("out.json").read_text() == "{}"

    def test_the_name_of_a_file_does_not_matter(self, scan):
        save_weights("w.npz", noise(2, 1, 3, 3, 3))
        ok("apply", scan, "-o", "out.nii", "--weights", "w.npz")
        Path("scan.nii.gz").rename("moved.nii.gz")
        Path("w.npz").rename("v.npz")
        assert "skipped" in ok("apply", "moved.nii.gz", "-o", "out.nii", "--weights", "v.npz", "--skip-existing").err


class TestReplay:
    @pytest.mark.parametrize("out", ("out.nii", "out.nii.gz", "out.h5:/a/b", "out.npy"))
    def test_it_comes_to_the_same(self, scan, out):
        save_weights("w.npz", noise(2, 1, 3, 3, 3), noise(2))
        options = ("--weights", "w.npz", "--stride", "2,1,1", "--out-dtype", "float64", "--normalize", "zscore")
        ok("apply", scan, "-o", out, *options, "--sidecar", "-q")
        before = sorted(path.name for path in Path().iterdir())
        result = ok("replay", out, "--progress", "none")
        assert result.err == ""
        assert json.loads(ok("replay", out, "--json").out)["same"] is True
        assert sorted(path.name for path in Path().iterdir()) == before

    def test_a_stack_of_layers(self, scan):
        layers = "[{kernel: gaussian, sigma: 1vox}, relu, {kernel: laplacian}]"
        ok("apply", scan, "-o", "out.nii", "--layers", layers, "-q")
        assert ok("replay", "out.nii").out

    def test_the_environment_says_nothing_to_it(self, scan, monkeypatch):
        ok("apply", scan, "-o", "out.nii", *KERNEL)
        monkeypatch.setenv("LUCID_CONV3D_SIGMA", "3vox")
        ok("replay", "out.nii")

    def test_an_output_that_was_changed_differs(self, scan):
        ok("apply", scan, "-o", "out.nii", *KERNEL)
        data = bytearray(Path("out.nii").read_bytes())
        data[-1] ^= 1
        Path("out.nii").write_bytes(data)
        result = run("replay", "out.nii")
        assert (result.code, "values" in result.out) == (1, True)

    def test_an_input_that_moved_and_one_that_changed(self, scan):
        ok("apply", scan, "-o", "out.nii", *KERNEL)
        Path("scan.nii.gz").rename("moved.nii.gz")
        gone = run("replay", "out.nii")
        assert gone.code == 3
        assert "scan.nii.gz: no such file; it is the input of the run; name the input with --input" in gone.err
        ok("replay", "out.nii", "--input", "moved.nii.gz")
        make_volume("moved.nii.gz", noise(6, 7, 8, seed=9))
        changed = run("replay", "out.nii", "--input", "moved.nii.gz")
        assert changed.code == 3
        assert "moved.nii.gz: is not the input that was read" in changed.err

    @pytest.mark.parametrize("part", ("files", "configuration", "computed", "input", "version"))
    def test_provenance_that_lacks_a_part_is_none(self, scan, part):
        ok("apply", scan, "-o", "out.npy", *KERNEL, "--sidecar")
        found = json.loads(Path("out.json").read_text())
        found["LucidConv3d"][part] = {"files": [{}], "configuration": {"layer": 3}}.get(part)
        Path("out.json").write_text(json.dumps(found))
        result = run("replay", "out.npy")
        assert (result.code, "says nothing of what it was made from" in result.err) == (3, True)

    def test_what_says_nothing_of_its_making(self, scan):
        ok("apply", scan, "-o", "out.nii", *KERNEL, "--no-provenance")
        result = run("replay", "out.nii")
        assert result.code == 3
        assert "out.nii: says nothing of what it was made from" in result.err
        assert result.err.count("\n") == 1
