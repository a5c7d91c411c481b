"""The promise of `--max-memory`: the peak of the whole process is what was predicted, or less."""

import json
import re

import h5py
import numpy as np
import pytest

from tests.cli.conftest import contents, finished, make_volume, noise, program, run, save_weights

GAUSSIAN = ("--kernel", "gaussian", "--sigma", "1.2vox")
FILTERS = ("--weights", "w.npz", "--padding", 1)
CASES = (
    (".nii.gz", ".nii.gz", GAUSSIAN, np.int16),
    (".nii.gz", ".nii", GAUSSIAN, np.int16),
    (".nii.gz", ".nii.zst", (*GAUSSIAN, "--engine", "numba"), np.int16),
    (".nii", ".npy", (*GAUSSIAN, "--dtype", "float64"), np.float32),
    (".npy", ".nii.gz", FILTERS, np.float32),
    (".npy", ".nii", (*FILTERS, "--algorithm", "gemm"), np.float32),
    (".npy", ".h5", (*FILTERS, "--compression", 1, "--engine", "numba"), np.float32),
    (".h5", ".nii.gz", (*FILTERS, "--engine", "numpy"), np.float64),
    (".nii", ".nii", (*GAUSSIAN, "--out-dtype", "int16", "--cast", "rescale"), np.int16),
    (".mgz", ".nrrd", (*FILTERS, "--compression", 1), np.int16),
    (".tif", ".ome.tif", FILTERS, np.int16),
    (".mrc", ".mha", (*GAUSSIAN, "--compression", 1), np.int16),
    (".zarr", ".zarr", GAUSSIAN, np.int16),
    (".zarr", ".nii", FILTERS, np.float32),
    (".nii", ".ome.zarr", (*FILTERS, "--chunks", 32, "--shards", 64, "--pyramid"), np.int16),
)


def report(*args):
    """Run `apply` as a program of its own and return the item of its report."""
    with program("apply", *args, "-q", "--report", "-", "--overwrite") as process:
        result = finished(process)
    assert result.code == 0, result.err
    return json.loads(result.out)["items"][0]


@pytest.mark.parametrize(("into", "out", "options", "dtype"), CASES)
def test_the_peak_is_as_predicted_and_keeps_the_limit(folder, into, out, options, dtype):
    if "numba" in options:
        pytest.importorskip("numba")
    make_volume(f"a{into}", noise(96, 160, 160).astype(dtype))
    save_weights("w.npz", noise(4, 1, 3, 3, 3))
    free = report(f"a{into}", "-o", f"b{out}", *options, "-j", 2)
    assert free["peak_rss_bytes"] <= 1.1 * free["plan"]["peak_bytes"]
    refused = run("plan", f"a{into}", "-o", f"c{out}", *options, "-j", 2, "--max-memory", "1MiB")
    assert refused.code == 6
    tight = free["plan"]["peak_bytes"] - (12 << 20)
    limit = ("--max-memory", f"{tight / 2**20:.3f}MiB")
    limited = report(f"a{into}", "-o", f"c{out}", *options, "-j", 2, *limit)
    assert limited["plan"]["peak_bytes"] <= limited["plan"]["limit_bytes"] <= tight + 1024
    assert limited["peak_rss_bytes"] <= 1.1 * limited["plan"]["peak_bytes"]
    if out.endswith(".zarr"):
        chunks = [contents(f"{name}{out}") for name in "bc"]
        assert all(chunks[0][name] == chunks[1][name] for name in chunks[0] if not name.endswith("zarr.json"))
    else:
        assert (folder / f"b{out}").read_bytes() == (folder / f"c{out}").read_bytes() or out == ".h5"


SUM = ("--kernel-size", 1, "--out-channels", 1)
SHAPES = {
    "many channels of small planes": ("a.npy", (128, 256, 32, 32), (*SUM, "-o", "b.npy")),
    "many channels of a NIfTI": ("a.nii", (200, 200, 24, 24), (*SUM, "--axis4", "channel", "-o", "b.nii")),
    "large planes": ("a.npy", (64, 4, 384, 384), (*SUM, "-o", "b.npy")),
    "few large planes": ("a.npy", (3, 3000, 3000), ("--kernel", "box", "--size", "1,3,3vox", "-o", "b.npy")),
    "blocks of many channels wait": (
        "a.npy",
        (130, 32, 32),
        ("--kernel-size", 3, "--out-channels", 60, "--padding", "same", "--compression", 1, "-o", "b.nii.gz"),
    ),
    "small chunks": ("a.h5", (256, 256, 64), ("--kernel", "gaussian", "--sigma", "1vox", "-o", "b.h5")),
    "small chunks said": ("a.npy", (256, 128, 64), ("--kernel", "identity", "--chunks", "1,1,64", "-o", "b.h5")),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_least_that_is_named_is_kept_with_unusual_shapes(folder, name):
    """Each of these once took up to twice its limit."""
    path, shape, options = SHAPES[name]
    if path == "a.h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=noise(*shape), chunks=(1, 1, shape[2]))
    else:
        make_volume(path, noise(*shape))
    options = (path, *options, "--engine", "numpy", "-j", 1)
    with program("apply", *options, "--max-memory", "5M") as process:
        least = int(re.search(r"--max-memory (\d+)MiB", finished(process).err)[1])
    item = report(*options, "--max-memory", f"{least}MiB")
    assert item["peak_rss_bytes"] <= 1.1 * item["plan"]["peak_bytes"] <= 1.1 * least * 2**20


def test_what_cannot_be_done_is_refused_before_anything_is_written(folder):
    make_volume("a.nii", noise(32, 64, 64))
    before = contents(folder)
    result = run("apply", "a.nii", "-o", "b.nii", *GAUSSIAN, "--max-memory", "5M")
    assert result.code == 6
    assert re.search(r"needs at least .* MiB of memory .* 4\.8 MiB may be taken; .* --max-memory \d+MiB", result.err)
    assert contents(folder) == before


def test_the_least_that_would_do_does(folder):
    make_volume("a.nii", noise(64, 128, 128))
    with program("apply", "a.nii", "-o", "b.nii", *GAUSSIAN, "--max-memory", "5M") as process:
        least = int(re.search(r"--max-memory (\d+)MiB", finished(process).err)[1])
    item = report("a.nii", "-o", "b.nii", *GAUSSIAN, "--max-memory", f"{least}MiB")
    assert item["peak_rss_bytes"] <= 1.1 * least * 2**20


def test_a_disk_that_is_too_small_is_seen_before_the_work(folder, monkeypatch):
    make_volume("a.npy", noise(8, 8, 8))
    monkeypatch.setattr("lucid_cli.budget.shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    for out in ("b.nii", "b.nii.gz", "b.h5", "b.npy"):
        result = run("apply", "a.npy", "-o", out, *GAUSSIAN, "-q")
        assert (result.code, "on the disk" in result.err) == (6, True)
    assert list(contents(folder)) == ["a.npy"]


@pytest.mark.parametrize("text", ("512", "1.5", "2X", "-1G", "", "1 GiBs"))
def test_sizes_that_are_none(scan, text):
    result = run("plan", scan, *GAUSSIAN, "--max-memory", text)
    assert result.code == 2
    assert "512M, 2G or 1GiB" in result.err


@pytest.mark.parametrize(("text", "count"), (("8000M", 8e9), ("4G", 4e9), ("4GiB", 2**32), ("4.5gb", 4.5e9)))
def test_sizes_in_memory(scan, text, count):
    result = run("plan", scan, *GAUSSIAN, "--max-memory", text, "--json")
    assert json.loads(result.out)["items"][0]["plan"]["limit_bytes"] == count
