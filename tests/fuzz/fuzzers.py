"""The fuzzers: what each format's files look like, how they are damaged, and what reads them."""

import gzip
import io
import random
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nibabel.freesurfer.mghformat import header_dtype as mgh
from nibabel.nifti1 import header_dtype as nifti1
from nibabel.nifti2 import header_dtype as nifti2

from lucid_cli.compression import zstandard
from lucid_cli.formats.mrc import HEADER as mrc  # noqa: N811
from tests.fuzz import checks, mutations, seeds
from tests.fuzz.mutations import BYTES, Mutation

Case = dict[str, bytes]
"""The bytes of an input by suffix: two for a pair, else one."""
LONGEST_CUT = 1200
"""Files are cut at every byte up to here, which is behind all headers."""


def _words(text: str) -> list[str]:
    return text.split(" ")


HUGE = ("1" + "0" * 30, "9" * 5000)
NUMBERS = (
    *_words("0 -1 1 2 3 5 07 0x10 1_0 1e3 1.5 1e999 nan 255 65536 2147483648 4294967297"),
    *_words("9223372036854775807 -9223372036854775808"),
    *HUGE,
)
NPY_WORDS = (
    *NUMBERS,
    *_words("( ) [ ] { } , : - None True False 3L 1j 2or 3if lambda b'' '' '\\d' 'descr' 'shape' 'fortran_order'"),
    *_words("'<f4' '>i2' '|O' '<f2' '<f16' '<c8' '|b1' '|V4' '|V0' '<U3' '|S0' '<M8[ns]' '<m8' 'e'"),
    *_words("'f4,f4' '3f4' '(2,3)f4' ('<f4',(2,)) [('a','<f4'),('b','|O')] [('','<f4')]"),
    "(" * 300,
    "-" * 3000,
)
JSON_WORDS = (
    *NUMBERS,
    *_words('{ } [ ] , : null true "" "dtype" "shape" "data_offsets" "weight" "bias" "__metadata__"'),
    *_words('"F32" "F16" "BF16" "F64" "I8" "U64" "BOOL" "F8_E4M3" "C64" "X" "\\u0000" "\\ud800" é'),
    "[" * 300,
)
META_WORDS = (
    *NUMBERS,
    *_words("= \n True False MET_SHORT MET_DOUBLE MET_LONG LOCAL LIST a.raw /dev/zero CompressedData NDims DimSize"),
    *_words("HeaderSize ElementNumberOfChannels ElementSpacing Offset TransformMatrix ElementDataFile \x00 -1 é"),
)
NRRD_WORDS = (
    *NUMBERS,
    *_words("= \n : := none ( , ) (1,0,0) (nan,0,0) double block text gzip raw vector list domain time LPS RAS big"),
    *_words("encoding kinds sizes space directions origin spacings units um data file LIST /dev/zero byte skip line é"),
)
TABLE_WORDS = (*NUMBERS, *_words(", ; # \n \n\n \t \r . - + e inf -nan 1,2 \x00 \ufeff ٣ ½"))
YAML_WORDS = (
    *NUMBERS,
    *_words(": - ? , [ ] { } # & * ! | > ' \" % @ ` ~ null true yes no .inf .nan 1:30 0o7 0b1 2001-01-01"),
    *_words("= << --- ... !!int &a *a layer weights volume run kernel stride padding same kernel_size bias"),
    *_words("sigma fwhm 1mm 2vox 1e400mm max_memory 1GiB 1e400G threads axes compression tile output name"),
    *_words("config set spacing 1,2,3mm \x00 \x85 \ufeff \ud7ff é"),
    *("\n", "\n  ", "\t", ": ", "- "),
    *("[" * 300, "{" * 300, "- " * 300),
)


@dataclass(frozen=True)
class Fuzzer:
    """A format: `pack` makes a file of what a seed holds; damage is done before or behind it."""

    name: str
    suffix: str
    make: Callable[[], Sequence[bytes]]
    check: Callable[[Path], None]
    damages: tuple[Mutation, ...] = BYTES
    pack: Callable[[random.Random, bytes], bytes] | None = None

    @cached_property
    def contents(self) -> list[bytes]:
        """The seeds before they are packed."""
        return list(self.make())

    @cached_property
    def seeds(self) -> list[Case]:
        """Valid files."""
        return [{self.suffix: self._packed(random.Random(0), content)} for content in self.contents]

    def _packed(self, rng: random.Random, content: bytes) -> bytes:
        return self.pack(rng, content) if self.pack else content

    @cached_property
    def cuts(self) -> list[Case]:
        """Every seed, cut short at every byte of its header."""
        return [
            case | {suffix: data[:size]}
            for case in self.seeds
            for suffix, data in case.items()
            for size in range(min(len(data), LONGEST_CUT))
        ]

    def case(self, seed: int, index: int) -> Case:
        """Return the input of this number: every fourth is one of the cuts, as long as there are any."""
        if index % 4 == 0 and index // 4 < len(self.cuts):
            return self.cuts[index // 4]
        return self.damaged(random.Random(f"{self.name}/{seed}/{index}"))

    def damaged(self, rng: random.Random) -> Case:
        """Return a damaged file."""
        content = rng.choice(self.contents)
        if self.pack and rng.random() < 0.4:
            return {
                self.suffix: damage(rng, self._packed(rng, content), BYTES, [one[self.suffix] for one in self.seeds])
            }
        return {self.suffix: self._packed(rng, damage(rng, content, self.damages, self.contents))}


class PairFuzzer(Fuzzer):
    """A header and voxels in two files."""

    @cached_property
    def seeds(self) -> list[Case]:
        """Valid pairs."""
        return [{".hdr": header, ".img": voxels} for header, voxels in seeds.pairs()]

    def damaged(self, rng: random.Random) -> Case:
        """Damage the header, or both files."""
        case, headers = rng.choice(self.seeds), [one[".hdr"] for one in self.seeds]
        found = case | {".hdr": damage(rng, case[".hdr"], self.damages, headers)}
        if rng.random() < 0.2:
            found[".img"] = damage(rng, case[".img"], BYTES, [one[".img"] for one in self.seeds])
        return found


def damage(rng: random.Random, data: bytes, damages: Sequence[Mutation], others: Sequence[bytes]) -> bytes:
    """Damage some bytes in one to five ways."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        data = rng.choice(damages)(rng, data, others)
    return data


_FIRST = mutations.record({name: (at, kind) for name, (kind, at) in nifti1.fields.items()})
_SECOND = mutations.record({name: (at, kind) for name, (kind, at) in nifti2.fields.items()})


def nifti_fields(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Set fields of a header of the version it has; now and then the size and code of its first extension."""
    size, order = len(data) and (348 if 0x5C in (data[0], data[3:4] and data[3]) else 540), rng.choice("<>")
    if rng.random() < 0.1:
        value = struct.pack(
            f"{order}4B2i", 1, 0, 0, 0, rng.choice((-16, 0, 8, 16, 17, 1 << 30)), rng.choice((0, 2, 6, -1))
        )
        return data[:size] + value + data[size + len(value) :]
    return (_FIRST if size == 348 else _SECOND)(rng, data, others)


def npy_header(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change words of the header, and mostly keep its length true."""
    start = 10 if data[6:7] <= b"\1" else 12
    size = min(int.from_bytes(data[8:start], "little"), len(data))
    text = mutations.words(rng, data[start : start + size].decode("latin1").rstrip(), NPY_WORDS)
    header = text.ljust((size if rng.random() < 0.5 else 0) - 1).encode("latin1", "replace") + b"\n"
    length = (len(header) % (1 << 8 * (start - 8))).to_bytes(start - 8, "little")
    return data[:8] + (length if rng.random() < 0.9 else data[8:start]) + header + data[start + size :]


def safetensors_header(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change words of the header, and mostly keep its length true."""
    size = int.from_bytes(data[:8], "little")
    header = mutations.words(rng, data[8 : 8 + size].decode("latin1"), JSON_WORDS).encode("utf-8", "replace")
    return (struct.pack("<Q", len(header)) if rng.random() < 0.9 else data[:8]) + header + data[8 + size :]


def metaimage_header(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change words of the header."""
    end = data.find(b"LOCAL") + 6 or len(data)
    return mutations.words(rng, data[:end].decode("latin1"), META_WORDS).encode("utf-8", "replace") + data[end:]


def nrrd_header(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change words of the header."""
    end = data.find(b"\n\n") + 2
    return mutations.words(rng, data[:end].decode("latin1"), NRRD_WORDS).encode("utf-8", "replace") + data[end:]


def table_words(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change words of a table."""
    return mutations.words(rng, data.decode("utf-8", "replace"), TABLE_WORDS).encode("utf-8", "replace")


def yaml_words(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Change words, and shuffle lines."""
    text = mutations.words(rng, data.decode("utf-8", "replace"), YAML_WORDS)
    if rng.random() < 0.2:
        lines = text.splitlines(keepends=True)
        rng.shuffle(lines)
        text = "".join(lines)
    return text.encode("utf-8", "surrogatepass")


def gzipped(rng: random.Random, data: bytes) -> bytes:
    """Compress in one member or in two."""
    cut = rng.randrange(len(data) + 1) if rng.random() < 0.2 else len(data)
    return b"".join(gzip.compress(part, rng.choice((0, 1, 6)), mtime=0) for part in (data[:cut], data[cut:]) if part)


def zstd(rng: random.Random, data: bytes) -> bytes:
    """Compress in one frame or in two, with a checksum or not."""
    cut, names = rng.randrange(len(data) + 1) if rng.random() < 0.2 else len(data), zstandard().CompressionParameter
    options = {names.checksum_flag: rng.randrange(2)}
    return b"".join(zstandard().compress(part, options=options) for part in (data[:cut], data[cut:]) if part)


def npz(rng: random.Random, data: bytes) -> bytes:
    """Put a weight, and mostly a bias, into an archive."""
    file, kind = io.BytesIO(), rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr("weight.npy", data)
        if rng.random() < 0.7:
            archive.writestr("bias.npy", seeds.npy_bytes(seeds.VOLUME[0, 0, :1]))
    return file.getvalue()


_MGH = (*BYTES, *[mutations.record({name: (at, kind) for name, (kind, at) in mgh.fields.items()})] * 12)
_MRC_FIELDS = mutations.record({name: (at, kind) for name, (kind, at) in mrc.fields.items()})
_MRC = (*BYTES, *[_MRC_FIELDS] * 12)
_NIFTI = (*BYTES, *[nifti_fields] * 12)
_NPY = (*BYTES, *[npy_header] * 8)

FUZZERS = {
    one.name: one
    for one in (
        Fuzzer("nii", ".nii", seeds.nifti, checks.volume, _NIFTI),
        Fuzzer("nii.gz", ".nii.gz", seeds.nifti, checks.volume, _NIFTI, gzipped),
        Fuzzer("nii.zst", ".nii.zst", seeds.nifti, checks.volume, _NIFTI, zstd),
        PairFuzzer("pair", ".hdr", list, checks.volume, _NIFTI),
        Fuzzer("mgh", ".mgh", seeds.mgh, checks.volume, _MGH),
        Fuzzer("mgz", ".mgz", seeds.mgh, checks.volume, _MGH, gzipped),
        Fuzzer("mha", ".mha", seeds.metaimage, checks.volume, (*BYTES, *[metaimage_header] * 12)),
        Fuzzer("nrrd", ".nrrd", seeds.nrrd, checks.volume, (*BYTES, *[nrrd_header] * 12)),
        Fuzzer("tif", ".tif", seeds.tiff, checks.volume),
        Fuzzer("mrc", ".mrc", seeds.mrc, checks.volume, _MRC),
        Fuzzer("map.gz", ".map.gz", seeds.mrc, checks.volume, _MRC, gzipped),
        Fuzzer("dcm", ".dcm", seeds.dicom, checks.volume),
        Fuzzer("mnc", ".mnc", seeds.minc, checks.volume),
        Fuzzer("npy", ".npy", lambda: seeds.npy(5), checks.volume, _NPY),
        Fuzzer("hdf5", ".h5", lambda: seeds.hdf5(("data", "group/other")), checks.volume),
        Fuzzer("weights-npy", ".npy", lambda: seeds.npy(5), checks.weights, _NPY),
        Fuzzer("weights-npz", ".npz", lambda: seeds.npy(5), checks.weights, _NPY, npz),
        Fuzzer("weights-h5", ".h5", lambda: seeds.hdf5(("weight", "bias")), checks.weights),
        Fuzzer(
            "weights-safetensors",
            ".safetensors",
            seeds.safetensors,
            checks.weights,
            (*BYTES, *[safetensors_header] * 8),
        ),
        Fuzzer("weights-onnx", ".onnx", seeds.onnx, checks.weights),
        Fuzzer("weights-csv", ".csv", seeds.table, checks.weights, (*BYTES, *[table_words] * 8)),
        Fuzzer("weights-nii", ".nii", lambda: seeds.nifti()[:4], checks.weights, _NIFTI),
        Fuzzer("yaml", ".yaml", seeds.yaml, checks.configuration, (*BYTES, *[yaml_words] * 16)),
    )
}
