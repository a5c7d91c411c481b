"""Weights from files of every format, by layer, in the layouts of PyTorch and Keras, and from lists."""

import json
import re
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from lucid_cli.weight_files import SUFFIXES
from lucid_cli.weight_saving import SAVERS
from lucid_cli.weights import load
from lucid_core.errors import ArgumentError, InputError, ShapeError
from tests.cli.conftest import make_nifti, make_volume, noise, ok, run
from tests.reference import conv3d as oracle

WEIGHT, BIAS = noise(6, 2, 3, 2, 4, seed=1), noise(6, seed=2)
LAYERS = {
    "encoder.conv1.weight": WEIGHT,
    "encoder.conv1.bias": BIAS,
    "encoder.conv2.weight": WEIGHT[::-1].copy(),
    "head.weight": noise(2, 6),
    "head.bias": noise(2),
}


def save(path, arrays):
    suffix = Path(path).suffix
    if suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == ".safetensors":
        pytest.importorskip("safetensors.numpy").save_file(arrays, path)
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name.replace(".", "/")] = array
    elif suffix == ".onnx":
        onnx = pytest.importorskip("onnx")
        tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
        Path(path).write_bytes(
            onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], tensors)).SerializeToString()
        )
    else:
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    return str(path)


formats = pytest.mark.parametrize(
    "suffix", (".npz", ".h5", ".safetensors", ".onnx", pytest.param(".pt", marks=pytest.mark.torch))
)


@formats
def test_a_layer_is_found_by_its_prefix(folder, suffix):
    path = save(f"m{suffix}", LAYERS)
    found = load(f"{path}:encoder.conv1")
    np.testing.assert_array_equal(found.weight, WEIGHT)
    np.testing.assert_array_equal(found.bias, BIAS)
    assert load(f"{path}:encoder.conv2").bias is None
    assert load(f"{path}:encoder.conv1.weight").bias is None


@formats
def test_without_a_key_the_only_array_of_five_axes_is_taken(folder, suffix):
    one = {name: array for name, array in LAYERS.items() if "conv2" not in name}
    found = load(save(f"m{suffix}", one))
    np.testing.assert_array_equal(found.weight, WEIGHT)
    np.testing.assert_array_equal(found.bias, BIAS)


@formats
def test_several_layers_are_listed_with_their_shapes(folder, suffix):
    path = save(f"m{suffix}", LAYERS)
    with pytest.raises(InputError) as raised:
        load(path)
    assert "encoder.conv1.weight (6x2x3x2x4)" in str(raised.value).replace("/", ".")
    assert "head" not in str(raised.value)
    with pytest.raises(
        InputError, match=r"holds no 'encoder\.conv3\.weight'; it holds: .* Did you mean 'encoder\.conv"
    ):
        load(f"{path}:encoder.conv3")


def test_keras_layouts(folder):
    keras = WEIGHT.transpose(2, 3, 4, 1, 0)
    with h5py.File("two.h5", "w") as file:
        file["model_weights/conv3d/conv3d/kernel:0"] = keras
        file["model_weights/conv3d/conv3d/bias:0"] = BIAS
    with h5py.File("three.weights.h5", "w") as file:
        file["layers/conv3d/vars/0"] = keras
        file["layers/conv3d/vars/1"] = BIAS
    np.savez("plain.npz", **{"conv.kernel": keras, "conv.bias": BIAS})
    texts = ("two.h5:model_weights/conv3d/conv3d", "three.weights.h5:layers/conv3d", "plain.npz:conv")
    for text in (*texts, "two.h5", "three.weights.h5", "plain.npz"):
        found = load(text, layout="keras")
        np.testing.assert_array_equal(found.weight, WEIGHT)
        np.testing.assert_array_equal(found.bias, BIAS)
    with pytest.raises(ShapeError, match=r"is it of Keras\? then say --weights-layout keras"):
        load("plain.npz:conv")


def test_a_keras_layer_convolves_as_keras_does(folder):
    """Groups, strides and dilation, from the command line."""
    make_volume("scan.npy", noise(4, 8, 9, 10))
    np.savez("w.npz", **{"conv.kernel": WEIGHT.transpose(2, 3, 4, 1, 0), "conv.bias": BIAS})
    options = ("--weights-layout", "keras", "--groups", 2, "--stride", "2,1,1", "--dilation", "1,2,1")
    ok("apply", "scan.npy", "-o", "out.npy", "--weights", "w.npz:conv", *options)
    expected, sizes = oracle(np.load("scan.npy")[None], WEIGHT, BIAS, stride=(2, 1, 1), dilation=(1, 2, 1), groups=2)
    assert (np.abs(np.load("out.npy") - expected[0]) <= 30 * 2**-24 * sizes[0]).all()


@pytest.mark.torch
@pytest.mark.parametrize(
    "options",
    (
        {"groups": 2},
        {"dilation": (1, 2, 3)},
        {"stride": (2, 1, 3), "padding": (1, 0, 2)},
        {"groups": 4, "padding": "same", "padding_mode": "replicate"},
        {"bias": False, "padding": 2, "padding_mode": "circular"},
    ),
)
@pytest.mark.parametrize("suffix", (".pt", ".pth", ".safetensors", ".npz", ".onnx"))
def test_layers_that_torch_saved(folder, options, suffix):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv3d(4, 8, 3, **options), torch.nn.Linear(3, 2))
    if suffix in (".pt", ".pth"):
        torch.save({"state_dict": model.state_dict(), "epoch": 3, "optimizer": {"lr": [0.1]}}, f"m{suffix}")
    else:
        save(f"m{suffix}", {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    make_volume("scan.npy", noise(4, 7, 8, 9))
    key = "state_dict.0" if suffix in (".pt", ".pth") else "0"
    said = {name.replace("_", "-"): value for name, value in options.items() if name != "bias"}
    flags = [part for name, value in said.items() for part in (f"--{name}", str(value).strip("()").replace(" ", ""))]
    ok("apply", "scan.npy", "-o", "out.npy", "--weights", f"m{suffix}:{key}", *flags)
    with torch.no_grad():
        expected = model[0].double()(torch.from_numpy(np.load("scan.npy")).double()[None])[0].numpy()
    np.testing.assert_allclose(np.load("out.npy"), expected, rtol=0, atol=2e-4)


@pytest.mark.torch
def test_a_pickle_that_is_more_than_weights_is_refused(folder):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Conv3d(1, 1, 3), "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: cannot be loaded as weights only: .*; save what its state_dict"):
        load("model.pt")


@pytest.mark.parametrize("suffix", (".nii", ".nii.gz"))
def test_a_nifti_kernel_is_x_y_z(folder, suffix):
    kernel = noise(2, 3, 4).astype(np.float32)
    make_nifti(f"k{suffix}", kernel.T, sform=np.eye(4))
    np.testing.assert_array_equal(load(f"k{suffix}").weight, kernel[None, None])
    bank = noise(5, 2, 3, 4).astype(np.float32)
    make_nifti(f"b{suffix}", bank.transpose(3, 2, 1, 0), sform=np.eye(4))
    np.testing.assert_array_equal(load(f"b{suffix}").weight, bank[:, None])
    stored = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    make_nifti(f"s{suffix}", stored, sform=np.eye(4), scaling=(0.5, -1.0))
    np.testing.assert_array_equal(load(f"s{suffix}").weight[0, 0], stored.T * 0.5 - 1)


def test_what_kernel_save_writes_as_nifti_is_read_again(folder):
    make_volume("scan.nii", noise(8, 9, 10))
    ok("kernel", "save", "sphere", "--radius", "2vox", "-o", "k.nii.gz")
    ok("apply", "scan.nii", "-o", "a.nii", "--kernel", "sphere", "--radius", "2vox")
    ok("apply", "scan.nii", "-o", "b.nii", "--weights", "k.nii.gz", "--padding", "same", "--padding-mode", "replicate")
    np.testing.assert_array_equal(np.asarray(nib.load("a.nii").dataobj), np.asarray(nib.load("b.nii").dataobj))


@pytest.mark.parametrize(
    ("text", "taps"),
    (
        ("1,2,3\n4,5,6\n", [[[1, 2, 3], [4, 5, 6]]]),
        ("1 2\n3 4\n\n5 6\n7 8\n", [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
        ("# a comment\n1;-2e-3 # here too\n\n\n\n0.5;4\n", [[[1, -2e-3]], [[0.5, 4]]]),
        ("\ufeff7", [[[7]]]),
        (" 1 , 2 \n 3,\t4", [[[1, 2], [3, 4]]]),
    ),
)
@pytest.mark.parametrize("suffix", (".csv", ".txt"))
def test_a_table(folder, text, taps, suffix):
    Path(f"k{suffix}").write_text(text)
    np.testing.assert_array_equal(load(f"k{suffix}").weight[0, 0], taps)


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("1,2\n3\n", "rows of 1 and 2 numbers and planes of 2 rows; legal: all alike"),
        ("1,2\n\n3,4\n5,6", "rows of 2 numbers and planes of 1 and 2 rows"),
        ("", "rows of no numbers"),
        ("1,2\n3,x\n", "line 2: 'x' is not a number"),
        ("1,nan", "holds NaN"),
        ("1,,3\n4,,6\n", "line 1: '' is not a number"),
        ("1,2,\n", "line 1: '' is not a number"),
        ("0,5;1,5\n", "line 1: '0,5' is not a number"),
        ("1_000", "line 1: '1_000' is not a number"),
        ("0x10", "line 1: '0x10' is not a number"),
    ),
)
def test_what_is_no_table(folder, text, words):
    Path("k.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        load("k.csv")


@pytest.mark.parametrize(
    ("text", "shape"),
    (
        ("[1,2,1]", (1, 1, 1, 1, 3)),
        ("[[0,1,0],[1,-4,1]]", (1, 1, 1, 2, 3)),
        (" [[[1],[2]]]", (1, 1, 1, 2, 1)),
        ("[[[[[1,2]]]],[[[[3,4]]]]]", (2, 1, 1, 1, 2)),
    ),
)
def test_a_list(folder, text, shape):
    np.testing.assert_array_equal(load(text).weight, np.array(json.loads(text), float).reshape(shape))
    make_volume("scan.npy", noise(4, 5, 6))
    Path("a.yaml").write_text(f"weights:\n  weights: {text}\n")
    ok("apply", "scan.npy", "-o", "a.npy", "-c", "a.yaml")
    ok("apply", "scan.npy", "-o", "b.npy", "--weights", text)
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))


@pytest.mark.parametrize("text", ("[[1,2],[3]]", "[1,", "[1,'a']", "[[1,null]]", '["a"]', "[" * 5000))
def test_what_is_no_list_of_numbers(text):
    with pytest.raises((ArgumentError, InputError), match=r"not a list of numbers|holds NaN"):
        load(text)


def test_a_table_of_megabytes_is_refused(folder):
    Path("k.csv").write_bytes(b"1\n" * 5_000_000)
    with pytest.raises(InputError, match="a table of 10000000 bytes; legal: at most 8388608"):
        load("k.csv")


def test_the_error_of_a_long_list_is_short():
    with pytest.raises(ArgumentError) as raised:
        load("[" * 60000 + "]")
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize("name", ("[x].npy", "[1,2].npy", "d.csv:w.npy"))
def test_a_file_is_taken_by_its_whole_name(folder, name):
    np.save(name, np.arange(27.0).reshape(3, 3, 3))
    assert load(name).weight.sum() == 351


def test_a_dataset_keeps_its_own_name(folder):
    with h5py.File("w.h5", "w") as file:
        file["conv.weight"] = WEIGHT
        file["conv/weight"] = 2 * WEIGHT
    np.testing.assert_array_equal(load("w.h5:conv.weight").weight, WEIGHT)
    np.testing.assert_array_equal(load("w.h5:conv/weight").weight, 2 * WEIGHT)


def test_types_that_numpy_has_not_are_named(folder):
    pytest.importorskip("safetensors")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [1, 1, 1], "data_offsets": [0, 2]}}).encode()
    Path("w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(InputError, match="w has dtype BF16; legal: F64, F32"):
        load("w.safetensors")
    np.save("w.npy", np.ones((1, 1, 1), np.longdouble))
    with pytest.raises(InputError, match="legal: real numbers of at most 64 bits"):
        load("w.npy")


@pytest.mark.torch
def test_dictionaries_in_dictionaries_end(folder):
    torch = pytest.importorskip("torch")
    tree = {"w": torch.zeros(3, 3, 3)}
    for _ in range(30):
        tree = {"a": tree, "b": tree}
    torch.save(tree, "bomb.pt")
    with pytest.raises(InputError, match=r"bomb\.pt"):
        load("bomb.pt")


def test_a_list_of_four_axes_is_no_kernel():
    with pytest.raises(ShapeError, match=r"the shape is \(1, 1, 1, 1\)"):
        load("[[[[1]]]]")


def test_onnx_tensors_in_other_files_are_not_read(folder):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(WEIGHT, "w")
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [tensor]))
    onnx.save_model(model, "m.onnx", save_as_external_data=True, location="data", size_threshold=0)
    with pytest.raises(InputError, match="the values of 'w' lie in another file: not read"):
        load("m.onnx")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_file_is_an_error_in_words(scan, folder, suffix):
    Path(f"w{suffix}").write_bytes(b"\x01damaged\xff\xfe")
    result = run("apply", "scan.npy", "-o", "out.npy", "--weights", f"w{suffix}")
    assert result.code in (2, 3)
    assert f"w{suffix}" in result.err or "pip install" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(("option", "value"), (("--weights-axes", "xyz"), ("--weights-layout", "keras")))
def test_options_of_weights_need_weights(scan, option, value):
    result = run("apply", "scan.npy", "-o", "out.npy", "--kernel", "sobel", option, value)
    assert (result.code, f"{option} belongs to a file of weights" in result.err) == (2, True)


own_formats = pytest.mark.parametrize("suffix", (".npz", ".safetensors"))


def save_with_layer(suffix, arrays, layer):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    path = Path(f"own{suffix}")
    path.write_bytes(SAVERS[suffix](arrays, layer))
    assert SAVERS[suffix](arrays, layer) == path.read_bytes(), "no clock in the file"
    return path


@own_formats
def test_a_file_says_what_its_layer_is_and_the_settings_win(folder, suffix):
    layer = {"stride": [1, 2, 1], "padding": "valid", "dilation": [1, 1, 2], "groups": 2, "padding_mode": "reflect"}
    path = save_with_layer(suffix, {"weight": WEIGHT, "bias": BIAS}, layer)
    np.save("x.npy", noise(4, 9, 10, 11))
    ok("apply", "x.npy", "-o", "y.npy", "--weights", path)
    expected = oracle(np.load("x.npy")[None], WEIGHT, BIAS, (1, 2, 1), 0, (1, 1, 2), 2, "reflect")[0][0]
    np.testing.assert_allclose(np.load("y.npy"), expected, rtol=1e-5, atol=2e-3)
    ok("apply", "x.npy", "-o", "z.npy", "--weights", path, "--stride", "1", "--padding", "2,1,1")
    expected = oracle(np.load("x.npy")[None], WEIGHT, BIAS, 1, (2, 1, 1), (1, 1, 2), 2, "reflect")[0][0]
    np.testing.assert_allclose(np.load("z.npy"), expected, rtol=1e-5, atol=2e-3)


@own_formats
def test_a_file_says_what_its_stack_of_layers_is(folder, suffix):
    first, last = noise(3, 1, 3, 3, 3, seed=3), noise(1, 3, 1, 1, 1, seed=4)
    layers = [{"weights": "0", "padding": "same"}, {"leaky_relu": [0.1]}, {"weights": "2"}]
    path = save_with_layer(suffix, {"0.weight": first, "2.weight": last, "2.bias": noise(1)}, {"layers": layers})
    np.save("x.npy", noise(6, 7, 8))
    ok("apply", "x.npy", "-o", "y.npy", "--weights", path)
    said = [
        {"weights": f"{path}:0", "padding": "same"},
        {"leaky_relu": [0.1]},
        {"weights": f"{path}:2"},
    ]
    ok("apply", "x.npy", "-o", "z.npy", "--layers", json.dumps(said))
    np.testing.assert_array_equal(np.load("y.npy"), np.load("z.npy"))
    ok("apply", "x.npy", "-o", "first.npy", "--weights", f"{path}:0")
    assert np.load("first.npy").shape == (1, 3, 4, 5, 6), "one layer by its name has the defaults of Conv3d"
    refused = run("apply", "x.npy", "-o", "w.npy", "--weights", path, "--stride", "2")
    assert refused.code == 2
    assert "stands beside layers" in refused.err


@own_formats
def test_a_file_may_say_as_many_layers_as_a_list_may_have(folder, suffix):
    layers = [
        {"weights": str(number), "stride": [1, 1, 1], "padding": [0, 0, 0], "dilation": [1, 1, 1], "groups": 1}
        for number in range(64)
    ]
    arrays = {f"{number}.weight": np.ones((1, 1, 1, 1, 1), np.float32) for number in range(65)}
    path = save_with_layer(suffix, arrays, {"layers": layers})
    np.save("x.npy", noise(2, 3, 4))
    ok("apply", "x.npy", "-o", "y.npy", "--weights", path)
    np.testing.assert_array_equal(np.load("y.npy"), np.load("x.npy"))
    save_with_layer(suffix, arrays, {"layers": [*layers, layers[0] | {"weights": "64"}]})
    assert "at most 64" in run("apply", "x.npy", "-o", "z.npy", "--weights", path).err
    save_with_layer(suffix, arrays, {"layers": layers * 20})
    assert "longer than" in run("apply", "x.npy", "-o", "z.npy", "--weights", path).err


@own_formats
@pytest.mark.parametrize(
    ("layer", "words"),
    (
        ({"stride": 0}, "at least 1"),
        ({"padding": "reflect"}, "padding must be"),
        ({"groups": 5}, "groups"),
        ({"kernel": 3}, "unknown 'kernel'"),
        ({"layers": "relu"}, "no list"),
        ({"layers": [{"weights": "0", "padding": "much"}]}, "own.+much"),
        ({"layers": []}, "own.+no convolution"),
        ({"layers": [{"weights": "0"}], "stride": 2}, "'stride' stands beside"),
        ([1], "no mapping"),
    ),
)
def test_what_a_file_says_wrongly_of_its_layer_is_an_error_in_words(folder, suffix, layer, words):
    path = save_with_layer(suffix, {"weight": WEIGHT}, layer)
    np.save("x.npy", noise(2, 5, 5, 5))
    refused = run("apply", "x.npy", "-o", "y.npy", "--weights", path)
    assert re.search(words, refused.err), refused.err
    assert refused.err.startswith("Error: ")
    assert refused.code == 3
    assert not Path("y.npy").exists()
