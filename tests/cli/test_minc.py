"""MINC of both versions, as nibabel ships it: nibabel's values at nibabel's place."""

import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from tests.cli.conftest import make_volume, noise, ok, run

DATA = Path(nib.__file__).parent / "tests" / "data"
NAMES = ("minc1_1_scale", "minc1_4d", "minc2_1_scale", "minc2_4d", "minc2-4d-d", "small")
IDENTITY = ("--kernel", "identity", "-q", "--dtype", "float64", "--out-dtype", "float64")


@pytest.fixture(params=NAMES)
def scan(request):
    path = DATA / f"{request.param}.mnc"
    if not path.is_file():
        pytest.skip("nibabel does not bring its scans here")
    return path


def test_the_values_and_the_place_are_those_of_nibabel(scan, tmp_path):
    ok("apply", scan, "-o", tmp_path / "b.npy", *IDENTITY)
    ok("apply", scan, "-o", tmp_path / "c.npy", *IDENTITY, "--tile", "3,5,7")
    image = nib.load(scan)
    for name in ("b.npy", "c.npy"):
        np.testing.assert_array_equal(np.load(tmp_path / name), np.asarray(image.dataobj))
    found = json.loads(ok("info", scan, "--json").out)
    np.testing.assert_allclose(found["affine"], image.affine[:, [2, 1, 0, 3]])  # nibabel's i is the slowest
    assert found["axes"] == ("tzyx" if len(image.shape) == 4 else "zyx")


def test_a_nifti_of_it_lies_where_it_lay(scan, tmp_path):
    ok("apply", scan, "-o", tmp_path / "b.nii", *IDENTITY, "--stride", "2,1,3")
    image, source = nib.load(tmp_path / "b.nii"), nib.load(scan)
    np.testing.assert_allclose(image.affine @ [1, 1, 1, 1], source.affine @ [2, 1, 3, 1], atol=1e-5)


def test_simpleitk_reads_the_same_values_and_steps(tmp_path):
    path = DATA / "minc2_1_scale.mnc"
    if not path.is_file():
        pytest.skip("nibabel does not bring its scans here")
    image = SimpleITK.ReadImage(str(path))  # which takes MINC's world (RAS) for its own (LPS)
    ok("apply", path, "-o", tmp_path / "b.npy", *IDENTITY)
    np.testing.assert_allclose(np.load(tmp_path / "b.npy"), SimpleITK.GetArrayFromImage(image), rtol=1e-6)
    assert ok("info", path, "--spacing").out == " ".join(f"{step:.7g}" for step in image.GetSpacing()[::-1]) + "\n"


def test_an_output_is_refused(tmp_path):
    result = run("apply", make_volume(tmp_path / "a.npy", noise(5, 6, 7)), "-o", tmp_path / "b.mnc", *IDENTITY)
    assert (result.code, "MINC is read, but not written" in result.err) == (2, True)


@pytest.mark.parametrize("name", ("minc1_1_scale", "minc2_1_scale"))
def test_what_is_damaged_is_one_line(tmp_path, name):
    path = DATA / f"{name}.mnc"
    if not path.is_file():
        pytest.skip("nibabel does not bring its scans here")
    good = path.read_bytes()
    for data in (b"", b"a scan" * 99, good[:4], good[:200], good[: len(good) // 2]):
        (tmp_path / "a.mnc").write_bytes(data)
        result = run("apply", tmp_path / "a.mnc", "-o", tmp_path / "b.npy", *IDENTITY)
        assert (result.code, result.err.count("\n")) == (3, 1), result.err


def test_a_dataset_that_is_no_image_is_one_line(tmp_path):
    with h5py.File(tmp_path / "a.mnc", "w") as file:
        file["data"] = noise(3, 4, 5)
    result = run("plan", tmp_path / "a.mnc", "--kernel", "identity")
    assert (result.code, result.err.count("\n")) == (3, 1)
