"""`--normalize`: what NumPy's statistics of the file make of it, per volume and channel, and inside a mask."""

import json

import numpy as np
import pytest

from tests.cli.conftest import contents, finished, make_nifti, make_volume, noise, ok, program, run

SAME = ("--kernel", "identity")


def scaled(values, how, inside=None):
    """Scale a volume by NumPy in float64."""
    values = values.astype(np.float64)
    known = values if inside is None else values[inside]
    if how == "zscore":
        return (values - known.mean()) / known.std()
    if how == "minmax":
        return (values - known.min()) / (known.max() - known.min())
    low, high = np.percentile(known, (5, 90))
    return np.clip((values - low) / (high - low), 0, 1)


def applied(*args, source="s.npy"):
    ok("apply", source, "-o", "out.npy", "--overwrite", "-q", *map(str, args))
    return np.load("out.npy")


HOWS = ("zscore", "minmax", "percentile:5,90")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("path", ("s.npy", "s.nii", "s.nii.gz", "s.h5"))
def test_the_volume_is_scaled_before_it_is_convolved(folder, how, path):
    volume = noise(9, 10, 11)
    make_volume(path, volume)
    np.testing.assert_allclose(applied(*SAME, "--normalize", how, source=path), scaled(volume, how), atol=2e-6)


@pytest.mark.parametrize("how", HOWS)
def test_stored_integers_are_scaled_by_their_slope_first(folder, how):
    stored = np.random.default_rng(0).integers(-99, 999, (9, 10, 11)).astype(np.int16)
    make_nifti(folder / "s.nii.gz", stored.T, scaling=(0.5, 7))
    found = applied(*SAME, "--normalize", how, source="s.nii.gz")
    np.testing.assert_allclose(found, scaled(stored * 0.5 + 7, how), atol=2e-6)


@pytest.mark.parametrize("how", HOWS)
def test_each_channel_of_each_volume_is_scaled_by_itself(folder, how):
    batch = noise(2, 3, 6, 7, 8) * np.arange(1, 7).reshape(2, 3, 1, 1, 1)
    make_volume("s.npy", batch.astype(np.float32))
    found = applied(*SAME, "--normalize", how)
    for n, c in np.ndindex(2, 3):
        np.testing.assert_allclose(found[n, c], scaled(batch[n, c].astype(np.float32), how), atol=3e-6)


@pytest.mark.parametrize("how", HOWS)
def test_only_what_is_inside_the_mask_counts(folder, how):
    volume, inside = noise(9, 10, 11), noise(9, 10, 11, seed=1) > 0
    make_volume("s.nii.gz", volume)
    make_volume("m.nii.gz", inside.astype(np.uint8))
    found = applied(*SAME, "--normalize", how, "--mask", "m.nii.gz", "--outside", "nan", source="s.nii.gz")
    wanted = np.where(inside, scaled(volume, how, inside), np.nan)
    np.testing.assert_allclose(found, wanted, atol=3e-6)
    layers = ("--layers", "[{kernel: identity}, abs]", "--normalize", how, "--mask", "m.nii.gz")
    np.testing.assert_allclose(applied(*layers, source="s.nii.gz"), np.abs(scaled(volume, how, inside)), atol=3e-6)


def test_zeros_of_the_padding_are_those_of_the_scaled_volume(folder):
    make_volume("s.npy", noise(4, 4, 4) + 100)
    found = applied("--kernel", "box", "--size", "9vox", "--padding-mode", "zeros", "--normalize", "zscore")
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_no_choice_changes_a_bit(folder):
    make_volume("s.nii.gz", noise(30, 40, 50))
    options = ("--kernel", "gaussian", "--sigma", "1vox", "--normalize", "zscore")
    whole = applied(*options, source="s.nii.gz").tobytes()
    for more in (("--tile", "3,5,50"), ("-j", 1), ("--tile", "30,40,50")):
        assert applied(*options, *more, source="s.nii.gz").tobytes() == whole


def test_a_constant_becomes_nothing_and_nan_stays(folder):
    volume = np.full((3, 4, 5), 7, np.float32)
    volume[0, 0, 0] = np.nan
    make_volume("s.npy", volume)
    for how in HOWS:
        found = applied(*SAME, "--normalize", how)
        assert np.isnan(found[0, 0, 0])
        assert (found.ravel()[1:] == 0).all()


def test_the_report_says_by_what(folder):
    volume = noise(4, 5, 6)
    make_volume("s.npy", volume)
    options = ("s.npy", "-o", "o.npy", *SAME, "--normalize", "minmax", "--report", "-", "-q")
    found = json.loads(ok("apply", *options).out)["items"][0]["volume"]
    low, high = float(volume.min()), float(volume.max())
    assert found == {"normalize": "minmax", "scaling": [[{"offset": low, "divisor": high - low}]]}
    planned = json.loads(ok("plan", *options[:1], *SAME, "--normalize", "percentile:1,99", "--json").out)
    assert planned["items"][0]["volume"] == {"normalize": "percentile:1,99", "scaling": None}


def test_it_goes_with_rescaled_outputs_and_with_resuming(folder):
    volume = noise(8, 9, 10)
    make_volume("s.nii", volume)
    options = ("s.nii", *SAME, "--normalize", "minmax", "--cast", "rescale", "--out-dtype", "uint8", "-q")
    ok("apply", *options, "-o", "a.nii")
    ok("apply", *options, "-o", "b.nii", "--resume")
    assert (folder / "a.nii").read_bytes() == (folder / "b.nii").read_bytes()


@pytest.mark.parametrize("text", ("zcore", "percentile:9,1", "percentile", ""))
def test_what_is_no_scaling_is_refused(folder, text):
    make_volume("s.npy", noise(3, 3, 3))
    result = run("apply", "s.npy", "-o", "o.npy", *SAME, "--normalize", text)
    assert result.code == 2
    assert list(contents(folder)) == ["s.npy"]


def test_stdin_is_refused(folder):
    with program("apply", "-", "-o", "o.npy", *SAME, "--normalize", "zscore") as process:
        result = finished(process)
    assert (result.code, "reads its input twice" in result.err) == (2, True)


def test_memory_is_as_predicted(folder):
    make_volume("s.nii.gz", noise(200, 128, 128))
    options = ("s.nii.gz", "-o", "o.nii", *SAME, "--normalize", "percentile:1,99", "--engine", "numpy")
    with program("apply", *options, "--report", "-", "-q") as process:
        item = json.loads(finished(process).out)["items"][0]
    assert item["peak_rss_bytes"] <= 1.1 * item["plan"]["peak_bytes"]
