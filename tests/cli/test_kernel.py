"""`kernel list`, `show` and `save`: what is said of a kernel, and files of weights that `apply` reads back."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lucid_core.kernels import kernels, taps
from tests.cli.conftest import contents, make_nifti, make_volume, noise, ok, read_volume, run, save_weights

PNG = b"\x89PNG\r\n\x1a\n"


def shown(*args):
    return json.loads(ok("kernel", "show", *args, "--json").out)


def test_the_list_names_every_kernel_with_its_options():
    found = json.loads(ok("kernel", "list", "--json").out)
    assert {one["name"]: tuple(one["options"]) for one in found} == {n: k.options for n, k in kernels().items()}
    table = ok("kernel", "list").out
    for one in found:
        assert f"{one['name']:<10}  {one['about']}\n" in table
        assert one["about"][0].isupper()
        assert not one["about"].endswith(".")


def test_every_option_of_a_kernel_is_one_of_the_command():
    words = run("kernel", "show", "--help").out
    for kernel in kernels().values():
        for option in kernel.options:
            assert f"--{option} " in words


def test_lengths_become_voxels_of_the_spacing():
    found = shown("gaussian", "--sigma", "1.5mm", "--spacing", "3,1.5,0.75mm")
    assert found["options"] == {"sigma": [0.5, 1.0, 2.0]}
    assert (found["shape"], found["size"]) == ([1, 1, 5, 9, 17], [5, 9, 17])
    assert found["size_mm"] == [15, 13.5, 12.75]
    np.testing.assert_allclose(found["filters"][0]["taps"], taps("gaussian", sigma=(0.5, 1.0, 2.0)))
    assert found["filters"][0]["sum"] == pytest.approx(1)
    assert (found["filters"][0]["rank"], found["filters"][0]["separable"]) == ([1, 1, 1], True)


@pytest.mark.parametrize(
    ("words", "rank", "separable", "centre"),
    (
        (("laplacian",), [2, 2, 2], False, None),
        (("sphere", "--radius", "2vox"), [3, 3, 3], False, [0, 0, 0]),
        (("sobel",), [1, 1, 1], True, None),
        (("shift", "--offset", "0.5,0,-2vox"), [1, 1, 1], True, [-0.5, 0, 2]),
        (("identity", "--size", "2,1,1vox"), [1, 1, 1], True, [-0.5, 0, 0]),
    ),
)
def test_rank_and_centre(words, rank, separable, centre):
    (found,) = shown(*words)["filters"]
    assert (found["rank"], found["separable"], found["centre"]) == (rank, separable, centre)


def test_the_table(folder):
    lines = ok("kernel", "show", "box", "--size", "6,3,3mm", "--spacing", "2,1,1mm").out.splitlines()
    assert lines == [
        "    kernel  box",
        " made from  size 3,3,3, in voxels",
        "      size  3x3x3 voxels, 6x3x3 mm",
        "   filters  1 of 1 channels, float64",
        "       sum  1",
        "    centre  0,0,0 voxels from the middle",
        "      rank  1,1,1 along D, H, W: separable",
        "   along D  0.03704 0.03704 0.03704",
        "   along H  0.03704 0.03704 0.03704",
        "   along W  0.03704 0.03704 0.03704",
    ]
    bank = ok("kernel", "show", "central", "--axis", "all").out
    assert "  filter 2\n       sum  0\n    centre  none, the sum is 0\n" in bank
    assert "   along W  -0.5 0 0.5\n" in bank
    save_weights("w.npz", noise(3, 4, 3, 3, 3), noise(3))
    many = ok("kernel", "show", "w.npz").out
    assert "   filters  3 of 4 channels, float32, bias\n" in many
    assert many.endswith("            and 4 more; --json shows all\n")
    long = ok("kernel", "show", "gaussian", "--sigma", "3vox").out
    assert "   along D  ... 0.0009669 0.001426 " in long
    assert long.endswith(" ...\n")


def test_a_file_of_weights_is_shown(folder):
    weight, bias = noise(2, 3, 1, 2, 4), noise(2)
    save_weights("w.npz", weight, bias)
    found = shown("w.npz")
    assert (found["shape"], found["dtype"], found["bias"]) == ([2, 3, 1, 2, 4], "float32", bias.tolist())
    np.testing.assert_allclose([one["taps"] for one in found["filters"]], weight.reshape(6, 1, 2, 4))
    flipped = shown("w.npz:weight", "--weights-axes", "xyz", "--flip")
    expected = weight.transpose(0, 1, 4, 3, 2)[..., ::-1, ::-1, ::-1].reshape(6, 4, 2, 1)
    np.testing.assert_allclose([one["taps"] for one in flipped["filters"]], expected)


@pytest.mark.parametrize("suffix", (".npy", ".npz", ".safetensors"))
@pytest.mark.parametrize("words", ("hessian --sigma 2mm", "gabor --sigma 2mm --wavelength 6mm --phase 45"))
def test_saved_weights_give_what_the_kernel_gives(folder, suffix, words):
    make_volume("a.nii", noise(9, 10, 11))
    ok("kernel", "save", *words.split(), "--spacing", "1mm", "-o", f"k{suffix}")
    ok("apply", "a.nii", "-o", "b.nii", "--kernel", *words.split())
    ok("apply", "a.nii", "-o", "c.nii", "--weights", f"k{suffix}", "--padding", "same", "--padding-mode", "replicate")
    np.testing.assert_array_equal(np.asarray(nib.load("b.nii").dataobj), np.asarray(nib.load("c.nii").dataobj))


@pytest.mark.parametrize("suffix", (".npz", ".safetensors"))
def test_weights_go_from_format_to_format(folder, suffix):
    weight, bias = noise(2, 3, 1, 2, 4), noise(2)
    save_weights("w.npz", weight, bias)
    ok("kernel", "save", "w.npz", "-o", f"k{suffix}", "--flip")
    found = shown(f"k{suffix}")
    assert found["bias"] == bias.tolist()
    np.testing.assert_allclose(
        [one["taps"] for one in found["filters"]], weight[..., ::-1, ::-1, ::-1].reshape(6, 1, 2, 4)
    )


@pytest.mark.parametrize("suffix", (".nii", ".nii.gz"))
def test_a_nifti_lies_around_the_origin_with_the_spacing(folder, suffix):
    ok("kernel", "save", "sphere", "--radius", "4mm", "--spacing", "2,1,1mm", "-o", f"k{suffix}")
    image = nib.load(f"k{suffix}")
    assert image.shape == (9, 9, 5)
    np.testing.assert_allclose(image.affine, [[1, 0, 0, -4], [0, 1, 0, -4], [0, 0, 2, -4], [0, 0, 0, 1]])
    np.testing.assert_allclose(np.asarray(image.dataobj).T, taps("sphere", radius=(2.0, 4.0, 4.0)), rtol=1e-6)
    ok("kernel", "save", "hessian", "--sigma", "1vox", "-o", f"h{suffix}")
    assert nib.load(f"h{suffix}").shape == (9, 9, 9, 6)
    before = Path(f"k{suffix}").read_bytes()
    ok("kernel", "save", "sphere", "--radius", "4mm", "--spacing", "2,1,1mm", "-o", f"k{suffix}", "--overwrite")
    assert Path(f"k{suffix}").read_bytes() == before


@pytest.mark.parametrize("words", ("sobel --axis all", "gaussian --fwhm 4mm --spacing 2,1,1mm", "w.npz", "zeros.npy"))
def test_a_plot_is_a_picture(folder, words):
    pytest.importorskip("matplotlib")
    save_weights("w.npz", noise(5, 2, 3, 3, 3))
    np.save("zeros.npy", np.zeros((3, 1, 2)))
    ok("kernel", "show", *words.split(), "--plot", "k.png")
    data = Path("k.png").read_bytes()
    assert data.startswith(PNG)
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (1300, 300 * {"sobel": 3, "gaussian": 1, "w.npz": 8, "zeros.npy": 1}[words.split()[0]])


def test_without_matplotlib_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    result = run("kernel", "show", "sobel", "--plot", "k.png")
    assert (result.code, "pip install 'lucid-conv3d[viz]'" in result.err) == (2, True)
    assert contents(folder) == {}


@pytest.mark.parametrize(("size", "marks"), ((9, (False, False)), (10, (False, True)), (11, (True, True))))
def test_taps_that_are_left_out_are_marked(size, marks):
    (row,) = (
        line for line in ok("kernel", "show", "box", "--size", f"1,1,{size}vox").out.splitlines() if "along W" in line
    )
    assert ("W  ..." in row, row.endswith(" ...")) == marks


def test_large_kernels_are_shown_and_drawn_in_bounded_time(folder):
    pytest.importorskip("matplotlib")
    table = ok("kernel", "show", "box", "--size", "1000000,1,1vox", "--plot", "k.png").out
    assert "      rank  not looked for, the kernel is large\n" in table
    assert Path("k.png").read_bytes().startswith(PNG)


def test_a_kernel_longer_than_a_nifti_1_axis_is_a_nifti_2(folder):
    ok("kernel", "save", "box", "--size", "40000,1,1vox", "-o", "k.nii")
    assert nib.load("k.nii").shape == (1, 1, 40000)


def test_values_beyond_floats(folder):
    np.save("w.npy", np.full((3, 3, 3), 1e308))
    found = shown("w.npy")["filters"][0]
    assert (found["sum"], found["centre"], found["rank"]) == (None, None, [1, 1, 1])
    assert "sum  beyond float64" in ok("kernel", "show", "w.npy").out
    result = run("kernel", "save", "w.npy", "-o", "k.nii")
    assert (result.code, "values beyond float32" in result.err) == (2, True)
    make_volume("a.npy", noise(3, 3, 3))
    result = run("apply", "a.npy", "-o", "b.npy", "--kernel", "unsharp", "--sigma", "1vox", "--amount", "1e300")
    assert (result.code, "values beyond float32; give --dtype float64" in result.err) == (2, True)


def test_a_name_with_signs_of_formulas_is_drawn(folder):
    pytest.importorskip("matplotlib")
    np.save("a$\\foo$.npy", np.ones((3, 3, 3)))
    ok("kernel", "show", "a$\\foo$.npy", "--plot", "k.png")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    (
        ("show gausian --sigma 1vox", 2, "unknown kernel or file of weights 'gausian'; legal: box, "),
        ("show gaussian", 2, "needs its width"),
        ("show gaussian --sigma 100vox --truncate 1e308", 6, "takes too much memory"),
        ("show gaussian --sigma 1mm", 2, "needs the spacing of the volume"),
        ("show box --size 3vox --weights-axes xyz", 2, "--weights-axes belongs to a file of weights"),
        ("show w.npz --sigma 1vox", 2, "--sigma belongs to a named kernel, and 'w.npz' is a file of weights"),
        ("show w.pt", 3, "w.pt"),
        ("show missing.npz", 3, "missing.npz"),
        ("show sobel --plot k.jpg", 2, "the picture is a PNG"),
        (
            "save sobel -o k.txt",
            2,
            "k.txt: the suffix says no format for weights here; legal: .npy, .npz, .safetensors",
        ),
        ("save w.npz -o k.npy", 2, "k.npy: a .npy has no place for the bias of w.npz"),
        ("save w.npz:weight -o k.nii", 2, "a NIfTI has no place for 3 input channels"),
        ("save w.npz -o w.npz --overwrite", 4, "is the same file as the input w.npz"),
        ("save sobel -o w.npz", 4, "w.npz: exists; use --overwrite"),
        ("save sobel -o nowhere/k.npz", 4, "does not exist"),
        ("shwo sobel", 2, "unknown command 'shwo'; legal: list, save, show. Did you mean 'show'?"),
        ("", 2, "Usage: lucid-conv3d kernel"),
    ),
)
def test_what_is_wrong_is_said(folder, words, code, said):
    save_weights("w.npz", noise(2, 3, 1, 2, 4), noise(2))
    before = contents(folder)
    result = run("kernel", *words.split())
    assert (result.code, said in result.err) == (code, True), result.err
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("words", "line"),
    (
        ("sobel", "sobel along x (W), 3x3x3"),
        ("central --axis D", "central along z (D), 3x1x1"),
        ("prewitt --axis y", "prewitt along y (H), 3x3x3"),
        ("derivative --sigma 1vox --order 0,0,1", "derivative of order 0,0,1, 9x9x9"),
    ),
)
def test_the_table_says_along_what_a_derivative_is(scan, words, line):
    assert f"    kernel  {line} voxels" in ok("plan", scan, "--kernel", *words.split()).out


def test_one_order_for_three_axes_is_refused(scan):
    words = ("--kernel", "derivative", "--sigma", "1vox")
    result = run("apply", scan, "-o", "out.npy", *words, "--order", "1")
    assert result.code == 2
    assert "give three, such as 0,0,1" in result.err
    ok("apply", scan, "-o", "out.npy", *words, "--order", "1,1,1")


class TestKernelsOfOneVoxel:
    SCAN = "scan.nii"

    @pytest.fixture(autouse=True)
    def placed(self, folder):
        make_nifti(folder / self.SCAN, noise(5, 6, 7).T, sform=np.eye(4))

    @pytest.mark.parametrize(
        "words", ("gaussian --fwhm 0.1mm", "sphere --radius 0.3mm", "box --size 0.4mm", "meanpool --size 0.4mm")
    )
    def test_that_they_change_nothing_is_said(self, words):
        told = ok("apply", self.SCAN, "-o", "out.nii", "--kernel", *words.split(), "--overwrite").err
        warning = f"Warning: --kernel {words}: the kernel is one voxel: it changes nothing"
        assert told.count(warning) == 1
        np.testing.assert_array_equal(read_volume("out.nii"), noise(5, 6, 7))

    @pytest.mark.parametrize(
        "words", ("identity", "box --size 1vox", "gaussian --fwhm 1.5mm", "box --size 1,1,2mm", "sphere --radius 1mm")
    )
    def test_nothing_is_said_of_others(self, words):
        assert "Warning" not in ok("apply", self.SCAN, "-o", "out.nii", "--kernel", *words.split()).err

    def test_a_layer_is_named(self, folder):
        (folder / "c.yaml").write_text("layers: [relu, {kernel: gaussian, sigma: 0.1mm}]")
        told = ok("plan", self.SCAN, "--config", "c.yaml").err
        assert "Warning: layer 2: --kernel gaussian --sigma 0.1mm: the kernel is one voxel" in told
