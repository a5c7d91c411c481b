"""What `apply` computes: named kernels, weights from files and seeds, axes, types, and several inputs at once."""

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import lucid_core
from lucid_core.nn import Conv3d
from tests.cli.conftest import (
    SIZE,
    contents,
    make_nifti,
    make_volume,
    noise,
    npy_bytes,
    ok,
    read_volume,
    run,
    save_weights,
)
from tests.reference import conv3d as oracle

SPACING = (3.0, 1.5, 0.8)
"""Millimetres along D, H, W."""
MODES = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest", "circular": "wrap"} | {
    "symmetric": "reflect"
}
SIGMA_PER_FWHM = 1 / (2 * np.sqrt(2 * np.log(2)))


@pytest.fixture
def placed(folder):
    """Return a volume of 9x10x11 voxels and `scan.nii.gz` in the working folder that holds it."""
    volume = noise(9, 10, 11)
    make_nifti(folder / "scan.nii.gz", volume.T, sform=np.diag([*SPACING[::-1], 1.0]))
    return volume.astype(np.float64)


def applied(*args, source="scan.nii.gz"):
    """Apply to an input and return the output's values."""
    ok("apply", source, "-o", "out.npy", "--overwrite", "-q", *args)
    return np.load("out.npy")


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-4)


def by_definition(volume, weight, bias=None, **arguments):
    """Convolve (C, D, H, W) by the oracle."""
    return oracle(volume[None], weight, bias, **arguments)[0][0]


class TestNamedKernels:
    GABOR = ("gabor", "--sigma", "3mm", "--wavelength", "5mm", "--direction", "0,1,1", "--phase", "90")

    @pytest.mark.parametrize("mode", MODES)
    def test_gaussian_by_sigma_in_mm(self, placed, mode):
        found = applied("--kernel", "gaussian", "--sigma", "1.2mm", "--padding-mode", mode)
        close(found, ndimage.gaussian_filter(placed, [1.2 / step for step in SPACING], mode=MODES[mode]))

    def test_gaussian_by_sigmas_of_each_axis(self, placed):
        found = applied("--kernel", "gaussian", "--sigma", "2000,1000,800um")
        close(found, ndimage.gaussian_filter(placed, (2 / 3, 1 / 1.5, 1.0), mode="nearest"))

    @pytest.mark.parametrize(
        ("options", "filtered"),
        (
            (
                "derivative --sigma 2mm --order 1,0,2",
                lambda x: ndimage.gaussian_filter(x, [2 / one for one in SPACING], (1, 0, 2), mode="nearest"),
            ),
            (
                "log --sigma 2mm --truncate 3.1",
                lambda x: ndimage.gaussian_laplace(x, [2 / one for one in SPACING], mode="nearest", truncate=3.1),
            ),
            (
                "dog --sigma 2mm --sigma2 3mm",
                lambda x: (
                    ndimage.gaussian_filter(x, [2 / one for one in SPACING], mode="nearest")
                    - ndimage.gaussian_filter(x, [3 / one for one in SPACING], mode="nearest")
                ),
            ),
            (
                "unsharp --fwhm 3mm --amount 0.5",
                lambda x: (
                    1.5 * x
                    - 0.5 * ndimage.gaussian_filter(x, [3 * SIGMA_PER_FWHM / one for one in SPACING], mode="nearest")
                ),
            ),
            (
                "shift --offset -3,0.75,1.2mm",
                lambda x: ndimage.shift(x, (-1, 0.5, 1.5), order=1, mode="nearest"),
            ),
            ("prewitt --axis y", lambda x: ndimage.prewitt(x, 1, mode="nearest")),
            ("laplacian --neighbours 6", lambda x: ndimage.laplace(x, mode="nearest")),
        ),
    )
    def test_equal_scipys_in_millimetres(self, placed, options, filtered):
        close(applied("--kernel", *options.split()), filtered(placed))

    def test_a_sphere_is_round_in_the_world(self, placed):
        z, y, x = np.mgrid[-1:2, -2:3, -4:5] * np.array(SPACING).reshape(3, 1, 1, 1)
        ball = (z**2 + y**2 + x**2 <= 3.3**2).astype(float)
        close(
            applied("--kernel", "sphere", "--radius", "3.3mm"),
            ndimage.correlate(placed, ball / ball.sum(), mode="nearest"),
        )

    def test_a_gabor_wave_is_as_long_in_every_direction_of_the_world(self, placed):
        z, y, x = np.mgrid[-4:5, -8:9, -15:16] * np.array(SPACING).reshape(3, 1, 1, 1)
        envelope = np.exp(-(z**2 + y**2 + x**2) / 2 / 3**2)
        wave = envelope / envelope.sum() * np.cos(2 * np.pi * (y + x) / np.sqrt(2) / 5 - np.pi / 2)
        found = applied("--kernel", *self.GABOR)
        close(found, ndimage.correlate(placed, wave, mode="nearest"))

    def test_a_bank_makes_channels(self, placed):
        found = applied("--kernel", "hessian", "--sigma", "2mm")
        assert found.shape == (1, 6, *placed.shape)
        orders = ((2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 2, 0), (0, 1, 1), (0, 0, 2))
        for one, order in zip(found[0], orders, strict=True):
            close(one, ndimage.gaussian_filter(placed, [2 / step for step in SPACING], order, mode="nearest"))

    def test_a_bank_of_several_channels_goes_channel_by_channel(self, folder):
        volume = noise(2, *SIZE)
        make_volume("scan.npy", volume)
        found = applied("--kernel", "central", "--axis", "all", source="scan.npy")
        assert found.shape == (6, *SIZE)
        for channel in range(2):
            for axis, one in enumerate(found[3 * channel : 3 * channel + 3]):
                close(one, ndimage.correlate1d(volume[channel].astype(float), [-0.5, 0, 0.5], axis, mode="nearest"))

    def test_mean_pooling_reduces_the_grid(self, placed):
        found = applied("--kernel", "meanpool", "--size", "2vox")
        expected = placed[:8, :, :10].reshape(4, 2, 5, 2, 5, 2).mean(axis=(1, 3, 5))
        close(found, expected)
        strided = applied("--kernel", "meanpool", "--size", "2vox", "--stride", 1, "--padding", "same")
        assert strided.shape == placed.shape

    def test_the_report_says_what_was_chosen(self, placed, folder):
        ok(
            "apply",
            "scan.nii.gz",
            "-o",
            "out.nii",
            "--kernel",
            "gaussian",
            "--sigma",
            "3mm",
            "--report",
            "r.json",
            "-q",
        )
        kernel = json.loads((folder / "r.json").read_text())["layer"]["kernel"]
        assert (kernel["name"], kernel["size"], kernel["radius"]) == ("gaussian", [9, 17, 31], [4, 8, 15])
        assert kernel["options"] == {"sigma": [1.0, 2.0, pytest.approx(3.75)]}
        assert kernel["sum"] == pytest.approx(1)
        assert kernel["centre"] == pytest.approx([0, 0, 0], abs=1e-12)
        told = ok("apply", "scan.nii.gz", "-o", "b.nii", "--kernel", "shift", "--offset", "3,0,0mm").err
        assert "    kernel  shift, 3x1x1 voxels, sum 1, centre -1,0,0\n" in told
        told = ok("apply", "scan.nii.gz", "-o", "c.nii", "--kernel", "sobel", "--axis", "all").err
        assert "    kernel  sobel along z, y and x, 3x3x3 voxels, 3 filters\n" in told

    @pytest.mark.parametrize(
        ("options", "code", "words"),
        (
            ("gaussian --sigma 1mm --truncate -1", 2, "'-1' is not a number of at least 0"),
            ("gabor --sigma 1mm --wavelength 4mm --direction 1,2", 2, "'1,2' is not three numbers (D,H,W)"),
            ("unsharp --sigma 1mm --amount much", 2, "'much' is not a number"),
            ("shift --offset 1,0,0", 2, "has no unit"),
            ("shift --offset 1e12mm", 2, "is not between"),
            ("gaussian --sigma -1mm", 2, "is not a length"),
            ("sobel --axis all --out-channels 4", 5, "by itself with 3 filters: out_channels and groups are 3 and 1"),
            ("hessian --sigma 1mm --radius 2mm", 2, "the kernel 'hessian' has no radius"),
        ),
    )
    def test_what_a_kernel_does_not_take(self, placed, options, code, words):
        result = run("apply", "scan.nii.gz", "-o", "out.nii", "--kernel", *options.split())
        assert (result.code, words in result.err) == (code, True), result.err

    def test_options_of_kernels_stand_in_yaml(self, placed, folder):
        (folder / "a.yaml").write_text(
            "weights: {kernel: gabor, sigma: 3mm, wavelength: 5mm, direction: [0, 1, 1], phase: 90}\n"
        )
        again = run("apply", "-c", "a.yaml", "--print-config").out
        assert "direction: [0.0, 1.0, 1.0]" in again
        np.testing.assert_array_equal(
            applied("-c", "a.yaml"),
            applied("--kernel", *self.GABOR),
        )

    def test_gaussian_by_fwhm(self, placed):
        found = applied("--kernel", "gaussian", "--fwhm", "3mm")
        close(found, ndimage.gaussian_filter(placed, [3 * SIGMA_PER_FWHM / step for step in SPACING], mode="nearest"))

    def test_gaussian_in_voxels(self, placed):
        close(
            applied("--kernel", "gaussian", "--sigma", "0.9vox"), ndimage.gaussian_filter(placed, 0.9, mode="nearest")
        )

    def test_box(self, placed):
        found = applied("--kernel", "box", "--size", "3,5,1vox")
        close(found, ndimage.uniform_filter(placed, (3, 5, 1), mode="nearest"))

    def test_box_of_whole_voxels_nearest_to_a_length(self, placed):
        close(applied("--kernel", "box", "--size", "4mm"), applied("--kernel", "box", "--size", "1,3,5vox"))

    @pytest.mark.parametrize(("letter", "axis"), (("z", 0), ("y", 1), ("x", 2), ("D", 0), ("H", 1), ("W", 2)))
    def test_sobel(self, placed, letter, axis):
        close(applied("--kernel", "sobel", "--axis", letter), ndimage.sobel(placed, axis, mode="nearest"))

    def test_laplacian(self, placed):
        close(applied("--kernel", "laplacian"), ndimage.laplace(placed, mode="nearest"))

    def test_identity_of_a_size(self, placed):
        np.testing.assert_array_equal(applied("--kernel", "identity", "--size", "3vox"), placed)

    def test_flip_is_the_true_convolution(self, placed):
        close(applied("--kernel", "sobel", "--axis", "z", "--flip"), -ndimage.sobel(placed, 0, mode="nearest"))

    def test_a_stride_takes_every_second_voxel_of_the_same_grid(self, placed):
        found = applied("--kernel", "gaussian", "--sigma", "0.9vox", "--stride", "2,1,3")
        close(found, ndimage.gaussian_filter(placed, 0.9, mode="nearest")[::2, :, ::3])

    def test_dilation(self, placed):
        found = applied("--kernel", "box", "--size", "3vox", "--dilation", "1,2,1")
        taps = np.zeros((3, 5, 3))
        taps[:, ::2] = 1 / 27
        close(found, ndimage.correlate(placed, taps, mode="nearest"))

    def test_every_channel_by_itself(self, folder):
        volume = noise(3, *SIZE)
        found = applied("--kernel", "gaussian", "--sigma", "1vox", source=make_volume(folder / "a.npy", volume))
        for one, expected in zip(found, volume.astype(np.float64), strict=True):
            close(one, ndimage.gaussian_filter(expected, 1, mode="nearest"))

    def test_a_length_in_mm_needs_a_spacing(self, scan):
        result = run("apply", scan, "-o", "b.npy", "--kernel", "gaussian", "--sigma", "1mm")
        assert result.code == 2
        assert "--spacing" in result.err


class TestWeights:
    ARGUMENTS = ("--stride", "2,1,1", "--padding", "1,0,2", "--dilation", "1,1,2")
    LAYER = {"stride": (2, 1, 1), "padding": (1, 0, 2), "dilation": (1, 1, 2)}  # noqa: RUF012

    @pytest.fixture
    def arrays(self, folder):
        make_volume(folder / "scan.npy", noise(4, *SIZE))
        return noise(6, 4, 3, 2, 2, seed=1), noise(6, seed=2)

    def expected(self, weight, bias, **changes):
        return by_definition(noise(4, *SIZE).astype(np.float64), weight, bias, **(self.LAYER | changes))

    def check(self, weights, expected, *args):
        found = applied("--weights", weights, *self.ARGUMENTS, *args, source="scan.npy")
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3)

    def test_npy_holds_a_weight_alone(self, folder, arrays):
        (folder / "w.npy").write_bytes(npy_bytes(arrays[0]))
        self.check("w.npy", self.expected(arrays[0], None))

    def test_a_single_filter_of_three_axes(self, folder, placed):
        weight = noise(3, 3, 3, seed=1)
        (folder / "w.npy").write_bytes(npy_bytes(weight))
        found = applied("--weights", "w.npy", "--padding", "same")
        np.testing.assert_allclose(found, ndimage.correlate(placed, weight.astype(float), mode="constant"), atol=5e-3)

    def save(self, suffix, tree):
        if suffix == ".npz":
            np.savez("w.npz", **tree)
        elif suffix == ".safetensors":
            from safetensors.numpy import save_file

            save_file(tree, "w.safetensors")
        else:
            with h5py.File(f"w{suffix}", "w") as file:
                for name, array in tree.items():
                    file[name.replace(".", "/")] = array
        return f"w{suffix}"

    @pytest.mark.parametrize("suffix", (".npz", ".safetensors", ".h5", ".hdf5"))
    def test_weight_and_bias(self, arrays, suffix):
        file = self.save(suffix, {"weight": arrays[0], "bias": arrays[1]})
        self.check(file, self.expected(*arrays))
        self.check(file, self.expected(*arrays), "--bias")
        self.check(file, self.expected(arrays[0], None), "--no-bias")

    @pytest.mark.parametrize("suffix", (".npz", ".safetensors", ".h5"))
    @pytest.mark.parametrize("colon", (":", "::"))
    def test_a_key_of_a_model(self, arrays, suffix, colon):
        other = noise(1, 1, 1, 1, 1)
        tree = {"enc.0.weight": arrays[0], "enc.0.bias": arrays[1], "enc.1.weight": other}
        file = self.save(suffix, tree)
        key = "enc/0" if suffix == ".h5" else "enc.0"
        self.check(f"{file}{colon}{key}", self.expected(*arrays))

    @pytest.mark.parametrize("suffix", (".npz", ".safetensors", ".h5"))
    def test_a_key_that_is_the_array_itself(self, arrays, suffix):
        file = self.save(suffix, {"kernel": arrays[0], "other": arrays[1]})
        self.check(f"{file}:kernel", self.expected(arrays[0], None))

    def test_a_path_in_hdf5(self, arrays):
        file = self.save(".h5", {"model.conv.weight": arrays[0], "model.conv.bias": arrays[1]})
        self.check(f"{file}:model/conv/weight", self.expected(arrays[0], None))
        for key in ("model/conv", "/model/conv", "/model/conv.weight"):
            self.check(f"{file}:{key}", self.expected(arrays[0], None if key.endswith("weight") else arrays[1]))

    def test_the_only_array_of_a_file(self, arrays):
        self.check(self.save(".npz", {"anything": arrays[0]}), self.expected(arrays[0], None))

    def test_groups(self, arrays):
        weight = noise(6, 2, 3, 2, 2, seed=5)
        self.check(self.save(".npz", {"weight": weight}), self.expected(weight, None, groups=2), "--groups", 2)

    def test_flip(self, arrays):
        file = self.save(".npz", {"weight": arrays[0]})
        self.check(file, self.expected(arrays[0][:, :, ::-1, ::-1, ::-1].copy(), None), "--flip")

    def test_weights_trained_on_nibabel_arrays(self, arrays):
        file = self.save(".npz", {"weight": arrays[0].transpose(0, 1, 4, 3, 2)})
        self.check(file, self.expected(arrays[0], None), "--weights-axes", "xyz")

    def test_weights_of_nibabel_arrays_convolve_those_arrays(self, folder, placed):
        weight = noise(2, 1, 3, 2, 1, seed=1)
        save_weights("w.npz", weight)
        found = applied("--weights", "w.npz", "--weights-axes", "xyz")
        by_xyz = by_definition(np.asarray(nib.load("scan.nii.gz").dataobj, np.float64)[None], weight)
        np.testing.assert_allclose(found[0], by_xyz.transpose(0, 3, 2, 1), atol=5e-3)

    def test_weights_are_cast_to_the_arithmetic(self, arrays):
        for dtype in (np.float64, np.float16):
            weight = arrays[0].astype(dtype)
            self.check(self.save(".npz", {"weight": weight}), self.expected(weight, None))

    @pytest.mark.filterwarnings("error")
    def test_an_infinite_weight_in_float32_asks_for_float64(self, scan):
        save_weights("w.npz", np.full((1, 1, 1, 1, 1), 1e300))
        result = run("apply", scan, "-o", "b.npy", "--weights", "w.npz")
        assert (result.code, "--dtype float64" in result.err) == (2, True)
        ok("apply", scan, "-o", "b.npy", "--weights", "w.npz", "--dtype", "float64", "--out-dtype", "float64", "-q")
        np.testing.assert_allclose(np.load("b.npy"), noise(*SIZE).astype(np.float64) * 1e300)

    @pytest.mark.parametrize(
        ("options", "words"),
        (
            (("--in-channels", 3), ("in_channels", "3", "4")),
            (("--out-channels", 5), ("out_channels", "5", "6")),
            (("--kernel-size", 3), ("kernel_size", "(3, 3, 3)", "(3, 2, 2)")),
            (("--groups", 2), ("8", "4")),
            (("--bias",), ("bias",)),
        ),
    )
    def test_a_disagreement_shows_both(self, arrays, options, words):
        file = self.save(".npz", {"weight": arrays[0]})
        result = run("apply", "scan.npy", "-o", "b.npy", "--weights", file, *options)
        assert result.code == 5
        for word in words:
            assert word in result.err

    def test_channels_that_the_volume_does_not_have(self, scan):
        save_weights("w.npz", noise(2, 3, 1, 1, 1))
        result = run("apply", scan, "-o", "b.npy", "--weights", "w.npz")
        assert result.code == 5
        assert "takes 3 input channels" in result.err
        assert "has 1" in result.err


class TestSeed:
    LAYER = ("--out-channels", 4, "--kernel-size", "3,1,2", "-q")

    def test_the_start_is_that_of_the_library(self, scan):
        ok("apply", scan, "-o", "b.npy", *self.LAYER, "--seed", 7)
        lucid_core.manual_seed(7)
        layer = Conv3d(1, 4, (3, 1, 2))
        np.testing.assert_array_equal(np.load("b.npy"), layer(noise(1, 1, *SIZE)))

    def test_a_seed_says_all_and_another_differs(self, scan):
        first = applied(*self.LAYER, source=scan)
        np.testing.assert_array_equal(applied(*self.LAYER, "--seed", 0, source=scan), first)
        assert not np.array_equal(applied(*self.LAYER, "--seed", 1, source=scan), first)

    def test_without_a_bias(self, scan):
        report = json.loads(run("plan", scan, *self.LAYER, "--no-bias", "--json").out)
        assert report["layer"]["bias"] is False
        assert report["items"][0]["parameters"] == 4 * 6

    def test_channels_follow_the_volume(self, folder):
        make_volume(folder / "a.npy", noise(3, *SIZE))
        layer = json.loads(run("plan", "a.npy", "--kernel-size", 1, "--json").out)["layer"]
        assert (layer["in_channels"], layer["out_channels"]) == (3, 3)


class TestAxes:
    @pytest.fixture
    def series(self, folder):
        make_nifti(folder / "series.nii.gz", noise(4, *SIZE).T, sform=np.eye(4))
        return "series.nii.gz"

    def shapes(self, source, *args):
        result = run("plan", source, "--json", *args)
        assert result.code == 0, result.err
        return json.loads(result.out)["items"][0]["shapes"]["input"]

    def test_the_4th_axis_is_a_batch_for_a_named_kernel(self, series):
        assert self.shapes(series, "--kernel", "identity") == [4, 1, *SIZE]

    def test_the_4th_axis_is_a_batch_for_one_input_channel(self, series):
        assert self.shapes(series, "--in-channels", 1, "--kernel-size", 1) == [4, 1, *SIZE]
        save_weights("w.npz", noise(2, 1, 1, 1, 1))
        assert self.shapes(series, "--weights", "w.npz") == [4, 1, *SIZE]

    def test_the_4th_axis_is_the_channels_where_the_layer_takes_as_many(self, series):
        assert self.shapes(series, "--in-channels", 4, "--kernel-size", 1) == [1, 4, *SIZE]
        save_weights("w.npz", noise(2, 4, 1, 1, 1))
        assert self.shapes(series, "--weights", "w.npz") == [1, 4, *SIZE]

    def test_any_other_4th_axis_is_asked_for(self, series):
        for options in (("--in-channels", 2, "--kernel-size", 1), ("--kernel-size", 1)):
            result = run("apply", series, "-o", "b.nii", *options)
            assert result.code == 5
            assert "--axis4" in result.err
        assert self.shapes(series, "--kernel-size", 1, "--axis4", "batch") == [4, 1, *SIZE]
        assert self.shapes(series, "--kernel-size", 1, "--axis4", "channel") == [1, 4, *SIZE]
        assert self.shapes(series, "--kernel", "identity", "--axis4", "channel") == [1, 4, *SIZE]

    def test_a_4th_axis_of_one_is_never_in_doubt(self, folder):
        make_nifti(folder / "a.nii", noise(1, *SIZE).T, sform=np.eye(4))
        assert self.shapes("a.nii", "--kernel-size", 1) == [1, 1, *SIZE]
        ok("apply", "a.nii", "-o", "b.nii", "--kernel", "identity", "-q")
        assert nib.load("b.nii").shape == (*SIZE[::-1], 1)

    def test_axes_say_what_is_what(self, folder):
        volume = noise(2, *SIZE, 3)
        make_volume(folder / "a.npy", volume)
        assert self.shapes("a.npy", "--kernel", "identity", "--axes", "NDHWC") == [2, 3, *SIZE]
        assert self.shapes("a.npy", "--kernel", "identity", "--axes", "czyxn") == [3, 2, *SIZE]
        found = applied("--kernel", "sobel", "--axis", "z", "--axes", "NDHWC", source="a.npy")
        assert found.shape == volume.shape
        for n, c in np.ndindex(2, 3):
            close(found[n, ..., c], ndimage.sobel(volume[n, ..., c].astype(np.float64), 0, mode="nearest"))

    @pytest.mark.parametrize(("axes", "along"), (("HWD", 2), ("HDW", 1), ("WHD", 2)))
    def test_axes_in_another_order_stay_in_it(self, folder, axes, along):
        make_volume(folder / "a.npy", noise(*SIZE))
        found = applied("--kernel", "sobel", "--axis", "z", "--axes", axes, source="a.npy")
        close(found, ndimage.sobel(noise(*SIZE).astype(np.float64), along, mode="nearest"))

    @pytest.mark.parametrize(
        ("axes", "code"), (("DH", 2), ("DHWW", 2), ("DHQ", 2), ("NDHW", 5), ("NCDHW", 5), ("DHWNCT", 2))
    )
    def test_axes_that_are_none(self, scan, axes, code):
        result = run("apply", scan, "-o", "b.npy", "--kernel", "identity", "--axes", axes)
        assert result.code == code
        assert "--axes" in result.err

    def test_a_nifti_begins_with_x_y_z(self, folder):
        make_nifti(folder / "a.nii", noise(4, *SIZE).T, sform=np.eye(4))
        assert run("plan", "a.nii", "--kernel", "identity", "--axes", "NDHW").code == 2
        assert self.shapes("a.nii", "--kernel", "identity", "--axes", "xyzc") == [1, 4, *SIZE]

    def test_a_nifti_of_five_axes_is_batch_and_channels(self, folder):
        make_nifti(folder / "a.nii", noise(3, 2, *SIZE).T, sform=np.eye(4))
        assert self.shapes("a.nii", "--kernel", "identity") == [2, 3, *SIZE]
        ok("apply", "a.nii", "-o", "b.nii", "--kernel", "identity", "-q")
        np.testing.assert_array_equal(np.asarray(nib.load("b.nii").dataobj).T, noise(3, 2, *SIZE))


class TestTypes:
    def output(self, *args):
        result = run("apply", *args, "--report", "-", "-q")
        return result.code, json.loads(result.out)["items"][0]

    @pytest.mark.parametrize(
        ("stored", "arithmetic"),
        (
            *((code, "float32") for code in ("u1", "i1", "i2", "u2", "f2", "f4")),
            *((code, "float64") for code in ("i4", "u4", "i8", "u8", "f8")),
        ),
    )
    def test_what_is_computed_in_float32_and_what_in_float64(self, folder, stored, arithmetic):
        make_volume(folder / "a.npy", np.ones(SIZE, stored))
        result = run("plan", "a.npy", "--kernel", "identity", "--json")
        report = json.loads(result.out)
        assert report["layer"]["dtype"] == arithmetic
        assert report["items"][0]["output"]["dtype"] == "float32"

    def test_large_integers_are_summed_in_float64_and_stored_in_float32(self, folder):
        volume = np.zeros((3, 3, 3), np.int32)
        volume[0, 0, 0], volume[0, 0, 1], volume[0, 0, 2] = 2**30 + 1, -(2**30), 0
        make_volume(folder / "a.npy", volume)
        save_weights("w.npz", np.ones((1, 1, 1, 1, 2)))
        found = applied("--weights", "w.npz", source="a.npy")
        assert (found.dtype, found[0, 0, 0]) == (np.float32, 1.0)
        assert applied("--weights", "w.npz", "--dtype", "float32", source="a.npy")[0, 0, 0] == 0.0

    def test_float64_out(self, folder):
        volume = noise(*SIZE, dtype=np.float64)
        make_volume(folder / "a.npy", volume)
        found = applied("--kernel", "gaussian", "--sigma", "1vox", "--out-dtype", "float64", source="a.npy")
        np.testing.assert_allclose(found, ndimage.gaussian_filter(volume, 1, mode="nearest"), rtol=0, atol=1e-12)

    def test_integers_round_half_to_even(self, folder):
        make_volume(folder / "a.npy", np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 3.49], np.float32).reshape(1, 1, 6))
        found = applied("--kernel", "identity", "--out-dtype", "int16", source="a.npy")
        assert found.ravel().tolist() == [-2, 0, 0, 2, 2, 3]

    LOSSY = (-1.0, 0.0, 255.0, 255.4, 256.0, 1e9)

    def test_cast_error_says_what_does_not_fit_and_writes_nothing(self, folder):
        make_volume(folder / "a.npy", np.array(self.LOSSY, np.float32).reshape(1, 1, 6))
        result = run("apply", "a.npy", "-o", "b.npy", "--kernel", "identity", "--out-dtype", "uint8", "-q")
        assert result.code == 1
        assert "3 or more voxels do not fit into uint8" in result.err
        assert [path.name for path in folder.iterdir()] == ["a.npy"]

    def test_cast_clip_saturates_and_counts(self, folder):
        make_volume(folder / "a.npy", np.array(self.LOSSY, np.float32).reshape(1, 1, 6))
        args = ("a.npy", "-o", "b.npy", "--kernel", "identity", "--out-dtype", "uint8", "--cast", "clip")
        code, item = self.output(*args)
        assert np.load("b.npy").ravel().tolist() == [0, 0, 255, 255, 255, 255]
        assert (code, item["output"]["clipped_count"], item["output"]["nan_count"]) == (0, 3, 0)
        assert (item["output"]["min"], item["output"]["max"]) == (0, 255)

    @pytest.mark.parametrize("name", ("int64", "uint64", "int32"))
    def test_cast_clip_saturates_at_the_ends_of_wide_types(self, folder, name):
        values = np.array([-1e30, 1e30, 2.0**63, 2.0**64, 2.0**31, -(2.0**63)]).reshape(1, 1, 6)
        make_volume(folder / "a.npy", values)
        ok("apply", "a.npy", "-o", "b.npy", "--kernel", "identity", "--out-dtype", name, "--cast", "clip", "-q")
        limits = np.iinfo(name)
        expected = [min(max(int(value), limits.min), limits.max) for value in values.ravel()]
        assert np.load("b.npy").ravel().tolist() == expected

    @pytest.mark.parametrize("suffix", (".nii", ".nii.gz"))
    @pytest.mark.parametrize("name", ("uint8", "int8", "int16", "uint16", "int32"))
    def test_cast_rescale_spreads_the_values_over_the_type(self, folder, name, suffix):
        volume = noise(*SIZE, dtype=np.float64) + 1000
        make_volume(folder / "a.npy", volume)
        args = ("a.npy", "-o", f"b{suffix}", "--kernel", "identity", "--out-dtype", name, "--cast", "rescale")
        code, item = self.output(*args)
        assert (code, item["output"]["clipped_count"]) == (0, 0)
        image = nib.load(f"b{suffix}")
        assert image.get_data_dtype() == np.dtype(name)
        step = (volume.max() - volume.min()) / (2.0 ** (8 * np.dtype(name).itemsize) - 1)
        np.testing.assert_allclose(np.asarray(image.dataobj).T, volume, rtol=1e-9, atol=0.51 * step)
        stored = image.dataobj.get_unscaled()
        limits = np.iinfo(name)
        assert stored.max() - float(stored.min()) > 0.99 * (float(limits.max) - limits.min)

    def test_cast_rescale_of_one_value(self, folder):
        make_volume(folder / "a.npy", np.full(SIZE, 41.5, np.float32))
        ok("apply", "a.npy", "-o", "b.nii", "--kernel", "identity", "--out-dtype", "uint8", "--cast", "rescale", "-q")
        np.testing.assert_allclose(np.asarray(nib.load("b.nii").dataobj), 41.5, rtol=1e-7)

    @pytest.mark.parametrize("args", (("b.npy", "uint8"), ("b.h5", "int16"), ("b.nii", "float64")))
    def test_cast_rescale_needs_a_header_that_keeps_the_scaling(self, scan, args):
        out, dtype = args
        result = run("apply", scan, "-o", out, "--kernel", "identity", "--out-dtype", dtype, "--cast", "rescale")
        assert result.code == 2
        assert "--cast clip" in result.err

    def test_nan_and_infinity_reach_exactly_their_neighbours(self, folder):
        volume = noise(7, 7, 7)
        volume[1, 2, 3], volume[5, 5, 5] = np.nan, np.inf
        make_volume(folder / "a.npy", volume)
        code, item = self.output("a.npy", "-o", "b.npy", "--kernel", "box", "--size", "3vox")
        found = np.load("b.npy")
        bad, infinite = np.zeros((2, 7, 7, 7), bool)
        bad[0:3, 1:4, 2:5] = True
        infinite[4:7, 4:7, 4:7] = True
        np.testing.assert_array_equal(np.isnan(found), bad)
        np.testing.assert_array_equal(np.isposinf(found), infinite & ~bad)
        rest = found[~(bad | infinite)]
        output = item["output"]
        assert (code, output["nan_count"], output["clipped_count"]) == (0, 27, 0)
        assert (output["min"], output["max"]) == (rest.min(), rest.max())
        assert abs(output["mean"] - rest.mean(dtype=np.float64)) < 1e-6

    def test_what_overflows_is_counted(self, folder):
        make_volume(folder / "a.npy", np.array([1e300, 1.0, -1e300, np.inf]).reshape(1, 2, 2))
        code, item = self.output("a.npy", "-o", "b.npy", "--kernel", "identity")
        assert (code, item["output"]["clipped_count"]) == (0, 2)
        assert np.load("b.npy").ravel().tolist() == [np.inf, 1, -np.inf, np.inf]

    def test_nan_in_an_integer_output_is_an_error_or_a_counted_zero(self, folder):
        volume = np.ones((1, 2, 2), np.float32)
        volume[0, 0, 0] = np.nan
        make_volume(folder / "a.npy", volume)
        args = ("a.npy", "-o", "b.npy", "--kernel", "identity", "--out-dtype", "uint8")
        assert run("apply", *args, "-q").code == 1
        code, item = self.output(*args, "--cast", "clip")
        assert (code, item["output"]["nan_count"]) == (0, 1)
        assert np.load("b.npy").ravel().tolist() == [0, 1, 1, 1]

    @pytest.mark.parametrize("args", (("b.nii", "float16"), ("b.npy", "bool"), ("b.npy", "complex64"), ("b.npy", "f4")))
    def test_types_that_a_format_has_not(self, scan, args):
        out, dtype = args
        result = run("apply", scan, "-o", out, "--kernel", "identity", "--out-dtype", dtype)
        assert result.code == 2
        assert "legal: " in result.err


class TestCompression:
    def test_levels_of_a_gz(self, folder):
        make_volume(folder / "a.npy", np.add.outer(np.arange(40.0), np.arange(2000.0).reshape(40, 50)).astype("f4"))
        sizes = {}
        for level in "19":
            ok("apply", "a.npy", "-o", f"{level}.nii.gz", "--kernel", "identity", "--compression", level, "-q")
            sizes[level] = (folder / f"{level}.nii.gz").stat().st_size
        assert sizes["9"] < sizes["1"]
        np.testing.assert_array_equal(read_volume("9.nii.gz"), np.load("a.npy"))

    def test_hdf5(self, scan):
        for said, found in (("none", (None, None)), ("6", ("gzip", 6))):
            ok("apply", scan, "-o", f"{said}.h5", "--kernel", "identity", "--compression", said, "-q")
            with h5py.File(f"{said}.h5", "r") as file:
                assert (file["data"].compression, file["data"].compression_opts) == found
                np.testing.assert_array_equal(file["data"][()], noise(*SIZE))

    @pytest.mark.parametrize(
        ("out", "level"),
        (
            *((out, "1") for out in ("b.nii", "b.npy", "b.img")),
            *((out, level) for out in ("b.nii.gz", "b.nii.zst", "b.h5") for level in ("0", "10", "lzma")),
            ("b.nii.zst", "none"),
        ),
    )
    def test_levels_that_are_none(self, scan, folder, out, level):
        before = contents(folder)
        result = run("apply", scan, "-o", out, "--kernel", "identity", "--compression", level)
        assert result.code == 2
        assert "legal: " in result.err or ".nii" in result.err
        assert contents(folder) == before


@pytest.mark.parametrize("suffix", (".nii.gz", ".npy", ".h5"))
def test_threads_and_batch_size_change_no_byte(folder, suffix):
    source = make_volume(folder / f"a{suffix}", noise(5, *SIZE))
    axes = () if suffix == ".nii.gz" else ("--axes", "NDHW")
    layer = ("--in-channels", 1, "--out-channels", 3, "--kernel-size", 3, "--padding", 1, "-q", *axes)
    ok("apply", source, "-o", f"first{suffix}", *layer, "-j", 1)
    first = (folder / f"first{suffix}").read_bytes()
    for number, options in enumerate((("-j", 2), ("-j", 4, "--batch-size", 1), ("-j", 3, "--batch-size", 2))):
        ok("apply", source, "-o", f"{number}{suffix}", *layer, *options)
        assert (folder / f"{number}{suffix}").read_bytes() == first


class TestSeveralInputs:
    KERNEL = ("--kernel", "identity", "-q")

    @pytest.fixture
    def three(self, folder):
        for number, name in enumerate(("a.npy", "b.nii.gz", "c.d.h5")):
            make_volume(folder / name, noise(*SIZE, seed=number))
        (folder / "out").mkdir()
        return ["a.npy", "b.nii.gz", "c.d.h5"]

    def names(self):
        return sorted(name for name in contents("out"))

    def test_each_keeps_its_format_and_gets_a_name(self, three):
        ok("apply", *three, "-o", "out", *self.KERNEL)
        assert self.names() == ["a_conv3d.npy", "b_conv3d.nii.gz", "c.d_conv3d.h5"]
        for number, name in enumerate(self.names()):
            np.testing.assert_array_equal(read_volume(f"out/{name}"), noise(*SIZE, seed=number))

    def test_a_pattern_names_them(self, three):
        ok("apply", *three, "-o", "out/", "--name", "smooth_{stem}.nii.gz", *self.KERNEL)
        assert self.names() == ["smooth_a.nii.gz", "smooth_b.nii.gz", "smooth_c.d.nii.gz"]

    def test_one_input_into_a_folder(self, three):
        ok("apply", "a.npy", "-o", "out", *self.KERNEL)
        assert self.names() == ["a_conv3d.npy"]

    @pytest.mark.parametrize("pattern", ("same.npy", "{stem", "{name}.npy", "../{stem}.npy", "{stem}.xyz", "{0}.npy"))
    def test_patterns_that_are_none(self, three, pattern):
        result = run("apply", *three, "-o", "out", "--name", pattern, *self.KERNEL)
        assert result.code in (2, 4)
        assert result.err.startswith("Error: ")
        assert self.names() == []

    def test_several_inputs_need_a_folder(self, three):
        for out in ("one.npy", "nowhere", "nowhere/"):
            result = run("apply", *three, "-o", out, *self.KERNEL)
            assert result.code == 4
            assert "folder" in result.err

    def test_one_that_fails_does_not_stop_the_others(self, three, folder):
        (folder / "b.nii.gz").write_bytes(b"not a scan")
        result = run("apply", *three, "-o", "out", "--report", "r.json", *self.KERNEL)
        assert result.code == 7
        assert "b.nii.gz" in result.err
        assert self.names() == ["a_conv3d.npy", "c.d_conv3d.h5"]
        report = json.loads((folder / "r.json").read_text())
        assert (report["status"], [item["status"] for item in report["items"]]) == ("failed", ["ok", "failed", "ok"])
        assert "b.nii.gz" in report["items"][1]["error"]

    def test_fail_fast_stops_at_the_first(self, three, folder):
        (folder / "b.nii.gz").write_bytes(b"not a scan")
        assert run("apply", *three, "-o", "out", "--fail-fast", *self.KERNEL).code == 7
        assert self.names() == ["a_conv3d.npy"]

    def test_skip_existing_does_what_is_missing(self, three, folder):
        ok("apply", three[0], "-o", "out", *self.KERNEL)
        first = (folder / "out/a_conv3d.npy").stat().st_mtime_ns
        result = run("apply", *three, "-o", "out", "--skip-existing", "--report", "-", *self.KERNEL)
        assert result.code == 0
        assert (folder / "out/a_conv3d.npy").stat().st_mtime_ns == first
        assert len(self.names()) == 3
        assert [item["status"] for item in json.loads(result.out)["items"]] == ["skipped", "ok", "ok"]

    def test_an_output_that_exists_is_a_failure_of_its_own(self, three, folder):
        (folder / "out/a_conv3d.npy").write_bytes(b"old")
        assert run("apply", *three, "-o", "out", *self.KERNEL).code == 7
        assert (folder / "out/a_conv3d.npy").read_bytes() == b"old"
        assert len(self.names()) == 3


class TestOverwrite:
    @pytest.mark.parametrize("flag", ("--overwrite", "--force"))
    @pytest.mark.parametrize("suffix", (".npy", ".nii.gz", ".h5", ".img"))
    def test_only_when_asked(self, scan, folder, suffix, flag):
        (folder / f"b{suffix}").write_bytes(b"old")
        command = ("apply", scan, "-o", f"b{suffix}", "--kernel", "identity", "-q")
        result = run(*command)
        assert result.code == 4
        assert "--overwrite" in result.err
        assert (folder / f"b{suffix}").read_bytes() == b"old"
        ok(*command, flag)
        np.testing.assert_array_equal(read_volume(f"b{suffix}"), noise(*SIZE))

    def test_the_whole_hdf5_file_is_replaced(self, scan, folder):
        with h5py.File("b.h5", "w") as file:
            file["other"] = [1, 2]
        ok("apply", scan, "-o", "b.h5:/group/mine", "--kernel", "identity", "--overwrite", "-q")
        with h5py.File("b.h5", "r") as file:
            assert sorted(file) == ["group"]

    def test_the_header_of_a_pair_counts_too(self, scan, folder):
        (folder / "b.hdr").write_bytes(b"old")
        result = run("apply", scan, "-o", "b.img", "--kernel", "identity", "-q")
        assert result.code == 4
        assert sorted(contents(folder)) == ["b.hdr", "scan.npy"]


def test_names_of_every_kind(folder):
    name = "Ünïcode and spaces.v1.2-" + "x" * 200
    for source in (f"{name}.npy", "./-dash.npy", "new\nline.npy", "UPPER.NPY"):
        make_volume(folder / "plain.npy", noise(*SIZE))
        (folder / "plain.npy").rename(folder / source)
        ok("apply", source, "-o", "b.NII.GZ", "--kernel", "identity", "--overwrite", "-q")
        np.testing.assert_array_equal(read_volume("b.NII.GZ"), noise(*SIZE))
    ok("apply", "./-dash.npy", "-o", f"{name}.nii.gz", "--kernel", "identity", "-q")
    ok("apply", "-o", "c.npy", "--kernel", "identity", "-q", "--", "-dash.npy")
    np.testing.assert_array_equal(np.load("c.npy"), noise(*SIZE))


@pytest.mark.parametrize("algorithm", ("direct", "gemm", "separable"))
def test_every_algorithm_filters_alike(placed, algorithm):
    found = applied("--kernel", "gaussian", "--sigma", "1vox", "--algorithm", algorithm, "--engine", "numpy")
    close(found, ndimage.gaussian_filter(placed, 1, mode="nearest"))
