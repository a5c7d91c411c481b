"""`fit`: the weights that make of each input its target, exactly or by Adam, and what is left of it on the disk."""

import itertools
import json
import shlex
import signal
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.ndimage

from lucid_cli.fitting import tiles
from lucid_cli.weight_saving import npz
from lucid_cli.weights import load
from lucid_core import machine
from lucid_core.planner import plan
from tests.cli.conftest import contents, finished, make_nifti, make_volume, noise, ok, program, run
from tests.reference import conv3d as oracle


def smooth(*shape, seed=0):
    """Return a volume as scans are: neighbours are alike, far from 0."""
    field = scipy.ndimage.gaussian_filter(
        np.random.default_rng(seed).normal(size=shape), [0] * (len(shape) - 3) + [1] * 3
    )
    return (100 + 40 * field / field.std()).astype(np.float32)


def columns(x, kernel, stride=(1, 1, 1), dilation=(1, 1, 1)):
    """Return what each output of a layer without padding reads of a volume (C, D, H, W), a row an output."""
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[1:], kernel, stride, dilation, strict=True)]
    taps = [
        channel[tuple(slice(t * d, t * d + s * n, s) for t, d, s, n in zip(tap, dilation, stride, sizes, strict=True))]
        for channel in x.astype(np.float64)
        for tap in itertools.product(*map(range, kernel))
    ]
    return np.stack([tap[: sizes[0], : sizes[1], : sizes[2]].ravel() for tap in taps], axis=1)


def least_squares(x, y, kernel, bias=True, **geometry):
    """Return weight (O, C, ...) and bias by NumPy's least squares, of volumes (C, D, H, W) and (O, D', H', W')."""
    rows = columns(x, kernel, **geometry)
    ones = np.ones((len(rows), int(bias)))
    found = np.linalg.lstsq(np.hstack([rows, ones]), y.reshape(len(y), -1).T.astype(np.float64), rcond=None)[0]
    weight = found[: rows.shape[1]].T.reshape(len(y), len(x), *kernel)
    return weight, found[-1] if bias else None


def fit(*words):
    return ok("fit", *words, "-q")


def weights(path="w.npz"):
    found = load(str(path))
    return found.weight, found.bias


@pytest.fixture
def blurred(folder):
    """Make a scan, and what SciPy's correlation with a kernel makes of it; return the kernel."""
    kernel = np.random.default_rng(5).uniform(0, 1, (3, 5, 3))
    kernel /= kernel.sum()
    scan = smooth(20, 22, 24)
    make_volume("scan.nii.gz", scan)
    make_volume("blurred.nii.gz", scipy.ndimage.correlate(scan.astype(np.float64), kernel, mode="mirror").astype("f4"))
    return kernel


class TestExact:
    """One layer with a squared loss."""

    def test_a_kernel_is_recovered_from_what_another_program_blurred(self, blurred):
        before = set(contents("."))
        result = ok("fit", "scan.nii.gz", "--target", "blurred.nii.gz", "-o", "w.npz", "--kernel-size", "3,5,3")
        weight, bias = weights()
        assert np.abs(weight[0, 0] - blurred).max() < 1e-4 * blurred.max()
        assert abs(bias[0]) < 1e-2
        assert set(contents(".")) == before | {"w.npz"}
        assert "rank 45" in result.err

    def test_a_kernel_is_recovered_on_a_real_scan(self, folder):
        scan = nib.load(Path(nib.__file__).parent / "tests" / "data" / "anatomical.nii")
        kernel = np.random.default_rng(1).uniform(-1, 1, (3, 3, 3))
        made = scipy.ndimage.correlate(scan.get_fdata(), kernel, mode="nearest")
        nib.save(scan, "scan.nii.gz")
        nib.save(nib.Nifti1Image(made.astype(np.float32), scan.affine), "made.nii.gz")
        fit("scan.nii.gz", "--target", "made.nii.gz", "-o", "w.npz", "--kernel-size", "3")
        assert np.abs(weights()[0][0, 0] - kernel.T).max() < 1e-4

    def test_with_noise_the_error_is_that_of_least_squares(self, folder):
        x, rng, sigma = noise(16, 18, 20, seed=1), np.random.default_rng(2), 3.0
        kernel = rng.normal(size=(3, 3, 3))
        clean = oracle(x[None, None], kernel[None, None])[0][0, 0]
        np.save("x.npy", x)
        np.save("y.npy", clean + rng.normal(0, sigma, clean.shape))
        fit("x.npy", "--target", "y.npy", "-o", "w.npy", "--kernel-size", "3", "--no-bias", "--dtype", "float64")
        error = (np.load("w.npy") - kernel).ravel()
        rows = columns(x[None], (3, 3, 3))
        in_deviations = error @ (rows.T @ rows) @ error / sigma**2  # chi-squared of 27 degrees
        assert 27 - 5 * 54**0.5 < in_deviations < 27 + 5 * 54**0.5
        expected, _ = least_squares(x[None], np.load("y.npy")[None], (3, 3, 3), bias=False)
        np.testing.assert_allclose(np.load("w.npy"), expected[0, 0], atol=1e-9)

    @pytest.mark.parametrize(
        ("geometry", "options"),
        (
            ({"stride": (2, 1, 3)}, ("--stride", "2,1,3")),
            ({"dilation": (1, 2, 3)}, ("--dilation", "1,2,3")),
            ({"stride": (2, 2, 1), "dilation": (3, 1, 2)}, ("--stride", "2,2,1", "--dilation", "3,1,2")),
        ),
        ids=str,
    )
    def test_every_geometry_and_several_channels(self, folder, geometry, options):
        x, kernel = noise(2, 13, 14, 15), (2, 3, 2)
        rows = columns(x, kernel, **geometry)
        y = noise(3, len(rows), seed=3)
        sizes = oracle(x[:1][None], np.ones((1, 1, *kernel)), **geometry)[0].shape[2:]
        np.save("x.npy", x)
        np.save("y.npy", y.reshape(3, *sizes))
        fit("x.npy", "--target", "y.npy", "-o", "w.npz", "--kernel-size", "2,3,2", "--dtype", "float64", *options)
        expected, bias = least_squares(x, y, kernel, **geometry)
        np.testing.assert_allclose(weights()[0], expected, atol=1e-8)
        np.testing.assert_allclose(weights()[1], bias, atol=1e-7)

    def test_groups_see_their_own_channels(self, folder):
        x, y = noise(4, 8, 9, 10), noise(2, 6, 7, 8, seed=1)
        np.save("x.npy", x)
        np.save("y.npy", y)
        options = ("--groups", "2", "--padding", "0", "--dtype", "float64")
        fit("x.npy", "--target", "y.npy", "-o", "w.npz", "--kernel-size", "3", *options)
        for group in range(2):
            expected, bias = least_squares(x[2 * group : 2 * group + 2], y[group : group + 1], (3, 3, 3))
            np.testing.assert_allclose(weights()[0][group], expected[0], atol=1e-9)
            np.testing.assert_allclose(weights()[1][group], bias[0], atol=1e-8)

    @pytest.mark.parametrize("mode", ("zeros", "reflect", "replicate", "circular", "symmetric"))
    def test_with_borders_the_outputs_there_count_too(self, folder, mode):
        x, y = noise(5, 6, 7), noise(5, 6, 7, seed=1)
        np.save("x.npy", x)
        np.save("y.npy", y)
        options = ("--padding", "1", "--padding-mode", mode, "--borders", "--dtype", "float64")
        fit("x.npy", "--target", "y.npy", "-o", "w.npz", "--kernel-size", "3", *options)
        taps = np.eye(27).reshape(27, 1, 3, 3, 3)
        rows = oracle(x[None, None], taps, padding=1, padding_mode=mode)[0][0].reshape(27, -1).T
        both = np.hstack([rows, np.ones((len(rows), 1))])
        expected = np.linalg.lstsq(both, y.ravel().astype(np.float64), rcond=None)[0]
        np.testing.assert_allclose(weights()[0].ravel(), expected[:27], atol=1e-9)

    def test_ridge_is_by_the_mean(self, folder):
        x, y = noise(9, 9, 9), noise(7, 7, 7, seed=1)
        np.save("x.npy", x)
        np.save("y.npy", y)
        options = ("--l2", "5", "--no-bias", "--dtype", "float64")
        fit("x.npy", "--target", "y.npy", "-o", "w.npz", "--kernel-size", "3", *options)
        rows = columns(x[None], (3, 3, 3))
        gram = rows.T @ rows / y.size + 5 * np.eye(27)
        expected = np.linalg.solve(gram, rows.T @ y.ravel().astype(np.float64) / y.size)
        np.testing.assert_allclose(weights()[0].ravel(), expected, atol=1e-10)

    def test_only_what_is_inside_the_mask_counts(self, folder):
        x, inside = smooth(14, 15, 16), np.zeros((14, 15, 16), np.uint8)
        inside[3:9, 4:12, 5:11] = 1
        y = np.where(inside, scipy.ndimage.uniform_filter(x, 3), 1e6).astype("f4")
        for name, volume in (("x.nii", x), ("y.nii", y), ("m.nii", inside)):
            make_volume(name, volume)
        fit("x.nii", "--target", "y.nii", "--mask", "m.nii", "-o", "w.npz", "--kernel-size", "3", "--report", "r.json")
        np.testing.assert_allclose(weights()[0], 1 / 27, atol=1e-5)
        assert json.loads(Path("r.json").read_text())["fit"]["voxels"] == inside.sum()

    def test_what_is_not_finite_is_left_out_and_counted(self, folder):
        x = smooth(12, 12, 12)
        y = scipy.ndimage.uniform_filter(x, 3)
        x[5, 5, 5], y[8, 8, 8] = np.nan, np.inf
        np.save("x.npy", x)
        np.save("y.npy", y)
        fit("x.npy", "--target", "y.npy", "-o", "w.npz", "--kernel-size", "3", "--report", "r.json")
        np.testing.assert_allclose(weights()[0], 1 / 27, atol=1e-5)
        found = json.loads(Path("r.json").read_text())["fit"]
        assert (found["voxels"], found["left_out"]) == (10**3 - 28, 28)

    @pytest.mark.parametrize(
        ("constraints", "keeps"),
        (
            (("nonnegative",), lambda w: w.min() >= 0),
            (("sum1",), lambda w: abs(w.sum() - 1) < 1e-9),
            (("zero-sum",), lambda w: abs(w.sum()) < 1e-9),
            (("symmetric",), lambda w: np.allclose(w, w[::-1, ::-1, ::-1], atol=1e-12)),
            (("nonnegative", "sum1", "symmetric"), lambda w: w.min() >= 0 and abs(w.sum() - 1) < 1e-9),
        ),
        ids=["nonnegative", "sum1", "zero-sum", "symmetric", "three"],
    )
    def test_constraints_are_kept_and_nothing_near_is_better(self, folder, constraints, keeps):
        x, y = noise(10, 11, 12), noise(8, 9, 10, seed=1)
        np.save("x.npy", x)
        np.save("y.npy", y)
        said = [word for name in constraints for word in ("--constraint", name)]
        fit("x.npy", "--target", "y.npy", "-o", "w.npy", "--kernel-size", "3", "--no-bias", "--dtype", "float64", *said)
        weight = np.load("w.npy")
        assert keeps(weight)
        rows, rng = columns(x[None], (3, 3, 3)), np.random.default_rng(0)
        best = np.square(rows @ weight.ravel() - y.ravel()).sum()
        for _ in range(50):
            other = _nudged(weight, constraints, rng)
            assert np.square(rows @ other.ravel() - y.ravel()).sum() >= best * (1 - 1e-12)

    def test_several_scans_and_volumes_of_a_batch_count_as_one(self, folder):
        x, y = noise(3, 9, 10, 11), noise(3, 9, 10, 11, seed=1)
        make_nifti("batch.nii", x[:2].T, sform=np.eye(4))
        make_nifti("made.nii", y[:2].T, sform=np.eye(4))
        make_volume("one.nii.gz", x[2])
        make_volume("made_one.nii.gz", y[2])
        options = ("--axis4", "batch", "--dtype", "float64", "--kernel-size", "3")
        fit("batch.nii", "one.nii.gz", "--target", "made.nii", "made_one.nii.gz", "-o", "w.npz", *options)
        rows = np.vstack([columns(one[None], (3, 3, 3)) for one in x])
        wanted = np.concatenate([one[1:-1, 1:-1, 1:-1].ravel() for one in y])
        both = np.hstack([rows, np.ones((len(rows), 1))])
        expected = np.linalg.lstsq(both, wanted.astype(np.float64), rcond=None)[0]
        np.testing.assert_allclose(weights()[0].ravel(), expected[:27], atol=1e-9)

    def test_threads_and_the_memory_limit_change_no_bit_and_tiles_no_digit(self, blurred):
        words = ("fit", "scan.nii.gz", "--target", "blurred.nii.gz", "--kernel-size", "3", "-q", "--tile", "7")
        for name, options in (("a.npz", ("-j", "1")), ("b.npz", ("-j", "3")), ("c.npz", ("--max-memory", "200M"))):
            result = finished(program(*words, "-o", name, *options))
            assert result.code == 0, result.err
        assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes() == Path("c.npz").read_bytes()
        ok(*words, "-o", "d.npz", "--tile", "5,20,3")
        np.testing.assert_allclose(weights("a.npz")[0], weights("d.npz")[0], rtol=1e-6, atol=1e-7)

    def test_conjugate_gradients_come_to_the_same(self, blurred):
        words = ("scan.nii.gz", "--target", "blurred.nii.gz", "--kernel-size", "3", "--l2", "0.1", "--tile", "8")
        for solver in ("cg", "exact"):
            fit(*words, "-o", f"{solver}.npz", "--solver", solver, "--validation", "0.3", "--report", f"{solver}.json")
        for one, other in zip(weights("cg.npz"), weights("exact.npz"), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
        found, expected = (json.loads(Path(f"{solver}.json").read_text())["fit"] for solver in ("cg", "exact"))
        assert found["validation"]["loss"] == pytest.approx(expected["validation"]["loss"], rel=1e-3)
        assert found["training"]["loss"] == pytest.approx(expected["training"]["loss"], rel=1e-6)

    def test_more_weights_than_a_gram_matrix_are_found_by_iterations(self, folder):
        x = noise(40, 7, 7, 8)
        np.save("x.npy", x)
        np.save("y.npy", x[:1, 2:-2, 2:-2, 2:-2] - 2 * x[1:2, :-4, 2:-2, 2:-2])
        fit("x.npy", "--target", "y.npy", "-o", "w.npz", "--kernel-size", "5", "--l2", "1", "--report", "r.json")
        assert json.loads(Path("r.json").read_text())["fit"]["solver"] == "cg"

    @pytest.mark.parametrize("solver", ("exact", "cg"))
    def test_one_tile_is_timed_from_its_start(self, blurred, solver):
        words = ("scan.nii.gz", "--target", "blurred.nii.gz", "-o", "w.npz", "--kernel-size", "3", "--l2", "1")
        told = ok("fit", *words, "--solver", solver, "--progress", "log").err
        assert "100 % of" in told
        assert "not known yet" not in told

    def test_a_constant_scan_determines_nothing_and_that_is_said(self, folder):
        np.save("x.npy", np.ones((6, 6, 6), np.float32))
        np.save("y.npy", np.ones((6, 6, 6), np.float32))
        result = ok("fit", "x.npy", "--target", "y.npy", "-o", "w.npz", "--kernel-size", "3")
        assert "determine 0 of 27 numbers of a filter only" in result.err

    def test_held_out_tiles_tell_the_error_on_what_was_not_learned(self, folder):
        x = noise(16, 16, 16)
        np.save("x.npy", x)
        np.save("y.npy", x + noise(16, 16, 16, seed=1) / 10)
        options = ("--kernel-size", "3", "--validation", "0.5", "--tile", "5", "--report", "r.json")
        fit("x.npy", "--target", "y.npy", "-o", "w.npz", *options)
        found = json.loads(Path("r.json").read_text())["fit"]
        assert found["training"]["loss"] < 1 < found["validation"]["loss"] < 1.2
        assert found["training"]["tiles"] + found["validation"]["tiles"] == 27


def _nudged(weight, constraints, rng):
    """Return a filter near another one that keeps the constraints as well."""
    step = rng.normal(0, 1e-3, weight.shape)
    if "symmetric" in constraints:
        step = (step + step[::-1, ::-1, ::-1]) / 2
    if "nonnegative" in constraints:
        step = np.where(weight > 2e-2, step, 0)
    if {"sum1", "zero-sum"} & set(constraints):
        moved = step != 0
        step = np.where(moved, step - step.sum() / max(1, moved.sum()), 0)
    return weight + np.clip(step, -5e-3, 5e-3) if not constraints else weight + step


class TestAdam:
    """Other losses, stacks, and one layer by asking."""

    WORDS = ("fit", "scan.nii.gz", "--target", "blurred.nii.gz", "-q", "--tile", "9", "--learning-rate", "0.02")
    STACK = ("--layers", "[{kernel_size: 3, out_channels: 4}, {leaky_relu: 0.1}, {kernel_size: [1, 3, 1]}]")

    def test_it_comes_near_the_exact_solution_in_the_units_of_the_scan(self, blurred):
        ok(*self.WORDS, "-o", "a.npz", "--kernel-size", "3", "--solver", "adam", "--report", "a.json")
        ok(*self.WORDS, "-o", "b.npz", "--kernel-size", "3", "--report", "b.json")
        trained, exact = (json.loads(Path(name).read_text())["fit"] for name in ("a.json", "b.json"))
        assert (trained["solver"], exact["solver"]) == ("adam", "exact")
        assert exact["training"]["loss"] < trained["training"]["loss"] < 1.5 * exact["training"]["loss"] + 0.05
        assert len(trained["curve"]) == trained["epochs"]
        losses = [one["validation"] for one in trained["curve"]]
        assert trained["best_epoch"] == 1 + losses.index(min(losses))

    @pytest.mark.parametrize("loss", ("mse", "l1", "huber"))
    def test_units_and_offsets_of_the_scans_cost_no_epochs(self, folder, loss):
        x = smooth(16, 17, 18)
        y = scipy.ndimage.uniform_filter(x, (1, 3, 1))
        words = ("--kernel-size", "1,3,1", "--solver", "adam", "--loss", loss, "--epochs", "12", "--tile", "6")
        words += ("--learning-rate", "0.03")
        found = []
        for factor, offset in ((1, 0), (100, 1e5)):
            np.save("x.npy", factor * (x - 100) / 40 + offset)
            np.save("y.npy", factor * (y - 100) / 40 - offset)
            fit("x.npy", "--target", "y.npy", "-o", "w.npz", *words, "--overwrite", "--report", "r.json")
            found.append(json.loads(Path("r.json").read_text())["fit"]["training"]["loss"])
        assert found[0] < {"mse": 0.01, "l1": 0.02, "huber": 0.01}[loss]
        assert found[1] < {"mse": 100, "l1": 2, "huber": 2}[loss]

    def test_a_stack_is_learned_saved_and_applied_as_one(self, blurred):
        result = ok(
            *self.WORDS[:4], *self.WORDS[5:], "-o", "net.npz", *self.STACK, "--epochs", "20", "--report", "r.json"
        )
        found = json.loads(Path("r.json").read_text())
        assert found["fit"]["curve"][-1]["validation"] < found["fit"]["curve"][0]["validation"] / 4
        assert [one if isinstance(one, dict) and "leaky_relu" in one else 0 for one in found["layer"]["layers"]][1]
        command = shlex.split(next(line for line in result.err.splitlines() if "apply it" in line).split("apply it")[1])
        named = {"SCAN": "scan.nii.gz", "OUT": "out.nii.gz"}
        ok(*[named.get(word, word) for word in command[1:]], "-q")
        made, wanted = (nib.load(name).get_fdata()[2:-2, 2:-2, 2:-2] for name in ("out.nii.gz", "blurred.nii.gz"))
        assert np.square(made - wanted).mean() < 2 * found["fit"]["training"]["loss"]

    def test_a_named_kernel_in_a_stack_stays_as_it_is(self, blurred):
        layers = "[{kernel: gaussian, sigma: 1vox}, {kernel_size: 1, out_channels: 1}]"
        ok(*self.WORDS, "-o", "net.npz", "--layers", layers, "--epochs", "2")
        ok("kernel", "save", "gaussian", "--sigma", "1vox", "-o", "g.npy")
        np.testing.assert_allclose(load("net.npz:0").weight[0, 0], np.load("g.npy"), atol=1e-7)

    def test_it_computes_with_as_many_threads_as_are_said(self, blurred, monkeypatch):
        taken = set()

        def watched(*args, **options):
            taken.add(machine.cores())
            return plan(*args, **options)

        monkeypatch.setattr("lucid_core.functional.plan", watched)
        for threads in ("1", "3"):
            ok(*self.WORDS, "-o", f"{threads}.npz", *self.STACK, "--epochs", "1", "-j", threads)
        assert taken == {1, 3}

    def test_threads_change_no_bit_and_the_seed_all(self, blurred):
        for name, options in (("a", ("-j", "1")), ("b", ("-j", "2")), ("c", ("--seed", "1"))):
            ok(*self.WORDS, "-o", f"{name}.npz", *self.STACK, "--epochs", "2", *options)
        assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes() != Path("c.npz").read_bytes()

    @pytest.mark.parametrize("solver", ("adam", "exact", "cg"))
    def test_a_killed_fit_goes_on_to_the_same_bytes(self, blurred, solver):
        size = (80, 60, 60) if solver == "exact" else (36, 40, 40)
        make_volume("big.nii", smooth(*size))
        make_volume("aim.nii", smooth(*size, seed=1))
        words = ("fit", "big.nii", "--target", "aim.nii", "--solver", solver, "--kernel-size", "5", "-q", "-j", "1")
        words += {"adam": ("--tile", "12", "--epochs", "9"), "exact": ("--tile", "4"), "cg": ("--l2", "0.1")}[solver]
        ok(*words, "-o", "whole.npz")
        process = program(*words, "-o", "part.npz", "--resume")
        self._wait_for_a_checkpoint(process, solver)
        result = finished(process)
        assert result.code == (130 if solver == "exact" else -9)
        assert solver != "exact" or "run again with --resume" in result.err
        assert not Path("part.npz").exists()
        refused = run(*words, "-o", "part.npz", "--resume", "--l2", "1")
        assert (refused.code, "configuration changed" in refused.err) == (4, True), refused.err
        ok(*words, "-o", "part.npz", "--resume")
        assert Path("part.npz").read_bytes() == Path("whole.npz").read_bytes()
        assert not [name for name in contents(".") if name.startswith(".lucid")]

    def _wait_for_a_checkpoint(self, process, solver):
        """Kill what has kept an epoch or an iteration; interrupt the sums, which are kept then."""
        until = time.monotonic() + 50
        while time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
            if solver != "exact" and list(Path().glob(".lucid*.journal")):
                process.kill()
                return
            if solver == "exact" and list(Path().glob(".lucid*.partial")):
                time.sleep(0.3)
                process.send_signal(signal.SIGINT)
                return
        raise AssertionError("no checkpoint in time")

    def test_without_resume_nothing_is_left_of_an_ended_fit(self, blurred):
        before = contents(".")
        process = program(*self.WORDS, "-o", "w.npz", *self.STACK, "--epochs", "100000", "--patience", "100000")
        until = time.monotonic() + 50
        while not list(Path().glob(".lucid*")) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert finished(process).code == 143
        assert contents(".") == before

    def test_it_ends_when_it_gets_no_better(self, folder):
        np.save("x.npy", noise(12, 12, 12))
        np.save("y.npy", noise(12, 12, 12, seed=1))
        options = ("--solver", "adam", "--kernel-size", "3", "--learning-rate", "0.3", "--patience", "3", "--tile", "5")
        fit("x.npy", "--target", "y.npy", "-o", "w.npz", *options, "--report", "r.json")
        found = json.loads(Path("r.json").read_text())["fit"]
        assert found["epochs"] == found["best_epoch"] + 3 < 100
        assert found["stopped"] == "no better epoch in the last 3"

    @pytest.mark.parametrize("loss", ("l1", "huber"))
    def test_other_losses_care_less_for_what_is_far_off(self, folder, loss):
        x = noise(14, 14, 14)
        y = 2 * x
        y.ravel()[::50] = 1e4
        np.save("x.npy", x)
        np.save("y.npy", y)
        options = ("--loss", loss, "--kernel-size", "1", "--learning-rate", "0.02", "--epochs", "150", "--tile", "7")
        fit("x.npy", "--target", "y.npy", "-o", "w.npz", *options, "--patience", "150")
        assert weights()[0].item() == pytest.approx(2, abs=0.1)

    def test_voxels_outside_the_mask_and_missing_ones_do_not_count(self, folder):
        x = smooth(16, 16, 16)
        y, inside = 3 * x + 1, np.ones((16, 16, 16), np.float32)
        y[:4], inside[:4] = 1e9, 0
        x[8, 8, 8], y[9, 9, 9] = np.nan, np.inf
        for name, volume in (("x.npy", x), ("y.npy", y), ("m.npy", inside)):
            np.save(name, volume)
        options = ("--solver", "adam", "--kernel-size", "1", "--tile", "8", "--learning-rate", "0.05", "--l2", "1e-9")
        fit("x.npy", "--target", "y.npy", "--mask", "m.npy", "-o", "w.npz", *options, "--patience", "40")
        assert weights()[0].item() == pytest.approx(3, abs=0.02)

    def test_an_epoch_is_judged_by_its_training_where_nothing_counts_to_validate_with(self, folder):
        x, inside = smooth(8, 8, 16), np.zeros((8, 8, 16), np.uint8)
        inside[:, :, :8] = 1
        for name, volume in (("x.npy", x), ("y.npy", 3 * x), ("m.npy", inside)):
            np.save(name, volume)
        words = ("fit", "x.npy", "--target", "y.npy", "--mask", "m.npy", "--kernel-size", "1", "--tile", "8")
        codes = []
        for solver, seed in itertools.product(("adam", "exact", "cg"), range(3)):
            options = ("-o", "w.npz", "--solver", solver, "--seed", seed, "--epochs", "12", "--report", "r.json")
            result = run(*words, *options, "--validation", "0.5", "--overwrite")
            codes.append(result.code)
            assert result.code == 0 or "no voxel counts" in result.err
            if result.code == 0:
                assert "Warning: nothing is validated" in result.err
                assert solver != "adam" or json.loads(Path("r.json").read_text())["fit"]["best_epoch"] == 12
        assert 0 in codes[:3]

    def test_constraints_are_kept(self, blurred):
        said = ("--constraint", "nonnegative", "--constraint", "sum1", "--constraint", "symmetric")
        ok(*self.WORDS, "-o", "w.npy", "--kernel-size", "3", "--solver", "adam", "--no-bias", "--epochs", "30", *said)
        weight = np.load("w.npy").astype(np.float64)
        assert weight.min() >= 0
        assert weight.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(weight, weight[::-1, ::-1, ::-1], atol=1e-6)

    def test_it_begins_with_weights_that_are_given(self, blurred):
        np.save("start.npy", blurred.astype(np.float32))
        options = (
            "--weights",
            "start.npy",
            "--solver",
            "adam",
            "--no-bias",
            "--epochs",
            "1",
            "--learning-rate",
            "1e-9",
        )
        ok(*self.WORDS[:-2], "-o", "w.npy", *options)
        np.testing.assert_allclose(np.load("w.npy"), blurred, atol=1e-6)


class TestFiles:
    """Formats, reports, and what the command line takes and refuses."""

    def test_what_a_file_says_of_its_layer_holds(self, folder):
        np.save("x.npy", noise(9, 9, 9))
        np.save("y.npy", noise(5, 5, 5))
        arrays = {"weight": noise(1, 1, 3, 3, 3)}
        words = ("x.npy", "--target", "y.npy", "--weights", "start.npz", "-o", "w.npz", "--overwrite")
        Path("start.npz").write_bytes(npz(arrays, {"stride": [2, 2, 2], "padding_mode": "circular"}))
        fit(*words)
        layer = load("w.npz").layer
        assert (layer["stride"], layer["padding"], layer["padding_mode"]) == ([2, 2, 2], [1, 1, 1], "circular")
        Path("start.npz").write_bytes(npz(arrays, {"stride": [2, 2, 2], "padding_mode": "renormalize"}))
        refused = run("fit", *words)
        assert (refused.code, "no weights are fitted so" in refused.err) == (2, True), refused.err

    @pytest.mark.parametrize("output", ("w.npy", "w.nii.gz", "w.npz", "w.safetensors"))
    def test_the_command_it_prints_applies_the_weights(self, blurred, output):
        if output.endswith(".safetensors"):
            pytest.importorskip("safetensors")
        options = ("--kernel-size", "3,5,3", "--no-bias")
        result = ok("fit", "scan.nii.gz", "--target", "blurred.nii.gz", "-o", output, *options)
        command = shlex.split(next(line for line in result.err.splitlines() if "apply it" in line).split("apply it")[1])
        named = {"SCAN": "scan.nii.gz", "OUT": "out.nii.gz"}
        ok(*[named.get(word, word) for word in command[1:]], "-q")
        made, wanted = (nib.load(name).get_fdata() for name in ("out.nii.gz", "blurred.nii.gz"))
        assert made.shape == wanted.shape
        assert np.abs(made - wanted)[2:-2, 2:-2, 2:-2].max() < 1e-2

    def test_folders_are_paired_in_order(self, folder):
        for number in range(3):
            x = noise(8, 8, 8, seed=number)
            Path("raw").mkdir(exist_ok=True)
            Path("aim").mkdir(exist_ok=True)
            np.save(f"raw/{number}.npy", x)
            np.save(f"aim/{number}.npy", 2 * x)
        fit("raw", "--target", "aim", "-o", "w.npz", "--kernel-size", "1", "--validation", "0.34", "--report", "r.json")
        assert weights()[0].item() == pytest.approx(2)
        found = json.loads(Path("r.json").read_text())
        assert (found["fit"]["training"]["tiles"], found["fit"]["validation"]["tiles"]) == (2, 1), "a whole scan"
        assert [pair["target"]["path"] for pair in found["pairs"]] == [f"aim/{number}.npy" for number in range(3)]

    @pytest.mark.parametrize("solver", ("exact", "adam", "cg"))
    def test_more_scans_than_are_open_at_once_take_turns(self, folder, solver, monkeypatch):
        for number in range(6):
            x = noise(9, 9, 9, seed=number)
            make_volume(f"x{number}.nii.gz", x)
            make_volume(f"y{number}.nii.gz", scipy.ndimage.uniform_filter(x, 3))
        words = ("x*.nii.gz", "--target", "y*.nii.gz", "--kernel-size", "3", "--solver", solver, "--epochs", "2")
        fit(*words, "-o", "all.npz", "--tile", "5", "-j", "2")
        monkeypatch.setattr(tiles, "MOST_OPEN", 2)
        fit(*words, "-o", "few.npz", "--tile", "5", "-j", "2")
        for one, other in zip(weights("all.npz"), weights("few.npz"), strict=True):
            same = solver != "adam"  # which draws its tiles of the scans that are open
            np.testing.assert_allclose(one, other, rtol=0, atol=0 if same else 0.05)

    @pytest.mark.parametrize("solver", ("exact", "adam", "cg"))
    def test_a_scan_whose_checksum_is_wrong_is_not_learned_from(self, blurred, solver):
        data = bytearray(Path("blurred.nii.gz").read_bytes())
        data[-6] ^= 1
        Path("blurred.nii.gz").write_bytes(data)
        before = contents(".")
        words = ("--target", "blurred.nii.gz", "-o", "w.npz", "--kernel-size", "3", "--solver", solver, "--epochs", "1")
        result = run("fit", "scan.nii.gz", *words)
        assert (result.code, "blurred.nii.gz" in result.err) == (3, True), result.err
        assert contents(".") == before

    def test_no_file_is_closed_while_a_tile_of_it_is_read(self, folder, monkeypatch):
        """Reading is slow here, so that the tiles to validate with are read while the last of the others are added."""
        for name, seed in (("x.nii.gz", 0), ("y.nii.gz", 1)):
            make_volume(name, noise(12, 12, 12, seed=seed))
        used, closed, read = [], [], tiles.Tiles.read
        finish = tiles._Open.finish

        def slow(self, number):
            time.sleep(0.01)
            return read(self, number)

        def noted(self):
            closed.append(self.users)
            used.append(len(self.readers))
            finish(self)

        monkeypatch.setattr(tiles.Tiles, "read", slow)
        monkeypatch.setattr(tiles._Open, "finish", noted)
        words = ("x.nii.gz", "--target", "y.nii.gz", "--kernel-size", "3", "--validation", "0.5", "--tile", "4")
        fit(*words, "-o", "w.npz", "-j", "4")
        assert (closed, used) == ([0], [2]), "the only pair, once, and by nobody in use"

    def test_yaml_says_the_same(self, blurred):
        Path("fit.yaml").write_text(
            "layer: {kernel_size: 3, bias: false}\nvolume: {target: blurred.nii.gz}\n"
            "run: {output: a.npz, constraint: [sum1, symmetric], l2: 0.5}\n"
        )
        ok("fit", "scan.nii.gz", "-c", "fit.yaml", "-q")
        said = ("--constraint", "sum1", "--constraint", "symmetric", "--l2", "0.5", "--no-bias")
        fit("scan.nii.gz", "--target", "blurred.nii.gz", "-o", "b.npz", "--kernel-size", "3", *said)
        assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()
        printed = ok("fit", "scan.nii.gz", "-c", "fit.yaml", "--print-config").out
        Path("again.yaml").write_text(printed)
        ok("fit", "scan.nii.gz", "-c", "again.yaml", "--set", "output=c.npz", "-q")
        assert Path("a.npz").read_bytes() == Path("c.npz").read_bytes()

    def test_a_page_and_a_plot(self, blurred):
        pytest.importorskip("matplotlib")
        for solver in ("exact", "adam"):
            options = ("--solver", solver, "--epochs", "3", "--report", f"{solver}.html", "--plot", f"{solver}.png")
            fit("scan.nii.gz", "--target", "blurred.nii.gz", "-o", f"{solver}.npz", "--kernel-size", "3", *options)
            assert Path(f"{solver}.png").read_bytes().startswith(b"\x89PNG")
            text = Path(f"{solver}.html").read_text()
            assert ("<h2>Loss</h2>" in text) == (solver == "adam")
            assert "learned filters" in text

    def test_a_target_that_lies_elsewhere_is_warned_of(self, blurred):
        moved = np.diag([1.0, 1.0, 1.0, 1.0])
        moved[0, 3] = 5
        make_nifti("moved.nii", nib.load("blurred.nii.gz").get_fdata().astype("f4"), sform=moved)
        result = ok("fit", "scan.nii.gz", "--target", "moved.nii", "-o", "w.npz", "--kernel-size", "3")
        assert "Warning: moved.nii says it lies up to 5 mm" in result.err

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        (
            ("scan.nii.gz -o w.npz --kernel-size 3", 2, "no --target is given"),
            ("--target blurred.nii.gz scan.nii.gz -o w.npz --kernel-size 3", 2, "no INPUT is given"),
            ("scan.nii.gz --target blurred.nii.gz --kernel-size 3", 2, "no output is given"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz", 2, "give --kernel-size"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3 --mask", 2, "'--mask' requires an argument"),
            ("scan.nii.gz --target blurred.nii.gz --mask -o w.npz --kernel-size 3", 2, "'--mask' requires an argument"),
            ("scan.nii.gz --target blurred.nii.gz -o w.txt --kernel-size 3", 2, "no format for weights"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npy --kernel-size 3", 2, "no place for a bias"),
            ("scan.nii.gz --target blurred.nii.gz -o scan.nii.gz --no-bias --kernel-size 3 --overwrite", 4, "input"),
            ("scan.nii.gz --target gone.nii.gz -o w.npz --kernel-size 3", 3, "gone.nii.gz"),
            ("scan.nii.gz scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3", 2, "2 inputs and 1 target"),
            ("scan.nii.gz --target small.npy -o w.npz --kernel-size 3", 5, "makes 20x22x24 with padding same"),
            ("scan.nii.gz --target small.npy -o w.npz --kernel-size 3 --padding 1", 5, "makes 1x1x20x22x24"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 25", 5, "reads beyond its border"),
            ("scan.nii.gz --target blurred.nii.gz --mask small.npy -o w.npz --kernel-size 3", 5, "the mask small.npy"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3 --loss l1 --solver exact", 2, "mse"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3 --constraint sum2", 2, "sum1"),
            (
                "scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3 --constraint sum1 --constraint zero-sum",
                2,
                "sum to 1 and to 0",
            ),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3 --max-memory 10M", 6, "--max-memory"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3 --validation 1.5", 2, "validation"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3 --plot p.jpg", 2, ".png"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3 --report w.npz", 2, ".json"),
            ("- --target blurred.nii.gz -o w.npz --kernel-size 3", 2, "stdin"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --layers [relu]", 2, "no convolution"),
            ("scan.nii.gz --target blurred.nii.gz -o w.npz --kernel-size 3 --padding-mode renormalize", 2, "fitted"),
            ("scan.nii.gz --target blurred.nii.gz -o nowhere/w.npz --kernel-size 3", 4, "does not exist"),
        ),
    )
    def test_what_is_wrong_is_said(self, blurred, words, code, said):
        np.save("small.npy", noise(4, 5, 6))
        before = contents(".")
        result = run("fit", *words.split())
        assert (result.code, said in result.err) == (code, True), result.err
        assert result.err.startswith("Error: ")
        assert contents(".") == before

    def test_a_dry_run_tells_what_would_be_done_and_writes_nothing(self, blurred):
        before = contents(".")
        words = ("fit", "scan.nii.gz", "--target", "blurred.nii.gz", "-o", "w.npz", "--kernel-size", "3", "--dry-run")
        result = ok(*words, "--report", "-")
        found = json.loads(result.out)
        assert (found["status"], found["fit"]["solver"], found["fit"]["training"]["tiles"]) == ("planned", "exact", 1)
        assert "28" in next(line for line in result.err.splitlines() if "solver" in line)
        assert contents(".") == before
        assert run(*words, "--report", "r.json").code == 2

    def test_an_existing_file_is_kept_unless_it_may_be_replaced(self, blurred):
        Path("w.npz").write_bytes(b"mine")
        words = ("fit", "scan.nii.gz", "--target", "blurred.nii.gz", "-o", "w.npz", "--kernel-size", "3", "-q")
        assert run(*words).code == 4
        assert Path("w.npz").read_bytes() == b"mine"
        ok(*words, "--overwrite")
        assert weights()[0].shape == (1, 1, 3, 3, 3)


def test_adam_counts_the_memory_of_its_weights(folder):
    np.save("x.npy", noise(64, 7, 7, 7))
    np.save("y.npy", noise(64, 7, 7, 7, seed=1))
    words = ("fit", "x.npy", "--target", "y.npy", "-o", "w.npz", "--solver", "adam", "--dry-run", "--report", "-", "-q")
    small, large = (json.loads(ok(*words, "--borders", "--kernel-size", size).out)["plan"] for size in (1, 7))
    adam = 4 * 5 * 64 * 64 * (7**3 - 1)  # weights, gradients, two moments, the best
    assert large["peak_bytes"] - small["peak_bytes"] > adam


@pytest.mark.parametrize(("solver", "limit"), (("exact", 160), ("adam", 330), ("cg", 345)))
def test_the_memory_of_the_process_stays_below_the_limit(folder, solver, limit):
    for name, seed in (("x.nii", 0), ("y.nii", 1)):
        make_volume(name, noise(100, 200, 200, seed=seed))
    options = (
        "--solver",
        solver,
        "--kernel-size",
        "3",
        "--max-memory",
        f"{limit}MiB",
        "--epochs",
        "1",
        "--report",
        "r.json",
    )
    result = finished(program("fit", "x.nii", "--target", "y.nii", "-o", "w.npz", *options, "-q"), timeout=120)
    assert result.code == 0, result.err
    found = json.loads(Path("r.json").read_text())
    assert found["peak_rss_bytes"] < limit << 20
    assert found["plan"]["peak_bytes"] < limit << 20
