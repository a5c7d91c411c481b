"""NIfTI headers: read with every field checked, and carried to an output.

Follows the NIfTI-1 and NIfTI-2 definitions (nifti1.h, nifti2.h). nibabel holds the fields; the checks are here,
because it repairs or accepts some of what must not pass silently.
"""

import io
import math
from typing import IO, Any

import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Extensions, Nifti1Header, Nifti1PairHeader, data_type_codes
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError

from lucid_cli.failures import looks_like
from lucid_cli.planes import read_exactly, reading
from lucid_cli.provenance import parse
from lucid_cli.talk import silent
from lucid_cli.volumes import Placement, Target
from lucid_core import __version__
from lucid_core.errors import InputError
from lucid_core.geometry import Affine, grid_transform, is_usable, rescale

_CLASSES = {
    (348, True): Nifti1Header,
    (348, False): Nifti1PairHeader,
    (540, True): Nifti2Header,
    (540, False): Nifti2PairHeader,
}
_MAGIC = {
    348: (344, (b"n+1\0", b"ni1\0")),
    540: (4, (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")),
}
"""Where the magic of a header of this size stands, for one file and for a pair."""

MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3}
LARGEST_DIM = 32767
"""Largest size of an axis in NIfTI-1."""
MOST_EXTENSION_BYTES = 64 << 20
FIELDS = (
    "dim_info",
    "intent_code",
    "intent_p1",
    "intent_p2",
    "intent_p3",
    "intent_name",
    "slice_code",
    "slice_start",
    "slice_end",
    "slice_duration",
    "toffset",
    "cal_min",
    "cal_max",
    "descrip",
    "aux_file",
)
"""Fields that are no shape, datatype, scaling or place, and that NIfTI has not left over from ANALYZE."""
COMMENT = 6
"""Code of the extension that holds a comment: how an output was made, for one."""

Header = Any
"""A nibabel NIfTI header: the package has no types."""


def read_header(stream: IO[bytes], name: str) -> Header:
    """Read and check a header, extensions included, leaving a single file's stream at its first voxel."""
    with reading(name):
        start = stream.read(4)
    size = next((n for n in _MAGIC if start in (n.to_bytes(4, "little"), n.to_bytes(4, "big"))), 0)
    if not size:
        raise InputError(f"{name}: not a NIfTI file{looks_like(start)}")
    block = bytearray(size)
    block[:4] = start
    read_exactly(stream, memoryview(block)[4:], name)
    at, magics = _MAGIC[size]
    magic = bytes(block[at : at + len(magics[0])])
    if magic not in magics:
        raise InputError(f"{name}: not a NIfTI file: its magic is {magic!r}, legal: {magics[0]!r}, {magics[1]!r}")
    single = magic == magics[0]
    endianness = "<" if start == size.to_bytes(4, "little") else ">"
    header = _CLASSES[size, single](bytes(block), endianness, check=False)
    _read_extensions(stream, header, size, name)
    return header


@silent()
def _read_extensions(stream: IO[bytes], header: Header, size: int, name: str) -> None:
    """Read what stands between the header and the voxels, or behind the header of a pair."""
    offset = data_offset(header, name)
    if header.is_single and offset - size > MOST_EXTENSION_BYTES:
        raise InputError(f"{name}: vox_offset is {offset}, legal: at most {MOST_EXTENSION_BYTES} bytes of extensions")
    with reading(name):
        extra = stream.read(offset - size if header.is_single else MOST_EXTENSION_BYTES)
    if header.is_single and len(extra) < offset - size:
        raise InputError(f"{name}: the file is cut short: its voxels should begin at {offset}")
    if len(extra) < 16 or extra[0] == 0:
        return
    try:
        header.extensions = Nifti1Extensions.from_fileobj(
            io.BytesIO(extra[4:]), len(extra) - 4, header.endianness == ">"
        )
    except Exception as error:
        raise InputError(f"{name}: a header extension is damaged: {error}") from error


def data_offset(header: Header, name: str) -> int:
    """Return where the voxels begin in their file."""
    value = float(header["vox_offset"])
    least = int(header["sizeof_hdr"]) + 4 if header.is_single else 0
    if not math.isfinite(value) or value != int(value) or value < least:
        raise InputError(f"{name}: vox_offset is {value:g}, legal: a whole number of at least {least}")
    return int(value)


def shape(header: Header, name: str) -> tuple[int, ...]:
    """Return the sizes (x, y, z, ...) of three to five axes; axes of size 1 beyond these are dropped."""
    count = int(header["dim"][0])
    sizes = [int(size) for size in header["dim"][1 : max(count, 0) + 1]]
    if not 1 <= count <= 7 or any(size < 1 for size in sizes):
        raise InputError(f"{name}: dim is {header['dim'].tolist()}: 1 to 7 axes with sizes of at least 1 are legal")
    while len(sizes) > 5 and sizes[-1] == 1:
        sizes.pop()
    if not 3 <= len(sizes) <= 5:
        raise InputError(f"{name}: a volume has 3, 4 or 5 axes, this file has {len(sizes)}: {sizes}")
    return tuple(sizes)


def stored_dtype(header: Header, name: str) -> np.dtype[Any]:
    """Return the type of the stored values in the file's byte order."""
    code = int(header["datatype"])
    try:
        dtype = np.dtype(header.get_data_dtype())
    except Exception as error:
        raise InputError(f"{name}: datatype {code} is not known") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        label = data_type_codes.label[code]
        raise InputError(f"{name}: datatype {code} ({label}) is no real number of 8 to 64 bits, and is not supported")
    return dtype


def scaling(header: Header, name: str) -> tuple[float, float] | None:
    """Return slope and inter where stored values are scaled: a slope of 0, NaN or Inf means they are not."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return None
    if not math.isfinite(inter):
        raise InputError(f"{name}: scl_slope is {slope:g}, but scl_inter is {inter}: the scaling is not defined")
    return None if (slope, inter) == (1.0, 0.0) else (slope, inter)


def units(header: Header) -> tuple[str, str]:
    """Return the names of the spatial and the temporal unit."""
    try:
        spatial, temporal = header.get_xyzt_units()
    except KeyError:
        return "unknown", "unknown"
    return str(spatial), str(temporal)


@silent()
def forms(header: Header, name: str) -> dict[str, Affine]:
    """Return the usable affines among `sform` and `qform`, the one that places the volume first."""
    found = {}
    if int(header["sform_code"]) > 0 and is_usable(header.get_sform()):
        found["sform"] = header.get_sform()
    if int(header["qform_code"]) > 0:
        try:
            qform = header.get_qform()
        except Exception as error:
            raise InputError(f"{name}: the quaternion of the qform is not one of a rotation: {error}") from error
        if is_usable(qform):
            found["qform"] = qform
    return found


def placements(header: Header, name: str) -> dict[str, Placement]:
    """Return sform and qform, in mm, each with its code, and what pixdim alone would be."""
    found, per_unit = forms(header, name), MM_PER_UNIT.get(units(header)[0], 1.0)
    in_mm = np.diag([per_unit, per_unit, per_unit, 1.0])
    steps = np.diag([*np.abs(header["pixdim"][1:4].astype(np.float64)), 1.0])
    return {
        form: Placement(int(header[f"{form}_code"]), in_mm @ found[form] if form in found else None)
        for form in ("sform", "qform")
    } | {"pixdim": Placement(None, in_mm @ steps if is_usable(steps) else None)}


def fields(header: Header, name: str) -> dict[str, Any]:
    """Return `FIELDS`, the steps of axes behind the third, the scaling, and the extensions but comments."""
    found = {field: _until_nul(header[field].item()) for field in FIELDS}
    steps = header["pixdim"][4 : max(int(header["dim"][0]), 3) + 1]
    found |= {f"pixdim[{axis}]": step.item() for axis, step in enumerate(steps, start=4)}
    found["scl_slope, scl_inter"] = scaling(header, name) or (1.0, 0.0)
    kept = [extension for extension in header.extensions if extension.get_code() != COMMENT]
    for number, extension in enumerate(kept, start=1):
        file = io.BytesIO()
        with reading(name):
            extension.write_to(file, False)
        found[f"extension {number}"] = (int(extension.get_code()), file.getvalue()[8:].rstrip(b"\0"))
    return found


def _until_nul(value: Any) -> Any:
    """Return a text as C reads it, and a number as it is."""
    return value.partition(b"\0")[0] if isinstance(value, bytes) else value


@silent()
def output_header(target: Target, source: Header | None, single: bool) -> Header:
    """Return the header of an output: the source's with what changed, or a new one for a source without."""
    size = 540 if max(target.file_shape) > LARGEST_DIM else 348
    header = _CLASSES[max(size, int(source["sizeof_hdr"])) if source else size, single](endianness="<")
    if source:
        for name in header.keys():  # noqa: SIM118 - a header is no mapping
            if name in source.keys() and name not in ("sizeof_hdr", "magic", "vox_offset", "eol_check"):  # noqa: SIM118
                header[name] = source[name]
        header.extensions = Nifti1Extensions(one for one in source.extensions if provenance_of(one) is None)
        _carry_space(header, target)
        _carry_time(header, source, target)
    else:
        _new_space(header, target)
        _new_time(header, target)
    header.set_data_shape(target.file_shape)
    header.set_data_dtype(target.dtype)
    header["scl_slope"], header["scl_inter"] = target.slope, target.inter
    for name in ("cal_max", "cal_min", "intent_code", "intent_p1", "intent_p2", "intent_p3"):
        header[name] = 0
    header["intent_name"] = b""
    header["descrip"] = f"lucid-conv3d {__version__}".encode()
    header["vox_offset"] = 0
    if target.provenance is not None:
        header.extensions.append(Nifti1Extension(COMMENT, target.provenance.encode()))
    return header


def provenance_of(extension: Any) -> dict[str, Any] | None:
    """Return the provenance that an extension holds, None where it is another one."""
    content = extension.get_content() if extension.get_code() == COMMENT else b""
    return parse(content.decode(errors="replace") if isinstance(content, bytes) else str(content))


def _carry_space(header: Header, target: Target) -> None:
    """Carry sform and qform each from its own original, with its code; directions are left as they stand."""
    transform = grid_transform(target.problem)
    if target.input_spacing is not None:
        per_unit = MM_PER_UNIT.get(units(header)[0], 1.0)
        d, h, w = (length / per_unit for length in target.input_spacing)
        header["srow_x"], header["srow_y"], header["srow_z"] = rescale(header.get_sform(), (d, h, w))[:3]
        header["pixdim"][1:4] = w, h, d
    found = forms(header, "the input")
    if "sform" in found:
        header["srow_x"], header["srow_y"], header["srow_z"] = (found["sform"] @ transform)[:3]
    if "qform" in found:
        offset = (found["qform"] @ transform)[:3, 3]
        header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = offset
    header["pixdim"][1:4] *= target.problem.stride[::-1]


def _carry_time(header: Header, source: Header, target: Target) -> None:
    """Drop what says when slices and volumes were taken, where these axes are no longer there."""
    if not (len(target.axes) > 3 and target.axes[3] == "n" and int(source["dim"][0]) > 3):
        header["pixdim"][4:] = 0
        header["toffset"] = 0
        header.set_xyzt_units(units(header)[0], "unknown")
    if target.problem.out_size != target.problem.size:
        for name in ("slice_start", "slice_end", "slice_code", "slice_duration"):
            header[name] = 0


def _new_space(header: Header, target: Target) -> None:
    header.set_xyzt_units("mm", "unknown")
    if target.affine is None:
        if target.spacing is not None:
            header["pixdim"][1:4] = target.spacing[::-1]
        return
    header.set_sform(target.affine, code=2)
    try:
        header.set_qform(target.affine, code=2, strip_shears=False)
    except HeaderDataError:
        header.set_qform(target.affine, code=0)


def _new_time(header: Header, target: Target) -> None:
    step = target.source.time_step() if target.source and target.axes[3:] == "n" else None
    if step is not None:
        header["pixdim"][4] = step
        header.set_xyzt_units(units(header)[0], "sec")


def header_bytes(header: Header) -> bytes:
    """Return a header and its extensions as they stand at the start of the file."""
    file = io.BytesIO()
    header.write_to(file)
    return file.getvalue()
