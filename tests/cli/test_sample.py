"""Synthetic volumes: every kind in every format, the same bytes every time."""

import h5py
import nibabel as nib
import numpy as np
import pytest

from tests.cli.conftest import contents, ok, read_volume, run

KINDS = ("phantom", "ramp", "impulse", "checkerboard", "noise")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", (".nii", ".nii.gz", ".img", ".h5", ".npy"))
def test_every_kind_in_every_format(folder, kind, suffix):
    ok("sample", kind, "-o", f"a{suffix}", "--shape", "9,10,11")
    ok("sample", kind, "-o", "b.npy", "--shape", "9x10x11")
    found = read_volume(f"a{suffix}")
    assert (found.shape, found.dtype) == ((9, 10, 11), np.float32)
    assert np.isfinite(found).all()
    assert found.std() > 0
    np.testing.assert_array_equal(found, np.load("b.npy"))


@pytest.mark.parametrize("suffix", (".nii.gz", ".hdr", ".h5", ".npy"))
def test_the_same_words_make_the_same_bytes(folder, suffix):
    ok("sample", "noise", "-o", f"a{suffix}", "--shape", 6, "--seed", 3)
    first = contents(folder)
    ok("sample", "noise", "-o", f"a{suffix}", "--shape", 6, "--seed", 3, "--overwrite")
    assert contents(folder) == first
    ok("sample", "noise", "-o", f"a{suffix}", "--shape", 6, "--seed", 4, "--overwrite")
    assert contents(folder) != first


def test_values(folder):
    for kind in KINDS:
        ok("sample", kind, "-o", f"{kind}.npy", "--shape", "16,17,18")
    ramp, impulse, board = (np.load(f"{kind}.npy") for kind in KINDS[1:4])
    d, h, w = np.indices(ramp.shape)
    np.testing.assert_array_equal(ramp, 1 + d + 2 * h + 4 * w)
    assert np.argwhere(impulse).tolist() == [[8, 8, 9]]
    assert impulse.sum() == 1
    np.testing.assert_array_equal(board, 100 * ((d // 8 + h // 8 + w // 8) % 2))
    phantom = np.load("phantom.npy")
    assert (phantom.min(), phantom.max()) == (0, 1000)
    assert phantom[0, 0, 0] == 0


def test_the_default_is_a_phantom_of_64(folder):
    ok("sample", "-o", "a.npy")
    ok("sample", "phantom", "-o", "b.npy", "--shape", 64)
    assert np.load("a.npy").shape == (64, 64, 64)
    assert (folder / "a.npy").read_bytes() == (folder / "b.npy").read_bytes()


@pytest.mark.parametrize(("suffix", "shape"), ((".npy", (3, 4, 5, 6)), (".h5", (3, 4, 5, 6)), (".nii", (3, 4, 5, 6))))
def test_channels(folder, suffix, shape):
    ok("sample", "ramp", "-o", f"a{suffix}", "--shape", "4,5,6", "--channels", 3)
    ok("sample", "ramp", "-o", "one.npy", "--shape", "4,5,6")
    found = read_volume(f"a{suffix}")
    assert found.shape == shape
    for channel in range(3):
        np.testing.assert_array_equal(found[channel], np.load("one.npy") * (channel + 1))


def test_spacing_stands_in_the_header(folder):
    ok("sample", "ramp", "-o", "a.nii", "--shape", "4,5,6", "--spacing", "3,2000,1000um")
    ok("sample", "ramp", "-o", "a.h5:/raw/a", "--shape", "4,5,6", "--spacing", "3,2,1mm")
    np.testing.assert_allclose(nib.load("a.nii").affine, np.diag([1.0, 2.0, 0.003, 1.0]), rtol=1e-6)
    with h5py.File("a.h5", "r") as file:
        assert file["raw/a"].attrs["element_size_um"].tolist() == [3000, 2000, 1000]
    ok("sample", "ramp", "-o", "b.nii", "--shape", "4,5,6")
    np.testing.assert_array_equal(nib.load("b.nii").affine, np.eye(4))


def test_types_saturate(folder):
    ok("sample", "phantom", "-o", "a.npy", "--shape", 16, "--out-dtype", "uint8")
    found = np.load("a.npy")
    assert (found.dtype, found.max()) == (np.uint8, 255)


def test_nothing_is_overwritten_unasked(folder):
    (folder / "a.npy").write_bytes(b"old")
    result = run("sample", "ramp", "-o", "a.npy")
    assert (result.code, "--overwrite" in result.err) == (4, True)
    assert contents(folder) == {"a.npy": b"old"}
