"""Real scans, as nilearn and nibabel ship them: right values, at the right place in the world."""

from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from nibabel.affines import apply_affine
from scipy import ndimage

from tests.cli.conftest import nifti_header, noise, ok, save_weights

SIGMA_PER_FWHM = 1 / (2 * np.sqrt(2 * np.log(2)))


def shipped(package, path):
    spec = find_spec(package)
    found = Path(spec.submodule_search_locations[0]) / path if spec else None
    if found is None or not found.is_file():
        pytest.skip(f"{package} does not bring {path} here")
    return found


@pytest.fixture(scope="module")
def head():
    """The MNI152 T1 template of 2009."""
    return shipped("nilearn", "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")


@pytest.fixture(scope="module")
def series():
    """An oblique series of two volumes, scaled integers with a comment in its header."""
    return shipped("nibabel", "tests/data/example4d.nii.gz")


def values_of(path):
    """Return the scaled values (x, y, z, ...) in float64."""
    return np.asarray(nib.load(path).dataobj, np.float64)


def assert_close(found, expected, bound):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


def test_smoothing_a_head_by_6_mm(head, tmp_path):
    ok("apply", head, "-o", tmp_path / "out.nii.gz", "--kernel", "gaussian", "--fwhm", "6mm", "-q")
    before, after = nib.load(head), nib.load(tmp_path / "out.nii.gz")
    sigma = 6 * SIGMA_PER_FWHM / np.array(before.header.get_zooms())
    assert_close(np.asarray(after.dataobj), ndimage.gaussian_filter(values_of(head), sigma, mode="nearest"), 2e-6)
    np.testing.assert_array_equal(after.affine, before.affine)
    codes = [int(image.header[form]) for image in (before, after) for form in ("sform_code", "qform_code")]
    assert codes[:2] == codes[2:]


@pytest.mark.torch
def test_features_of_a_head_at_half_the_resolution(head, tmp_path):
    weight, bias = noise(2, 1, 3, 3, 3, seed=1), noise(2, seed=2)
    weights = save_weights(tmp_path / "w.npz", weight, bias)
    ok("apply", head, "-o", tmp_path / "out.nii", "--weights", weights, "--stride", 4, "--padding", "1,0,1", "-q")
    before, after = nib.load(head), nib.load(tmp_path / "out.nii")
    torch = pytest.importorskip("torch")
    volume = torch.from_numpy(values_of(head).T.copy())[None, None]
    tensors = [torch.from_numpy(one.astype(np.float64)) for one in (weight, bias)]
    expected = torch.nn.functional.conv3d(volume, *tensors, stride=4, padding=(1, 0, 1))[0].numpy()
    assert_close(np.asarray(after.dataobj).T, expected, 2e-6)
    index = np.array([5, 7, 9])
    np.testing.assert_allclose(
        apply_affine(after.affine, index), apply_affine(before.affine, 4 * index + [0, 1, 0]), atol=1e-3
    )
    image, whole = (SimpleITK.ReadImage(str(path)) for path in (tmp_path / "out.nii", head))
    point = image.TransformIndexToPhysicalPoint((5, 7, 9, 0))[:3]
    np.testing.assert_allclose(point, whole.TransformIndexToPhysicalPoint((20, 29, 36)), atol=1e-3)


def test_simpleitk_reads_the_smooth_head_where_it_was(head, tmp_path):
    ok("apply", head, "-o", tmp_path / "out.nii.gz", "--kernel", "box", "--size", "3vox", "-q")
    image, whole = (SimpleITK.ReadImage(str(path)) for path in (tmp_path / "out.nii.gz", head))
    for name in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
        np.testing.assert_allclose(getattr(image, name)(), getattr(whole, name)(), rtol=0, atol=1e-6)
    expected = ndimage.uniform_filter(values_of(head), 3, mode="nearest").T
    assert_close(SimpleITK.GetArrayFromImage(image), expected, 2e-6)


def test_a_series_is_smoothed_volume_by_volume(series, tmp_path):
    options = ("--kernel", "gaussian", "--sigma", "3mm", "-q", "--no-provenance")
    ok("apply", series, "-o", tmp_path / "out.nii.gz", *options)
    before, after = nib.load(series), nib.load(tmp_path / "out.nii.gz")
    sigma = [*(3 / np.array(before.header.get_zooms()[:3])), 0]
    expected = ndimage.gaussian_filter(values_of(series), sigma, mode="nearest")
    assert_close(np.asarray(after.dataobj), expected, 2e-6)
    np.testing.assert_array_equal(after.get_sform(), before.get_sform())
    np.testing.assert_array_equal(after.get_qform(), before.get_qform())
    assert after.header.get_zooms() == before.header.get_zooms()
    assert after.header.get_xyzt_units() == before.header.get_xyzt_units()
    header, old = nifti_header(tmp_path / "out.nii.gz"), nifti_header(series)
    for name in ("sform_code", "qform_code", "dim_info", "slice_code", "quatern_b", "qoffset_x"):
        assert header[name] == old[name], name
    assert [one.get_code() for one in after.header.extensions] == [one.get_code() for one in before.header.extensions]


@pytest.mark.torch
def test_two_volumes_as_two_channels(series, tmp_path):
    weight = noise(3, 2, 1, 3, 3, seed=1)
    weights = save_weights(tmp_path / "w.npz", weight)
    ok("apply", series, "-o", tmp_path / "out.nii.gz", "--weights", weights, "--stride", "2,1,1", "-q")
    before, after = nib.load(series), nib.load(tmp_path / "out.nii.gz")
    torch = pytest.importorskip("torch")
    volume = torch.from_numpy(values_of(series).T.copy())[None]
    expected = torch.nn.functional.conv3d(volume, torch.from_numpy(weight.astype(np.float64)), stride=(2, 1, 1))
    assert_close(np.asarray(after.dataobj).T, expected[0].numpy(), 2e-6)
    index = np.array([5, 7, 9])
    np.testing.assert_allclose(
        apply_affine(after.affine, index), apply_affine(before.affine, index * [1, 1, 2] + [1, 1, 0]), atol=1e-3
    )


@pytest.mark.parametrize("out", ("out.h5", "out.npy", "out.img"))
def test_the_head_in_any_format_has_the_same_values(head, tmp_path, out):
    options = ("--kernel", "laplacian", "--stride", 3, "-q")
    ok("apply", head, "-o", tmp_path / "first.nii", *options)
    ok("apply", head, "-o", tmp_path / out, *options, "--tile", "7,30,40")
    ok("apply", tmp_path / out, "-o", tmp_path / "back.npy", "--kernel", "identity", "-q")
    found = np.load(tmp_path / "back.npy")
    np.testing.assert_array_equal(found, np.asarray(nib.load(tmp_path / "first.nii").dataobj).T)
