"""`--layers`: what its layers give one by one as commands, geometry and report included; and what is refused."""

import json

import nibabel as nib
import numpy as np
import pytest
import yaml

from lucid_core import conv3d
from tests.cli.conftest import (
    contents,
    finished,
    make_nifti,
    make_volume,
    noise,
    ok,
    program,
    read_volume,
    run,
    save_weights,
)

AFFINE = np.array([[0.8, 0.1, 0, -20], [-0.1, 1.5, 0, 7], [0, 0, 3, 5], [0, 0, 0, 1]])


@pytest.fixture
def weights(folder):
    """Return the weights of three layers, 1 -> 4 -> 4 -> 2, which a.npz, b.npz and c.npz hold, beside `scan.nii.gz`."""
    rng = np.random.default_rng(0)
    shapes = {"a": (4, 1, 3, 3, 3), "b": (4, 4, 3, 1, 2), "c": (2, 4, 1, 3, 3)}
    made = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    biases = {name: rng.normal(size=len(weight)).astype(np.float32) for name, weight in made.items()}
    for name, weight in made.items():
        save_weights(folder / f"{name}.npz", weight, biases[name])
    make_nifti(folder / "scan.nii.gz", noise(16, 17, 18).T, sform=AFFINE)
    return made, biases


FIRST, SECOND, THIRD = (
    "{weights: a.npz, padding: 1}",
    "{weights: b.npz, stride: 2, padding: [1, 0, 1]}",
    "{weights: c.npz}",
)
STACK = f"[{FIRST}, relu, {SECOND}, {{leaky_relu: 0.2}}, {THIRD}]"


def applied(out, layers, *args, source="scan.nii.gz"):
    ok("apply", source, "-o", out, "--overwrite", "-q", "--layers", layers, *map(str, args))
    return read_volume(out)


class TestResult:
    def test_it_is_the_layers_one_by_one(self, weights):
        made, biases = weights
        x = read_volume("scan.nii.gz")[None]
        y = np.maximum(conv3d(x, made["a"], biases["a"], padding=1), 0)
        y = conv3d(y, made["b"], biases["b"], stride=2, padding=(1, 0, 1))
        y = conv3d(np.where(y > 0, y, np.float32(0.2) * y), made["c"], biases["c"])
        np.testing.assert_allclose(applied("o.npy", STACK)[0], y, rtol=1e-4, atol=1e-4 * np.abs(y).max())

    def test_the_header_is_that_of_the_commands_one_by_one(self, weights):
        applied(
            "o.nii.gz",
            "[{weights: a.npz, padding: 1}, {weights: b.npz, stride: 2, padding: [1, 0, 1]}, {weights: c.npz}]",
        )
        ok("apply", "scan.nii.gz", "-o", "1.nii.gz", "--weights", "a.npz", "--padding", "1")
        ok("apply", "1.nii.gz", "-o", "2.nii.gz", "--weights", "b.npz", "--stride", "2", "--padding", "1,0,1")
        ok("apply", "2.nii.gz", "-o", "3.nii.gz", "--weights", "c.npz")
        stacked, single = nib.load("o.nii.gz"), nib.load("3.nii.gz")
        assert stacked.shape == single.shape
        np.testing.assert_allclose(stacked.affine, single.affine, atol=1e-5)
        np.testing.assert_allclose(stacked.get_fdata(), single.get_fdata(), rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize("options", (("--tile", "2,3,4"), ("-j", 1), ("--tile", "1,9,9")))
    def test_no_choice_changes_a_bit(self, weights, options):
        whole = applied("o.npy", STACK).tobytes()
        assert applied("o.npy", STACK, *options).tobytes() == whole

    def test_a_gradient_of_banks(self, folder):
        volume = noise(8, 9, 10)
        make_volume("s.npy", volume)
        found = applied("o.npy", "[{kernel: central, axis: all}, magnitude]", source="s.npy")
        padded = np.pad(volume.astype(np.float64), 1, "edge")
        wanted = np.sqrt(sum(one[1:-1, 1:-1, 1:-1] ** 2 for one in np.gradient(padded)))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)

    def test_lengths_follow_the_grid_of_their_layer(self, weights):
        pooled = "[{kernel: meanpool, size: 2vox}, {kernel: gaussian, sigma: 3mm}]"
        found = applied("o.nii.gz", pooled)
        ok("apply", "scan.nii.gz", "-o", "1.nii.gz", "--kernel", "meanpool", "--size", "2vox")
        ok("apply", "1.nii.gz", "-o", "2.nii.gz", "--kernel", "gaussian", "--sigma", "3mm")
        np.testing.assert_allclose(found, read_volume("2.nii.gz"), rtol=1e-4, atol=1e-4)

    def test_argmax_makes_labels(self, weights):
        labels = applied("o.nii.gz", "[{weights: a.npz}, argmax]", "--out-dtype", "uint8")
        made, biases = weights
        wanted = conv3d(read_volume("scan.nii.gz")[None], made["a"], biases["a"]).argmax(axis=0)
        assert labels.dtype == np.uint8
        assert (labels == wanted).all()

    @pytest.mark.parametrize("mode", ("reflect", "replicate", "circular", "symmetric", "renormalize"))
    @pytest.mark.parametrize("path", ("s.nii.gz", "s.h5"))
    def test_borders_between_layers_are_those_of_the_volume_between(self, folder, mode, path):
        volume = noise(12, 11, 10)
        make_volume(path, volume)
        layer = f"{{kernel: box, size: 3vox, padding_mode: {mode}}}"
        found = applied("o.npy", f"[{layer}, abs, {layer}]", "--tile", "3,4,5", source=path)
        mean = np.full((1, 1, 3, 3, 3), 1 / 27, np.float32)
        between = np.abs(conv3d(volume[None], mean, padding=1, padding_mode=mode))
        np.testing.assert_allclose(found, conv3d(between, mean, padding=1, padding_mode=mode)[0], rtol=1e-4, atol=1e-5)

    def test_a_series_is_a_batch(self, folder):
        make_nifti(folder / "series.nii.gz", noise(3, 6, 7, 8).transpose(3, 2, 1, 0))
        found = applied("o.nii.gz", "[{kernel: gaussian, sigma: 1vox}, abs]", source="series.nii.gz")
        assert found.shape == (3, 6, 7, 8)

    @pytest.mark.parametrize("tile", ("1,1,1", "2,5,5", "5,6,7"))
    def test_wide_circular_pads_and_thin_tiles(self, folder, tile):
        make_volume("s.npy", noise(5, 6, 7))
        wide = ("--kernel", "box", "--size", "2vox", "--padding", "3", "--padding-mode", "circular")
        ok("apply", "s.npy", "-o", "o.npy", "-q", *wide)
        layers = "[{kernel: box, size: 2vox, padding: 3, padding_mode: circular}, abs]"
        found = applied("p.npy", layers, "--tile", tile, source="s.npy")
        np.testing.assert_allclose(found, np.abs(np.load("o.npy")), rtol=1e-6)

    def test_channels_follow_from_a_convolution_behind_operations(self, weights, folder):
        make_nifti(folder / "four.nii", noise(4, 6, 7, 8).transpose(3, 2, 1, 0))
        assert applied("o.npy", "[abs, {weights: b.npz, padding: 1}]", source="four.nii").shape[0] == 4

    def test_operations_with_hyphens_and_numbers_as_words(self, folder):
        make_volume("s.npy", noise(3, 4, 5))
        for written in ("{leaky-relu: 0.01}", "leaky-relu", "{leaky_relu: 1e-2}", "leaky_relu"):
            found = applied("o.npy", f"[{{kernel: identity}}, {written}]", source="s.npy")
            assert found.min() == np.float32(noise(3, 4, 5).min() * np.float32(0.01))


class TestReport:
    def test_it_shows_each_layer(self, weights):
        result = ok("apply", "scan.nii.gz", "-o", "o.nii", "--layers", STACK, "--report", "-")
        report = json.loads(result.out)
        first, relu, second, leaky, third = report["layer"]["layers"]
        assert (relu, leaky) == ("relu", {"leaky_relu": [0.2]})
        assert [one["output_shape"] for one in (first, second, third)] == [
            [1, 4, 16, 17, 18],
            [1, 4, 8, 9, 10],
            [1, 2, 8, 7, 8],
        ]
        (item,) = report["items"]
        assert item["shapes"] == {"input": [1, 1, 16, 17, 18], "padded": [1, 1, 18, 19, 20], "output": [1, 2, 8, 7, 8]}
        assert item["parameters"] == 4 * 27 + 4 + 4 * 4 * 6 + 4 + 2 * 4 * 9 + 2
        assert len(item["plan"]["convolutions"]) == 3
        assert result.err.count("layer  ") == 3

    def test_yaml_and_print_config(self, weights, folder):
        tree = {"layers": yaml.safe_load(STACK), "run": {"quiet": True}}
        (folder / "stack.yaml").write_text(yaml.safe_dump(tree))
        ok("apply", "scan.nii.gz", "-o", "o.npy", "-c", "stack.yaml")
        assert np.load("o.npy").tobytes() == applied("p.npy", STACK).tobytes()
        printed = ok("apply", "-c", "stack.yaml", "--print-config").out
        assert yaml.safe_load(printed)["layer"]["layers"] == tree["layers"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("layers", "code", "words"),
        [
            ("relu", 2, "not a list of layers"),
            ("[]", 2, "not a list of layers"),
            ("[relu]", 2, "no convolution among them"),
            ("[{kernl: box}]", 2, "layer 1: unknown key 'kernl' in the layer. Did you mean 'kernel'?"),
            ("[{kernel: box, size: 3vox}, rleu]", 2, "layer 2: unknown operation 'rleu'"),
            ("[{kernel: box, size: 3vox}, box]", 2, "A kernel is written {kernel: box}"),
            (
                "[{kernel: box, size: 3vox}, {clip: 1}]",
                2,
                "takes low, high, not [1]; write it like {clip: [0, 1]}",
            ),
            ("[{kernel: box, size: 3vox}, {relu: 1}]", 2, "relu takes no numbers"),
            ("[{kernel: box, size: 3vox}, {scale: x}]", 2, "scale takes factor, offset"),
            ("[{kernel: box, size: 3}]", 2, "layer 1: size: the length '3' has no unit"),
            ("[{kernel_size: 3, stride: -1}]", 2, "layer 1: stride: -1 is not an integer of at least 1"),
            ("[{kernel_size: 3, dtype: float64}]", 2, "holds for all layers"),
            ("[{kernel_size: 99}]", 5, "layer 1: the kernel is larger"),
            (
                "[{weights: a.npz}, {weights: a.npz}]",
                5,
                "layer 2: the layer takes 1 input channels, but",
            ),
            ("[{weights: nope.npz}]", 3, "layer 1: nope.npz: no such file"),
            ("[{weights: a.npz, kernel: box}]", 2, "layer 1: --kernel and --weights both"),
            ("[{kernel: sobel, axis: z, padding_mode: renormalize}]", 2, "layer 1: the kernel sums to"),
            ("[3]", 2, "layer 1: 3 is no layer"),
            ("[{kernel: box, size: 3vox}, {box: 3}]", 2, "A kernel is written {kernel: box}"),
            ("[{weights: {weights: a.npz}}]", 2, "layer 1: weights holds a mapping"),
            ("[{kernel: box, size: 3vox}, {clip: [1, 0]}]", 2, "layer 2: clip takes low, then high"),
            ("[{kernel: box, size: 3vox}, {scale: .nan}]", 2, "layer 2: factor of scale must be a number"),
            (f"[{{kernel: box, size: 3vox}}, {{scale: 1{'0' * 400}}}]", 2, "layer 2: scale takes factor, offset"),
            ("[{kernel: [box]}]", 2, "layer 1: kernel: ['box'] is a list where one value belongs"),
            ("[{layers: [relu]}]", 2, "unknown key 'layers'"),
        ],
    )
    def test_what_is_wrong_with_a_layer(self, weights, folder, layers, code, words):
        before = contents(folder)
        result = run("apply", "scan.nii.gz", "-o", "o.nii", "--layers", layers)
        assert result.code == code
        assert words in result.err
        assert contents(folder) == before

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--kernel", "box"), "kernel stands beside layers"),
            (("--stride", "2"), "stride stands beside layers"),
            (("--nan", "renormalize"), "for one convolution"),
            (("--mask", "scan.nii.gz"), "--normalize takes its statistics"),
            (("--outside", "5"), "with layers it has no meaning"),
            (("--device", "nonsense"), "unknown device"),
            (("--algorithm", "separable"), "cannot compute convolution 1"),
        ],
    )
    def test_what_does_not_go_with_layers(self, weights, options, words):
        result = run("apply", "scan.nii.gz", "-o", "o.nii", "--layers", STACK, *options)
        assert (result.code, words in result.err) == (2, True)

    def test_weights_of_a_layer_are_never_the_output(self, weights):
        result = run("apply", "scan.nii.gz", "-o", "a.npz", "--layers", STACK, "--overwrite")
        assert result.code == 2
        make_volume("k.npy", np.ones((3, 3, 3), np.float32))
        result = run("apply", "scan.nii.gz", "-o", "k.npy", "--layers", "[{weights: k.npy}]", "--overwrite")
        assert result.code == 4

    def test_bench_times_one_layer(self, weights):
        result = run("bench", "scan.nii.gz", "--layers", STACK)
        assert (result.code, "one plain convolution" in result.err) == (2, True)


class TestLimits:
    @pytest.mark.parametrize("mode", ("zeros", "replicate"))
    def test_memory_is_as_predicted_and_kept(self, folder, mode):
        make_volume("s.nii.gz", noise(100, 128, 128))
        layer = f"{{out_channels: 8, kernel_size: 3, padding: 1, padding_mode: {mode}}}"
        options = (
            "s.nii.gz",
            "-o",
            "o.nii",
            "--layers",
            f"[{layer}, relu, {layer}, {{kernel_size: 3, out_channels: 1}}]",
        )
        options = (*options, "--engine", "numpy")
        with program("apply", *options, "--report", "-", "-q") as process:
            item = json.loads(finished(process).out)["items"][0]
        assert item["peak_rss_bytes"] <= 1.1 * item["plan"]["peak_bytes"]
        with program("apply", *options, "--max-memory", "5M", "--overwrite") as process:
            least = int(finished(process).err.split("--max-memory ")[1].split("MiB")[0])
        with program("apply", *options, "--max-memory", f"{least}MiB", "--overwrite", "--report", "-", "-q") as process:
            item = json.loads(finished(process).out)["items"][0]
        assert item["peak_rss_bytes"] <= 1.1 * least * 2**20

    def test_a_run_that_could_be_resumed_writes_the_same_bytes(self, weights, folder):
        options = ("scan.nii.gz", "--layers", STACK, "--tile", "1,9,9", "-q")
        ok("apply", *options, "-o", "a.nii")
        ok("apply", *options, "-o", "b.nii", "--resume")
        assert (folder / "a.nii").read_bytes() == (folder / "b.nii").read_bytes()
