"""`--skip-existing` trusts finished outputs only: whole, and of the shape and type that the run would write."""

from pathlib import Path

import pytest

from tests.cli.conftest import contents, make_volume, noise, ok, run

SUFFIXES = (".nii", ".nii.gz", ".nii.zst", ".npy", ".h5", ".img")
KERNEL = ("--kernel", "box", "--size", "3vox")


@pytest.fixture(params=SUFFIXES)
def out(request, folder):
    """Return the name of an output that is finished."""
    make_volume("scan.npy", noise(9, 10, 11))
    name = f"b{request.param}"
    ok("apply", "scan.npy", "-o", name, *KERNEL)
    return name


def again(out, *options):
    return run("apply", "scan.npy", "-o", out, *KERNEL, "--skip-existing", *options)


def identity(path):
    """Return what changes when a file is written or replaced; reading changes the time of access alone."""
    found = Path(path).stat()
    return found.st_ino, found.st_size, found.st_mode, found.st_mtime_ns


def test_a_finished_output_is_left(out, folder):
    before = identity(out), contents(folder)
    result = again(out)
    assert (result.code, result.err) == (0, f"{out} is finished, skipped\n")
    assert (identity(out), contents(folder)) == before


@pytest.mark.parametrize("share", (0, 0.02, 0.5, 1))
def test_one_that_is_cut_short_is_an_error_and_stays(out, folder, share):
    data = Path(out).read_bytes()
    Path(out).write_bytes(data[: min(int(share * len(data)), len(data) - 1)])
    before = contents(folder)
    result = again(out)
    assert result.code == 4
    assert result.err.startswith(f"Error: {out}: exists, but is no finished output of this run: ")
    assert result.err.count("\n") == 1
    assert contents(folder) == before


def test_with_overwrite_it_is_made_anew_and_what_is_finished_is_not(out, folder):
    data = Path(out).read_bytes()
    Path(out).write_bytes(data[: len(data) // 2])
    made = again(out, "--overwrite", "--progress", "none")
    assert made.code == 0
    assert made.err.startswith(f"Warning: {out}: exists, but is no finished output")
    assert Path(out).read_bytes() == data or out.endswith(".h5")
    first = identity(out)
    assert again(out, "--overwrite").code == 0
    assert identity(out) == first


def test_a_flipped_bit_of_a_compressed_one_is_seen(folder):
    make_volume("scan.npy", noise(9, 10, 11))
    ok("apply", "scan.npy", "-o", "b.nii.gz", *KERNEL)
    data = bytearray(Path("b.nii.gz").read_bytes())
    data[len(data) // 2] ^= 1
    Path("b.nii.gz").write_bytes(data)
    assert again("b.nii.gz").code == 4


@pytest.mark.parametrize(
    ("options", "words"),
    (
        (("--stride", "2"), "it holds 11x10x9 voxels of float32, and this run would write 6x5x5 voxels of float32"),
        (("--out-dtype", "float64"), "and this run would write 11x10x9 voxels of float64"),
    ),
)
def test_one_of_another_run_is_an_error(folder, options, words):
    make_volume("scan.npy", noise(9, 10, 11))
    ok("apply", "scan.npy", "-o", "b.nii", *KERNEL)
    result = again("b.nii", *options)
    assert result.code == 4
    assert words in result.err


def test_a_folder_is_no_output(folder):
    make_volume("scan.npy", noise(9, 10, 11))
    Path("out").mkdir()
    (Path("out") / "scan_conv3d.npy").mkdir()
    result = run("apply", "scan.npy", "-o", "out", *KERNEL, "--skip-existing")
    assert result.code == 4
    assert "is not a regular file" in result.err
