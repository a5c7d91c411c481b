"""`compare`: what it counts is what NumPy and exact fractions count, and each part tells what it should, no more."""

import gzip
import itertools
import json
import math
import subprocess
import sys
from fractions import Fraction

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Extension

from lucid_cli.comparison import compare, values
from lucid_cli.comparison.differences import Differences
from lucid_cli.formats import parse_spec
from lucid_cli.nifti_header import FIELDS
from tests.cli.conftest import SIZE, finished, make_nifti, make_volume, noise, npy_bytes, ok, program, run

FORMATS = (".nii", ".nii.gz", ".hdr", ".h5", ".npy")
PARTS = ("shape", "values", "geometry", "dtype", "header")


def compared(a, b, *options):
    """Compare two files; return what JSON says, which the exit code and the table agree with."""
    result, words = run("compare", a, b, *options, "--json"), run("compare", a, b, *options)
    done = json.loads(result.out)
    assert (result.err, words.err) == ("", "")
    assert result.code == words.code == (0 if done["same"] else 1)
    assert words.out.splitlines()[-1].split("  ")[-1].startswith("same" if done["same"] else "the volumes differ")
    assert done["same"] == all(part["verdict"] != "differs" for part in done["parts"].values())
    return done


def verdicts(a, b, *options):
    """Return the parts that differ, by what their lines say."""
    parts = compared(a, b, *options)["parts"]
    return {name: " | ".join(part["lines"]) for name, part in parts.items() if part["verdict"] == "differs"}


def pair(folder, a, b):
    """Write two arrays as `.npy` and return their names."""
    for name, array in (("a.npy", a), ("b.npy", b)):
        (folder / name).write_bytes(npy_bytes(np.asarray(array)))
    return "a.npy", "b.npy"


def cube(*numbers, dtype=np.float64):
    return np.array(numbers, dtype).reshape(1, 1, -1)


@pytest.mark.parametrize("second", FORMATS)
@pytest.mark.parametrize("first", FORMATS)
def test_a_volume_is_the_same_in_any_format_and_one_other_voxel_is_found(folder, first, second):
    volume = noise(*SIZE)
    make_volume(f"a{first}", volume)
    make_volume(f"b{second}", volume)
    assert verdicts(f"a{first}", f"b{second}") == {}
    other = volume.copy()
    other[1, 2, 3] += 0.5
    make_volume(f"b{second}", other)
    part = compared(f"a{first}", f"b{second}")["parts"]["values"]
    at = part["max_abs_error_at"]
    in_order = {suffix: [1, 2, 3] if suffix in (".h5", ".npy") else [3, 2, 1] for suffix in FORMATS}
    assert (part["voxels"], part["differing"]) == (volume.size, 1)
    assert (at["index_a"], at["index_b"]) == (in_order[first], in_order[second])
    assert (at["a"], at["b"]) == (volume[1, 2, 3], other[1, 2, 3])
    with_place = not {first, second} <= {".h5", ".npy"}
    assert at["world_mm"] == ([3, 2, 1] if with_place else None)


def test_the_numbers_are_those_of_numpy(folder):
    a, b = noise(*SIZE, seed=1), noise(*SIZE, seed=2)
    b[0, 0, :3] = 0, a[0, 0, 1], np.float32(1e30)
    part = compared(*pair(folder, a, b), "--rtol", "0.5", "--atol", "2")["parts"]["values"]
    errors = np.abs(a.astype(np.float64) - b)
    assert part["differing"] == np.count_nonzero(~np.isclose(a, b.astype(np.float64), rtol=0.5, atol=2))
    assert part["max_abs_error"] == errors.max()
    assert part["max_abs_error_at"]["index_a"] == [0, 0, 2]
    np.testing.assert_allclose(part["mean_abs_error"], errors.mean(), rtol=1e-12)
    np.testing.assert_allclose(part["rms_error"], math.sqrt(np.mean(errors**2)), rtol=1e-12)
    np.testing.assert_allclose(part["max_rel_error"], (errors[b != 0] / np.abs(b[b != 0])).max(), rtol=1e-6)


NUMBERS = (0.0, -0.0, 1.0, 1.5, -2.0, 5e-324, 1e-200, 1e200, 1.7e308, -1.7e308, math.nan, math.inf, -math.inf)


@given(
    st.lists(st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)), min_size=1, max_size=12),
    st.sampled_from((0.0, 0.25, 1e-320)),
    st.sampled_from((0.0, 0.5, 2.0)),
)
def test_every_kind_of_number_is_counted_once(pairs, rtol, atol):
    found = Differences(rtol, atol)
    for at, (x, y) in enumerate(pairs):
        found.add((0, 0, 0, 0, at), np.array([[[[x]]]]), np.array([[[[y]]]]))
    whole = Differences(rtol, atol)
    whole.add((0, 0, 0, 0, 0), *(np.array(side).reshape(1, 1, 1, -1) for side in zip(*pairs, strict=True)))
    one_nan = [math.isnan(x) != math.isnan(y) for x, y in pairs]
    infinite = [not (math.isnan(x) or math.isnan(y)) and x != y and math.inf in (abs(x), abs(y)) for x, y in pairs]
    finite = [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]
    errors = [abs(Fraction(x) - Fraction(y)) for x, y in finite]
    for one in (found, whole):
        assert (one.voxels, one.nan, one.infinite) == (len(pairs), sum(one_nan), sum(infinite))
        assert one.beyond == sum(abs(x - y) > atol + rtol * abs(y) for x, y in finite)
        assert one.largest == float_of(max(errors, default=Fraction(0)))
        assert math.isfinite(one.rms) or one.largest > 1e307
        assert (one.rms > 0) == (one.largest > 0)


def float_of(fraction):
    try:
        return float(fraction)
    except OverflowError:
        return math.inf


EXTREME = (-(2**63), -(2**53) - 1, -1, 0, 1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(("i8", "u8", "i2"), ("i8", "u8"))))
def test_integers_of_64_bits_are_compared_exactly(folder, a, b):
    legal = [[x for x in EXTREME if np.iinfo(kind).min <= x <= np.iinfo(kind).max] for kind in (a, b)]
    both = list(itertools.product(*legal))
    files = pair(folder, *(cube(*side, dtype=kind) for side, kind in zip(zip(*both, strict=True), (a, b), strict=True)))
    part = compared(*files)["parts"]["values"]
    assert part["differing"] == sum(x != y for x, y in both)
    largest = float(max(abs(x - y) for x, y in both))
    at = part["max_abs_error_at"]
    assert part["max_abs_error"] == float(abs(at["a"] - at["b"])) == largest


def test_an_integer_beside_a_float_is_rounded_as_the_help_says(folder):
    files = pair(folder, cube(2**53 + 1, dtype="i8"), cube(2**53))
    assert verdicts(*files) == {"dtype": "int64 and float64"}


@pytest.mark.parametrize(
    ("a", "b", "options", "differing"),
    (
        (1.5, 1.0, ("--atol", "0.5"), 0),
        (1.5, 1.0, ("--atol", "0.49999999999999994"), 1),
        (1.0, 2.0, ("--rtol", "0.5"), 0),
        (2.0, 1.0, ("--rtol", "0.5"), 1),
        (0.0, -0.0, (), 0),
        (5e-324, 0.0, (), 1),
        (1.0, 0.0, ("--rtol", "1e300"), 1),
        (3.0, 2.0, ("--rtol", "0.25", "--atol", "0.5"), 0),
        (3.0, -math.inf, ("--rtol", "1"), 1),
        (math.nan, 1.0, ("--atol", "1e300"), 1),
    ),
)
def test_tolerances_are_of_the_reference_and_include_their_end(folder, a, b, options, differing):
    part = compared(*pair(folder, cube(a), cube(b)), *options)["parts"]["values"]
    assert part["differing"] == differing


def test_nan_and_infinities_are_the_same_where_both_have_them_and_counted_apart(folder):
    nan, inf = math.nan, math.inf
    files = pair(folder, cube(nan, inf, -inf, nan, 1, inf, inf, 2), cube(nan, inf, -inf, 1, nan, -inf, 1, 2))
    part = compared(*files)["parts"]["values"]
    assert [part[name] for name in ("differing", "nan_one_side", "infinite_one_side")] == [4, 2, 2]
    assert part["max_abs_error"] == part["mean_abs_error"] == 0
    assert part["nan_one_side_at"] == {
        "index_a": [0, 0, 3],
        "index_b": [0, 0, 3],
        "world_mm": None,
        "a": "nan",
        "b": 1.0,
    }
    assert part["infinite_one_side_at"]["b"] == "-inf"
    assert "2 NaN on one side only, one at z,y,x 0,0,3: a nan, b 1" in part["lines"]


def test_errors_are_null_where_no_voxel_has_one(folder):
    part = compared(*pair(folder, cube(1.0), cube(math.nan)))["parts"]["values"]
    assert (part["max_abs_error"], part["rms_error"], part["max_abs_error_at"]) == (None, None, None)


def test_errors_beyond_float64_are_words(folder):
    part = compared(*pair(folder, cube(1.7e308), cube(-1.7e308)))["parts"]["values"]
    assert (part["max_abs_error"], part["rms_error"]) == ("inf", "inf")


def test_values_are_compared_scaled(folder):
    make_nifti("a.nii", np.full((2, 3, 4), 7, np.int16), sform=np.eye(4), scaling=(0.5, 1))
    make_nifti("b.nii", np.full((2, 3, 4), 4.5, np.float32), sform=np.eye(4))
    assert verdicts("a.nii", "b.nii") == {
        "dtype": "int16 and float32",
        "header": "scl_slope, scl_inter: (0.5, 1.0) and (1.0, 0.0)",
    }
    make_nifti("c.nii", np.full((2, 3, 4), 7, np.int64), sform=np.eye(4), scaling=(0.5, 1))
    make_nifti("d.nii", np.full((2, 3, 4), 7, np.int64), sform=np.eye(4))
    assert compared("c.nii", "d.nii")["parts"]["values"]["max_abs_error"] == 2.5


@pytest.mark.parametrize("options", ({"endianness": ">"}, {"version": 2}, {"scaling": (np.nan, np.nan)}))
def test_what_changes_no_value_is_no_difference(folder, options):
    stored = noise(*SIZE).T
    make_nifti("a.nii", stored, sform=np.eye(4), qform=np.eye(4))
    make_nifti("b.nii", stored, sform=np.eye(4), qform=np.eye(4), **options)
    make_nifti("c.img", stored, sform=np.eye(4), qform=np.eye(4), **options)
    assert verdicts("a.nii", "b.nii") == verdicts("c.hdr", "a.nii") == verdicts("c.img", "c.hdr") == {}


@pytest.mark.parametrize("suffix", (".nii", ".nii.gz"))
def test_axes_beyond_three(folder, suffix):
    for shape, same in (((4, *SIZE), (4, *SIZE)), ((2, 3, *SIZE), (2, 3, *SIZE)), ((1, 3, *SIZE), (1, 3, *SIZE))):
        volume = noise(*shape)
        # a NIfTI of N and C is (x, y, z, N, C)
        make_nifti(f"a{suffix}", volume.T if len(shape) == 4 else volume.transpose(4, 3, 2, 0, 1), sform=np.eye(4))
        make_volume("b.npy", volume)
        assert verdicts(f"a{suffix}", "b.npy") == {}
        volume[-1, -1] += 1
        make_volume("b.npy", volume)
        part = compared(f"a{suffix}", "b.npy")["parts"]["values"]
        assert part["differing"] == volume[-1, -1].size
        index = part["max_abs_error_at"]["index_b"]
        assert index[: len(index) - 2 if len(shape) == 4 else 2] == [size - 1 for size in same[:2]]
    make_volume("c.npy", noise(1, 1, *SIZE))
    make_volume("c.nii", noise(*SIZE))
    assert verdicts("c.npy", "c.nii") == {}


def test_shapes_that_differ_are_a_difference_and_no_error(folder):
    make_volume("a.npy", noise(4, 5, 6))
    make_volume("b.npy", noise(4, 5, 7))
    assert verdicts("a.npy", "b.npy") == {"shape": "4x5x6 (zyx) and 4x5x7 (zyx)", "values": "the shapes differ"}
    assert verdicts("a.npy", "b.npy", "--ignore", "shape") == {"values": "the shapes differ"}
    assert verdicts("a.npy", "b.npy", "--ignore", "shape,values") == {}


def test_the_same_sizes_on_other_axes_are_another_shape(folder):
    make_nifti("a.nii", noise(4, 5, 6), sform=np.eye(4))
    make_volume("b.npy", noise(4, 5, 6))
    hint = "4x5x6 (xyz) and 4x5x6 (zyx); the axes seem to be in another order"
    assert verdicts("a.nii", "b.npy") == {"shape": hint, "values": "the shapes differ"}


def test_an_axis_of_one_is_part_of_the_shape_but_keeps_no_value_apart(folder):
    make_nifti("a.nii", noise(4, 5, 6), sform=np.eye(4))
    make_nifti("b.nii", noise(4, 5, 6)[..., None], sform=np.eye(4))
    assert set(verdicts("a.nii", "b.nii", "--ignore", "header")) == {"shape"}


@pytest.fixture
def many_regions(monkeypatch):
    """Compare a few voxels at a time, and hold no more than a few planes."""
    monkeypatch.setattr(values, "REGION_VALUES", 7)
    monkeypatch.setattr(values, "BLOCK", 2)


@pytest.mark.parametrize("held", (0, 1 << 26))
@pytest.mark.parametrize("shape", (SIZE, (2, *SIZE), (2, 3, *SIZE)))
def test_regions_change_nothing(folder, many_regions, monkeypatch, held, shape):
    monkeypatch.setattr(values, "HELD_BYTES", held)
    a, b = noise(*shape, seed=1), noise(*shape, seed=2)
    if len(shape) == 5:
        make_nifti("a.nii.gz", a.transpose(4, 3, 2, 0, 1))
    else:
        make_nifti("a.nii.gz", a.T)
    (folder / "f.npy").write_bytes(npy_bytes(np.asfortranarray(b)))
    with h5py.File("c.h5", "w") as file:
        file.create_dataset("data", data=b, chunks=(1,) * (len(shape) - 3) + (2, 3, 4), compression="gzip")
    at = [int(one) for one in np.unravel_index(np.abs(a.astype("f8") - b).argmax(), shape)]
    for first, second in (("a.nii.gz", "f.npy"), ("a.nii.gz", "c.h5"), ("c.h5", "f.npy"), ("f.npy", "a.nii.gz")):
        part = compared(first, second, "--ignore", "geometry,dtype,header")["parts"]["values"]
        assert part["voxels"] == a.size
        if "a.nii.gz" in (first, second):
            other = "b" if first == "a.nii.gz" else "a"
            assert (part["differing"], part["max_abs_error_at"][f"index_{other}"]) == (a.size, at)
            np.testing.assert_allclose(part["mean_abs_error"], np.abs(a.astype("f8") - b).mean(), rtol=1e-12)
        else:
            assert part["differing"] == 0


def test_only_volumes_with_channels_are_decompressed_to_the_disk(folder, monkeypatch):
    monkeypatch.setattr("lucid_cli.budget.shutil.disk_usage", lambda path: type("Usage", (), {"free": 0}))
    make_nifti("a.nii.gz", noise(3, 4, 5, 1, 6))
    make_nifti("b.nii.gz", noise(3, 4, 5, 2, 6))
    assert verdicts("a.nii.gz", "a.nii.gz") == {}
    result = run("compare", "b.nii.gz", "b.nii.gz")
    assert (result.code, "the decompressed input: 5.6 KiB" in result.err) == (6, True), result.err


@pytest.mark.parametrize("suffix", (".nii", ".nii.gz", ".npy", ".h5"))
def test_memory_is_bounded(folder, suffix):
    """A volume of 256 MB; the least that a process takes is some 50 MB."""
    stored = np.zeros((256, 512, 512), np.float32)
    if suffix == ".h5":
        with h5py.File("a.h5", "w") as file:
            file.create_dataset("data", data=stored, chunks=(64, 64, 64), compression="lzf")
    else:
        make_volume(f"a{suffix}", stored)
    code = (
        "import sys; sys.argv[1:] = ['compare', sys.argv[1], sys.argv[1]]\n"
        "from lucid_cli.main import _run\n"
        "from lucid_core.machine import peak_resident_bytes\n"
        "code = _run()\n"
        "sys.exit(code or peak_resident_bytes() >> 20)"
    )
    done = subprocess.run([sys.executable, "-c", code, f"a{suffix}"], capture_output=True, text=True, check=False)
    assert "differs" not in done.stdout
    assert 20 < done.returncode < 180, done.stderr


# Geometry


def moved(x=0.0, step=1.0):
    affine = np.diag([step, 1.0, 1.0, 1.0])
    affine[0, 3] = x
    return affine


def geometry(a, b, folder=None):
    return compared(a, b, "--ignore", "header")["parts"]["geometry"]


@pytest.mark.parametrize(
    ("x", "step", "verdict"),
    ((0, 1, "same"), (0.0009, 1, "same"), (0.0011, 1, "differs"), (0, 1.0001, "same"), (0, 1.0002, "differs")),
)
def test_corners_may_lie_a_thousandth_of_a_voxel_apart(folder, x, step, verdict):
    make_nifti("a.nii", noise(8, 3, 3), sform=moved(x, step))
    make_nifti("b.nii", noise(8, 3, 3), sform=moved())
    found = geometry("a.nii", "b.nii")
    assert found["affine"]["corners_mm"] == pytest.approx(x + 7 * (step - 1), abs=1e-6)
    lines = [line for line in found["lines"] if not line.startswith("spacing")]
    assert bool(lines) == (verdict == "differs")


def test_spacings_may_differ_by_their_rounding_only(folder):
    for name, step in (("a", 1.00002), ("b", 1.0), ("c", 1.000001)):
        make_nifti(f"{name}.nii", noise(2, 3, 3), pixdim=(1, 1, step))
    assert geometry("a.nii", "b.nii")["lines"] == ["spacing 1x1x1.00002 and 1x1x1 mm"]
    assert geometry("c.nii", "b.nii")["verdict"] == "same"


def test_sform_and_qform_are_compared_each_by_itself_with_their_codes(folder):
    stored = noise(2, 3, 4)
    make_nifti("a.nii", stored, sform=moved(), qform=moved())
    make_nifti("b.nii", stored, sform=moved(), qform=moved(5))
    make_nifti("c.nii", stored, sform=moved(), qform=moved(), codes=(4, 1))
    make_nifti("d.nii", stored, sform=moved())
    assert geometry("a.nii", "b.nii")["lines"] == ["qform: corners of the grid up to 5 mm apart, 5 voxels"]
    assert geometry("a.nii", "c.nii")["lines"] == ["sform_code 2 and 4"]
    assert geometry("d.nii", "a.nii")["lines"] == ["qform: only b has one", "qform_code 0 and 1"]
    assert geometry("a.nii", "d.nii")["qform_code"] == {"a": 1, "b": 0}


def test_a_pixdim_that_says_something_else_than_the_affine_is_a_difference(folder):
    make_nifti("a.nii", noise(2, 3, 4), sform=moved(), pixdim=(1, 1, 1))
    make_nifti("b.nii", noise(2, 3, 4), sform=moved(), pixdim=(1, 1, 3))
    make_nifti("c.nii", noise(2, 3, 4), sform=moved(), pixdim=(1, -1, 1))
    make_nifti("d.nii", noise(2, 3, 4), sform=moved(), pixdim=(1, 1, 0))
    assert geometry("a.nii", "b.nii")["lines"] == ["pixdim: corners of the grid up to 6 mm apart, 6 voxels"]
    assert geometry("a.nii", "c.nii")["verdict"] == "same"
    assert geometry("a.nii", "d.nii")["lines"] == ["pixdim: only a has one"]


def test_units_change_where_a_voxel_lies(folder):
    stored = noise(2, 3, 4)
    make_nifti("a.nii", stored, sform=moved(), edit=lambda header: header.set_xyzt_units("mm", "sec"))
    make_nifti("b.nii", stored, sform=moved(), edit=lambda header: header.set_xyzt_units("micron", "sec"))
    make_nifti("c.nii", stored, sform=moved(), edit=lambda header: header.set_xyzt_units("mm", "msec"))
    found = geometry("a.nii", "b.nii")
    assert "space_unit mm and micron" in found["lines"]
    assert found["sform"]["corners_mm"] == pytest.approx(0.999 * math.sqrt(1 + 2**2 + 3**2))
    assert "spacing 1x1x1 and 0.001x0.001x0.001 mm" in geometry("a.nii", "b.nii")["lines"]
    assert geometry("a.nii", "c.nii")["lines"] == ["time_unit sec and msec"]


def test_geometry_of_two_formats_is_that_of_the_world(folder):
    volume = noise(*SIZE)
    make_nifti("a.nii", volume.T, sform=np.diag([0.5, 1, 2, 1]), pixdim=(0.5, 1, 2))
    with h5py.File("b.h5", "w") as file:
        file["data"] = volume
        file["data"].attrs["element_size_um"] = [2000, 1000, 500]
    assert verdicts("a.nii", "b.h5") == {}
    with h5py.File("b.h5", "a") as file:
        file["data"].attrs["element_size_um"] = [2000, 1000, 600]
    assert "spacing 0.5x1x2 and 2x1x0.6 mm" in verdicts("a.nii", "b.h5")["geometry"]


def test_geometry_that_a_format_cannot_hold_is_not_compared_but_what_is_lost_differs(folder):
    volume = noise(*SIZE)
    for name in ("a.nii", "b.npy", "c.h5", "d.h5"):
        make_volume(name, volume)
    with h5py.File("d.h5", "a") as file:
        file["data"].attrs["element_size_um"] = [1000, 1000, 1000]
    found = geometry("a.nii", "b.npy")
    assert (found["verdict"], found["lines"]) == ("not compared", ["no geometry in b.npy"])
    assert geometry("c.h5", "a.nii")["verdict"] == "not compared"
    assert geometry("c.h5", "d.h5")["lines"] == ["spacing: only b has one", "affine: only b has one"]


# Dtype and header


def test_the_dtype_is_that_of_the_stored_values(folder):
    files = pair(folder, cube(1, 2, dtype="i2"), cube(1, 2, dtype="f4"))
    assert verdicts(*files) == {"dtype": "int16 and float32"}
    assert verdicts(*pair(folder, cube(1, 2, dtype="<f4"), cube(1, 2, dtype=">f4"))) == {}


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_a_nifti_that_matters_is_compared_by_name(folder, field):
    def edit(header):
        header[field] = b"other" if header[field].dtype.kind == "S" else 3

    make_nifti("a.nii", noise(2, 3, 4), sform=np.eye(4))
    make_nifti("b.nii", noise(2, 3, 4), sform=np.eye(4), edit=edit)
    found = compared("a.nii", "b.nii")["parts"]
    assert {name for name, part in found.items() if part["verdict"] == "differs"} == {"header"}
    assert list(found["header"]["fields"]) == [field]


def test_what_stands_behind_the_end_of_a_text_is_not_compared(folder):
    for name, text in (("a", b"one\0rest"), ("b", b"one")):
        make_nifti(f"{name}.nii", noise(2, 3, 4), sform=np.eye(4), edit=lambda h, text=text: h["descrip"].put(0, text))
    assert verdicts("a.nii", "b.nii") == {}


def test_the_time_between_volumes_is_compared(folder):
    make_nifti("a.nii", noise(2, 3, 4, 2), sform=np.eye(4))
    make_nifti("b.nii", noise(2, 3, 4, 2), sform=np.eye(4), edit=lambda header: header["pixdim"].put(4, 2.5))
    assert verdicts("b.nii", "a.nii") == {"header": "pixdim[4]: 2.5 and 1.0"}


def test_comments_are_not_compared_and_other_extensions_are(folder):
    stored = noise(2, 3, 4)
    make_nifti("a.nii", stored, sform=np.eye(4), extensions=[Nifti1Extension(4, b"<AFNI>" + b"x" * 99 + b"1")])
    make_nifti("b.nii", stored, sform=np.eye(4), extensions=[Nifti1Extension(6, b"how it was made")])
    make_nifti("c.nii", stored, sform=np.eye(4))
    both = [Nifti1Extension(6, b"first"), Nifti1Extension(4, b"<AFNI>" + b"x" * 99 + b"2")]
    make_nifti("d.nii", stored, sform=np.eye(4), extensions=both)
    assert verdicts("b.nii", "c.nii") == {}
    assert "extension 1: (4, b'<AFNI>xxx" in verdicts("a.nii", "c.nii")["header"]
    line = verdicts("a.nii", "d.nii")["header"]
    assert "xx1')" in line and "xx2')" in line and len(line) < 200


def test_attributes_are_compared_but_for_provenance(folder):
    volume = noise(*SIZE)
    attributes = (
        {"lucid_conv3d": "{}", "subject": "s1", "bvals": np.arange(3.0)},
        {"subject": b"s1", "bvals": np.arange(3, dtype="f4"), "lucid_conv3d": "other"},
        {"subject": "s2", "verdict": math.nan},
    )
    for name, one in zip("abc", attributes, strict=True):
        with h5py.File(f"{name}.h5", "w") as file:
            file["data"] = volume
            file["data"].attrs.update(one)
    assert verdicts("a.h5", "b.h5") == verdicts("c.h5", "c.h5") == {}
    found = compared("a.h5", "c.h5")["parts"]["header"]
    assert found["fields"] == {
        "subject": {"a": "'s1'", "b": "'s2'"},
        "bvals": {"a": "[0.0, 1.0, 2.0]", "b": None},
        "verdict": {"a": None, "b": "nan"},
    }
    assert "bvals: [0.0, 1.0, 2.0] and nothing" in found["lines"]
    make_volume("d.nii", volume)
    assert compared("a.h5", "d.nii")["parts"]["header"]["verdict"] == "not compared"


# The command


@pytest.mark.parametrize("options", (("--ignore", "dtype,values"), ("--ignore", "values", "--ignore", " dtype")))
def test_parts_are_left_out(folder, options):
    files = pair(folder, cube(1, dtype="i2"), cube(2))
    assert set(verdicts(*files)) == {"values", "dtype"}
    done = compared(*files, *options)
    assert [name for name, part in done["parts"].items() if part["verdict"] == "ignored"] == ["values", "dtype"]
    assert list(done["parts"]) == list(PARTS)


@pytest.mark.parametrize(
    ("options", "words"),
    (
        (("--ignore", "heder"), "unknown part 'heder'; legal: shape, values, geometry, dtype, header. Did you mean"),
        (("--ignore", "dtype,"), "unknown part ''"),
        (("--ignore", ",".join(PARTS)), "nothing is left to compare"),
        (("--rtol", "-1"), "'-1' is not a number of at least 0"),
        (("--atol", "nan"), "is not a number"),
        (("--atol", "inf"), "is not a number"),
    ),
)
def test_a_wrong_usage(folder, options, words):
    result = run("compare", *pair(folder, cube(1), cube(1)), *options)
    assert (result.code, result.out, words in result.err) == (2, "", True), result.err


def test_the_file_that_cannot_be_read_is_named(folder):
    make_volume("a.nii.gz", noise(*SIZE))
    (folder / "text.nii").write_text("this is no scan, but long enough to be the header of one" * 9)
    for files, name in ((("a.nii.gz", "b.nii"), "b.nii: no such"), (("c.nii", "a.nii.gz"), "c.nii: no such")):
        result = run("compare", *files)
        assert (result.code, result.out, f"Error: {name}" in result.err) == (3, "", True)
    assert run("compare", "a.nii.gz", "text.nii").err.startswith("Error: text.nii: not a NIfTI file")
    assert run("compare", "a.nii.gz", folder).code == 3
    assert run("compare", "a.nii.gz", "a.jpg").code == 3
    assert run("compare", "a.nii.gz").code == 2


def test_a_damaged_file_is_never_the_same(folder):
    make_volume("a.nii", np.zeros((12, 256, 256)))  # so long that its end is not read with its last voxel
    data = bytearray(gzip.compress((folder / "a.nii").read_bytes(), mtime=0))
    data[-6] ^= 1
    (folder / "b.nii.gz").write_bytes(data)
    result = run("compare", "a.nii", "b.nii.gz")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("Error: b.nii.gz: the file is damaged")


def test_one_volume_may_come_from_a_pipe(folder):
    make_volume("a.nii.gz", noise(*SIZE))
    for files in (("-", "a.nii.gz"), ("a.nii.gz", "-")):
        with (folder / "a.nii.gz").open("rb") as file, program("compare", *files, stdin=file) as process:
            result = finished(process)
        assert (result.code, "stdin" in result.out) == (0, True), result.err
    assert run("compare", "-", "-").code == 2


def test_a_file_is_the_same_as_itself_and_as_a_link_to_it(folder):
    for suffix in FORMATS:
        path = make_volume(folder / f"a{suffix}", noise(*SIZE))
        assert verdicts(path, path) == {}
    (folder / "link.h5").symlink_to("a.h5")
    assert verdicts("a.h5", "link.h5") == {}


def test_it_can_be_called(folder):
    done = compare(*map(parse_spec, pair(folder, cube(1.0, 2.0), cube(1.0, 2.5))), atol=0.25, ignore={"header"})
    assert (done.same, done.differing, done.parts["values"].verdict) == (False, ["values"], "differs")
    assert done.parts["values"].found["max_abs_error"] == 0.5
    assert json.loads(run("compare", "a.npy", "b.npy", "--json").out)["schema"] == "lucid-conv3d/compare-1"


@pytest.mark.parametrize("suffix", (".tif", ".mrc"))
def test_only_steps_are_compared_with_a_format_that_has_no_directions(folder, suffix):
    make_nifti(folder / "a.nii", noise(5, 6, 7).T, sform=np.diag([-1.0, 2.0, 3.0, 1.0]))
    ok("apply", "a.nii", "-o", f"b{suffix}", "--kernel", "identity", "-q")
    ok("compare", "a.nii", f"b{suffix}")
    make_nifti(folder / "c.nii", noise(5, 6, 7).T, sform=np.diag([-1.0, 2.0, 4.0, 1.0]))
    assert run("compare", "c.nii", f"b{suffix}").code == 1
