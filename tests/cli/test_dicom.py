"""DICOM series and files: the same voxels at the same place that SimpleITK reads, and what is no volume refused."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from tests.cli.conftest import make_volume, noise, ok, run
from tests.cli.test_geometry import FLIPPED, LAYERS, OBLIQUE, SWAPPED, inside, ramp
from tests.cli.test_itk_files import affine_in

pydicom = pytest.importorskip("pydicom")

AFFINES = {"oblique": OBLIQUE, "flipped": FLIPPED, "swapped": SWAPPED}
IDENTITY = ("--kernel", "identity", "-q")
STORED = (np.arange(5 * 6 * 7) * 7 % 1000 - 300).astype(np.int16).reshape(5, 6, 7)


def header(values, uid="1.2.3.4", number=7, **fields):
    """Return a data set with the pixels of one slice or of several frames, without a place."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = MRImageStorage
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = f"{uid}.{fields.get('InstanceNumber', 0)}"
    found.SeriesInstanceUID, found.StudyInstanceUID, found.SeriesNumber = uid, "1.2.3", number
    found.Modality, found.SeriesDescription, found.PatientID = "MR", "a head", "none"
    found.Rows, found.Columns = values.shape[-2:]
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated = found.BitsStored = 8 * values.itemsize
    found.HighBit, found.PixelRepresentation = 8 * values.itemsize - 1, int(values.dtype.kind == "i")
    found.PixelData = values.tobytes()
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def place(affine, at):
    """Return the fields that place slice `at` of a volume by its affine to RAS."""
    world = np.diag([-1, -1, 1, 1]) @ affine
    steps = np.linalg.norm(world[:3, :3], axis=0)
    digits = [f"{value:.12g}"[:16] for value in (*(world[:3, :2] / steps[:2]).T.ravel(), *(world @ [0, 0, at, 1])[:3])]
    return {
        "PixelSpacing": [float(steps[1]), float(steps[0])],
        "ImageOrientationPatient": digits[:6],
        "ImagePositionPatient": digits[6:],
        "SliceThickness": float(steps[2]),
    }


def save_series(folder, volume, affine, *, name="{:03}.dcm", skip=(), uid="1.2.3.4", **fields):
    """Write a volume (z, y, x) slice by slice, in an order of names that is none of places."""
    folder.mkdir(exist_ok=True)
    order = np.random.default_rng(0).permutation(len(volume))
    for at, values in enumerate(volume):
        if at not in skip:
            found = header(values, uid, InstanceNumber=at + 1, **place(affine, at), **fields)
            found.save_as(folder / name.format(order[at]), enforce_file_format=True)
    return folder


def info(path):
    return json.loads(ok("info", path, "--json").out)


def values_of(path):
    out = path.parent / "back.npy"
    ok("apply", path, "-o", out, *IDENTITY, "--overwrite")
    return np.load(out)


def right_handed(affine):
    """Turn the slices of a left-handed affine: a series is put in order along the normal of its slices."""
    if np.linalg.det((np.diag([-1, -1, 1, 1]) @ affine)[:3, :3]) > 0:
        return affine, slice(None)
    turned = affine @ np.diag([1, 1, -1, 1])
    turned[:3, 3] += affine[:3, 2] * (len(STORED) - 1)
    return turned, slice(None, None, -1)


@pytest.mark.parametrize("name", AFFINES)
def test_a_series_is_read_as_simpleitk_reads_it(tmp_path, name):
    folder = save_series(tmp_path / "series", STORED, AFFINES[name])
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    np.testing.assert_array_equal(values_of(folder), SimpleITK.GetArrayFromImage(image))
    found = info(folder)
    np.testing.assert_allclose(found["affine"], affine_in(image), atol=1e-5)
    expected, order = right_handed(AFFINES[name])
    np.testing.assert_allclose(found["affine"], expected, atol=1e-5)
    np.testing.assert_array_equal(values_of(folder), STORED[order])
    assert (found["shape"], found["axes"], found["dtype"]) == ([5, 6, 7], "zyx", "int16")


@pytest.mark.parametrize("layer", ("strides", "pads", "even"))
def test_a_ramp_stays_where_it_was(tmp_path, layer):
    options, lows = LAYERS[layer]
    affine = OBLIQUE
    stored = np.round(ramp(affine).T * 100).astype(np.int16)
    folder = save_series(tmp_path / "series", stored, affine, RescaleSlope=0.01, RescaleIntercept=0)
    ok("apply", folder, "-o", tmp_path / "b.nii", "--kernel", "box", *options, "--out-dtype", "float64", "-q")
    image = nib.load(tmp_path / "b.nii")
    values, mask = np.asarray(image.dataobj), inside(options, lows)[tuple(map(slice, image.shape))]
    np.testing.assert_allclose(values[mask], ramp(image.get_sform(), image.shape)[mask], atol=0.01)


def test_every_slice_is_scaled_by_its_own_slope(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    for at, values in enumerate(STORED):
        fields = {"RescaleSlope": 0.5 + at, "RescaleIntercept": -10 * at, **place(np.eye(4), at)}
        header(values, InstanceNumber=at, **fields).save_as(folder / f"{at}.dcm", enforce_file_format=True)
    scaled = np.stack([values * (0.5 + at) - 10 * at for at, values in enumerate(STORED)])
    expected = scaled[right_handed(np.eye(4))[1]]
    np.testing.assert_array_equal(values_of(folder), expected.astype(np.float32))
    ok("apply", folder, "-o", tmp_path / "c.npy", *IDENTITY, "--tile", "2,3,4")
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), expected.astype(np.float32))


def test_files_without_a_suffix_are_a_series_and_other_files_do_no_harm(tmp_path):
    folder = save_series(tmp_path / "series", STORED, OBLIQUE, name="IM{:04}")
    (folder / "README.txt").write_text("a remark")
    np.testing.assert_array_equal(values_of(folder), STORED[right_handed(OBLIQUE)[1]])


class TestSeveralSeries:
    @pytest.fixture
    def folder(self, tmp_path):
        save_series(tmp_path / "both", STORED, OBLIQUE, name="a{}.dcm", uid="1.2.3.4", number=7)
        return save_series(tmp_path / "both", STORED + 1, OBLIQUE, name="b{}.dcm", uid="1.2.3.5", number=8)

    def test_they_are_listed(self, folder):
        result = run("plan", folder, "--kernel", "identity")
        assert (result.code, result.err.count("\n")) == (3, 1)
        for words in ("2 DICOM series", "1.2.3.4 (number 7, a head, 5 files)", "1.2.3.5 (number 8", f"{folder}:UID"):
            assert words in result.err

    @pytest.mark.parametrize("which", ("1.2.3.5", "8", "3.5"))
    def test_one_is_named_by_its_uid_or_its_number(self, folder, which):
        ok("apply", f"{folder}:{which}", "-o", folder.parent / "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load(folder.parent / "b.npy"), STORED[right_handed(OBLIQUE)[1]] + 1)

    def test_a_name_of_none_is_refused(self, folder):
        result = run("plan", f"{folder}:99", "--kernel", "identity")
        assert (result.code, "0 of them are '99'" in result.err) == (3, True)


def multiframe(volume, affine):
    """Return an enhanced image: the frames of a volume, each with its position."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def item(**fields):
        found = Dataset()
        for name, value in fields.items():
            setattr(found, name, value)
        return found

    fields = [place(affine, at) for at in range(len(volume))]
    measures = item(PixelSpacing=fields[0]["PixelSpacing"], SliceThickness=fields[0]["SliceThickness"])
    orientation = item(ImageOrientationPatient=fields[0]["ImageOrientationPatient"])
    scaling = item(RescaleSlope=2, RescaleIntercept=1, RescaleType="US")
    shared = item(
        PixelMeasuresSequence=Sequence([measures]),
        PlaneOrientationSequence=Sequence([orientation]),
        PixelValueTransformationSequence=Sequence([scaling]),
    )
    frames = [
        item(PlanePositionSequence=Sequence([item(ImagePositionPatient=one["ImagePositionPatient"])])) for one in fields
    ]
    return header(
        volume,
        NumberOfFrames=len(volume),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
    )


class TestOneFile:
    def test_frames_with_positions_are_a_volume(self, tmp_path):
        multiframe(STORED, OBLIQUE).save_as(tmp_path / "a.dcm", enforce_file_format=True)
        expected, order = right_handed(OBLIQUE)
        np.testing.assert_allclose(info(tmp_path / "a.dcm")["affine"], expected, atol=1e-5)
        np.testing.assert_array_equal(values_of(tmp_path / "a.dcm"), STORED[order] * 2 + 1)

    def test_frames_without_positions_have_no_place_and_a_warning(self, tmp_path):
        header(STORED, NumberOfFrames=5).save_as(tmp_path / "a.dcm", enforce_file_format=True)
        result = ok("apply", tmp_path / "a.dcm", "-o", tmp_path / "b.npy", "--kernel", "identity")
        assert "no place in the world" in result.err
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), STORED)

    def test_one_slice_is_read_with_a_hint_to_its_folder(self, tmp_path):
        folder = save_series(tmp_path / "series", STORED, OBLIQUE)
        result = ok("apply", folder / "000.dcm", "-o", tmp_path / "b.npy", "--kernel", "identity")
        assert "is one slice; name its folder" in result.err
        assert np.load(tmp_path / "b.npy").shape == (1, 6, 7)


class TestRefusals:
    def refused(self, path, *words):
        result = run("apply", path, "-o", path.parent / "out.npy", *IDENTITY)
        assert (result.code, result.err.count("\n")) == (3, 1), result.err
        for word in words:
            assert word in result.err

    def test_a_missing_slice(self, tmp_path):
        self.refused(save_series(tmp_path / "series", STORED, OBLIQUE, skip=(2,)), "slices are missing")

    def test_several_volumes_at_one_place(self, tmp_path):
        save_series(tmp_path / "series", STORED, OBLIQUE, name="a{}.dcm")
        self.refused(save_series(tmp_path / "series", STORED, OBLIQUE, name="b{}.dcm"), "several volumes", "dcm2niix")

    def test_slices_of_other_sizes(self, tmp_path):
        save_series(tmp_path / "series", STORED, OBLIQUE, name="a{}.dcm")
        self.refused(save_series(tmp_path / "series", STORED[:, :5], OBLIQUE, name="b{}.dcm"), "differ in their kind")

    def test_colours(self, tmp_path):
        fields = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
        values = np.zeros((6, 7), np.uint8)
        header(values, **fields).save_as(tmp_path / "a.dcm", enforce_file_format=True)
        self.refused(tmp_path / "a.dcm", "colours (RGB)")

    @pytest.mark.parametrize("data", (b"", b"a scan" * 99, bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\xff" * 99))
    def test_what_is_no_dicom(self, tmp_path, data):
        (tmp_path / "a.dcm").write_bytes(data)
        self.refused(tmp_path / "a.dcm", "a.dcm")

    def test_a_slice_that_is_cut_short(self, tmp_path):
        folder = save_series(tmp_path / "series", STORED, OBLIQUE)
        data = (folder / "003.dcm").read_bytes()
        (folder / "003.dcm").write_bytes(data[:-20])
        self.refused(folder, "003.dcm")

    def test_many_frames_that_are_not_there(self, tmp_path):
        header(STORED, NumberOfFrames=10**9).save_as(tmp_path / "a.dcm", enforce_file_format=True)
        self.refused(tmp_path / "a.dcm", "frames")

    def test_an_output_is_refused_and_nothing_is_left(self, tmp_path):
        source = make_volume(tmp_path / "a.npy", noise(5, 6, 7))
        result = run("apply", source, "-o", tmp_path / "b.dcm", *IDENTITY)
        assert (result.code, "read, but not written" in result.err) == (2, True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy"]


def test_outputs_in_a_folder_are_nifti_named_after_the_series(tmp_path):
    for name in ("one", "two"):
        save_series(tmp_path / name, STORED, OBLIQUE)
    (tmp_path / "out").mkdir()
    ok("apply", tmp_path / "one", tmp_path / "two", "-o", tmp_path / "out", *IDENTITY)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one_conv3d.nii", "two_conv3d.nii"]
    assert json.loads(ok("plan", tmp_path / "one", "--kernel", "identity", "--json").out)["status"] == "planned"


def test_in_a_folder_each_series_is_one_input_whose_output_is_a_nifti(folder):
    for name in ("a", "b"):
        (folder / "in" / name).mkdir(parents=True)
        save_series(folder / "in" / name / "t1", STORED, OBLIQUE)
    make_volume(folder / "in" / "c.npy", noise(4, 5, 6))
    ok("apply", "in", "--out-dir", "out", *IDENTITY)
    found = sorted(str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*.*"))
    assert found == ["a/t1_conv3d.nii", "b/t1_conv3d.nii", "c_conv3d.npy"]
    np.testing.assert_array_equal(np.asarray(nib.load("out/a/t1_conv3d.nii").dataobj).T, STORED)
    ok("replay", "out/a/t1_conv3d.nii", "--progress", "none")
