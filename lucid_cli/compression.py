"""Compressed streams: what is read forward, and what is written in blocks.

A codec compresses every block by itself, so that several threads can, and blocks stand one behind the other whatever
order they were compressed in. gzip is one member (RFC 1952) whose deflate blocks end on whole bytes, as pigz writes it;
Zstandard is one frame a block (RFC 8878). ISA-L does the deflating of the levels 1 to 3 where `isal` is installed.
"""

import gzip
import importlib
import io
import struct
import sys
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from lucid_cli.crc import combined
from lucid_cli.formats import ZARR
from lucid_core.errors import ArgumentError, InputError
from lucid_core.optional import require

CHUNK_BYTES = 1 << 20
"""Bytes decompressed at a time."""
DEFAULT_LEVEL = 1
LEVELS = ("none", *"123456789")
LEGAL = {
    "-": LEVELS,
    ".nii.gz": LEVELS,
    ".nii.zst": LEVELS[1:],
    ".h5": LEVELS,
    ".hdf5": LEVELS,
    ".mgz": LEVELS,
    ".mgh.gz": LEVELS,
    ".mrc.gz": LEVELS,
    ".map.gz": LEVELS,
    ".mha": LEVELS,
    ".nrrd": LEVELS,
} | dict.fromkeys(ZARR, LEVELS)
"""Legal values of `--compression` by the suffix of the output; other formats know none only."""
COMPRESSED_WHERE_ASKED = (".mha", ".nrrd")
"""Suffixes of outputs that are compressed only where `--compression` says so."""
ISAL_LEVELS = (1, 2, 3)
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def check_compression(suffix: str, compression: str | None) -> None:
    """Raise `ArgumentError` where an output with this suffix cannot be compressed so."""
    legal = LEGAL.get(suffix, ("none",))
    if compression is not None and compression not in legal:
        hint = "; for no compression name the output .nii" if suffix == ".nii.zst" else ""
        raise ArgumentError(f"--compression {compression!r} does not go with {suffix}; legal: {', '.join(legal)}{hint}")


def compression_level(compression: str | None, default: int) -> int:
    """Return the level 1 to 9 that a legal `--compression` means, 0 for none."""
    return default if compression is None else 0 if compression == "none" else int(compression)


@dataclass(frozen=True)
class Block:
    """A block of a stream: its bytes compressed, and the size and CRC-32 of what they hold."""

    data: bytes
    size: int
    crc: int

    def then(self, size: int, crc: int) -> tuple[int, int]:
        """Return size and CRC of bytes of this size and CRC followed by the block."""
        return size + self.size, combined(crc, self.crc, self.size)


class Codec(ABC):
    """Compresses a stream block by block."""

    begin = b""

    @abstractmethod
    def block(self, data: memoryview) -> Block:
        """Compress some bytes by themselves; safe for several threads."""

    def end(self, size: int, crc: int) -> bytes:  # noqa: ARG002 - most streams need no end
        """Return what follows the last block of a stream of this size and CRC-32."""
        return b""


class Plain(Codec):
    """No compression."""

    def block(self, data: memoryview) -> Block:
        """Copy the bytes."""
        return Block(bytes(data), len(data), 0)


class Gzip(Codec):
    """One gzip member, without name and time."""

    begin = GZIP_MAGIC + bytes([8, 0, 0, 0, 0, 0, 0, 255])

    def __init__(self, level: int) -> None:
        self._level = level
        self._library: Any = (_isal() if level in ISAL_LEVELS else None) or zlib

    def block(self, data: memoryview) -> Block:
        """Deflate some bytes, up to a whole byte."""
        deflate = self._library.compressobj(self._level, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
        return Block(packed, len(data), self._library.crc32(data))

    def end(self, size: int, crc: int) -> bytes:
        """Return an empty last deflate block, the CRC and the size."""
        return b"\x03\x00" + struct.pack("<II", crc, size & 0xFFFFFFFF)


class Zstandard(Codec):
    """One frame a block, each with its checksum."""

    def __init__(self, level: int) -> None:
        self._library = zstandard()
        names = self._library.CompressionParameter
        self._options = {names.compression_level: level, names.checksum_flag: 1}

    def block(self, data: memoryview) -> Block:
        """Compress some bytes into a frame."""
        return Block(self._library.compress(data, options=self._options), len(data), 0)


def is_stream(suffix: str, compression: str | None) -> bool:
    """Say whether an output with this suffix and `--compression` is written as a stream."""
    if suffix in COMPRESSED_WHERE_ASKED:
        return compression_level(compression, 0) > 0
    return suffix == ".nii.zst" or suffix.endswith((".gz", ".mgz"))


def codec_of(suffix: str, compression: str | None) -> Codec:
    """Return the codec for an output with this suffix and `--compression`."""
    if suffix == ".nii.zst":
        return Zstandard(compression_level(compression, DEFAULT_LEVEL))
    if is_stream(suffix, compression):
        return Gzip(compression_level(compression, DEFAULT_LEVEL))
    return Plain()


@cache
def _isal() -> Any:
    """Return ISA-L's zlib, None where it is not installed."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return None


def zstandard() -> Any:
    """Return Python's `compression.zstd`, or the package that brings it to older versions."""
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return require(name, "formats")


def open_stream(path: Path) -> IO[bytes]:
    """Open a file to read forward, decompressing it if its first bytes say so, whatever its name."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return decompressed(file)


def decompressed(file: io.BufferedReader) -> IO[bytes]:
    """Return a stream of what a file holds, decompressed if its first bytes say so; closing it closes the file."""
    start = file.peek(4)[:4]
    if start[:2] == GZIP_MAGIC:
        return io.BufferedReader(_Closing(_gzip_reader(file), file), CHUNK_BYTES)
    if start == ZSTD_MAGIC:
        return io.BufferedReader(_Closing(zstandard().ZstdFile(file, "rb"), file), CHUNK_BYTES)
    return file


def inflated(file: io.BufferedReader) -> IO[bytes]:
    """Return a stream of the zlib or gzip stream (RFC 1950, 1952) that begins where a file stands."""
    return io.BufferedReader(_Closing(_Inflating(file), file), CHUNK_BYTES)


class _Inflating(io.RawIOBase):
    """Reads one zlib stream, up to its checksum, whatever follows it."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        found = b""
        while not found and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(CHUNK_BYTES // 16)
            if not packed:
                raise EOFError("the compressed data ends before its end is marked")
            found = self._inflate.decompress(packed, len(buffer))
        buffer[: len(found)] = found
        return len(found)


def _gzip_reader(file: IO[bytes]) -> Any:
    if _isal() is None:
        return gzip.GzipFile(fileobj=file, mode="rb")
    return importlib.import_module("isal.igzip").GzipFile(fileobj=file, mode="rb")


class _Closing(io.RawIOBase):
    """A decompressing reader that closes the file below with it."""

    def __init__(self, reader: Any, file: IO[bytes]) -> None:
        super().__init__()
        self._reader = reader
        self._file = file
        self.kind = "zstd" if "zstd" in type(reader).__module__ else "gzip"

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        count: int = self._reader.readinto(buffer)
        return count

    def close(self) -> None:
        """Close the reader and the file."""
        if not self.closed:
            self._reader.close()
            self._file.close()
        super().close()


def compression_of(stream: IO[bytes]) -> str | None:
    """Return how the stream that `open_stream` opened is compressed, None for not at all."""
    raw = getattr(stream, "raw", None)
    return raw.kind if isinstance(raw, _Closing) else None
