"""Where to compute: what is asked for computes, or is an error; `auto` says where it ends."""

import json

import numpy as np
import pytest

from lucid_core import tensors
from tests.cli.conftest import contents, make_volume, noise, ok, read_volume, run

SMOOTH = ("--kernel", "gaussian", "--sigma", "1vox")


@pytest.fixture
def scan(folder):
    """Make `a.nii` and `b.nii`."""
    for name in ("a.nii", "b.nii"):
        make_volume(folder / name, noise(9, 10, 11))
    return folder


@pytest.fixture
def without_torch(monkeypatch):
    """Hide torch."""
    monkeypatch.setattr(tensors, "installed", lambda: False)

    def missing(package, extra):
        raise tensors.ExtraError(f"this needs the package {package!r}; pip install 'lucid-conv3d[{extra}]'")

    monkeypatch.setattr(tensors, "require", missing)


class TestWithoutTorch:
    def test_auto_falls_back_in_one_line(self, scan, without_torch):
        done = ok("apply", "a.nii", "b.nii", "--out-dir", "auto", *SMOOTH, "--device", "auto", "--progress", "none")
        line = "--device auto: torch is not installed (pip install 'lucid-conv3d[torch]'); the CPU computes"
        assert done.err.splitlines().count(line) == 1
        ok("apply", "a.nii", "--out-dir", "plain", *SMOOTH, "--no-provenance")
        quiet = ok(
            "apply", "a.nii", "--out-dir", "auto", "--overwrite", *SMOOTH, "--device", "auto", "-q", "--no-provenance"
        )
        assert quiet.err == ""
        assert contents(scan / "auto")["a_conv3d.nii"] == contents(scan / "plain")["a_conv3d.nii"]

    @pytest.mark.parametrize("options", (("--device", "cuda"), ("--device", "metal"), ("--engine", "torch")))
    def test_what_is_asked_for_needs_it(self, scan, without_torch, options):
        before = contents(scan)
        for command in (("apply", "a.nii", "-o", "o.nii"), ("plan", "a.nii")):
            done = run(*command, *SMOOTH, *options)
            assert (done.code, done.out) == (2, "")
            assert "pip install 'lucid-conv3d[torch]'" in done.err
        assert contents(scan) == before


@pytest.mark.parametrize(
    ("options", "words"),
    (
        (("--device", "cuda:x"), "unknown device 'cuda:x'; legal: auto, cpu, cuda, metal, or cuda:N"),
        (("--device", "cpu:1"), "unknown device 'cpu:1'"),
        (("--device", "cudda"), "Did you mean 'cuda'?"),
        (("--device", "cuda", "--engine", "numpy"), "engine 'numpy' computes on the CPU only"),
        (("--tf32",), "tf32 is for tensor cores of a GPU, and the device is 'cpu'; leave it out"),
    ),
)
def test_what_is_refused(scan, options, words):
    done = run("apply", "a.nii", "-o", "o.nii", *SMOOTH, *options)
    assert done.code == 2
    assert words in done.err


def test_a_configuration_is_checked_for_it(scan):
    (scan / "c.yaml").write_text("layer: {kernel_size: 3, device: cuda}\nrun: {engine: numpy}\n")
    done = run("config", "check", "c.yaml")
    assert done.code == 2
    assert "engine 'numpy' computes on the CPU only; leave it out on device 'cuda'" in done.out + done.err


@pytest.mark.torch
class TestWithTorch:
    @pytest.fixture(autouse=True)
    def torch(self):
        return pytest.importorskip("torch")

    @pytest.mark.parametrize("layer", (SMOOTH, ("--kernel-size", "3", "--out-channels", "2", "--padding", "1")))
    def test_it_computes_what_the_other_engines_do(self, scan, layer):
        ok("apply", "a.nii", "-o", "t.nii", *layer, "--engine", "torch", "--report", "t.json")
        ok("apply", "a.nii", "-o", "n.nii", *layer, "--engine", "numpy")
        np.testing.assert_allclose(read_volume("t.nii"), read_volume("n.nii"), rtol=1e-4, atol=1e-4)
        (item,) = json.loads((scan / "t.json").read_text())["items"]
        assert (item["plan"]["engine"], item["plan"]["device"]) == ("torch", "cpu")
        assert item["peak_rss_bytes"] <= item["plan"]["peak_bytes"]
        ok("replay", "t.nii")

    def test_auto_says_where_it_ends(self, scan, torch):
        if torch.cuda.is_available() or torch.backends.mps.is_available():
            pytest.skip("there is an accelerator")
        done = ok("apply", "a.nii", "-o", "o.nii", *SMOOTH, "--device", "auto", "--progress", "none")
        assert "--device auto: no accelerator was found; the CPU computes\n" in done.err
        done = run("apply", "a.nii", "-o", "o2.nii", *SMOOTH, "--device", "cuda")
        assert done.code == 2
        assert "device 'cuda' is not there: " in done.err

    def test_the_doctor_shows_it(self, torch):
        done = run("doctor")
        assert f"{torch.__version__}" in done.out
        assert "ready on" in done.out
        assert "gemm (torch)" in done.out

    def test_it_is_timed(self):
        done = ok("bench", "--engine", "torch", "--workload", "1-1-k3", "--quick", "--no-peers", "--json")
        members = {(one["algorithm"], one["engine"]) for one in json.loads(done.out)["workloads"][0]["members"]}
        assert ("direct", "torch") in members
