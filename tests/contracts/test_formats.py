"""What every file format does alike: exact values in and out, the same bytes for every tiling, all stored types."""

import gzip
from itertools import product

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from nibabel.nifti1 import Nifti1Extension
from scipy.ndimage import correlate

from tests.cli.conftest import (
    ITK,
    SIZE,
    contents,
    make_nifti,
    make_volume,
    nifti_header,
    noise,
    npy_bytes,
    ok,
    read_volume,
    run,
    save_weights,
)

FORMATS = (".nii", ".nii.gz", ".nii.zst", ".hdr", ".img", ".h5", ".npy", ".zarr")
MORE = (".mgh", ".mgz", ".mha", ".mhd", ".nrrd", ".nhdr", ".tif", ".ome.tif", ".mrc")
"""Formats that are tested against NIfTI and themselves."""
NIFTI = FORMATS[:5]
OWN_AXES = (*NIFTI, *MORE)
"""Formats with axes of their own; a fourth is the batch or the channels."""
NO_CHANNELS = (".mrc",)
NO_BOTH = (".mgh", ".mgz", ".mrc")
"""Formats that hold a batch or channels, not both."""
MGH_TYPES = ("uint8", "int16", "int32")
ITK_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
INTEGER_TYPES = {
    ".mgh": MGH_TYPES,
    ".mgz": MGH_TYPES,
    ".mha": ITK_TYPES,
    ".nrrd": ITK_TYPES,
    ".tif": ("uint8", "uint16", "int16"),
    ".ome.tif": ITK_TYPES[:6],
    ".mrc": ("int8", "int16", "uint16"),
}
INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4", "i8", "u8")
PAIRS = {".hdr": (".hdr", ".img"), ".img": (".hdr", ".img"), ".mhd": (".mhd", ".raw"), ".nhdr": (".nhdr", ".raw")}
IDENTITY = ("--kernel", "identity", "-q")


def written(path):
    """Return the bytes of every file an output consists of."""
    if path.is_dir():
        return contents(path)
    names = PAIRS.get(path.suffix, (path.suffix,))
    return [path.with_suffix(suffix).read_bytes().replace(path.stem.encode(), b"") for suffix in names]


def filters(folder, channels=3):
    return save_weights(folder / "w.npz", noise(channels, 1, 3, 3, 3, seed=2), noise(channels, seed=3))


@pytest.mark.parametrize(
    ("into", "out"),
    [
        *product(FORMATS, FORMATS),
        *((one, ".nii") for one in MORE),
        *((".nii", one) for one in MORE),
        *((one, one) for one in MORE),
    ],
)
def test_identity_keeps_every_value_from_any_format_to_any(tmp_path, into, out):
    volume = noise(*SIZE)
    source = make_volume(tmp_path / f"a{into}", volume)
    ok("apply", source, "-o", tmp_path / f"b{out}", *IDENTITY)
    result = read_volume(tmp_path / f"b{out}")
    assert result.dtype.newbyteorder("=") == np.float32
    np.testing.assert_array_equal(result, volume)


@pytest.mark.parametrize(
    "suffix", (*(suffix for suffix in NIFTI if suffix != ".nii.zst"), *ITK, ".tif", ".ome.tif", ".mrc")
)
def test_simpleitk_reads_the_same_values(tmp_path, suffix):
    volume = noise(*SIZE)
    ok("apply", make_volume(tmp_path / "a.npy", volume), "-o", tmp_path / f"b{suffix}", *IDENTITY)
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / f"b{suffix}"))), volume
    )


@pytest.mark.parametrize("suffix", (*FORMATS, *MORE))
def test_output_channels_lie_on_the_axis_of_the_format(tmp_path, suffix):
    if suffix in NO_CHANNELS:
        pytest.skip("has no channels")
    source = make_volume(tmp_path / f"a{suffix}", noise(*SIZE))
    weights = filters(tmp_path)
    ok("apply", source, "-o", tmp_path / f"b{suffix}", "--weights", weights, "--padding", 1, "-q")
    result = read_volume(tmp_path / f"b{suffix}")
    assert result.shape == ((3, *SIZE) if suffix in (*OWN_AXES, ".zarr") else (1, 3, *SIZE))
    with np.load(weights) as file:
        for found, weight, bias in zip(result.reshape(3, *SIZE), file["weight"], file["bias"], strict=True):
            expected = correlate(noise(*SIZE, dtype=np.float64), weight[0].astype(float), mode="constant") + bias
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("suffix", (*FORMATS, *MORE))
def test_a_batch_is_each_volume_by_itself(tmp_path, suffix):
    volumes = noise(3, *SIZE)
    options = ("--kernel", "gaussian", "--sigma", "0.7vox", "-q")
    axes = () if suffix in OWN_AXES else ("--axes", "NDHW")
    ok("apply", make_volume(tmp_path / f"a{suffix}", volumes), "-o", tmp_path / f"b{suffix}", *axes, *options)
    result = read_volume(tmp_path / f"b{suffix}")
    assert result.shape == volumes.shape
    for volume, smoothed in zip(volumes, result, strict=True):
        ok("apply", make_volume(tmp_path / "a1.npy", volume), "-o", tmp_path / "b1.npy", *options, "--overwrite")
        np.testing.assert_array_equal(smoothed, np.load(tmp_path / "b1.npy"))


@pytest.mark.parametrize("suffix", (*FORMATS, *MORE))
@pytest.mark.parametrize("channels", (1, 3))
@pytest.mark.parametrize("tile", ("1,8,8", "2,3,4", "5,1,2"))
def test_the_tiles_change_no_byte(tmp_path, suffix, channels, tile):
    if suffix in NO_CHANNELS:
        channels = 1
    layer = ("--weights", filters(tmp_path, channels), "--padding", 1, "--stride", "1,2,1", "-q")
    source = make_volume(tmp_path / f"a{suffix}", noise(*SIZE))
    whole, tiled = tmp_path / f"whole{suffix}", tmp_path / f"tiled{suffix}"
    ok("apply", source, "-o", whole, "--tile", "99", *layer)
    ok("apply", source, "-o", tiled, "--tile", tile, *layer)
    assert written(tiled) == written(whole)


@pytest.mark.parametrize("channels", (1, 2))
@pytest.mark.parametrize("suffix", (*FORMATS, *MORE))
def test_the_tiles_change_no_byte_of_a_batch(tmp_path, suffix, channels):
    if channels == 2 and suffix in NO_BOTH:
        pytest.skip("holds a batch or channels")
    layer = ("--weights", filters(tmp_path, channels), "--in-channels", 1, "-q")
    axes = () if suffix in OWN_AXES else ("--axes", "NDHW")
    source = make_volume(tmp_path / f"a{suffix}", noise(3, *SIZE))
    whole, tiled = tmp_path / f"whole{suffix}", tmp_path / f"tiled{suffix}"
    ok("apply", source, "-o", whole, *axes, "--tile", "99", *layer)
    ok("apply", source, "-o", tiled, *axes, "--tile", "1,2,3", *layer)
    assert written(tiled) == written(whole)
    # a NIfTI of N and C is (x, y, z, N, C), others (N, C, D, H, W), or (N, D, H, W) of one channel
    both = (2, 3) if suffix in NIFTI else (3, 2)
    assert read_volume(tiled).shape == ((3, 3, 4, 5) if channels == 1 else (*both, 3, 4, 5))


@pytest.mark.parametrize("suffix", (*FORMATS, *MORE))
def test_the_same_run_writes_the_same_bytes(tmp_path, suffix):
    source = make_volume(tmp_path / f"a{suffix}", noise(*SIZE))
    weights = filters(tmp_path, 1 if suffix in NO_CHANNELS else 3)
    command = ("apply", source, "-o", tmp_path / f"b{suffix}", "--weights", weights, "-q", "--overwrite")
    ok(*command)
    first = written(tmp_path / f"b{suffix}")
    ok(*command)
    assert written(tmp_path / f"b{suffix}") == first


@pytest.mark.parametrize("suffix", (*FORMATS, *MORE))
def test_one_voxel_is_a_volume(tmp_path, suffix):
    ok("apply", make_volume(tmp_path / f"a{suffix}", noise(1, 1, 1)), "-o", tmp_path / f"b{suffix}", *IDENTITY)
    np.testing.assert_array_equal(read_volume(tmp_path / f"b{suffix}"), noise(1, 1, 1))


def extremes(dtype):
    """Return a volume that holds the smallest and largest value of a type that float64 holds too."""
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    volume = np.arange(24).reshape(2, 3, 4).astype(dtype)
    volume[0, 0, 0], volume[0, 0, 1] = limits.min, limits.max
    if np.dtype(dtype).itemsize == 8 and np.dtype(dtype).kind in "iu":
        volume[0, 0, 1] = limits.max // 2 + 1
    return volume


@pytest.mark.parametrize("suffix", (".nii", ".nii.gz", ".nii.zst", ".img", ".h5", ".npy", ".zarr"))
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", (*INTEGERS, "f4", "f8"))
def test_every_stored_type_is_read_in_either_byte_order(tmp_path, code, order, suffix):
    volume = extremes(code)
    if suffix in NIFTI:
        source = make_nifti(tmp_path / f"a{suffix}", volume.T, sform=np.eye(4), endianness=order)
    else:
        source = make_volume(tmp_path / f"a{suffix}", volume.astype(volume.dtype.newbyteorder(order)))
    ok("apply", source, "-o", tmp_path / "b.npy", "--out-dtype", "float64", *IDENTITY)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), volume.astype(np.float64))


@pytest.mark.parametrize("suffix", (".h5", ".npy", ".zarr"))
@pytest.mark.parametrize("code", ("f2", "?"))
def test_half_floats_and_booleans_are_read_where_the_format_has_them(tmp_path, code, suffix):
    volume = (np.arange(24).reshape(2, 3, 4) % 3).astype(code)
    source = make_volume(tmp_path / f"a{suffix}", volume)
    ok("apply", f"{source}:/data" if suffix == ".h5" else source, "-o", tmp_path / "b.npy", *IDENTITY)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), volume.astype(np.float32))


@pytest.mark.parametrize("suffix", (".nii", ".nii.gz", ".nii.zst", ".img", ".h5", ".npy", ".zarr"))
@pytest.mark.parametrize("name", ("uint8", "int16", "uint16", "int32", "int64", "float64"))
def test_output_types_are_stored_as_such(tmp_path, suffix, name):
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    source = make_volume(tmp_path / "a.npy", volume)
    ok("apply", source, "-o", tmp_path / f"b{suffix}", "--out-dtype", name, *IDENTITY)
    result = read_volume(tmp_path / f"b{suffix}")
    assert result.dtype == np.dtype(name)
    np.testing.assert_array_equal(result, volume)
    if suffix in NIFTI:
        header = nifti_header(tmp_path / f"b{suffix}")
        assert (header["scl_slope"], header["scl_inter"]) == (1, 0)


@pytest.mark.parametrize(("suffix", "name"), [(one, name) for one, names in INTEGER_TYPES.items() for name in names])
def test_integer_types_are_written_and_read_as_such(tmp_path, suffix, name):
    volume = extremes(name)
    source = make_volume(tmp_path / f"a{suffix}", volume)
    ok("apply", source, "-o", tmp_path / "b.npy", "--out-dtype", "float64", *IDENTITY)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), volume)
    options = ("--dtype", "float64", "--out-dtype", name, *IDENTITY)
    ok("apply", make_volume(tmp_path / "c.npy", volume), "-o", tmp_path / f"d{suffix}", *options)
    result = read_volume(tmp_path / f"d{suffix}")
    assert result.dtype.newbyteorder("=") == np.dtype(name)
    np.testing.assert_array_equal(result, volume)


@pytest.mark.parametrize("suffix", INTEGER_TYPES)
def test_a_type_that_a_format_has_not_is_refused_with_those_it_has(tmp_path, suffix):
    source = make_volume(tmp_path / "a.npy", noise(*SIZE))
    result = run(
        "apply",
        source,
        "-o",
        tmp_path / f"b{suffix}",
        "--out-dtype",
        "float16" if suffix != ".mrc" else "float64",
        *IDENTITY,
    )
    assert result.code == 2
    assert all(name in result.err for name in ("float32", *INTEGER_TYPES[suffix]))


@pytest.mark.parametrize("suffix", NO_BOTH)
def test_a_batch_of_channels_is_refused_where_the_format_cannot_hold_it(tmp_path, suffix):
    source = make_volume(tmp_path / "a.npy", noise(2, 3, *SIZE))
    result = run("apply", source, "-o", tmp_path / f"b{suffix}", *IDENTITY)
    assert result.code == 5
    assert "2 volumes of 3 channels" in result.err


@pytest.mark.parametrize("suffix", NO_CHANNELS)
def test_channels_are_refused_where_the_format_has_none(tmp_path, suffix):
    source = make_volume(tmp_path / "a.npy", noise(3, *SIZE))
    result = run("apply", source, "-o", tmp_path / f"b{suffix}", *IDENTITY)
    assert (result.code, "3 channels" in result.err) == (5, True)
    assert not (tmp_path / f"b{suffix}").exists()


def test_every_out_dtype_of_npy(tmp_path):
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    source = make_volume(tmp_path / "a.npy", volume)
    for name in ("float16", "int8", "uint32", "uint64"):
        ok("apply", source, "-o", tmp_path / "b.npy", "--out-dtype", name, "--overwrite", *IDENTITY)
        result = np.load(tmp_path / "b.npy")
        assert result.dtype == np.dtype(name)
        np.testing.assert_array_equal(result, volume)


class TestNpy:
    def test_fortran_order_is_read(self, tmp_path):
        volume = noise(*SIZE)
        source = make_volume(tmp_path / "a.npy", np.asfortranarray(volume))
        assert b"'fortran_order': True" in source.read_bytes()
        ok("apply", source, "-o", tmp_path / "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), volume)

    @pytest.mark.parametrize("version", ((1, 0), (2, 0), (3, 0)))
    def test_every_header_version_is_read(self, tmp_path, version):
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array(file, noise(*SIZE), version)
        ok("apply", tmp_path / "a.npy", "-o", tmp_path / "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))

    def test_bytes_after_the_array_do_no_harm(self, tmp_path):
        (tmp_path / "a.npy").write_bytes(npy_bytes(noise(*SIZE)) + b"more")
        ok("apply", tmp_path / "a.npy", "-o", tmp_path / "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))

    @pytest.mark.parametrize("rank", (3, 4, 5))
    def test_the_rank_is_kept(self, tmp_path, rank):
        volume = noise(*(2, 3, *SIZE)[5 - rank :])
        ok("apply", make_volume(tmp_path / "a.npy", volume), "-o", tmp_path / "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), volume)

    def test_a_rank_that_cannot_hold_the_result_becomes_five(self, tmp_path):
        layer = ("--out-channels", 2, "--kernel-size", 1, "-q")
        ok(
            "apply",
            make_volume(tmp_path / "a.npy", noise(3, *SIZE)),
            "-o",
            tmp_path / "b.npy",
            "--axes",
            "NDHW",
            *layer,
        )
        assert np.load(tmp_path / "b.npy").shape == (3, 2, *SIZE)


class TestHdf5:
    @pytest.mark.parametrize("colon", (":", "::"))
    @pytest.mark.parametrize("inner", ("/raw/deep/data", "raw/deep/data"))
    def test_a_nested_dataset_by_either_colon(self, tmp_path, colon, inner):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["raw/deep/data"] = noise(*SIZE)
            file["other"] = np.zeros(SIZE, np.float32)
        ok("apply", f"{tmp_path}/a.h5{colon}{inner}", "-o", f"{tmp_path}/b.hdf5{colon}/out/{inner}", *IDENTITY)
        with h5py.File(tmp_path / "b.hdf5", "r") as file:
            np.testing.assert_array_equal(file["out/raw/deep/data"][()], noise(*SIZE))

    def test_the_only_volume_is_found_among_other_datasets(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["group/volume"] = noise(*SIZE)
            file["group/table"] = noise(3, 4)
            file["name"] = "a scan"
        ok("apply", tmp_path / "a.h5", "-o", tmp_path / "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))

    @pytest.mark.parametrize(
        "storage",
        (
            {},
            {"chunks": (2, 3, 4)},
            {"chunks": (2, 3, 4), "compression": "gzip", "compression_opts": 7, "shuffle": True},
            {"chunks": (5, 6, 7), "compression": "lzf"},
        ),
        ids=("contiguous", "chunked", "gzip", "lzf"),
    )
    def test_the_storage_of_the_input_is_kept(self, tmp_path, storage):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            before = file.create_dataset("data", data=noise(*SIZE), **storage)
            expected = (before.chunks, before.compression, before.compression_opts, before.shuffle)
        ok("apply", tmp_path / "a.h5", "-o", tmp_path / "b.h5", *IDENTITY)
        with h5py.File(tmp_path / "b.h5", "r") as file:
            after = file["data"]
            assert (after.chunks, after.compression, after.compression_opts, after.shuffle) == expected
            np.testing.assert_array_equal(after[()], noise(*SIZE))

    def test_checksums_and_a_user_block_are_read(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
            file.create_dataset("data", data=noise(*SIZE), chunks=(2, 3, 4), compression="gzip", fletcher32=True)
        ok("apply", tmp_path / "a.h5", "-o", tmp_path / "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))

    def test_a_soft_link_in_the_file_is_followed(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["data"] = noise(*SIZE)
            file["link"] = h5py.SoftLink("/data")
            file["loop"] = h5py.SoftLink("/")
        ok("apply", f"{tmp_path}/a.h5:/link", "-o", tmp_path / "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))


class TestNifti:
    @pytest.mark.parametrize("suffix", (".nii", ".nii.gz", ".hdr"))
    @pytest.mark.parametrize(
        ("slope", "inter", "applied"),
        (
            (0.5, -10.0, (0.5, -10.0)),
            (-2.0, 3.0, (-2.0, 3.0)),
            (1.0, 5.0, (1.0, 5.0)),
            (0.0, 7.0, (1.0, 0.0)),
            (np.nan, 7.0, (1.0, 0.0)),
            (np.inf, 7.0, (1.0, 0.0)),
        ),
    )
    def test_scaled_integers(self, tmp_path, suffix, slope, inter, applied):
        stored = np.arange(-12, 12, dtype=np.int16).reshape(4, 3, 2)
        source = make_nifti(tmp_path / f"a{suffix}", stored, sform=np.eye(4), scaling=(slope, inter))
        ok("apply", source, "-o", tmp_path / f"b{suffix}", *IDENTITY)
        image = nib.load(tmp_path / f"b{suffix}")
        np.testing.assert_array_equal(np.asarray(image.dataobj), stored * applied[0] + applied[1])
        assert image.header.get_data_dtype() == np.float32

    def test_a_scaled_integer_is_scaled_before_it_is_padded_and_summed(self, tmp_path):
        stored = np.ones((3, 3, 3), np.int16)
        source = make_nifti(tmp_path / "a.nii", stored, sform=np.eye(4), scaling=(2.0, 10.0))
        weights = save_weights(tmp_path / "w.npz", np.ones((1, 1, 3, 3, 3), np.float32))
        ok("apply", source, "-o", tmp_path / "b.npy", "--weights", weights, "--padding", 1, "-q")
        assert np.load(tmp_path / "b.npy")[0, 0, 0] == 8 * 12

    @pytest.mark.parametrize("suffix", (".nii", ".nii.gz", ".hdr"))
    def test_a_nifti_2_stays_one(self, tmp_path, suffix):
        affine = np.diag([2.0, 3.0, 4.0, 1.0])
        source = make_nifti(tmp_path / f"a{suffix}", noise(*SIZE).T, sform=affine, version=2)
        ok("apply", source, "-o", tmp_path / f"b{suffix}", *IDENTITY)
        image = nib.load(tmp_path / f"b{suffix}")
        assert int(image.header["sizeof_hdr"]) == 540
        np.testing.assert_array_equal(image.affine, affine)
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, noise(*SIZE))

    def test_an_axis_too_long_for_nifti_1_makes_a_nifti_2(self, tmp_path):
        source = make_volume(tmp_path / "a.npy", np.zeros((1, 1, 32768), np.float32))
        ok("apply", source, "-o", tmp_path / "b.nii", *IDENTITY)
        assert int(nib.load(tmp_path / "b.nii").header["sizeof_hdr"]) == 540
        ok("apply", source, "-o", tmp_path / "c.nii", "--stride", "1,1,2", *IDENTITY)
        assert int(nib.load(tmp_path / "c.nii").header["sizeof_hdr"]) == 348

    @pytest.mark.parametrize("suffix", (".nii", ".nii.gz"))
    def test_extensions_are_kept(self, tmp_path, suffix):
        extensions = [Nifti1Extension("comment", b"first of two"), Nifti1Extension("afni", b"<xml/>" * 20)]
        source = make_nifti(tmp_path / f"a{suffix}", noise(*SIZE).T, sform=np.eye(4), extensions=extensions)
        ok("apply", source, "-o", tmp_path / f"b{suffix}", *IDENTITY)
        image = nib.load(tmp_path / f"b{suffix}")
        found = [(one.get_code(), one.get_content().rstrip(b"\0")) for one in image.header.extensions]
        assert found[:-1] == [(6, b"first of two"), (4, b"<xml/>" * 20)]
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, noise(*SIZE))

    @pytest.mark.parametrize("offset", (353, 356, 1000))
    def test_voxels_that_begin_later(self, tmp_path, offset):
        plain = make_nifti(tmp_path / "p.nii", noise(*SIZE).T, sform=np.eye(4)).read_bytes()
        moved = bytearray(plain[:352])
        moved[108:112] = np.float32(offset).tobytes()
        (tmp_path / "a.nii").write_bytes(bytes(moved) + bytes(offset - 352) + plain[352:])
        ok("apply", tmp_path / "a.nii", "-o", tmp_path / "b.npy", *IDENTITY)
        np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))

    def test_several_gzip_members_are_one_file(self, tmp_path):
        plain = make_nifti(tmp_path / "p.nii", noise(*SIZE).T, sform=np.eye(4)).read_bytes()
        for cut in (100, 352, 700):
            (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain[:cut]) + gzip.compress(plain[cut:]) + bytes(64))
            ok("apply", tmp_path / "a.nii.gz", "-o", tmp_path / "b.npy", "--overwrite", *IDENTITY)
            np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))

    def test_the_first_bytes_say_what_is_compressed_not_the_name(self, tmp_path):
        plain = make_nifti(tmp_path / "p.nii", noise(*SIZE).T, sform=np.eye(4)).read_bytes()
        (tmp_path / "plain.nii.gz").write_bytes(plain)
        (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
        for name in ("plain.nii.gz", "packed.nii"):
            ok("apply", tmp_path / name, "-o", tmp_path / "b.npy", "--overwrite", *IDENTITY)
            np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))

    def test_a_gz_output_is_gzip_without_a_clock_or_a_name(self, tmp_path):
        ok("apply", make_volume(tmp_path / "a.npy", noise(*SIZE)), "-o", tmp_path / "b.nii.gz", *IDENTITY)
        data = (tmp_path / "b.nii.gz").read_bytes()
        assert data[:3] == b"\x1f\x8b\x08"
        assert data[3] == 0, "no flags: no name, no comment"
        assert data[4:8] == bytes(4), "no time"

    def test_either_file_of_a_pair_names_it(self, tmp_path):
        make_nifti(tmp_path / "a.hdr", noise(*SIZE).T, sform=np.eye(4))
        for name in ("a.hdr", "a.img"):
            ok("apply", tmp_path / name, "-o", tmp_path / "b.npy", "--overwrite", *IDENTITY)
            np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), noise(*SIZE))

    def test_three_components_are_three_channels(self, tmp_path):
        vectors = noise(*SIZE[::-1], 1, 3)
        source = make_nifti(
            tmp_path / "a.nii", vectors, sform=np.eye(4), edit=lambda header: header.set_intent("vector")
        )
        ok("apply", source, "-o", tmp_path / "b.nii", *IDENTITY)
        np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "b.nii").dataobj), vectors[..., 0, :])
        ok("apply", source, "-o", tmp_path / "c.nii", "--out-channels", 1, "--kernel-size", 1, "-q")
        assert nib.load(tmp_path / "c.nii").shape == SIZE[::-1]
