"""`--mask`, `--nan` and padding_mode renormalize: SciPy's s(M X) / s(M), the grid that is checked, memory, resuming."""

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tests.cli.conftest import contents, finished, make_nifti, make_volume, noise, ok, program, read_volume, run

SPACING = (3.0, 1.5, 0.8)
SIGMA = (1.2 / 3.0, 1.2 / 1.5, 1.2 / 0.8)
AFFINE = np.diag([*SPACING[::-1], 1.0])
SMOOTH = ("--kernel", "gaussian", "--sigma", "1.2mm")
SHAPE = (14, 15, 16)
BORDERS = {"zeros": "constant", "replicate": "nearest", "reflect": "mirror", "circular": "wrap", "symmetric": "reflect"}


@pytest.fixture
def data(folder):
    """Return a volume with NaN outside a mask, and the mask, which `scan.nii.gz` and `mask.nii.gz` hold."""
    volume, mask = noise(*SHAPE) + 3, noise(*SHAPE, seed=1) > -0.3
    mask[:3], mask[:, :, 12:] = False, False
    volume[~mask] = np.nan
    make_nifti(folder / "scan.nii.gz", volume.T, sform=AFFINE)
    make_nifti(folder / "mask.nii.gz", mask.astype(np.uint8).T, sform=AFFINE)
    return volume.astype(np.float64), mask


def quotient(volume, mask, border="nearest"):
    """Return s(M X) / s(M) by SciPy."""
    above, below = (
        ndimage.gaussian_filter(one, SIGMA, mode=border) for one in (np.where(mask, volume, 0), mask.astype(float))
    )
    with np.errstate(all="ignore"):
        return above / below


def applied(*args, source="scan.nii.gz"):
    ok("apply", source, "-o", "out.npy", "--overwrite", "-q", *map(str, args))
    return np.load("out.npy")


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-5)


class TestMask:
    @pytest.mark.parametrize("mode", BORDERS)
    def test_it_is_the_quotient_inside_and_the_value_outside(self, data, mode):
        volume, mask = data
        found = applied(*SMOOTH, "--mask", "mask.nii.gz", "--outside", -5, "--padding-mode", mode)
        close(found, np.where(mask, quotient(volume, mask, BORDERS[mode]), -5))

    def test_renormalize_leaves_out_what_lies_beyond_the_border(self, data):
        volume, mask = data
        found = applied(*SMOOTH, "--mask", "mask.nii.gz", "--padding-mode", "renormalize")
        close(found, np.where(mask, quotient(volume, mask, "constant"), 0))

    @pytest.mark.parametrize("outside", ("nan", "NaN", 0, 7.25))
    def test_the_value_outside(self, data, outside):
        found = applied(*SMOOTH, "--mask", "mask.nii.gz", "--outside", outside)[~data[1]]
        assert np.array_equal(found, np.full_like(found, float(outside)), equal_nan=True)

    @pytest.mark.parametrize("options", (("--tile", "2,3,5"), ("-j", 1)))
    def test_no_choice_changes_a_bit(self, data, options):
        whole = applied(
            *SMOOTH, "--mask", "mask.nii.gz", "--tile", "14,15,16", *(options if "numba" in options else ())
        )
        assert applied(*SMOOTH, "--mask", "mask.nii.gz", *options).tobytes() == whole.tobytes()

    @pytest.mark.parametrize("mask", ("m.nii", "m.h5:/a/b", "m.npy", "m.nii.gz", "m.hdr"))
    @pytest.mark.parametrize("scan", ("s.nii", "s.h5", "s.nii.gz"))
    def test_every_format_goes_with_every_other(self, folder, scan, mask):
        volume, inside = noise(*SHAPE), (noise(*SHAPE, seed=1) > 0)
        make_volume(scan, volume)
        if ":" in mask:
            with h5py.File("m.h5", "w") as file:
                file["a/b"] = inside.astype(np.int16)
        else:
            make_volume(mask, inside.astype(np.uint8))
        box = ("--kernel", "box", "--size", "3vox", "--mask")
        found = applied(*box, mask, source=scan)
        make_volume("m.nii", inside.astype(np.uint8))
        make_volume("s.nii", volume)
        assert (
            found.tobytes() == applied("--kernel", "box", "--size", "3vox", "--mask", "m.nii", source="s.nii").tobytes()
        )

    def test_a_mask_serves_every_volume_of_a_series(self, folder):
        series, mask = noise(3, *SHAPE), noise(*SHAPE, seed=1) > 0
        make_nifti(folder / "series.nii.gz", series.transpose(3, 2, 1, 0), sform=AFFINE)
        make_nifti(folder / "mask.nii.gz", mask.astype(np.uint8).T, sform=AFFINE)
        found = applied(*SMOOTH, "--mask", "mask.nii.gz", source="series.nii.gz")
        for one, volume in zip(found, series, strict=True):
            close(one, np.where(mask, quotient(volume.astype(float), mask), 0))

    def test_the_report_says_what_mask(self, data):
        report = json.loads(
            ok("apply", "scan.nii.gz", "-o", "o.nii", *SMOOTH, "--mask", "mask.nii.gz", "--report", "-", "-q").out
        )
        volume = report["items"][0]["volume"]
        assert (volume["mask"]["path"], volume["mask"]["dtype"], volume["outside"]) == ("mask.nii.gz", "uint8", 0.0)
        plain = json.loads(ok("plan", "scan.nii.gz", *SMOOTH, "--json").out)
        assert "volume" not in plain["items"][0]

    def test_a_pooling_mask(self, folder):
        make_volume("s.npy", np.arange(16, dtype=np.float32).reshape(2, 2, 4))
        mask = np.zeros((2, 2, 4), np.uint8)
        mask[0, 0, 0] = mask[1, 1, 1] = 1
        make_volume("m.npy", mask)
        found = applied("--kernel", "meanpool", "--size", "2vox", "--mask", "m.npy", "--outside", "-1", source="s.npy")
        assert found.ravel().tolist() == [6.5, -1]


class TestRefusals:
    def refused(self, code, *args):
        result = run("apply", "scan.nii.gz", "-o", "out.nii.gz", *args)
        assert result.code == code
        assert "out.nii.gz" not in contents(".")
        return result.err

    def test_a_mask_elsewhere(self, data, folder):
        moved = AFFINE.copy()
        moved[0, 3] = 0.5
        make_nifti(folder / "moved.nii", data[1].astype(np.uint8).T, sform=moved)
        assert "up to 0.5 mm apart" in self.refused(5, *SMOOTH, "--mask", "moved.nii")
        moved[0, 3] = 0.01
        make_nifti(folder / "moved.nii", data[1].astype(np.uint8).T, sform=moved)
        applied(*SMOOTH, "--mask", "moved.nii")

    def test_a_mask_flipped_in_its_file_is_another_grid(self, data, folder):
        flipped = AFFINE @ np.diag([-1, 1, 1, 1])
        make_nifti(folder / "flipped.nii", data[1].astype(np.uint8).T, sform=flipped)
        assert "lies elsewhere" in self.refused(5, *SMOOTH, "--mask", "flipped.nii")

    @pytest.mark.parametrize(
        ("shape", "words"),
        (((16, 15, 14), "in another order"), ((14, 15, 17), "14x15x16"), ((2, 14, 15, 16), "2x14x15x16")),
    )
    def test_a_mask_of_another_shape(self, data, shape, words):
        make_volume("m.npy", np.ones(shape, np.uint8))
        assert words in self.refused(5, *SMOOTH, "--mask", "m.npy")

    def test_a_kernel_that_sums_to_nothing(self, data):
        for option in (("--mask", "mask.nii.gz"), ("--nan", "renormalize"), ("--padding-mode", "renormalize")):
            assert "sums to" in self.refused(2, "--kernel", "sobel", "--axis", "z", *option)

    def test_a_mask_that_is_not_there_or_damaged(self, data, folder):
        assert "no such file" in self.refused(3, *SMOOTH, "--mask", "nope.nii")
        whole = (folder / "mask.nii.gz").read_bytes()
        (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
        assert "cut.nii.gz" in self.refused(3, *SMOOTH, "--mask", "cut.nii.gz")
        assert list(contents(folder)) == ["cut.nii.gz", "mask.nii.gz", "scan.nii.gz"]

    @pytest.mark.parametrize(("name", "value"), (("none.nii.gz", 0), ("none.h5", 0), ("none.npy", np.nan)))
    def test_a_mask_without_a_voxel_inside(self, data, folder, name, value):
        empty = np.full(SHAPE, value, np.float32)
        make_volume(folder / name, empty)
        if name == "none.nii.gz":
            make_nifti(folder / name, empty.T, sform=AFFINE)
        (folder / "c.yaml").write_text("layers: [{kernel: gaussian, sigma: 1vox}, relu]")
        kept = contents(folder)
        layers = ("--config", "c.yaml", "--normalize", "minmax")
        for options in (SMOOTH, (*SMOOTH, "--nan", "renormalize"), (*SMOOTH, "--normalize", "zscore"), layers):
            err = self.refused(5, *options, "--mask", name)
            assert f"the mask {name}" in err
            assert "holds no voxel that is not 0" in err
            assert contents(folder) == kept

    def test_a_run_that_goes_on_finds_a_mask_empty_as_well(self, data, folder):
        make_volume(folder / "none.npy", np.zeros(SHAPE, np.float32))
        for _ in range(2):
            assert "holds no voxel" in self.refused(5, *SMOOTH, "--mask", "none.npy", "--resume")

    def test_a_mask_of_one_voxel_that_the_output_leaves_out(self, data, folder):
        mask = np.zeros(SHAPE, np.uint8)
        mask[-1, -1, -1] = 1
        make_nifti(folder / "one.nii.gz", mask.T, sform=AFFINE)
        found = applied("--kernel", "box", "--size", "1vox", "--stride", "4", "--mask", "one.nii.gz", "--tile", "1")
        assert not found.any()

    def test_the_output_is_never_the_mask(self, data):
        result = run("apply", "scan.nii.gz", "-o", "mask.nii.gz", *SMOOTH, "--mask", "mask.nii.gz", "--overwrite")
        assert result.code == 4

    def test_outside_needs_a_mask_and_stdin_is_none(self, data):
        assert "give --mask FILE" in self.refused(2, *SMOOTH, "--outside", "1")
        assert "name a file" in self.refused(2, *SMOOTH, "--mask", "-")
        assert "outside must be at most" in self.refused(2, *SMOOTH, "--mask", "mask.nii.gz", "--outside", "1e300")
        assert "nothing renormalized" in run("bench", "scan.nii.gz", *SMOOTH, "--mask", "mask.nii.gz").err

    def test_a_normwise_algorithm(self, data):
        err = self.refused(2, *SMOOTH, "--mask", "mask.nii.gz", "--accuracy", "normwise", "--algorithm", "fft")
        assert "s(M) may be small" in err


class TestMissing:
    def test_missing_voxels_are_filled_from_their_neighbours(self, data):
        volume, mask = data
        wanted = quotient(volume, mask)
        found = applied(*SMOOTH, "--nan", "renormalize")
        assert np.isnan(found).tolist() == np.isnan(wanted).tolist()
        close(found, wanted)

    def test_with_a_mask_too(self, data, folder):
        volume, mask = data
        more = mask | (noise(*SHAPE, seed=5) > 1)
        make_nifti(folder / "more.nii", more.astype(np.uint8).T, sform=AFFINE)
        found = applied(*SMOOTH, "--nan", "renormalize", "--mask", "more.nii", "--outside", "9")
        close(found, np.where(more, quotient(volume, mask), 9))

    def test_without_it_nan_goes_on(self, data):
        assert np.isnan(applied(*SMOOTH)).sum() > np.isnan(data[0]).sum()


class TestRenormalize:
    def test_it_is_scipys_quotient_at_the_borders(self, folder):
        volume = noise(*SHAPE) + 3
        make_nifti(folder / "scan.nii.gz", volume.T, sform=AFFINE)
        found = applied(*SMOOTH, "--padding-mode", "renormalize")
        close(found, quotient(volume.astype(float), np.ones(SHAPE), "constant"))

    def test_with_stride_and_several_channels(self, folder):
        make_volume("s.npy", np.full((2, *SHAPE), 3, np.float32))
        found = applied(
            "--kernel", "gaussian", "--sigma", "2vox", "--stride", "2", "--padding-mode", "renormalize", source="s.npy"
        )
        close(found, 3)


class TestLimits:
    @pytest.mark.parametrize("mask", ("m.nii.gz", "m.nii", "m.h5"))
    def test_memory_is_kept(self, folder, mask):
        make_volume("a.nii.gz", noise(160, 128, 128))
        make_volume(mask, (noise(160, 128, 128, seed=1) > 0).astype(np.uint8))
        options = ("a.nii.gz", "-o", "b.nii.gz", *SMOOTH[:2], "--sigma", "2vox", "--mask", mask, "--engine", "numpy")
        with program("apply", *options, "--max-memory", "5M") as process:
            least = int(finished(process).err.split("--max-memory ")[1].split("MiB")[0])
        with program("apply", *options, "--max-memory", f"{least}MiB", "--report", "-", "-q") as process:
            item = json.loads(finished(process).out)["items"][0]
        assert item["peak_rss_bytes"] <= 1.1 * item["plan"]["peak_bytes"] <= 1.1 * least * 2**20
        with program("apply", *options, "--overwrite", "--report", "-", "-q") as process:
            free = json.loads(finished(process).out)["items"][0]
        assert free["peak_rss_bytes"] <= 1.1 * free["plan"]["peak_bytes"]

    def test_a_run_that_could_be_resumed_writes_the_same_bytes(self, data, folder):
        options = ("scan.nii.gz", "-o", "out.nii", *SMOOTH, "--tile", "1,15,16", "-j", 1)
        whole = ok("apply", *options, "--mask", "mask.nii.gz")
        wanted = (folder / "out.nii").read_bytes()
        assert whole.code == 0
        ok("apply", *options, "--mask", "mask.nii.gz", "--resume", "--overwrite")
        assert (folder / "out.nii").read_bytes() == wanted
        assert nib.load("out.nii").shape == SHAPE[::-1]
        assert read_volume("out.nii").shape == SHAPE
