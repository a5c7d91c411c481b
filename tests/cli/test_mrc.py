"""MRC: what mrcfile writes is read, and what is written here mrcfile reads; sizes in angstrom, axes in any order."""

import gzip
import json

import numpy as np
import pytest
import SimpleITK

from lucid_cli.formats.mrc import HEADER
from tests.cli.conftest import SIZE, make_nifti, noise, ok, run

mrcfile = pytest.importorskip("mrcfile")

ANGSTROM = 1e-7
SUFFIXES = (".mrc", ".map", ".rec", ".mrcs", ".map.gz")


def info(path):
    return json.loads(ok("info", path, "--json").out)


def values(path):
    ok("apply", path, "-o", path.parent / "back.npy", "--kernel", "identity", "-q", "--overwrite")
    return np.load(path.parent / "back.npy")


@pytest.fixture
def scan(tmp_path):
    """A volume with voxels of 2 x 3 x 4 angstrom along x, y, z."""
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(noise(*SIZE))
        file.voxel_size = (2, 3, 4)
        file.header.origin.x, file.header.origin.y, file.header.origin.z = -10, 20, 30
        file.set_volume()
    return tmp_path / "a.mrc"


def patched(path, **fields):
    """Set fields of the header of a file."""
    data = bytearray(path.read_bytes())
    header = np.frombuffer(data, HEADER, 1)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(data)
    return path


def test_sizes_and_origin_are_in_angstrom(scan):
    found = info(scan)
    np.testing.assert_allclose(found["spacing_mm"], np.multiply([4, 3, 2], ANGSTROM), rtol=1e-6)
    expected = np.diag([2, 3, 4, 0]) + np.c_[np.zeros((4, 3)), [-10, 20, 30, 0]]
    np.testing.assert_allclose(np.array(found["affine"])[:3], expected[:3] * ANGSTROM, rtol=1e-6)


def test_without_an_origin_the_start_says_it(scan):
    found = info(patched(scan, origin=0, start=[5, 6, 7]))
    np.testing.assert_allclose(np.array(found["affine"])[:3, 3], np.multiply([10, 18, 28], ANGSTROM), rtol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_size_and_origin_follow_the_stride(scan, suffix):
    out = scan.parent / f"b{suffix}"
    ok("apply", scan, "-o", out, "--kernel", "box", "--size", "3vox", "--stride", "2,1,3", "--padding", "valid", "-q")
    with mrcfile.open(out) as file:
        assert mrcfile.validate(out) or suffix == ".mrcs"
        np.testing.assert_allclose(file.voxel_size.tolist(), (6, 3, 8), rtol=1e-6)
        np.testing.assert_allclose(file.header.origin.tolist(), (-10 + 2, 20 + 3, 30 + 4), rtol=1e-6)
        assert file.data.shape == (2, 4, 2)


def test_simpleitk_reads_the_same_sizes(scan):
    ok("apply", scan, "-o", scan.parent / "b.mrc", "--kernel", "identity", "-q")
    image = SimpleITK.ReadImage(str(scan.parent / "b.mrc"))
    np.testing.assert_allclose(image.GetSpacing(), (2, 3, 4), rtol=1e-6)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), noise(*SIZE))


@pytest.mark.parametrize("order", ((1, 2, 3), (3, 2, 1), (2, 3, 1)))
def test_columns_rows_and_sections_may_be_any_axes_of_the_world(scan, order):
    steps, matrix = {1: 2.0, 2: 3.0, 3: 4.0}, np.zeros((3, 3))
    for column, axis in enumerate(order):
        matrix[axis - 1, column] = steps[axis]
    cell = [steps[axis] * 5 for axis in (1, 2, 3)]
    found = info(patched(scan, axes=order, m=5, cell=cell))
    np.testing.assert_allclose(np.array(found["affine"])[:3, :3], matrix * ANGSTROM, rtol=1e-6)
    assert found["shape"] == list(SIZE)


def test_a_nifti_gives_its_size_and_what_is_not_turned_its_origin(tmp_path):
    affine = np.diag([2e-6, 3e-6, 4e-6, 1])
    affine[:3, 3] = 1e-5, 2e-5, 3e-5
    for name, signs, origin in (("straight", 1, (100, 200, 300)), ("flipped", -1, (0, 0, 0))):
        make_nifti(tmp_path / f"{name}.nii", noise(*SIZE).T, sform=affine @ np.diag([signs, 1, 1, 1]))
        ok("apply", tmp_path / f"{name}.nii", "-o", tmp_path / f"{name}.mrc", "--kernel", "identity", "-q")
        with mrcfile.open(tmp_path / f"{name}.mrc") as file:
            np.testing.assert_allclose(file.voxel_size.tolist(), (20, 30, 40), rtol=1e-5)
            np.testing.assert_allclose(file.header.origin.tolist(), origin, rtol=1e-5)


def test_a_file_that_says_no_size_has_none(scan):
    assert info(patched(scan, cell=0))["spacing_mm"] is None
    result = ok("plan", patched(scan, cell=[14, 18, 20], angles=[90, 90, 120]), "--kernel", "identity")
    assert "angles of its cell" in result.err


@pytest.mark.parametrize("code", ("i1", "i2", "f4", "u2", "f2"))
@pytest.mark.parametrize("order", "<>")
def test_every_type_in_either_byte_order_behind_an_extended_header(tmp_path, code, order):
    volume = (np.arange(210).reshape(SIZE) % 100).astype(code)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(volume.astype(order + code))
        file.set_extended_header(np.zeros(3, "V100"))
    assert info(tmp_path / "a.mrc")["dtype"] == np.dtype(code).name
    np.testing.assert_array_equal(values(tmp_path / "a.mrc"), volume)


def test_the_bytes_of_imod_are_unsigned_unless_it_says_otherwise(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(np.full(SIZE, -1, np.int8))
    for fields, expected in (({}, -1), ({"imod": [1146047817, 0]}, 255), ({"imod": [1146047817, 1]}, -1)):
        assert (values(patched(tmp_path / "a.mrc", **fields)) == expected).all()


def test_a_compressed_map_as_the_emdb_has_them(scan):
    packed = scan.parent / "c.map.gz"
    packed.write_bytes(gzip.compress(scan.read_bytes()))
    np.testing.assert_array_equal(values(packed), noise(*SIZE))
    assert info(packed)["compression"] == "gzip"


def test_a_stack_of_volumes_is_a_series(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(noise(3, *SIZE))
    found = info(tmp_path / "a.mrc")
    assert (found["axes"], found["shape"]) == ("tzyx", [3, *SIZE])
    ok("apply", tmp_path / "a.mrc", "-o", tmp_path / "b.mrc", "--kernel", "identity", "-q")
    with mrcfile.open(tmp_path / "b.mrc") as file:
        assert file.is_volume_stack()
        np.testing.assert_array_equal(file.data, noise(3, *SIZE))


@pytest.mark.parametrize(
    ("fields", "words"),
    (
        ({"map": b"nope"}, "not an MRC file"),
        ({"mode": 4}, "legal: 0 (int8)"),
        ({"n": [7, 6, -5]}, "at least 1"),
        ({"n": [2**31 - 1] * 3}, "cut short"),
        ({"extended": -1}, "at least 0"),
        ({"extended": 2**31 - 1}, "cut short"),
        ({"group": 401, "m": [7, 6, 3]}, "no stack of volumes"),
    ),
)
def test_a_header_that_is_wrong_is_one_line(scan, fields, words):
    result = run("apply", patched(scan, **fields), "-o", scan.parent / "b.npy", "--kernel", "identity", "-q")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert words in result.err


def test_files_that_are_cut_short_are_one_line(scan):
    good = scan.read_bytes()
    for size in (0, 100, 1023, 1024, len(good) - 1):
        scan.write_bytes(good[:size])
        result = run("apply", scan, "-o", scan.parent / "b.npy", "--kernel", "identity", "-q")
        assert (result.code, result.err.count("\n")) == (3, 1)
