"""MetaImage and NRRD: what SimpleITK writes is read at its place, and what is written here SimpleITK reads at its."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from tests.cli.conftest import ITK, SIZE, contents, make_nifti, make_volume, noise, ok, run, save_weights
from tests.cli.test_geometry import (
    AT_ORIGIN,
    FLIPPED,
    LAYERS,
    OBLIQUE,
    SIZE_XYZ,
    SLOPE,
    SWAPPED,
    affine_with,
    inside,
    ramp,
)

AFFINES = {"oblique": OBLIQUE, "flipped": FLIPPED, "swapped": SWAPPED}
TO_RAS = np.array([-1, -1, 1])


def image_of(values, affine):
    """Return values (z, y, x) as an image of SimpleITK at the place an affine to RAS says."""
    image = SimpleITK.GetImageFromArray(values)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(steps.tolist())
    image.SetDirection((TO_RAS[:, None] * affine[:3, :3] / steps).ravel().tolist())
    image.SetOrigin((TO_RAS * affine[:3, 3]).tolist())
    return image


def affine_in(image):
    """Return the affine to RAS of an image of SimpleITK."""
    directions = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return affine_with(TO_RAS[:, None] * directions, TO_RAS * image.GetOrigin())


@pytest.mark.parametrize("suffix", ITK)
@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("packed", (False, True))
def test_what_simpleitk_writes_is_read_at_its_place(tmp_path, suffix, name, packed):
    image = image_of(noise(*SIZE), AFFINES[name])
    SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"), useCompression=packed)
    found = json.loads(ok("info", tmp_path / f"a{suffix}", "--json").out)
    np.testing.assert_allclose(found["affine"], AFFINES[name], atol=1e-9)
    assert (found["shape"], found["axes"], found["compression"] is not None) == ([*SIZE[::-1]], "xyz", packed)
    ok("apply", tmp_path / f"a{suffix}", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))


@pytest.mark.parametrize("suffix", ITK)
@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("layer", ("strides", "pads", "even", "binning"))
def test_simpleitk_sees_a_ramp_where_it_was(tmp_path, suffix, name, layer):
    options, lows = LAYERS[layer]
    SimpleITK.WriteImage(image_of(ramp(AFFINES[name]).T, AFFINES[name]), str(tmp_path / f"a{suffix}"))
    command = ("--kernel", "box", *options, "--out-dtype", "float64", "-q")
    ok("apply", tmp_path / f"a{suffix}", "-o", tmp_path / f"b{suffix}", *command)
    image = SimpleITK.ReadImage(str(tmp_path / f"b{suffix}"))
    values = SimpleITK.GetArrayFromImage(image)
    mask = inside(options, lows)[tuple(map(slice, values.T.shape))].T
    assert mask.sum() >= 8
    for z, y, x in np.argwhere(mask)[:: max(1, mask.sum() // 50)]:
        point = TO_RAS * image.TransformIndexToPhysicalPoint((int(x), int(y), int(z)))
        assert abs(point @ SLOPE + AT_ORIGIN - values[z, y, x]) < 1e-6


@pytest.mark.parametrize("suffix", ITK)
@pytest.mark.parametrize("name", AFFINES)
def test_a_nifti_there_and_back_keeps_its_place(tmp_path, suffix, name):
    make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), sform=AFFINES[name])
    ok("apply", tmp_path / "a.nii", "-o", tmp_path / f"b{suffix}", "--kernel", "identity", "-q")
    np.testing.assert_allclose(affine_in(SimpleITK.ReadImage(str(tmp_path / f"b{suffix}"))), AFFINES[name], atol=2e-6)
    ok("apply", tmp_path / f"b{suffix}", "-o", tmp_path / "c.nii", "--kernel", "identity", "-q")
    for path in ("a.nii", f"b{suffix}", "c.nii"):
        found = json.loads(ok("info", tmp_path / path, "--json").out)
        np.testing.assert_allclose(found["affine"], AFFINES[name], atol=2e-6)


@pytest.mark.parametrize("suffix", ITK)
def test_a_volume_without_a_place_gets_none_and_one_with_spacing_keeps_it(tmp_path, suffix):
    make_volume(tmp_path / "a.npy", noise(*SIZE))
    ok("apply", tmp_path / "a.npy", "-o", tmp_path / f"b{suffix}", "--kernel", "identity", "-q")
    assert ok("info", tmp_path / f"b{suffix}", "--spacing").out == "unknown\n"
    make_nifti(tmp_path / "c.nii", noise(*SIZE).T, pixdim=(1.0, 2.0, 3.0))
    ok("apply", tmp_path / "c.nii", "-o", tmp_path / f"d{suffix}", "--kernel", "identity", "-q")
    assert SimpleITK.ReadImage(str(tmp_path / f"d{suffix}")).GetSpacing() == (1, 2, 3)


@pytest.mark.parametrize("suffix", ITK)
@pytest.mark.parametrize("packed", (False, True))
def test_the_components_of_a_vector_image_are_channels(tmp_path, suffix, packed):
    vectors = noise(*SIZE, 3)
    image = SimpleITK.GetImageFromArray(vectors, isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"), useCompression=packed)
    assert json.loads(ok("info", tmp_path / f"a{suffix}", "--json").out)["axes"] == "cxyz"
    weights = save_weights(tmp_path / "w.npz", noise(2, 3, 1, 1, 1))
    command = ("--weights", weights, "--tile", "2,99,99", "-q")
    ok("apply", tmp_path / f"a{suffix}", "-o", tmp_path / f"b{suffix}", *command)
    result = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"b{suffix}")))
    np.testing.assert_allclose(result, vectors @ noise(2, 3).T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("suffix", (".mha", ".nrrd"))
@pytest.mark.parametrize("channels", (1, 3))
@pytest.mark.parametrize("tile", ("2,99,99", "2,3,4"))
def test_compression_on_demand_is_read_by_simpleitk(tmp_path, suffix, channels, tile):
    source = make_volume(tmp_path / "a.npy", noise(channels, *SIZE))
    for level in ("none", 1, 9):
        out = tmp_path / f"b{level}{suffix}"
        ok("apply", source, "-o", out, "--compression", level, "--kernel", "identity", "-q", "--tile", tile)
        result = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(out)))
        np.testing.assert_array_equal(result.reshape(*SIZE, channels), np.moveaxis(noise(channels, *SIZE), 0, -1))
        ok("apply", out, "-o", tmp_path / "back.npy", "--kernel", "identity", "-q", "--overwrite")
        np.testing.assert_array_equal(np.load(tmp_path / "back.npy").reshape(channels, *SIZE), noise(channels, *SIZE))
        assert (json.loads(ok("info", out, "--json").out)["compression"] is None) == (level == "none")


class TestMetaImage:
    GOOD = (
        "ObjectType = Image\nNDims = 3\nElementSpacing = 1 2 3\nDimSize = 7 6 5\nElementType = MET_FLOAT\n"
        "ElementDataFile = LOCAL\n"
    )
    VOXELS = noise(*SIZE).tobytes()

    def written(self, folder, header=GOOD, voxels=VOXELS):
        (folder / "a.mha").write_bytes(header.encode() + voxels)
        return folder / "a.mha"

    def values(self, folder):
        ok("apply", folder / "a.mha", "-o", folder / "b.npy", "--kernel", "identity", "-q", "--overwrite")
        return np.load(folder / "b.npy")

    def test_big_endian_voxels_at_the_end_of_the_file(self, tmp_path):
        header = self.GOOD.replace("NDims", "HeaderSize = -1\nBinaryDataByteOrderMSB = True\nNDims")
        self.written(tmp_path, header, b"padding" + noise(*SIZE).astype(">f4").tobytes())
        np.testing.assert_array_equal(self.values(tmp_path), noise(*SIZE))

    def test_voxels_in_a_folder_below(self, tmp_path):
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw" / "x.bin").write_bytes(b"head" + self.VOXELS)
        self.written(tmp_path, self.GOOD.replace("LOCAL", "raw/x.bin").replace("NDims", "HeaderSize = 4\nNDims"), b"")
        np.testing.assert_array_equal(self.values(tmp_path), noise(*SIZE))

    def test_the_file_of_the_voxels_is_never_written_over(self, tmp_path):
        (tmp_path / "b.raw").write_bytes(self.VOXELS)
        self.written(tmp_path, self.GOOD.replace("LOCAL", "b.raw"), b"")
        before = contents(tmp_path)
        result = run("apply", tmp_path / "a.mha", "-o", tmp_path / "b.mhd", "--kernel", "identity", "--overwrite")
        assert result.code == 4
        assert "same file as the input" in result.err
        assert contents(tmp_path) == before

    def test_four_dimensions_are_a_series(self, tmp_path):
        header = self.GOOD.replace("NDims = 3", "NDims = 4").replace("1 2 3", "1 2 3 4").replace("7 6 5", "7 6 5 2")
        self.written(tmp_path, header, noise(2, *SIZE).tobytes())
        assert json.loads(ok("info", tmp_path / "a.mha", "--json").out)["axes"] == "xyzt"
        np.testing.assert_array_equal(self.values(tmp_path).reshape(2, *SIZE), noise(2, *SIZE))

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        (
            ("ObjectType = Image", "a scan, honestly", "not a MetaImage file"),
            ("ElementDataFile = LOCAL\n", "", "no ElementDataFile"),
            ("7 6 5", "7 6", "3 whole numbers"),
            ("7 6 5", "7 6 -5", "at least 1"),
            ("7 6 5", "9" * 5000 + " 6 5", "3 whole numbers"),
            ("7 6 5", "70000 60000 50000", "cut short"),
            ("7 6 5", "7 6 x", "3 whole numbers"),
            ("NDims = 3", "NDims = 2", "3 whole numbers|3 axes"),
            ("MET_FLOAT", "MET_STRING", "legal: MET_CHAR"),
            ("1 2 3", "1 nan 3", "3 numbers"),
            ("NDims", "BinaryData = False\nNDims", "as text"),
            ("NDims", "CompressedData = True\nNDims", "damaged or cut short"),
            ("LOCAL", "../b.raw", "outside its folder"),
            ("LOCAL", "/etc/passwd", "outside its folder"),
            ("LOCAL", "nowhere.raw", "no such file"),
            ("LOCAL", "LIST", "several files"),
            ("LOCAL", "slice%03d.raw", "several files"),
        ),
    )
    def test_a_header_that_is_wrong_is_one_line(self, tmp_path, old, new, words):
        assert old in self.GOOD
        self.written(tmp_path, self.GOOD.replace(old, new, 1))
        result = run("apply", tmp_path / "a.mha", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
        assert (result.code, result.err.count("\n")) == (3, 1)
        assert any(word in result.err for word in words.split("|")), result.err

    def test_voxels_that_are_cut_short_are_one_line(self, tmp_path):
        for data in (self.VOXELS[:-1], b""):
            self.written(tmp_path, voxels=data)
            result = run("apply", tmp_path / "a.mha", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
            assert (result.code, "cut short" in result.err) == (3, True)

    def test_a_compressed_stream_that_is_damaged_is_one_line(self, tmp_path):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise(*SIZE)), str(tmp_path / "good.mha"), True)
        good = (tmp_path / "good.mha").read_bytes()
        for data in (good[:-5], good[:-1] + bytes([good[-1] ^ 1]), good[:-300] + bytes(8) + good[-292:]):
            (tmp_path / "a.mha").write_bytes(data)
            result = run("apply", tmp_path / "a.mha", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
            assert (result.code, "damaged or cut short" in result.err) == (3, True)
            assert not Path(tmp_path / "b.npy").exists()


class TestNrrd:
    GOOD = (
        "NRRD0004\n# a comment: with a colon\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: 7 6 5\n"
        "space directions: (1,0,0) (0,2,0) (0,0,3)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
        "space origin: (-4,5,6)\nnote:=a remark\n\n"
    )
    VOXELS = noise(*SIZE).tobytes()

    def written(self, folder, header=GOOD, voxels=VOXELS):
        (folder / "a.nrrd").write_bytes(header.encode() + voxels)
        return folder / "a.nrrd"

    def values(self, path, *options):
        out = path.with_name("back.npy")
        ok("apply", path, "-o", out, "--kernel", "identity", "-q", "--overwrite", *options)
        return np.load(out)

    def info(self, path):
        return json.loads(ok("info", path, "--json").out)

    @pytest.mark.parametrize(
        ("space", "signs"),
        (
            ("left-posterior-superior", (-1, -1, 1)),
            ("LPS", (-1, -1, 1)),
            ("right-anterior-superior", (1, 1, 1)),
            ("RAS", (1, 1, 1)),
            ("left-anterior-superior", (-1, 1, 1)),
        ),
    )
    def test_the_world_is_where_the_space_says(self, tmp_path, space, signs):
        source = self.written(tmp_path, self.GOOD.replace("left-posterior-superior", space))
        expected = np.diag([*signs, 1]) @ affine_with(np.diag([1.0, 2, 3]), (-4, 5, 6))
        np.testing.assert_array_equal(self.info(source)["affine"], expected)
        image = SimpleITK.ReadImage(str(source))
        np.testing.assert_array_equal(affine_in(image), expected)

    @pytest.mark.parametrize("encoding", ("raw", "gzip"))
    def test_pynrrd_reads_and_writes_the_same(self, tmp_path, encoding):
        nrrd = pytest.importorskip("nrrd")
        header = {"space": "RAS", "space directions": OBLIQUE[:3, :3].T, "space origin": OBLIQUE[:3, 3]}
        nrrd.write(str(tmp_path / "a.nrrd"), noise(*SIZE).T, header | {"encoding": encoding})
        np.testing.assert_allclose(self.info(tmp_path / "a.nrrd")["affine"], OBLIQUE, atol=1e-12)
        np.testing.assert_array_equal(self.values(tmp_path / "a.nrrd"), noise(*SIZE))
        level = ("--compression", 1) if encoding == "gzip" else ()
        ok("apply", tmp_path / "a.nrrd", "-o", tmp_path / "b.nrrd", "--kernel", "identity", "-q", *level)
        values, found = nrrd.read(str(tmp_path / "b.nrrd"))
        np.testing.assert_array_equal(values.T, noise(*SIZE))
        np.testing.assert_allclose(found["space directions"] * [-1, -1, 1], OBLIQUE[:3, :3].T, atol=1e-12)
        assert (found["space"], found["encoding"]) == ("left-posterior-superior", encoding)

    def test_units_and_spacings_without_a_space(self, tmp_path):
        header = self.GOOD.replace("space origin: (-4,5,6)\n", "").replace("space: left-posterior-superior\n", "")
        header = header.replace("space directions: (1,0,0) (0,2,0) (0,0,3)", 'spacings: 1 2 3\nunits: "um" "um" "um"')
        found = self.info(self.written(tmp_path, header))
        assert found["affine"] is None
        np.testing.assert_allclose(found["spacing_mm"], [0.001, 0.002, 0.003])

    def test_a_list_is_a_series_and_a_vector_has_channels(self, tmp_path):
        header = self.GOOD.replace("dimension: 3", "dimension: 5").replace("7 6 5", "3 7 6 5 2")
        header = header.replace("directions: ", "directions: none ").replace("(0,0,3)", "(0,0,3) none")
        header = header.replace("kinds: domain domain domain", "kinds: vector domain domain domain list")
        source = self.written(tmp_path, header, noise(2, *SIZE, 3).tobytes())
        assert self.info(source)["axes"] == "cxyzt"
        np.testing.assert_array_equal(self.values(source), np.moveaxis(noise(2, *SIZE, 3), -1, 1))
        ok("apply", source, "-o", tmp_path / "b.nrrd", "--kernel", "identity", "-q")
        found = self.info(tmp_path / "b.nrrd")
        assert (found["axes"], found["shape"]) == ("cxyzt", [3, 7, 6, 5, 2])

    def test_a_list_that_comes_first_is_read(self, tmp_path):
        header = self.GOOD.replace("dimension: 3", "dimension: 4").replace("7 6 5", "2 7 6 5")
        header = header.replace("directions: ", "directions: none ").replace("kinds: ", "kinds: list ")
        for encoding in ("raw", "gzip"):
            voxels = noise(*SIZE, 2).tobytes()
            packed = gzip.compress(voxels) if encoding == "gzip" else voxels
            source = self.written(tmp_path, header.replace("raw", encoding), packed)
            np.testing.assert_array_equal(self.values(source).reshape(2, *SIZE), np.moveaxis(noise(*SIZE, 2), -1, 0))

    def test_what_else_the_header_holds_is_kept_with_the_channels(self, tmp_path):
        source = self.written(tmp_path)
        ok("apply", source, "-o", tmp_path / "b.nrrd", "--kernel", "identity", "-q")
        ok("apply", source, "-o", tmp_path / "c.nrrd", "--out-channels", 2, "--kernel-size", 1, "-q")
        assert [b"note:=a remark\n" in (tmp_path / name).read_bytes() for name in ("b.nrrd", "c.nrrd")] == [True, False]

    def test_skipped_lines_and_bytes_of_a_file_beside(self, tmp_path):
        (tmp_path / "x.bin").write_bytes(b"first\nsecond\n1234" + self.VOXELS)
        extra = "data file: x.bin\nline skip: 2\nbyte skip: 4\n\n"
        source = self.written(tmp_path, self.GOOD.removesuffix("\n") + extra, b"")
        np.testing.assert_array_equal(self.values(source), noise(*SIZE))
        source = self.written(tmp_path, self.GOOD.removesuffix("\n") + "datafile: x.bin\nbyteskip: -1\n", b"")
        np.testing.assert_array_equal(self.values(source), noise(*SIZE))

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        (
            ("NRRD0004", "NRRX0004", "not an NRRD file"),
            ("kinds", "kinds domain\nkinds", "no field"),
            ("7 6 5", "7 6", "3 whole numbers"),
            ("7 6 5", "7 6 0", "at least 1"),
            ("7 6 5", "70000 60000 50000", "cut short"),
            ("dimension: 3", "dimension: 99", "legal"),
            ("type: float", "type: block", "legal: int8"),
            ("type: float\n", "", "type is missing"),
            ("endian: little\n", "", "endian is missing"),
            ("encoding: raw", "encoding: hex", "legal: raw, gzip"),
            ("encoding: raw", "encoding: gzip", "not compressed so"),
            ("(0,2,0)", "(0,2)", "vectors of 3 numbers"),
            ("(0,2,0)", "(0,two,0)", "3 vectors"),
            ("domain domain domain", "domain domain", "3 of them"),
            ("domain domain domain", "vector domain domain", "3 axes of space"),
            ("encoding", "data file: ../x.bin\nencoding", "outside its folder"),
            ("encoding", "data file: LIST\nencoding", "several files"),
            ("encoding", "data file: x%03d.raw 1 5 1\nencoding", "several files"),
            ("encoding", "data file: none.raw\nencoding", "no such file"),
        ),
    )
    def test_a_header_that_is_wrong_is_one_line(self, tmp_path, old, new, words):
        assert old in self.GOOD
        self.written(tmp_path, self.GOOD.replace(old, new, 1))
        result = run("apply", tmp_path / "a.nrrd", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
        assert (result.code, result.err.count("\n")) == (3, 1), result.err
        assert words in result.err
