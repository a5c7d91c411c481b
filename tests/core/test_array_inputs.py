"""What `conv3d` and the layers take beside arrays of NumPy: any array that shows its memory or makes an array."""

import h5py
import nibabel
import numpy as np
import pytest

from lucid_core import conv3d, nn
from lucid_core.arrays import as_array
from lucid_core.errors import ArgumentTypeError

X = np.random.default_rng(0).normal(size=(1, 2, 5, 6, 7)).astype("f4")
W = np.random.default_rng(1).normal(size=(3, 2, 3, 3, 3)).astype("f4")
B = np.ones(3, "f4")


class Maker:
    """An array known by `__array__` alone, which makes a new one."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return self._values.astype(dtype or self._values.dtype)


class Shown:
    """An array known by DLPack alone, on a device."""

    def __init__(self, values, device=(1, 0)):
        self._values = values
        self._device = device

    def __dlpack_device__(self):
        return self._device

    def __dlpack__(self, **how):
        assert self._device == (1, 0), "asked for memory of another device"
        return self._values.__dlpack__(**how)


class OnDevice(Shown):
    """An array of a library that, as CuPy, refuses to make one of NumPy."""

    device = "<CUDA Device 0>"

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion to a NumPy array is not allowed")


@pytest.mark.parametrize("kind", (Maker, Shown, memoryview, np.ndarray.tolist))
def test_all_arguments_may_be_arrays_of_others(kind):
    arrays = [one.astype("f8") for one in (X, abs(W), B, X[0, 0] > 0)]
    x, weight, bias, mask = map(kind, arrays)
    found = conv3d(x, weight, bias, mask=mask)
    assert type(found) is np.ndarray
    assert found.tobytes() == conv3d(*arrays[:3], mask=arrays[3]).tobytes()


@pytest.mark.parametrize("kind", (Shown, np.asarray, memoryview))
def test_memory_is_viewed_where_it_is_shown(kind):
    assert np.shares_memory(as_array("x", kind(X)), X)


def test_layers_take_them_too():
    layer = nn.Conv3d(2, 3, 3)
    layer.load_state_dict({"weight": Shown(W), "bias": Maker(B)})
    expected = conv3d(X, W, B)
    assert layer(Shown(X)).tobytes() == expected.tobytes()
    assert nn.Sequential(layer, nn.ReLU())(Maker(X)).tobytes() == np.maximum(expected, 0).tobytes()
    assert nn.Abs()(Shown(X)).tobytes() == np.abs(X).tobytes()
    assert nn.Parameter(Shown(W)).data.tobytes() == W.tobytes()


def test_files_are_read_as_arrays(tmp_path):
    nibabel.Nifti1Image(X, np.eye(4)).to_filename(tmp_path / "x.nii")
    expected = conv3d(X, W).tobytes()
    assert conv3d(nibabel.load(tmp_path / "x.nii").dataobj, W).tobytes() == expected
    with h5py.File(tmp_path / "x.h5", "w") as file:
        assert conv3d(file.create_dataset("x", data=X), W).tobytes() == expected
    zarr = pytest.importorskip("zarr")
    assert conv3d(zarr.array(X, chunks=(1, 2, 2, 2, 2)), W).tobytes() == expected


@pytest.mark.parametrize(("kind", "where"), ((Shown, r"device \(2, 0\) of DLPack"), (OnDevice, "<CUDA Device 0>")))
def test_what_is_on_another_device_is_refused_and_not_touched(kind, where):
    for number, name in enumerate(("x", "weight", "bias", "mask")):
        given = [X, W, B, X[0, 0]]
        given[number] = kind(given[number], (2, 0))
        with pytest.raises(ArgumentTypeError, match=rf"^{name} is on {where}, .*\.cpu\(\)"):
            conv3d(*given[:3], mask=given[3])
    for layer in (nn.Conv3d(2, 3, 3), nn.ReLU(), nn.Sequential(nn.Conv3d(2, 3, 3))):
        with pytest.raises(ArgumentTypeError, match="x is on "):
            layer(kind(X, (2, 0)))


def test_a_masked_array_is_refused():
    masked = np.ma.masked_less(X, 0)
    with pytest.raises(ArgumentTypeError, match=r"x is a masked array, and its mask would be lost: .*x\.filled\(0\)"):
        conv3d(masked, W)
    with pytest.raises(ArgumentTypeError, match="x is a masked array"):
        nn.ReLU()(masked)


def test_what_is_no_array_is_refused():
    class Broken(Shown):
        def __dlpack__(self, **how):
            raise BufferError("it is not here")

    for wrong in (Broken(X), [[1, 2], [3]]):
        with pytest.raises(ArgumentTypeError, match="x is no array of numbers: "):
            conv3d(wrong, W)


@pytest.mark.torch
def test_tensors():
    torch = pytest.importorskip("torch")
    x, w = torch.from_numpy(X), torch.from_numpy(W)
    expected = conv3d(X, W).tobytes()
    assert conv3d(x, w).tobytes() == expected
    assert conv3d(x.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0), w).tobytes() == expected
    assert np.shares_memory(as_array("x", x), X)
    assert conv3d(x.half(), w).dtype == np.float16
    theirs, ours = torch.nn.Conv3d(2, 3, 3), nn.Conv3d(2, 3, 3)
    ours.load_state_dict(theirs.state_dict())
    np.testing.assert_allclose(ours(x), theirs(x).detach(), atol=1e-5)


@pytest.mark.torch
def test_tensors_that_numpy_cannot_have():
    torch = pytest.importorskip("torch")
    x, w = torch.from_numpy(X), torch.from_numpy(W)
    for wrong, message in (
        (x.clone().requires_grad_(), r"x requires grad, .*x\.detach\(\)$"),
        (x.bfloat16(), r"x is bfloat16, .*x\.float\(\)$"),
        (x.to("meta"), "x is no array of numbers: .*meta"),
        (x.to_sparse(), r"x is no array of numbers: .*to_dense\(\)"),
    ):
        with pytest.raises(ArgumentTypeError, match=message):
            conv3d(wrong, w)
    with torch.no_grad(), pytest.raises(ArgumentTypeError, match=r"weight requires grad, .*weight\.detach\(\)$"):
        conv3d(x, torch.nn.Conv3d(2, 3, 3).weight)
