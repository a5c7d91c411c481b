"""Small valid files of every format, each as bytes that the fuzzers damage and pack."""

import gzip
import io
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Extension

from lucid_cli.formats.mrc import HEADER as mrc_header  # noqa: N811
from tests.cli.conftest import make_nifti, npy_bytes

VOLUME = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
QUARTER_TURN = np.array([[0, -2, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1.0]])
NOTE = Nifti1Extension(6, b"damaged on purpose")


def nifti() -> list[bytes]:
    """Return single files: both versions and byte orders, with time, channels, scaling and extensions."""
    variants: list[tuple[Any, dict[str, Any]]] = [
        (VOLUME, {"sform": np.eye(4), "qform": QUARTER_TURN}),
        (VOLUME.astype(np.float32), {"endianness": ">", "scaling": (2.0, 1.0), "extensions": [NOTE, NOTE]}),
        (VOLUME.astype(np.uint8)[..., np.newaxis].repeat(2, 3), {"qform": QUARTER_TURN}),
        (VOLUME.astype(np.float64), {"version": 2, "sform": QUARTER_TURN, "extensions": [NOTE]}),
        (VOLUME[..., np.newaxis, np.newaxis].repeat(2, 4), {"version": 2, "endianness": ">", "scaling": (0.5, 0.0)}),
    ]
    return [_written(".nii", make_nifti, stored, **said)[0] for stored, said in variants]


def pairs() -> list[tuple[bytes, bytes]]:
    """Return headers and voxels that lie in two files."""
    variants: list[tuple[Any, dict[str, Any]]] = [
        (VOLUME, {"sform": QUARTER_TURN}),
        (VOLUME.astype(np.float32), {"endianness": ">", "scaling": (2.0, 1.0)}),
        (VOLUME.astype(np.uint8), {"version": 2, "qform": QUARTER_TURN}),
    ]
    found = [_written(".hdr", make_nifti, stored, **said) for stored, said in variants]
    return [(header, voxels) for header, voxels in found]


def mgh() -> list[bytes]:
    """Return files of one frame and of two, with a place in the world and without."""

    def make(path: Path, stored: Any, good: bool) -> None:
        image = nib.MGHImage(stored, QUARTER_TURN)
        image.header["goodRASFlag"] = good
        nib.save(image, path)

    kinds = [(VOLUME, True), (VOLUME.astype(np.float32)[..., np.newaxis].repeat(2, 3), True), (VOLUME, False)]
    return [_written(".mgh", make, *one)[0] for one in kinds]


META = (
    "ObjectType = Image\nNDims = 3\nTransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset = 5 6 7\nElementSpacing = 1 2 3\n"
    "DimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)


def metaimage() -> list[bytes]:
    """Return files with their voxels: plain, big-endian with a series, of three channels, and compressed."""
    series = META.replace("NDims = 3", "BinaryDataByteOrderMSB = True\nHeaderSize = -1\nNDims = 4")
    series = series.replace("4 3 2", "4 3 2 1").replace("1 2 3\n", "1 2 3 1\n").replace("5 6 7", "5 6 7 0")
    series = series.replace("0 1 0 -1 0 0 0 0 1", "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1")
    vectors = META.replace("DimSize", "ElementNumberOfChannels = 3\nDimSize").replace("MET_SHORT", "MET_UCHAR")
    packed = META.replace("NDims", "CompressedData = True\nNDims")
    return [
        META.encode() + VOLUME.tobytes(),
        series.encode() + VOLUME.astype(">i2").tobytes(),
        vectors.encode() + VOLUME.astype(np.uint8).repeat(3).tobytes(),
        packed.encode() + zlib.compress(VOLUME.tobytes()),
    ]


NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 4 3 2\n"
    "space directions: (1,0,0) (0,2,0) (0,0,3)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
    "space origin: (1,2,3)\n\n"
)


def nrrd() -> list[bytes]:
    """Return files with their voxels: plain, of three channels and a series, and compressed."""
    vectors = NRRD.replace("dimension: 3", "dimension: 5").replace("4 3 2", "3 4 3 2 1").replace("short", "uint8")
    vectors = vectors.replace("directions: ", "directions: none ").replace("(0,0,3)", "(0,0,3) none")
    vectors = vectors.replace("kinds: domain domain domain", "kinds: vector domain domain domain list")
    lines = [line for line in NRRD.splitlines(keepends=True) if not line.startswith(("space", "kinds"))]
    bare = "".join([*lines[:-1], "spacings: 1 2 3\nbyte skip: -1\nkey:=value\n\n"])
    return [
        NRRD.encode() + VOLUME.tobytes(),
        vectors.encode() + VOLUME.astype(np.uint8).repeat(3).tobytes(),
        bare.encode() + VOLUME.tobytes(),
        NRRD.replace("raw", "gzip").encode() + gzip.compress(VOLUME.tobytes(), mtime=0),
    ]


def tiff() -> list[bytes]:
    """Return stacks of ImageJ and OME, plain, big-endian and compressed, and pages that name no axes."""
    import tifffile

    def make(path: Path, stored: Any, options: dict[str, Any]) -> None:
        tifffile.imwrite(path, stored, photometric="minisblack", **options)

    said = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    ome = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 1.0, "PhysicalSizeZ": 2.0, "UUID": "urn:uuid:1-1"}
    variants = [
        (VOLUME.astype(np.float32), {"imagej": True, "resolution": (2, 2), "metadata": said}),
        (VOLUME, {"ome": True, "metadata": ome}),
        (VOLUME, {"byteorder": ">", "metadata": None, "bigtiff": True}),
        (VOLUME, {"compression": "zlib", "predictor": False, "metadata": None}),
    ]
    return [_written(".tif", make, *one)[0] for one in variants]


def mrc() -> list[bytes]:
    """Return a volume, a big-endian one with an extended header, and a stack of volumes."""
    header = np.zeros(1, mrc_header)
    header["n"], header["m"], header["cell"] = [4, 3, 2], [4, 3, 2], [4, 6, 6]
    header["mode"], header["axes"], header["angles"], header["group"] = 1, [2, 1, 3], 90, 1
    header["map"], header["stamp"] = b"MAP ", [0x44, 0x44, 0, 0]
    plain = header.tobytes() + VOLUME.tobytes()
    header["group"], header["m"] = 401, [4, 3, 1]
    stack = header.tobytes() + VOLUME.tobytes()
    header["stamp"], header["extended"], header["group"] = [0x11, 0x11, 0, 0], 80, 1
    swapped = header.astype(mrc_header.newbyteorder(">")).tobytes() + bytes(80) + VOLUME.astype(">i2").tobytes()
    return [plain, stack, swapped]


def dicom() -> list[bytes]:
    """Return a slice with its place, and frames with theirs and without."""
    from tests.cli.test_dicom import header, multiframe, place

    def make(path: Path, found: Any) -> None:
        found.save_as(path, enforce_file_format=True)

    fields = {"RescaleSlope": 2, "RescaleIntercept": -5, **place(QUARTER_TURN, 0)}
    found = [header(VOLUME[0], **fields), multiframe(VOLUME, QUARTER_TURN), header(VOLUME, NumberOfFrames=2)]
    return [_written(".dcm", make, one)[0] for one in found]


def minc() -> list[bytes]:
    """Return files of both versions that nibabel brings; none where it does not."""
    folder = Path(nib.__file__).parent / "tests" / "data"
    return [
        path.read_bytes() for name in ("minc1_1_scale", "minc2_1_scale") if (path := folder / f"{name}.mnc").exists()
    ]


def npy(rank: int) -> list[bytes]:
    """Return arrays of three axes and of `rank`, both orders, and the other versions of the format."""
    most = VOLUME.reshape((1,) * (rank - 3) + VOLUME.shape).astype(np.float32)
    later = io.BytesIO()
    np.lib.format.write_array(later, most.astype(">f8"), version=(2, 0))
    return [npy_bytes(VOLUME), npy_bytes(most), npy_bytes(np.asfortranarray(most.astype(np.float16))), later.getvalue()]


def hdf5(names: tuple[str, ...]) -> list[bytes]:
    """Return files that hold the first of these datasets, or all: plain, chunked, compressed, with attributes."""

    def make(path: Path, options: dict[str, Any], version: str, held: tuple[str, ...]) -> None:
        with h5py.File(path, "w", libver=version) as file:
            for name in held:
                dataset = file.create_dataset(name, data=VOLUME if name == names[0] else np.ones(1), **options)
                dataset.attrs["element_size_um"] = [2.0, 1.0, 0.5]
                dataset.attrs["units"] = "mm"
                dataset.attrs["affine"] = np.eye(4)
            file[names[0]].attrs.update({"note": b"x", "kind": np.array([(1, 2.0)], "i4,f8"), "none": h5py.Empty("f4")})

    packed = {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True}
    variants = [
        ({}, "earliest", names[:1]),
        ({}, "latest", names),
        (packed, "earliest", names),
        (packed, "latest", names[:1]),
        ({"chunks": True, "compression": "lzf"}, "earliest", names[:1]),
    ]
    return [_written(".h5", make, *variant)[0] for variant in variants]


def safetensors() -> list[bytes]:
    """Return files of one and two tensors."""
    weight, bias = np.ones((2, 1, 3, 3, 3), np.float32), np.ones(2, np.float32)
    from safetensors.numpy import save

    return [save({"weight": weight}), save({"weight": weight, "bias": bias}, {"from": "here"})]


def onnx() -> list[bytes]:
    """Return models of one and two tensors, with values packed and listed."""
    import onnx

    weight, bias = np.ones((2, 1, 3, 3, 3), np.float32), np.ones(2, np.float32)
    packed = [onnx.numpy_helper.from_array(array, name) for name, array in (("weight", weight), ("bias", bias))]
    listed = [onnx.helper.make_tensor("weight", onnx.TensorProto.DOUBLE, (1, 1, 1, 2, 2), [1.0, 2, 3, 4])]
    graphs = [onnx.helper.make_graph([], "g", [], [], tensors) for tensors in (packed[:1], packed, listed)]
    return [onnx.helper.make_model(graph).SerializeToString() for graph in graphs]


def table() -> list[bytes]:
    """Return tables of numbers in every spelling."""
    return [b"1,2,3\n4,5,6\n", b"# taps\n1 2\n3 4\n\n5 6\n7 8\n", b"1;-2e-3\n.5;4.\n", b"\xef\xbb\xbf0\r\n1\r\n"]


def yaml() -> list[bytes]:
    """Return the configurations that come with the project, and one of all kinds of values."""
    folder = Path(__file__).parents[2] / "configs"
    mixed = (
        "kernel-size: [3, 3, 1]\nlayer:\n  stride: 2\n  bias: true\nrun: {threads: 2, max_memory: 1GiB}\nsigma: 1.5mm\n"
    )
    return [mixed.encode(), *(path.read_bytes() for path in sorted(folder.glob("*.yaml")))]


def _written(suffix: str, make: Callable[..., Any], *args: Any, **options: Any) -> list[bytes]:
    """Return the files, in the order of their names, that a function writes at a path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        if make is make_nifti:
            make(path, *args, **options)
        else:
            make(path, *args)
        return [one.read_bytes() for one in sorted(Path(folder).iterdir())]
