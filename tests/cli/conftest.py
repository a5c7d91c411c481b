"""What the tests of the command line share: running it in this process or as a program, and making its inputs."""

import gzip
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

from lucid_cli import main
from lucid_cli.compression import zstandard

ITK = (".mha", ".mhd", ".nrrd", ".nhdr")
"""Suffixes of files that SimpleITK makes and reads here."""
SIZE = (5, 6, 7)
"""D, H, W of most volumes here."""


@dataclass(frozen=True)
class Result:
    """What a run of the command line left: its exit code and what it printed."""

    code: int
    out: str
    err: str


def run(*args):
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["lucid-conv3d", *map(str, args)]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        code = main._run()
    return Result(code, out.getvalue(), err.getvalue())


def ok(*args):
    """Run the command line in this process and expect it to succeed."""
    result = run(*args)
    assert result.code == 0, result.err
    return result


def program(*args, **options):
    """Start the command line as a program of its own.

    Its coverage is not measured: a signal that comes while coverage holds its lock would make it wait for ever.
    """
    environment = options.pop("env", os.environ)
    return subprocess.Popen(
        [sys.executable, "-m", "lucid_cli", *map(str, args)],
        env={name: value for name, value in environment.items() if not name.startswith("COVERAGE_")},
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options),
    )


def finished(process, timeout=60):
    """Wait for a program and return its `Result`."""
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out or "", err or "")


def contents(folder):
    """Return every entry below a folder with its bytes, None for what is not a file."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(Path(folder).rglob("*"))
    }


def noise(*shape, seed=0, dtype=np.float32):
    """Return reproducible normal numbers."""
    return np.random.default_rng(seed).normal(0, 10, shape).astype(dtype)


def make_nifti(
    path,
    stored,
    *,
    sform=None,
    qform=None,
    codes=(2, 1),
    pixdim=(1.0, 1.0, 1.0),
    scaling=(1.0, 0.0),
    version=1,
    endianness="<",
    extensions=(),
    edit=lambda header: None,
    trailer=b"",
):
    """Write a NIfTI whose stored values are `stored` (x, y, z, ...) and whose header says exactly this.

    `codes` are those of the sform and the qform where these are given; `edit` changes the header last.
    """
    path = Path(path)
    pair = path.suffix in (".hdr", ".img")
    kinds = {
        (1, False): Nifti1Header,
        (1, True): Nifti1PairHeader,
        (2, False): Nifti2Header,
        (2, True): Nifti2PairHeader,
    }
    header = kinds[version, pair](endianness=endianness)
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape)
    header["pixdim"][1:4] = pixdim
    if qform is not None:
        header.set_qform(qform, codes[1])
    if sform is not None:
        header["srow_x"], header["srow_y"], header["srow_z"] = np.asarray(sform)[:3]
        header["sform_code"] = codes[0]
    header["scl_slope"], header["scl_inter"] = scaling
    header.extensions.extend(extensions)
    if not pair:
        header["vox_offset"] = header.single_vox_offset + header.extensions.get_sizeondisk()
    edit(header)
    block = io.BytesIO()
    block.write(header.binaryblock)
    if not pair:
        block.write(b"\1\0\0\0" if extensions else b"\0\0\0\0")
        header.extensions.write_to(block, endianness == ">")
    voxels = stored.astype(stored.dtype.newbyteorder(endianness)).tobytes(order="F")
    if pair:
        path.with_suffix(".hdr").write_bytes(block.getvalue())
        path.with_suffix(".img").write_bytes(voxels)
    else:
        data = block.getvalue() + voxels + trailer
        packed = {".gz": lambda: gzip.compress(data, 1, mtime=0), ".zst": lambda: zstandard().compress(data)}
        path.write_bytes(packed.get(path.suffix, lambda: data)())
    return path


def plain_bytes(path):
    """Return what a file holds, decompressed."""
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data)
    return zstandard().decompress(data) if data[:4] == b"\x28\xb5\x2f\xfd" else data


def make_volume(path, volume):
    """Write a volume (..., D, H, W) in the format of a suffix; a NIfTI or MGH has an affine of 1 mm."""
    path = Path(path)
    if path.suffix == ".npy":
        path.write_bytes(npy_bytes(volume))
    elif path.suffix in (".h5", ".hdf5"):
        with h5py.File(path, "w") as file:
            file["data"] = volume
    elif path.suffix == ".zarr":
        import zarr

        chunks = tuple(min(16, -(-size // 2)) for size in volume.shape)
        zarr.create_array(str(path), data=volume, chunks=chunks, overwrite=True)
    elif path.suffix == ".tif":
        import tifffile

        imagej = not path.name.endswith(".ome.tif")
        options = {"imagej": imagej, "photometric": "minisblack"}
        tifffile.imwrite(path, volume, metadata={"axes": "TZYX"[-volume.ndim :]}, **options)
    elif path.suffix == ".mrc":
        import mrcfile

        with mrcfile.new(path) as file:
            file.set_data(volume)
            if volume.ndim == 3:
                file.set_volume()
    elif path.suffix in (".mgh", ".mgz"):
        nib.save(nib.MGHImage(volume.T, np.eye(4)), path)
    elif path.suffix in ITK:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(volume, isVector=False), str(path))
    else:
        make_nifti(path, volume.T, sform=np.eye(4))
    return path


def npy_bytes(array):
    """Return an array as a `.npy` holds it."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array)
    return file.getvalue()


def read_volume(path):
    """Return the values of a volume (..., D, H, W), scaled, by the format's own library."""
    path = Path(path)
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix in (".h5", ".hdf5"):
        with h5py.File(path, "r") as file:
            return file["data"][()]
    if path.suffix == ".zarr":
        import zarr

        return zarr.open_array(path, mode="r")[...]
    if path.suffix == ".tif":
        import tifffile

        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            found = dict(zip(series.get_axes(False), series.get_shape(False), strict=True))
            array = series.asarray().reshape(list(found.values()))
        axes = "".join(axis for axis, size in found.items() if size > 1 or axis in "ZYX")
        array = array.reshape([found[axis] for axis in axes])
        return np.moveaxis(array, axes.index("C"), axes.index("Z")) if "C" in axes else array
    if path.suffix == ".mrc":
        import mrcfile

        with mrcfile.open(path) as file:
            return file.data.copy()
    if path.suffix in ITK:
        image = SimpleITK.ReadImage(str(path))
        array = SimpleITK.GetArrayFromImage(image)
        return array if image.GetNumberOfComponentsPerPixel() == 1 else np.moveaxis(array, -1, -4)
    if path.suffix == ".zst":
        return np.asarray(nib.Nifti1Image.from_bytes(plain_bytes(path)).dataobj).T
    return np.asarray(nib.load(path).dataobj).T


def nifti_header(path):
    """Return the header of a NIfTI as it stands in the file; nibabel's images forget its scaling."""
    path = Path(path).with_suffix(".hdr") if Path(path).suffix == ".img" else Path(path)
    data = plain_bytes(path)
    version_1 = int.from_bytes(data[:4], "little") == 348
    return Nifti1Header(data[:348], check=False) if version_1 else Nifti2Header(data[:540], check=False)


def save_weights(path, weight, bias=None):
    """Write weights to an `.npz`."""
    np.savez(path, weight=weight, **({} if bias is None else {"bias": bias}))
    return path


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """Take away what the environment says of this program."""
    for name in list(os.environ):
        if name.startswith("LUCID_CONV3D_"):
            monkeypatch.delenv(name)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in an empty folder, so that command lines read as a user writes them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scan(folder):
    """Return a small `scan.npy` in the working folder."""
    return make_volume(folder / "scan.npy", noise(*SIZE))
