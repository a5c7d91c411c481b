"""OME-Zarr: where voxels lie is carried as the contract says; levels, and what other readers make of them."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.cli.conftest import SIZE, make_nifti, make_volume, noise, ok, run, save_weights

zarr = pytest.importorskip("zarr")

IDENTITY = ("--kernel", "identity", "-q")
UNITS = {"micrometer": 1e-3, "nanometer": 1e-6, "millimeter": 1.0}
TYPES = {"t": "time", "c": "channel"}


def axes_of(letters, unit="micrometer"):
    spatial = {"type": "space"} | ({"unit": unit} if unit else {})
    return [{"name": letter} | ({"type": TYPES[letter]} if letter in TYPES else spatial) for letter in letters]


def transforms(scale=None, translation=None):
    found = [] if scale is None else [{"type": "scale", "scale": list(scale)}]
    return found + ([] if translation is None else [{"type": "translation", "translation": list(translation)}])


def image(
    path, volume, letters="zyx", *, scale=None, translation=None, number=3, unit="micrometer", common=(), others=()
):
    """Write an image of one level as its metadata are specified."""
    group = zarr.create_group(path, zarr_format=number)
    group.create_array("0", data=volume)
    multiscale = {
        "axes": axes_of(letters, unit),
        "datasets": [{"path": "0", "coordinateTransformations": transforms(scale, translation)}],
        "name": "mouse",
    } | ({"coordinateTransformations": list(common)} if common else {})
    if number == 2:
        group.attrs.update({"multiscales": [multiscale | {"version": "0.4"}], **dict(others)})
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], **dict(others)}
    return path


def multiscale(path):
    """Return the metadata of an output's image."""
    attributes = dict(zarr.open_group(path, mode="r").attrs)
    return attributes.get("ome", attributes)["multiscales"][0]


def placed(path, level=0):
    """Return scale and translation of a level, the latter 0 where it has none."""
    found = multiscale(path)["datasets"][level]["coordinateTransformations"]
    assert [one["type"] for one in found] in (["scale"], ["scale", "translation"])
    scale = found[0]["scale"]
    return scale, found[1]["translation"] if len(found) == 2 else [0.0] * len(scale)


class TestPlace:
    @pytest.mark.parametrize("number", (2, 3))
    @pytest.mark.parametrize(
        ("options", "strides", "lows", "size", "dilations"),
        (
            (("--padding", 0), (1, 1, 1), (0, 0, 0), (3, 2, 3), (1, 1, 1)),
            (("--padding", "1,0,2", "--stride", "2,1,3"), (2, 1, 3), (1, 0, 2), (3, 2, 3), (1, 1, 1)),
            (("--padding", "same", "--dilation", "1,2,2"), (1, 1, 1), (1, 1, 2), (3, 2, 3), (1, 2, 2)),
        ),
        ids=("valid", "strided", "same"),
    )
    def test_scale_and_translation_follow_by_the_formula(self, folder, number, options, strides, lows, size, dilations):
        scale, start = (4.0, 1.0, 0.5, 0.25, 0.125), (7.0, 0.0, 10.0, -20.0, 30.0)
        image("a.zarr", noise(2, 1, 12, 13, 14), "tczyx", scale=scale, translation=start, number=number)
        save_weights("w.npz", noise(1, 1, *size))
        ok("apply", "a.zarr", "-o", "b.zarr", "--weights", "w.npz", *options, "-q")
        shifts = [d * (k - 1) / 2 - low for d, k, low in zip(dilations, size, lows, strict=True)]
        found_scale, found_start = placed("b.zarr")
        np.testing.assert_allclose(found_scale, [*scale[:2], *np.multiply(scale[2:], strides)], rtol=1e-12)
        np.testing.assert_allclose(
            found_start, [*start[:2], *np.add(start[2:], np.multiply(scale[2:], shifts))], rtol=1e-12
        )
        axes = multiscale("b.zarr")["axes"]
        assert axes == axes_of("tczyx")
        assert multiscale("b.zarr")["name"] == "mouse"

    def test_the_transformations_of_all_levels_come_behind_those_of_one(self, folder):
        common = transforms((10.0, 10.0, 10.0), (1.0, 1.0, 1.0))
        image("a.zarr", noise(*SIZE), scale=(1.0, 2.0, 3.0), translation=(5.0, 6.0, 7.0), common=common)
        ok("apply", "a.zarr", "-o", "b.zarr", "--stride", 2, *IDENTITY)
        assert placed("b.zarr") == ([20.0, 40.0, 60.0], [51.0, 61.0, 71.0])
        assert "coordinateTransformations" not in multiscale("b.zarr")

    def test_axes_in_another_order_are_their_own(self, folder):
        volume = noise(7, 2, 6, 5)
        image("a.zarr", volume, "xcyz", scale=(1.0, 1.0, 2.0, 4.0))
        ok("apply", "a.zarr", "-o", "b.zarr", "--stride", "2,1,1", *IDENTITY)
        array = zarr.open_array("b.zarr/0", mode="r")
        np.testing.assert_array_equal(array[...], volume[..., ::2])
        assert (placed("b.zarr")[0], array.metadata.dimension_names) == ([1.0, 1.0, 2.0, 8.0], ("x", "c", "y", "z"))
        info = json.loads(ok("info", "a.zarr", "--json").out)
        assert (info["axes"], info["spacing_mm"]) == ("xcyz", [1e-3, 2e-3, 4e-3])

    @pytest.mark.parametrize("unit", (*UNITS, None, "parsec"))
    def test_units_are_kept_and_lengths_need_one(self, folder, unit):
        image("a.zarr", noise(*SIZE), scale=(3.0, 2.0, 1.0), unit=unit)
        ok("apply", "a.zarr", "-o", "b.zarr", *IDENTITY)
        assert multiscale("b.zarr")["axes"] == axes_of("zyx", unit)
        assert placed("b.zarr")[0] == [3.0, 2.0, 1.0]
        found = json.loads(ok("info", "a.zarr", "--json").out)["spacing_mm"]
        if unit in UNITS:
            np.testing.assert_allclose(found, np.multiply([3.0, 2.0, 1.0], UNITS[unit]))
        else:
            assert found is None
            assert "--spacing" in run("plan", "a.zarr", *IDENTITY[:2]).err

    def test_spacing_says_otherwise(self, folder):
        image("a.zarr", noise(*SIZE), scale=(3.0, 2.0, 1.0), translation=(9.0, 8.0, 7.0))
        ok("apply", "a.zarr", "-o", "b.zarr", "--spacing", "2,1,1mm", "--stride", "1,1,2", *IDENTITY)
        assert multiscale("b.zarr")["axes"] == axes_of("zyx", "millimeter")
        assert placed("b.zarr")[0] == [2.0, 1.0, 2.0]

    def test_axes_may_say_what_is_batch_and_not_what_is_space(self, folder):
        image("a.zarr", noise(2, *SIZE), "czyx", scale=(1.0, 3.0, 2.0, 1.0))
        ok("apply", "a.zarr", "-o", "b.zarr", "--axes", "NDHW", *IDENTITY)
        assert placed("b.zarr")[0] == [1.0, 3.0, 2.0, 1.0]
        result = run("apply", "a.zarr", "-o", "c.zarr", "--axes", "CWHD", *IDENTITY)
        assert (result.code, "says which of its axes is z, y and x (czyx)" in result.err) == (2, True), result.err

    @pytest.mark.parametrize(("version", "letters"), (("0.1", None), ("0.2", None), ("0.3", "zyx")))
    def test_images_of_old_versions_are_read(self, folder, version, letters):
        volume = noise(*SIZE) if letters else noise(2, 1, *SIZE)
        group = zarr.create_group("a.zarr", zarr_format=2)
        group.create_array("0", data=volume)
        found = {"version": version, "datasets": [{"path": "0"}]} | ({"axes": list(letters)} if letters else {})
        group.attrs["multiscales"] = [found]
        assert json.loads(ok("info", "a.zarr", "--json").out)["axes"] == (letters or "tczyx")
        ok("apply", "a.zarr", "-o", "b.zarr", *IDENTITY)
        np.testing.assert_array_equal(zarr.open_array("b.zarr/0", mode="r")[...], volume)
        assert multiscale("b.zarr")["version"] == "0.4"

    @pytest.mark.parametrize("out", ("b.ome.zarr", "b.zarr", "b.ozx"))
    def test_an_affine_goes_there_and_back(self, folder, out):
        turned = np.array([[1.2, -0.5, 0.1, -30.0], [0.6, 1.0, -0.2, 12.0], [0.0, 0.3, 2.0, 7.5], [0, 0, 0, 1]])
        for name, affine in (("turned", turned), ("straight", np.diag([1.5, 2.0, 2.5, 1.0]) + np.eye(4, k=3) * 9)):
            make_nifti(f"{name}.nii", noise(*SIZE).T, sform=affine)
            ok("apply", f"{name}.nii", "-o", out, "--stride", "1,2,1", "--overwrite", *IDENTITY)
            ok("apply", out, "-o", "c.nii", "--overwrite", *IDENTITY)
            ok("apply", f"{name}.nii", "-o", "d.nii", "--stride", "1,2,1", "--overwrite", *IDENTITY)
            np.testing.assert_allclose(nib.load("c.nii").affine, nib.load("d.nii").affine, rtol=1e-5, atol=1e-5)

    def test_a_straight_nifti_is_a_plain_image_in_millimetres(self, folder):
        affine = np.diag([1.5, 2.0, 2.5, 1.0])
        affine[:3, 3] = (-10, 20, 30)
        make_nifti("a.nii", noise(2, *SIZE).T, sform=affine)
        ok("apply", "a.nii", "-o", "b.ome.zarr", *IDENTITY)
        assert multiscale("b.ome.zarr")["axes"] == axes_of("tzyx", "millimeter")
        assert placed("b.ome.zarr") == ([1.0, 2.5, 2.0, 1.5], [0.0, 30.0, 20.0, -10.0])

    def test_the_step_of_time_goes_there_and_back(self, folder):
        def timed(header):
            header["pixdim"][4] = 720
            header.set_xyzt_units("mm", "msec")

        make_nifti("a.nii", noise(3, *SIZE).T, sform=np.eye(4), edit=timed)
        ok("apply", "a.nii", "-o", "b.ome.zarr", "--stride", "1,1,2", *IDENTITY)
        assert multiscale("b.ome.zarr")["axes"][0] == {"name": "t", "type": "time", "unit": "second"}
        assert placed("b.ome.zarr")[0] == [0.72, 1.0, 1.0, 2.0]
        ok("apply", "b.ome.zarr", "-o", "c.nii", *IDENTITY)
        found = nib.load("c.nii").header
        assert (found["pixdim"][4], found.get_xyzt_units()) == (np.float32(0.72), ("mm", "sec"))

    def test_channels_that_stay_keep_their_names(self, folder):
        omero = {"omero": {"channels": [{"label": "DAPI", "color": "0000FF"}]}}
        image("a.zarr", noise(1, *SIZE), "czyx", scale=(1.0,) * 4, others=omero)
        ok("apply", "a.zarr", "-o", "b.zarr", *IDENTITY)
        assert zarr.open_group("b.zarr", mode="r").attrs["ome"]["omero"] == omero["omero"]
        ok("apply", "a.zarr", "-o", "c.zarr", "--kernel-size", 1, "--out-channels", 2, "-q")
        assert "omero" not in zarr.open_group("c.zarr", mode="r").attrs["ome"]


class TestLevels:
    def test_a_level_is_read_at_its_place(self, folder):
        make_volume("a.npy", noise(40, 30, 21))
        ok("apply", "a.npy", "-o", "p.ome.zarr", "--pyramid", "--spacing", "1,1,1mm", *IDENTITY)
        for name in ("p.ome.zarr/1", "p.ome.zarr"):
            options = ("--level", 1) if name == "p.ome.zarr" else ()
            ok("apply", name, "-o", "b.ome.zarr", "--overwrite", *options, *IDENTITY)
            assert placed("b.ome.zarr") == placed("p.ome.zarr", 1) == ([2.0] * 3, [0.5] * 3)
            found = zarr.open_array("b.ome.zarr/0", mode="r")[...]
            np.testing.assert_array_equal(found, zarr.open_array("p.ome.zarr/1", mode="r")[...])
        result = run("apply", "p.ome.zarr", "-o", "c.nii", "--level", 2, *IDENTITY)
        assert (result.code, "has 2 levels, 0 to 1" in result.err) == (2, True), result.err
        result = run("apply", "p.ome.zarr/0", "-o", "c.nii", "--level", 0, *IDENTITY)
        assert (result.code, "leave it out" in result.err) == (2, True), result.err

    @pytest.mark.parametrize("shape", ((130, 9, 70), (1, 140, 33), (3, 2, 1)))
    @pytest.mark.parametrize("spacing", ((1.0, 1.0, 1.0), (4.0, 1.0, 1.5)))
    def test_lower_levels_are_means_of_boxes_and_lie_in_their_middle(self, folder, shape, spacing):
        make_volume("a.npy", noise(2, *shape))
        lengths = ",".join(map(str, spacing)) + "mm"
        ok("apply", "a.npy", "-o", "b.ome.zarr", "--pyramid", "--spacing", lengths, "--chunks", 32, *IDENTITY)
        datasets = multiscale("b.ome.zarr")["datasets"]
        assert len(datasets) >= 2
        volume = zarr.open_array("b.ome.zarr/0", mode="r")[...].astype(np.float64)
        steps, start = np.array(spacing), np.zeros(3)
        for number in range(1, len(datasets)):
            least = min(step for step, size in zip(steps, volume.shape[1:], strict=True) if size > 1)
            pairs = zip(volume.shape[1:], steps, strict=True)
            factors = [2 if size > 1 and step < 2 * least else 1 for size, step in pairs]
            start, steps = start + steps * (np.array(factors) - 1) / 2, steps * factors
            found = zarr.open_array(f"b.ome.zarr/{number}", mode="r")[...]
            padding = [(0, 0), *((0, -n % f) for n, f in zip(volume.shape[1:], factors, strict=True))]
            padded = np.pad(volume, padding, mode="edge")
            d, h, w = (n // f for n, f in zip(padded.shape[1:], factors, strict=True))
            expected = padded.reshape(2, d, factors[0], h, factors[1], w, factors[2]).mean((2, 4, 6))
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
            scale, translation = placed("b.ome.zarr", number)
            np.testing.assert_allclose(scale[1:], steps)
            np.testing.assert_allclose(translation[1:], start)
            volume = found.astype(np.float64)
        assert max(volume.shape[1:]) <= 64

    def test_levels_of_integers_are_rounded(self, folder):
        make_volume("a.npy", np.arange(8, dtype=np.int16).reshape(2, 2, 2))
        ok("apply", "a.npy", "-o", "b.zarr", "--pyramid", "--out-dtype", "int16", *IDENTITY)
        assert zarr.open_array("b.zarr/1", mode="r")[...].item() == 4  # 3.5, half to even

    def test_plates_list_their_images_and_labels_do_no_harm(self, folder):
        for name in ("plate.zarr/A/1/0", "plate.zarr/A/1/1", "b2r.zarr/0", "labelled.zarr"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            for above in Path(name).parents[:-1]:
                zarr.open_group(above, mode="a", zarr_format=2)
            image(name, noise(*SIZE), scale=(1.0,) * 3, number=2)
        image("labelled.zarr/labels/cells", noise(*SIZE), scale=(1.0,) * 3, number=2)
        Path("b2r.zarr/OME").mkdir()
        Path("b2r.zarr/OME/METADATA.ome.xml").write_text("<OME/>")
        result = run("info", "plate.zarr")
        assert (result.code, "several images: A/1/0, A/1/1" in result.err) == (3, True), result.err
        for name in ("plate.zarr/A/1/1", "b2r.zarr", "labelled.zarr", "labelled.zarr/labels/cells"):
            result = ok("apply", name, "-o", "b.npy", "--overwrite", *IDENTITY)
            assert result.err == ""
            np.testing.assert_array_equal(np.load("b.npy"), noise(*SIZE))


def one_level(letters, *scale_and_translation, path="0"):
    found = transforms(*scale_and_translation)
    return [{"axes": axes_of(letters), "datasets": [{"path": path, "coordinateTransformations": found}]}]


NAN = float("nan")
WRONG = {
    "no list": {},
    "an empty list": [],
    "a text": "abc",
    "no datasets": [{"axes": axes_of("zyx"), "datasets": []}],
    "an affine": [
        {"axes": axes_of("zyx"), "datasets": [{"path": "0", "coordinateTransformations": [{"type": "affine"}]}]}
    ],
    "a scale that is none": one_level("zyx", (NAN, 1, 1)),
    "an infinite scale": one_level("zyx", (float("inf"), 1, 1)),
    "a negative scale": one_level("zyx", (-1, 1, 1)),
    "a translation that is none": one_level("zyx", (1, 1, 1), (NAN, 1, 1)),
    "words for a scale": one_level("zyx", "abc"),
    "too few": one_level("zyx", (1, 1)),
    "one axis twice": one_level("zzx", (1, 1, 1)),
    "axes without x": one_level("tcz", (1, 1, 1)),
    "more axes than the array": one_level("czyx", (1, 1, 1, 1)),
} | {
    f"the path {path!r}": one_level("zyx", (1, 1, 1), path=path)
    for path in ("9", "", ".", "..", "../other.zarr", "/0/../../other.zarr", "a\0b")
}


@pytest.mark.parametrize("name", WRONG)
def test_an_image_that_cannot_be_is_one_line(folder, name):
    make_volume("other.zarr", noise(*SIZE))
    group = zarr.create_group("a.zarr", zarr_format=3)
    group.create_array("0", data=noise(*SIZE))
    metadata = {"version": "0.5", "multiscales": WRONG[name]}
    document = json.loads(Path("a.zarr/zarr.json").read_text()) | {"attributes": {"ome": metadata}}
    Path("a.zarr/zarr.json").write_text(json.dumps(document))
    result = run("apply", "a.zarr", "-o", "b.npy", *IDENTITY)
    assert (result.code, result.err.count("\n")) == (3, 1), result.err
    assert ("a.zarr" in result.err, "unexpected" in result.err) == (True, False), result.err
    assert not Path("b.npy").exists()


@pytest.fixture(params=(2, 3), ids=("0.4", "0.5"))
def written(request, folder):
    """Return the path and the number of an image with time, channels and lower levels."""
    image(
        "a.zarr",
        noise(2, 3, 70, 20, 30),
        "tczyx",
        scale=(1.0, 1.0, 2.0, 0.5, 0.5),
        translation=(0.0, 0.0, 3.0, 0.0, 1.0),
    )
    options = ("--zarr-format", request.param, "--pyramid", "--stride", "1,2,2")
    ok("apply", "a.zarr", "-o", "b.ome.zarr", *options, *IDENTITY)
    return "b.ome.zarr", request.param


class TestReaders:
    def test_the_rules_of_the_specification_are_kept(self, written):
        path, number = written
        found = multiscale(path)
        names = [axis["name"] for axis in found["axes"]]
        kinds = [axis["type"] for axis in found["axes"]]
        assert kinds == sorted(kinds, key=["time", "channel", "space"].index)
        assert len(set(names)) == len(names) == 5
        assert all(axis["unit"] == "micrometer" for axis in found["axes"] if axis["type"] == "space")
        group = zarr.open_group(path, mode="r")
        version = group.attrs["ome"]["version"] if number == 3 else found["version"]
        assert version == {2: "0.4", 3: "0.5"}[number]
        before = None
        for dataset in found["datasets"]:
            array = group[dataset["path"]]
            kinds = [one["type"] for one in dataset["coordinateTransformations"]]
            values = [one[one["type"]] for one in dataset["coordinateTransformations"]]
            assert kinds == ["scale", "translation"]
            assert [len(one) for one in values] == [array.ndim] * 2
            if number == 3:
                assert list(array.metadata.dimension_names) == names
            else:
                assert array.metadata.dimension_separator == "/"
            assert before is None or all(np.less_equal(before, values[0]))
            before = values[0]

    def test_the_models_of_the_specification_accept_it(self, written):
        models = pytest.importorskip("ome_zarr_models")
        path, number = written
        found = models.open_ome_zarr(zarr.open_group(path, mode="r"))
        assert type(found).__module__.split(".")[1] == {2: "v04", 3: "v05"}[number]

    def test_ome_zarr_py_reads_it(self, written):
        pytest.importorskip("ome_zarr")
        from ome_zarr.io import parse_url
        from ome_zarr.reader import Reader

        path, _ = written
        (node,) = list(Reader(parse_url(path))())
        assert [axis["name"] for axis in node.metadata["axes"]] == list("tczyx")
        assert [level.shape for level in node.data] == [
            zarr.open_array(f"{path}/{n}", mode="r").shape for n in range(3)
        ]
        np.testing.assert_array_equal(np.asarray(node.data[0]), noise(2, 3, 70, 20, 30)[..., ::2, ::2])
        assert node.metadata["coordinateTransformations"][0][0]["scale"] == [1.0, 1.0, 2.0, 1.0, 1.0]

    def test_ngff_zarr_reads_it(self, written):
        ngff_zarr = pytest.importorskip("ngff_zarr")
        path, _ = written
        found = ngff_zarr.from_ngff_zarr(path)
        first, second, _ = found.images
        assert (first.dims, first.scale["z"], first.scale["y"]) == (tuple("tczyx"), 2.0, 1.0)
        assert (first.translation["z"], first.translation["x"]) == (3.0, 1.0)
        assert second.scale["y"] == 2.0
        np.testing.assert_array_equal(np.asarray(first.data), noise(2, 3, 70, 20, 30)[..., ::2, ::2])
