"""Where outputs lie: a ramp in the world stays the same ramp in the world, whatever the layer and the header."""

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from nibabel.affines import apply_affine, voxel_sizes
from scipy.spatial.transform import Rotation

from tests.cli.conftest import SIZE, make_nifti, make_volume, nifti_header, noise, ok

SLOPE, AT_ORIGIN = np.array([0.7, -1.3, 2.1]), 5.0
TURN = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
SIZE_XYZ = (13, 12, 11)


def affine_with(matrix, origin=(-30.0, 12.5, 7.25)):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, origin
    return affine


OBLIQUE = affine_with(TURN @ np.diag([0.8, 1.5, 3.0]))
FLIPPED = affine_with(np.diag([-0.8, 1.5, -3.0]))
SWAPPED = affine_with(np.array([[0, 0, 3.0], [-0.8, 0, 0], [0, 1.5, 0]]))
SHEARED = affine_with(TURN @ np.diag([0.8, 1.5, 3.0]) @ np.array([[1, 0.3, 0], [0, 1, -0.2], [0, 0, 1]]))

LAYERS = {
    "stride": (("--size", "3vox", "--stride", "2"), (1, 1, 1)),
    "strides": (("--size", "3,1,5vox", "--stride", "1,2,3"), (1, 0, 2)),
    "pads": (("--size", "5,3,3vox", "--padding", "1,0,3", "--stride", "2,1,3"), (1, 0, 3)),
    "valid": (("--size", "3,1,5vox", "--padding", "valid"), (0, 0, 0)),
    "dilation": (("--size", "3vox", "--dilation", "1,2,3", "--padding", "valid", "--stride", "1,2,1"), (0, 0, 0)),
    "even": (("--size", "2,4,3vox"), (0, 1, 1)),
    "even, dilated": (("--size", "2vox", "--dilation", "3,2,1"), (1, 1, 0)),
    "binning": (("--size", "2,3,4vox", "--stride", "2,3,4", "--padding", "0"), (0, 0, 0)),
}
"""Layers of box kernels, and their pads below each axis D, H, W."""


def ramp(affine, shape=SIZE_XYZ):
    """Return, in float64, the values of a function that is linear in the world at the voxels of a volume."""
    return apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)) @ SLOPE + AT_ORIGIN


def inside(options, lows):
    """Return the outputs whose whole receptive field lies inside the volume, as a mask (x, y, z)."""
    said = dict(zip(options[::2], options[1::2], strict=True))

    def three(name, default):
        parts = said.get(name, default).removesuffix("vox").split(",")
        return [int(part) for part in (parts * 3 if len(parts) == 1 else parts)]

    masks = []
    for n, k, s, d, low in zip(
        SIZE_XYZ[::-1], three("--size", "1"), three("--stride", "1"), three("--dilation", "1"), lows, strict=True
    ):
        starts = np.arange(0, n * 3) * s - low
        masks.append((starts >= 0) & (starts + d * (k - 1) < n))
    return np.multiply.outer(np.multiply.outer(masks[2], masks[1]), masks[0])


def smooth(source, out, *options):
    ok("apply", source, "-o", out, "--kernel", "box", *options, "--out-dtype", "float64", "-q")
    return nib.load(out)


def assert_same_ramp(image, affine, mask):
    values = np.asarray(image.dataobj)
    mask = mask[tuple(map(slice, values.shape))]
    assert mask.sum() >= 8
    expected = ramp(affine, values.shape)
    np.testing.assert_allclose(values[mask], expected[mask], rtol=0, atol=2e-4)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "affine", (OBLIQUE, FLIPPED, SWAPPED, SHEARED), ids=("oblique", "flipped", "swapped", "sheared")
)
def test_a_ramp_stays_where_it_was_by_the_sform(tmp_path, affine, layer):
    options, lows = LAYERS[layer]
    source = make_nifti(tmp_path / "a.nii", ramp(np.float32(affine)), sform=affine, codes=(3, 0))
    image = smooth(source, tmp_path / "b.nii", *options)
    assert_same_ramp(image, image.get_sform(), inside(options, lows))
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (3, 0)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("affine", (OBLIQUE, FLIPPED, SWAPPED), ids=("oblique", "flipped", "swapped"))
def test_a_ramp_stays_where_it_was_by_the_qform(tmp_path, affine, layer):
    options, lows = LAYERS[layer]
    source = make_nifti(tmp_path / "a.nii.gz", ramp(affine), qform=affine, codes=(0, 1))
    image = smooth(source, tmp_path / "b.nii.gz", *options)
    assert_same_ramp(image, image.get_qform(), inside(options, lows))
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (0, 1)


def test_sform_and_qform_are_each_carried_from_their_own(tmp_path):
    options, lows = LAYERS["pads"]
    for values, form in ((ramp(np.float32(SHEARED)), "get_sform"), (ramp(OBLIQUE), "get_qform")):
        source = make_nifti(tmp_path / "a.nii", values, sform=SHEARED, qform=OBLIQUE, codes=(4, 1))
        (tmp_path / "b.nii").unlink(missing_ok=True)
        image = smooth(source, tmp_path / "b.nii", *options)
        assert_same_ramp(image, getattr(image, form)(), inside(options, lows))
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (4, 1)


def test_the_quaternion_keeps_its_bytes(tmp_path):
    source = make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), qform=OBLIQUE)
    smooth(source, tmp_path / "b.nii", "--size", "3vox", "--stride", "2")
    before, after = nifti_header(source), nifti_header(tmp_path / "b.nii")
    for name in ("quatern_b", "quatern_c", "quatern_d"):
        assert before[name] == after[name]
    assert after["pixdim"][0] == before["pixdim"][0]
    np.testing.assert_allclose(after["pixdim"][1:4], [1.6, 3.0, 6.0], rtol=1e-6)


@pytest.mark.parametrize("form", ({"sform": SHEARED}, {"qform": OBLIQUE}, {"sform": FLIPPED, "qform": OBLIQUE}))
def test_a_grid_that_stays_keeps_every_byte_of_its_place(tmp_path, form):
    source = make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), **form)
    smooth(source, tmp_path / "b.nii", "--size", "3vox")
    before, after = nifti_header(source), nifti_header(tmp_path / "b.nii")
    for name in ("srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z", "sform_code", "qform_code"):
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    np.testing.assert_array_equal(after["pixdim"][:4], before["pixdim"][:4])


def test_without_a_form_pixdim_is_scaled_and_a_warning_says_so(tmp_path):
    source = make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), pixdim=(0.8, 1.5, 3.0))
    result = ok("apply", source, "-o", tmp_path / "b.nii", "--kernel", "box", "--size", "3vox", "--stride", "1,2,3")
    assert "Warning: " in result.err
    assert "pixdim" in result.err
    header = nifti_header(tmp_path / "b.nii")
    np.testing.assert_allclose(header["pixdim"][1:4], [2.4, 3.0, 3.0], rtol=1e-6)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)


@pytest.mark.parametrize("broken", ("nan", "singular"))
def test_a_useless_sform_is_left_as_it_is(tmp_path, broken):
    sform = np.eye(4) if broken == "nan" else np.diag([1.0, 1.0, 0.0, 1.0])
    sform[0, 0] = np.nan if broken == "nan" else 1
    source = make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), sform=sform)
    result = ok("apply", source, "-o", tmp_path / "b.nii", "--kernel", "box", "--size", "3vox", "--stride", "2")
    assert "Warning: " in result.err
    before, after = nifti_header(source), nifti_header(tmp_path / "b.nii")
    np.testing.assert_array_equal(after["srow_x"], before["srow_x"])
    np.testing.assert_array_equal(after["pixdim"][1:4], [2, 2, 2])


@pytest.mark.parametrize("pixdim", ((0.0, 1.0, 1.0), (1.0, np.nan, 1.0)))
def test_a_useless_pixdim_is_carried_and_the_voxels_convolved(tmp_path, pixdim):
    source = make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), pixdim=pixdim)
    ok("apply", source, "-o", tmp_path / "b.nii", "--kernel", "identity")
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii").dataobj), noise(*SIZE_XYZ))
    np.testing.assert_array_equal(nifti_header(tmp_path / "b.nii")["pixdim"][1:4], np.float32(pixdim))


class TestUnits:
    def test_the_spatial_unit_is_kept(self, tmp_path):
        source = make_nifti(
            tmp_path / "a.nii",
            noise(*SIZE_XYZ),
            sform=np.diag([500.0, 500, 800, 1]),
            edit=lambda header: header.set_xyzt_units("micron", "sec"),
        )
        report = ok("apply", source, "-o", tmp_path / "b.nii", "--kernel", "box", "--size", "3vox", "--stride", "2")
        image = nib.load(tmp_path / "b.nii")
        assert image.header.get_xyzt_units()[0] == "micron"
        np.testing.assert_array_equal(image.affine, np.diag([1000.0, 1000, 1600, 1]))
        assert "1x1x1.6 mm" in report.err

    def test_a_length_in_mm_meets_a_volume_in_micron(self, tmp_path):
        values = {}
        for unit, step in (("micron", 500.0), ("mm", 0.5), ("meter", 0.0005)):
            source = make_nifti(
                tmp_path / f"{unit}.nii",
                noise(*SIZE_XYZ),
                sform=np.diag([step, step, step, 1]),
                edit=lambda header, unit=unit: header.set_xyzt_units(unit),
            )
            ok("apply", source, "-o", tmp_path / f"{unit}.npy", "--kernel", "gaussian", "--sigma", "0.5mm", "-q")
            values[unit] = np.load(tmp_path / f"{unit}.npy")
        ok("apply", tmp_path / "mm.nii", "-o", tmp_path / "vox.npy", "--kernel", "gaussian", "--sigma", "1vox", "-q")
        for unit, found in values.items():
            np.testing.assert_allclose(found, np.load(tmp_path / "vox.npy"), atol=1e-5, err_msg=unit)


class TestTime:
    @pytest.fixture
    def series(self, tmp_path):
        def edit(header):
            header["pixdim"][4] = 2.5
            header["toffset"] = 1.5
            header.set_xyzt_units("mm", "sec")
            header["slice_code"], header["slice_end"], header["slice_duration"] = 3, SIZE[0] - 1, 0.1
            header.set_dim_info(0, 1, 2)

        return make_nifti(tmp_path / "series.nii.gz", noise(4, *SIZE).T, sform=OBLIQUE, edit=edit)

    def test_a_series_that_stays_one_keeps_its_step_and_its_unit(self, tmp_path, series):
        ok("apply", series, "-o", tmp_path / "b.nii.gz", "--kernel", "gaussian", "--sigma", "2mm", "-q")
        header = nifti_header(tmp_path / "b.nii.gz")
        assert header["pixdim"][4] == 2.5
        assert header["toffset"] == 1.5
        assert header.get_xyzt_units() == ("mm", "sec")
        assert header["dim"][:5].tolist() == [4, *SIZE[::-1], 4]

    def test_channels_have_no_time(self, tmp_path, series):
        ok(
            "apply",
            series,
            "-o",
            tmp_path / "b.nii.gz",
            "--in-channels",
            4,
            "--out-channels",
            3,
            "--kernel-size",
            1,
            "-q",
        )
        header = nifti_header(tmp_path / "b.nii.gz")
        assert header["pixdim"][4] == 0
        assert header["toffset"] == 0
        assert header.get_xyzt_units() == ("mm", "unknown")
        assert header["dim"][:5].tolist() == [4, *SIZE[::-1], 3]

    def test_slice_times_live_only_as_long_as_the_slices(self, tmp_path, series):
        kernel = ("--kernel", "box", "--size", "3vox", "-q")
        ok("apply", series, "-o", tmp_path / "same.nii.gz", *kernel)
        ok("apply", series, "-o", tmp_path / "half.nii.gz", *kernel, "--stride", "2,1,1")
        same, half = nifti_header(tmp_path / "same.nii.gz"), nifti_header(tmp_path / "half.nii.gz")
        assert (same["slice_code"], same["slice_end"]) == (3, SIZE[0] - 1)
        assert same["slice_duration"] == np.float32(0.1)
        assert [half[name] for name in ("slice_code", "slice_end", "slice_duration")] == [0, 0, 0]
        assert same.get_dim_info() == half.get_dim_info() == (0, 1, 2)

    def test_what_the_values_meant_is_forgotten(self, tmp_path):
        def edit(header):
            header.set_intent("z score", name="zstat")
            header["cal_max"], header["descrip"], header["aux_file"] = 10, b"before", b"kept"

        source = make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), sform=OBLIQUE, edit=edit)
        ok("apply", source, "-o", tmp_path / "b.nii", "--kernel", "identity", "-q")
        header = nifti_header(tmp_path / "b.nii")
        assert (header["intent_code"], header["cal_max"], bytes(header["intent_name"]).rstrip(b"\0")) == (0, 0, b"")
        assert bytes(header["descrip"]).startswith(b"lucid-conv3d ")
        assert bytes(header["aux_file"]).rstrip(b"\0") == b"kept"


class TestSpacingOption:
    def test_it_replaces_the_steps_of_both_forms_and_keeps_their_directions(self, tmp_path):
        source = make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), sform=OBLIQUE, qform=FLIPPED)
        ok("apply", source, "-o", tmp_path / "b.nii", "--kernel", "identity", "--spacing", "5,4,3mm", "-q")
        image = nib.load(tmp_path / "b.nii")
        np.testing.assert_allclose(image.get_sform(), affine_with(TURN @ np.diag([3.0, 4.0, 5.0])), atol=1e-5)
        np.testing.assert_allclose(image.get_qform(), affine_with(np.diag([-3.0, 4.0, -5.0])), atol=1e-5)
        np.testing.assert_array_equal(image.header["pixdim"][1:4], [3, 4, 5])

    def test_a_length_in_mm_follows_it(self, tmp_path):
        source = make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), sform=np.eye(4))
        kernel = ("--kernel", "gaussian", "-q")
        ok("apply", source, "-o", tmp_path / "b.npy", *kernel, "--sigma", "2mm", "--spacing", "4,2,1mm")
        ok("apply", source, "-o", tmp_path / "c.npy", *kernel, "--sigma", "0.5,1,2vox")
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), np.load(tmp_path / "c.npy"))

    @pytest.mark.parametrize("suffix", (".nii", ".h5"))
    def test_it_places_a_volume_that_has_no_geometry(self, tmp_path, suffix):
        source = make_volume(tmp_path / "a.npy", ramp(np.diag([1.0, 2, 4, 1])).T)
        options, lows = LAYERS["pads"]
        command = ("--kernel", "box", *options, "--out-dtype", "float64", "--spacing", "4,2,1mm", "-q")
        ok("apply", source, "-o", tmp_path / f"b{suffix}", *command)
        if suffix == ".nii":
            image = nib.load(tmp_path / "b.nii")
            assert_same_ramp(image, image.get_sform(), inside(options, lows))
            np.testing.assert_allclose(image.get_qform(), image.get_sform())
            np.testing.assert_array_equal(image.header["pixdim"][1:4], [3, 2, 8])
            assert image.header.get_xyzt_units()[0] == "mm"
        else:
            with h5py.File(tmp_path / "b.h5", "r") as file:
                attributes, values = dict(file["data"].attrs), file["data"][()]
            assert attributes["element_size_um"].tolist() == [8000, 2000, 3000]
            mask = inside(options, lows)[tuple(map(slice, values.T.shape))]
            np.testing.assert_allclose(values.T[mask], ramp(attributes["affine"], values.T.shape)[mask], atol=1e-9)


class TestHdf5:
    def volume(self, path, **attributes):
        with h5py.File(path, "w") as file:
            file["data"] = noise(*SIZE)
            file["data"].attrs.update(attributes)
        return path

    def attributes(self, path):
        with h5py.File(path, "r") as file:
            return dict(file["data"].attrs)

    def test_the_element_size_is_scaled_by_the_stride(self, tmp_path):
        source = self.volume(tmp_path / "a.h5", element_size_um=[3.0, 0.5, 0.25])
        ok("apply", source, "-o", tmp_path / "b.h5", "--kernel", "box", "--size", "3vox", "--stride", "1,2,4", "-q")
        np.testing.assert_allclose(self.attributes(tmp_path / "b.h5")["element_size_um"], [3.0, 1.0, 1.0])

    def test_the_affine_and_its_unit_follow(self, tmp_path):
        affine = OBLIQUE * np.array([[1000.0] * 4] * 3 + [[1.0] * 4])
        source = self.volume(tmp_path / "a.h5", affine=affine, units="um")
        command = ("--kernel", "box", "--size", "3vox", "--stride", "2", "--padding", "valid", "-q")
        ok("apply", source, "-o", tmp_path / "b.h5", *command)
        found = self.attributes(tmp_path / "b.h5")
        shift = affine_with(2 * np.eye(3), (1, 1, 1))
        np.testing.assert_allclose(found["affine"], OBLIQUE @ shift, atol=1e-9)
        assert found["units"] == "mm"
        np.testing.assert_allclose(found["element_size_um"], [6000, 3000, 1600])
        assert found["axes"] == "zyx"

    def test_other_attributes_are_copied_as_they_are(self, tmp_path):
        table = {
            "note": "ångström",
            "count": np.int16(3),
            "weights": np.arange(6.0).reshape(2, 3),
            "raw": np.bytes_(b"abc"),
            "empty": h5py.Empty("f4"),
        }
        source = self.volume(tmp_path / "a.h5", element_size_um=[1.0, 1.0, 1.0], **table)
        ok("apply", source, "-o", tmp_path / "b.h5", "--kernel", "identity", "-q")
        found = self.attributes(tmp_path / "b.h5")
        for name, value in table.items():
            assert type(found[name]) is type(value), name
            if name == "empty":
                assert found[name].dtype == value.dtype
            else:
                np.testing.assert_array_equal(found[name], value, err_msg=name)
                assert getattr(found[name], "dtype", None) == getattr(value, "dtype", None), name

    @pytest.mark.parametrize("value", ("wide", [1.0, 2.0], [0.0, 1.0, 1.0], [np.nan, 1.0, 1.0]))
    def test_an_element_size_that_is_none_is_no_spacing(self, tmp_path, value):
        source = self.volume(tmp_path / "a.h5", element_size_um=value)
        ok("apply", source, "-o", tmp_path / "b.h5", "--kernel", "identity", "-q")
        assert ok("info", source, "--spacing").out == "unknown\n"
        assert "element_size_um" not in self.attributes(tmp_path / "b.h5")

    @pytest.mark.parametrize(
        ("units", "factor"),
        [(None, 1.0), *((name, 1.0) for name in ("mm", "millimeter", "millimetre"))]
        + [(name, 1e-3) for name in ("um", "micrometer", "micrometre", "micron", "microns", "µm", "μm")]
        + [(name, 1e-6) for name in ("nm", "nanometer", "nanometre")],
    )
    def test_an_affine_is_in_the_units_that_are_said(self, tmp_path, units, factor):
        affine = np.diag([2.0, 3.0, 4.0, 1.0])
        source = self.volume(tmp_path / "a.h5", affine=affine, **({} if units is None else {"units": units}))
        found = json.loads(ok("info", source, "--json").out)
        np.testing.assert_allclose(found["affine"], np.diag([factor, factor, factor, 1]) @ affine)
        np.testing.assert_allclose(found["spacing_mm"], np.array([4.0, 3.0, 2.0]) * factor)
        assert found["units"] == units

    def test_an_affine_in_unknown_units_is_left_out(self, tmp_path):
        source = self.volume(tmp_path / "a.h5", affine=np.eye(4), units="cubits")
        assert json.loads(ok("info", source, "--json").out)["affine"] is None

    def test_an_element_size_becomes_the_spacing_of_a_nifti(self, tmp_path):
        source = self.volume(tmp_path / "a.h5", element_size_um=[3000.0, 500.0, 200.0])
        ok("apply", source, "-o", tmp_path / "b.nii", "--kernel", "box", "--size", "3vox", "--stride", "1,2,4", "-q")
        header = nifti_header(tmp_path / "b.nii")
        np.testing.assert_allclose(header["pixdim"][1:4], [0.8, 1.0, 3.0], rtol=1e-6)
        assert header.get_xyzt_units()[0] == "mm"

    def test_a_known_spacing_without_an_affine_still_says_where_the_voxels_went(self, tmp_path):
        source = self.volume(tmp_path / "a.h5", element_size_um=[3000.0, 2000.0, 1000.0])
        command = ("--kernel", "box", "--size", "3vox", "--padding", "valid", "-q")
        ok("apply", source, "-o", tmp_path / "b.h5", *command)
        expected = affine_with(np.diag([1.0, 2.0, 3.0]), (1, 2, 3))
        np.testing.assert_allclose(self.attributes(tmp_path / "b.h5")["affine"], expected)

    def test_there_and_back_again(self, tmp_path):
        source = make_nifti(tmp_path / "a.nii", noise(*SIZE).T, sform=SHEARED)
        ok("apply", source, "-o", tmp_path / "b.h5", "--kernel", "identity", "-q")
        ok("apply", tmp_path / "b.h5", "-o", tmp_path / "c.nii", "--kernel", "identity", "-q")
        image = nib.load(tmp_path / "c.nii")
        np.testing.assert_array_equal(image.get_sform(), nib.load(source).get_sform())
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, noise(*SIZE))


def test_a_new_nifti_says_qform_and_sform_and_a_sheared_one_only_the_sform(tmp_path):
    for name, affine, code in (("oblique", OBLIQUE, 2), ("sheared", SHEARED, 0)):
        make_nifti(tmp_path / f"{name}.nii", noise(*SIZE).T, sform=affine)
        ok("apply", tmp_path / f"{name}.nii", "-o", tmp_path / f"{name}.h5", "--kernel", "identity", "-q")
        ok("apply", tmp_path / f"{name}.h5", "-o", tmp_path / f"{name}_2.nii", "--kernel", "identity", "-q")
        image = nib.load(tmp_path / f"{name}_2.nii")
        np.testing.assert_allclose(image.get_sform(), affine, atol=1e-5)
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (2, code)
        if code:
            np.testing.assert_allclose(image.get_qform(), affine, atol=1e-5)


@pytest.mark.parametrize("layer", ("strides", "pads", "even", "binning"))
@pytest.mark.parametrize("affine", (OBLIQUE, FLIPPED, SWAPPED), ids=("oblique", "flipped", "swapped"))
def test_simpleitk_sees_the_same_places(tmp_path, affine, layer):
    options, lows = LAYERS[layer]
    source = make_nifti(tmp_path / "a.nii.gz", ramp(affine), sform=affine, qform=affine)
    smooth(source, tmp_path / "b.nii.gz", *options)
    image = SimpleITK.ReadImage(str(tmp_path / "b.nii.gz"))
    values = SimpleITK.GetArrayFromImage(image)
    mask = inside(options, lows)[tuple(map(slice, values.T.shape))].T
    assert mask.sum() >= 8
    to_ras = np.array([-1, -1, 1])
    for z, y, x in np.argwhere(mask)[:: max(1, mask.sum() // 50)]:
        point = np.array(image.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))) * to_ras
        assert abs(point @ SLOPE + AT_ORIGIN - values[z, y, x]) < 1e-3
    before = SimpleITK.ReadImage(str(source))
    np.testing.assert_allclose(image.GetDirection(), before.GetDirection(), atol=1e-6)
    strides = np.array(image.GetSpacing()) / np.array(before.GetSpacing())
    np.testing.assert_allclose(strides, np.round(strides), rtol=1e-5)
    np.testing.assert_allclose(image.GetSpacing(), voxel_sizes(nib.load(tmp_path / "b.nii.gz").affine), rtol=1e-5)


class TestFormatsWithoutDirections:
    AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0]) + np.c_[np.zeros((4, 3)), [10, 20, 30, 0]]

    @pytest.mark.parametrize("suffix", (".tif", ".ome.tif", ".mrc"))
    @pytest.mark.parametrize("option", ((), ("--spacing", "6,4,2mm")))
    def test_a_nifti_from_one_claims_no_place_but_its_steps(self, tmp_path, suffix, option):
        source = make_nifti(tmp_path / "a.nii", noise(*SIZE).T, sform=self.AFFINE)
        ok("apply", source, "-o", tmp_path / f"b{suffix}", "--kernel", "identity", "-q")
        command = ("--kernel", "box", "--size", "3vox", "--stride", "1,1,2", "-q")
        ok("apply", tmp_path / f"b{suffix}", "-o", tmp_path / "c.nii", *command, *option)
        header = nifti_header(tmp_path / "c.nii")
        assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
        np.testing.assert_allclose(header["pixdim"][1:4], np.array([2.0, 2.0, 3.0]) * (2 if option else 1), rtol=1e-6)
        assert header.get_xyzt_units()[0] == "mm"
        found = json.loads(ok("info", tmp_path / "c.nii", "--json").out)
        assert (found["affine"], found["orientation"]) == (None, None)

    @pytest.mark.parametrize(
        ("suffix", "straight", "words"),
        (
            (".tif", False, "TIFF keeps the spacing only; dropped: the orientation LAS and the origin\n"),
            (".ome.tif", True, "OME-TIFF keeps the spacing only; dropped: the orientation RAS and the origin\n"),
            (".mrc", False, "MRC keeps the spacing only; dropped: the orientation LAS and the origin\n"),
            (".mrc", True, "MRC keeps the spacing and the origin only; dropped: the orientation RAS\n"),
        ),
    )
    def test_what_is_dropped_is_said_once_a_file(self, tmp_path, suffix, straight, words):
        affine = self.AFFINE @ np.diag([-1, 1, 1, 1]) if straight else self.AFFINE
        source = make_nifti(tmp_path / "a.nii", noise(*SIZE).T, sform=affine)
        out = tmp_path / f"b{suffix}"
        assert ok("apply", source, "-o", out, "--kernel", "identity").err.count(f"Warning: {out}: {words}") == 1
        again = ok("apply", out, "-o", tmp_path / f"c{suffix}", "--kernel", "identity")
        assert "Warning" not in again.err

    @pytest.mark.parametrize("suffix", (".nii", ".h5", ".npy"))
    def test_nothing_is_said_of_other_formats(self, tmp_path, suffix):
        source = make_nifti(tmp_path / "a.nii", noise(*SIZE).T, sform=self.AFFINE)
        assert "Warning" not in ok("apply", source, "-o", tmp_path / f"b{suffix}", "--kernel", "identity").err

    def test_a_mask_without_directions_goes_with_a_scan_that_has_them(self, tmp_path):
        source = make_nifti(tmp_path / "a.nii", noise(*SIZE).T, sform=self.AFFINE)
        mask = make_volume(tmp_path / "m.mrc", np.ones(SIZE, np.int16))
        ok("apply", source, "-o", tmp_path / "b.nii", "--kernel", "box", "--size", "3vox", "--mask", mask)
