"""FreeSurfer's MGH: its place in the world, its frames and its footer, by nibabel's reader."""

import json

import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer.mghformat import MGHHeader

from tests.cli.conftest import SIZE, make_nifti, noise, ok, run
from tests.cli.test_geometry import (
    FLIPPED,
    LAYERS,
    OBLIQUE,
    SHEARED,
    SIZE_XYZ,
    SWAPPED,
    assert_same_ramp,
    inside,
    ramp,
)

SUFFIXES = (".mgh", ".mgz")
AFFINES = {"oblique": OBLIQUE, "flipped": FLIPPED, "swapped": SWAPPED, "sheared": SHEARED}


@pytest.mark.parametrize("layer", ("strides", "pads", "even", "binning"))
@pytest.mark.parametrize("name", AFFINES)
def test_a_ramp_stays_where_it_was(tmp_path, name, layer):
    options, lows = LAYERS[layer]
    nib.save(nib.MGHImage(ramp(AFFINES[name]).astype(np.float32), AFFINES[name]), tmp_path / "a.mgz")
    ok("apply", tmp_path / "a.mgz", "-o", tmp_path / "b.mgz", "--kernel", "box", *options, "-q")
    image = nib.load(tmp_path / "b.mgz")
    assert_same_ramp(image, image.affine, inside(options, lows))


@pytest.mark.parametrize("name", AFFINES)
def test_a_nifti_there_and_back_keeps_its_place(tmp_path, name):
    make_nifti(tmp_path / "a.nii", noise(*SIZE_XYZ), sform=AFFINES[name])
    ok("apply", tmp_path / "a.nii", "-o", tmp_path / "b.mgh", "--kernel", "identity", "-q")
    ok("apply", tmp_path / "b.mgh", "-o", tmp_path / "c.nii", "--kernel", "identity", "-q")
    for path in ("b.mgh", "c.nii"):
        np.testing.assert_allclose(nib.load(tmp_path / path).affine, AFFINES[name], atol=2e-5)
    found = json.loads(ok("info", tmp_path / "b.mgh", "--json").out)
    assert found["orientation"] == "".join(nib.aff2axcodes(AFFINES[name]))
    np.testing.assert_allclose(found["affine"], AFFINES[name], atol=2e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_repetition_time_behind_the_voxels_is_kept(tmp_path, suffix):
    image = nib.MGHImage(noise(4, *SIZE).T, OBLIQUE)
    image.header["tr"], image.header["te"] = 2500, 3.5
    nib.save(image, tmp_path / f"a{suffix}")
    for options in ((), ("--padding", "valid"), ("--tile", "2,3,4")):
        command = ("apply", tmp_path / f"a{suffix}", "-o", tmp_path / f"b{suffix}", "--overwrite", "-q")
        ok(*command, "--kernel", "box", "--size", "3vox", *options)
        header = nib.load(tmp_path / f"b{suffix}").header
        assert (header["tr"], header["te"]) == (2500, 3.5)
        assert header.get_data_shape()[3] == 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_a_footer_is_read(tmp_path, suffix):
    nib.save(nib.MGHImage(noise(*SIZE).T, np.eye(4)), tmp_path / "whole.mgh")
    (tmp_path / "a.mgh").write_bytes((tmp_path / "whole.mgh").read_bytes()[:-20])
    ok("apply", tmp_path / "a.mgh", "-o", tmp_path / f"b{suffix}", "--kernel", "identity", "-q")
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / f"b{suffix}").dataobj).T, noise(*SIZE))


def test_without_a_place_none_is_made_up(tmp_path):
    np.save(tmp_path / "a.npy", noise(*SIZE))
    ok("apply", tmp_path / "a.npy", "-o", tmp_path / "b.mgh", "--kernel", "identity", "-q")
    result = ok("info", tmp_path / "b.mgh", "--json")
    assert json.loads(result.out)["affine"] is None
    ok("apply", tmp_path / "a.npy", "-o", tmp_path / "c.mgh", "--kernel", "identity", "--spacing", "3,2,1mm", "-q")
    np.testing.assert_array_equal(nib.load(tmp_path / "c.mgh").affine, np.diag([1.0, 2, 3, 1]))


def test_the_frames_are_channels_where_the_layer_takes_as_many(tmp_path):
    nib.save(nib.MGHImage(noise(3, *SIZE).T, np.eye(4)), tmp_path / "a.mgz")
    layer = ("--in-channels", 3, "--out-channels", 2, "--kernel-size", 1, "-q")
    ok("apply", tmp_path / "a.mgz", "-o", tmp_path / "b.mgz", *layer)
    assert nib.load(tmp_path / "b.mgz").shape == (*SIZE[::-1], 2)


def damaged():
    """Return what is wrong, the bytes, and words of the message."""
    header = MGHHeader()
    header.set_data_shape(SIZE[::-1])
    good = header.binaryblock[:90].ljust(284, b"\0") + noise(*SIZE).astype(">f4").tobytes()
    yield "empty", b"", "it is empty"
    yield "text", b"a head" * 99, "not an MGH file"
    yield "short header", good[:100], "expected"
    yield "cut short", good[:-1], "cut short"
    yield "a size of zero", good[:4] + bytes(4) + good[8:], "at least 1"
    yield "huge sizes", good[:4] + b"\x7f\xff\xff\xff" * 4 + good[20:], "cut short"
    yield "an unknown type", good[:20] + b"\0\0\0\7" + good[24:], "legal: 0 (uint8)"


@pytest.mark.parametrize(("what", "data", "words"), [pytest.param(*one, id=one[0]) for one in damaged()])
def test_a_damaged_file_is_one_line(tmp_path, what, data, words):
    (tmp_path / "a.mgh").write_bytes(data)
    result = run("apply", tmp_path / "a.mgh", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert words in result.err
