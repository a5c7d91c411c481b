"""TIFF stacks and OME-TIFF: their axes, their spacing, and pages that are compressed or lie apart."""

import json
import struct
from importlib.util import find_spec
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.cli.conftest import SIZE, make_nifti, make_volume, noise, ok, run, save_weights

tifffile = pytest.importorskip("tifffile")

SUFFIXES = (".tif", ".ome.tif")
BOX = ("--kernel", "box", "--size", "3vox", "-q")


def info(path):
    return json.loads(ok("info", path, "--json").out)


def values(path, *options):
    out = path.parent / "back.npy"
    ok("apply", path, "-o", out, "--kernel", "identity", "-q", "--overwrite", *options)
    return np.load(out)


class TestSpacing:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_it_follows_the_stride(self, tmp_path, suffix):
        source = make_nifti(tmp_path / "a.nii", noise(8, 7, 6), sform=np.diag([0.0005, 0.002, 0.003, 1]))
        ok("apply", source, "-o", tmp_path / f"b{suffix}", *BOX, "--stride", "2,1,2")
        found = info(tmp_path / f"b{suffix}")
        assert (found["axes"], found["format"]) == ("zyx", "tiff")
        np.testing.assert_allclose(found["spacing_mm"], [0.006, 0.002, 0.001], rtol=1e-6)
        ok("apply", tmp_path / f"b{suffix}", "-o", tmp_path / "c.nii", *BOX)
        np.testing.assert_allclose(info(tmp_path / "c.nii")["spacing_mm"], [0.001, 0.002, 0.006], rtol=1e-6)

    def test_imagej_sees_it_in_micrometres(self, tmp_path):
        source = make_nifti(tmp_path / "a.nii", noise(8, 7, 6), sform=np.diag([0.0005, 0.002, 0.003, 1]))
        ok("apply", source, "-o", tmp_path / "b.tif", *BOX)
        with tifffile.TiffFile(tmp_path / "b.tif") as file:
            said, tags = file.imagej_metadata, file.pages[0].tags
            assert (said["unit"], said["images"]) == ("um", 6)
            assert said["spacing"] == pytest.approx(3)
            steps = [tags[name].value[1] / tags[name].value[0] for name in ("XResolution", "YResolution")]
        np.testing.assert_allclose(steps, [0.5, 2], rtol=1e-6)

    def test_ome_xml_says_it_and_the_axes(self, tmp_path):
        source = make_nifti(tmp_path / "a.nii", noise(8, 7, 6), sform=np.diag([0.0005, 0.002, 0.003, 1]))
        weights = save_weights(tmp_path / "w.npz", noise(2, 1, 1, 1, 1))
        ok("apply", source, "-o", tmp_path / "b.ome.tif", "--weights", weights, "-q")
        with tifffile.TiffFile(tmp_path / "b.ome.tif") as file:
            pixels = ElementTree.fromstring(file.ome_metadata).find(".//{*}Pixels").attrib
        assert [pixels[f"Size{axis}"] for axis in "XYZCT"] == ["8", "7", "6", "2", "1"]
        assert [pixels[f"PhysicalSize{axis}Unit"] for axis in "XYZ"] == ["µm"] * 3
        np.testing.assert_allclose([float(pixels[f"PhysicalSize{axis}"]) for axis in "XYZ"], [0.5, 2, 3], rtol=1e-6)

    @pytest.mark.parametrize(
        ("unit", "factor"), (("micron", 1e-3), ("\\u00B5m", 1e-3), ("nm", 1e-6), ("mm", 1.0), ("inch", 25.4))
    )
    def test_units_of_imagej(self, tmp_path, unit, factor):
        said = {"axes": "ZYX", "spacing": 3.0, "unit": unit}
        tifffile.imwrite(tmp_path / "a.tif", noise(*SIZE), imagej=True, resolution=(2, 4), metadata=said)
        np.testing.assert_allclose(info(tmp_path / "a.tif")["spacing_mm"], np.multiply([3, 0.25, 0.5], factor))

    @pytest.mark.parametrize("said", ({"spacing": 3.0, "unit": "pixel"}, {"unit": "um"}, {"spacing": 3.0}))
    def test_what_is_not_known_is_not_made_up(self, tmp_path, said):
        said = {"axes": "ZYX"} | said
        tifffile.imwrite(tmp_path / "a.tif", noise(*SIZE), imagej=True, resolution=(2, 4), metadata=said)
        assert info(tmp_path / "a.tif")["spacing_mm"] is None

    def test_dots_per_inch_are_for_printing(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", noise(*SIZE), resolution=(72, 72), resolutionunit="INCH")
        assert info(tmp_path / "a.tif")["spacing_mm"] is None


class TestAxes:
    @pytest.mark.parametrize(
        ("axes", "kind", "found"),
        (
            ("TZCYX", {"imagej": True}, "tzcyx"),
            ("TZCYX", {"ome": True}, "tzcyx"),
            ("CZYX", {"ome": True}, "czyx"),
            ("TCZYX", {}, "tczyx"),
            ("QQYX", {}, "tzyx"),
            ("QYX", {}, "zyx"),
            ("ZCYX", {"imagej": True}, "zcyx"),
            ("TYX", {}, "tzyx"),
            ("YX", {}, "zyx"),
        ),
    )
    def test_named_and_unnamed_ones(self, tmp_path, axes, kind, found):
        sizes = {"T": 2, "Z": 5, "C": 3, "Y": 6, "X": 7, "Q": 4}
        volume = noise(*(sizes[axis] for axis in axes))
        said = {} if "Q" in axes else {"metadata": {"axes": axes}}
        tifffile.imwrite(tmp_path / "a.tif", volume, photometric="minisblack", **said, **kind)
        assert info(tmp_path / "a.tif")["axes"] == found
        order = [found[-volume.ndim :].index(axis) for axis in "tczyx" if axis in found[-volume.ndim :]]
        result = values(tmp_path / "a.tif")
        np.testing.assert_array_equal(result.reshape(volume.transpose(order).shape), volume.transpose(order))

    def test_rgb_samples_are_channels(self, tmp_path):
        volume = (noise(4, 6, 7, 3) % 200).astype(np.uint8)
        for planar in ("contig", "separate"):
            pages = volume if planar == "contig" else np.moveaxis(volume, -1, 1)
            tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb", planarconfig=planar)
            np.testing.assert_array_equal(values(tmp_path / "a.tif"), np.moveaxis(volume, -1, 0))

    def test_axes_that_are_none_of_a_volume_are_refused_in_a_line(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", noise(2, 2, 2, 2, 6, 7), photometric="minisblack")
        result = run("plan", tmp_path / "a.tif", "--kernel", "identity")
        assert (result.code, result.err.count("\n")) == (3, 1)
        assert "legal: T, C, Z, Y, X" in result.err


class TestPages:
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("kind", ("deflate", "apart", "one by one", "tiled", "strips"))
    def test_pages_that_are_compressed_or_lie_apart(self, tmp_path, order, kind):
        volume = np.round(noise(5, 64, 48)).astype(np.int16)
        options = {
            "deflate": {"compression": "zlib"},
            "apart": {"contiguous": False, "metadata": None},
            "one by one": {},
            "tiled": {"tile": (16, 16)},
            "strips": {"compression": "zlib", "rowsperstrip": 7},
        }[kind]
        with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=order) as file:
            if kind in ("apart", "one by one"):
                for page in volume:
                    file.write(page, **options)
            else:
                file.write(volume, photometric="minisblack", **options)
        np.testing.assert_array_equal(values(tmp_path / "a.tif"), volume)
        for tile in ("2,64,48", "5,16,16"):
            ok("apply", tmp_path / "a.tif", "-o", tmp_path / "b.npy", *BOX, "--tile", tile, "--overwrite")
            ok("apply", make_volume(tmp_path / "c.npy", volume), "-o", tmp_path / "d.npy", *BOX, "--overwrite")
            np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), np.load(tmp_path / "d.npy"))

    def test_compressed_channels_and_times(self, tmp_path):
        volume = noise(2, 5, 3, 6, 7)
        options = {"compression": "zlib", "metadata": {"axes": "TZCYX"}, "ome": True}
        tifffile.imwrite(tmp_path / "a.ome.tif", volume, photometric="minisblack", **options)
        np.testing.assert_array_equal(values(tmp_path / "a.ome.tif"), np.moveaxis(volume, 2, 1))

    @pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="imagecodecs is installed")
    def test_a_compression_that_needs_a_package_names_it(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", noise(*SIZE), photometric="minisblack", compression="zlib")
        data = (tmp_path / "a.tif").read_bytes()
        deflate, lzw = struct.pack("<HHI", 259, 3, 1), struct.pack("<HHI", 259, 3, 1)
        (tmp_path / "a.tif").write_bytes(data.replace(deflate + b"\x08\0", lzw + b"\x05\0"))
        result = run("apply", tmp_path / "a.tif", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
        assert (result.code, result.err.count("\n")) == (3, 1)
        assert "pip install imagecodecs" in result.err

    def test_pages_in_other_files_are_not_read(self, tmp_path):
        good = {"ome": True, "photometric": "minisblack", "metadata": {"axes": "ZYX", "UUID": "urn:uuid:1-1"}}
        tifffile.imwrite(tmp_path / "a.ome.tif", noise(1, 6, 7), **good)
        xml = tifffile.TiffFile(tmp_path / "a.ome.tif").ome_metadata
        other = '<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="b.ome.tif">urn:uuid:2-2</UUID></TiffData>'
        xml = xml.replace('SizeZ="1"', 'SizeZ="2"').replace("</Pixels>", f"{other}</Pixels>")
        xml = xml.encode("ascii", "xmlcharrefreplace").decode()
        tifffile.imwrite(tmp_path / "b.ome.tif", noise(1, 6, 7), photometric="minisblack", description=xml)
        tifffile.imwrite(
            tmp_path / "a.ome.tif", noise(1, 6, 7), photometric="minisblack", description=xml, metadata=None
        )
        result = run("apply", tmp_path / "a.ome.tif", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
        assert (result.code, "lie in other files" in result.err) == (3, True), result.err

    def test_several_images_are_warned_of(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            file.write(noise(*SIZE), photometric="minisblack")
            file.write(noise(3, 4), photometric="minisblack")
        result = ok("apply", tmp_path / "a.tif", "-o", tmp_path / "b.npy", "--kernel", "identity")
        assert "2 images; the first is read" in result.err


def damaged():
    yield "empty", b"", "it is empty"
    yield "text", b"a stack of pages" * 9, "not a TIFF file"
    yield "magic only", b"II*\0", "not a readable TIFF file"
    yield "no page", b"II*\0" + bytes(4), "not a readable TIFF file"
    yield "pages in a circle", b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 3, 1, 5, 8), "empty"


@pytest.mark.parametrize(("what", "data", "words"), [pytest.param(*one, id=one[0]) for one in damaged()])
def test_a_damaged_file_is_one_line(tmp_path, what, data, words):
    (tmp_path / "a.tif").write_bytes(data)
    result = run("apply", tmp_path / "a.tif", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
    assert (result.code, result.err.count("\n")) == (3, 1), result.err
    assert words in result.err


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_that_is_cut_short_is_one_line(tmp_path, suffix):
    good = make_volume(tmp_path / f"good{suffix}", noise(*SIZE)).read_bytes()
    sizes = (len(good) // 2, 300, 100) if suffix == ".tif" else (len(good) // 5, 100)
    for size in sizes:
        (tmp_path / f"a{suffix}").write_bytes(good[:size])
        result = run("apply", tmp_path / f"a{suffix}", "-o", tmp_path / "b.npy", "--kernel", "identity", "-q")
        assert (result.code, result.err.count("\n")) == (3, 1), result.err
