"""Zarr hierarchies opened with zarr-python: folders, zips and what fsspec reaches; their nodes, and what may be read.

Only codecs that compress or reorder numbers are admitted: one that unpickles would run what a file says.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lucid_cli.formats import ZARR_FILES, Spec
from lucid_cli.journal import feed
from lucid_cli.zarr_folder import OwnFiles
from lucid_cli.zarr_library import sync, zarr
from lucid_core.errors import ExtraError, InputError, LucidError
from lucid_core.optional import require

SAFE_CODECS = {
    *("bytes", "transpose", "sharding_indexed", "crc32c", "gzip", "zstd", "blosc", "bz2", "lzma", "lz4", "zlib"),
    *("delta", "shuffle", "bitround", "fixedscaleoffset", "quantize", "astype", "packbits", "crc32", "adler32"),
    *("fletcher32", "jenkins_lookup3", "pcodec", "zfpy"),
}
"""Names of codecs that may run, without the `numcodecs.` that format 3 puts before some."""
MOST_HASHED = 8 << 30
"""A hierarchy of more bytes than this is told by the names and sizes of its files."""
MOST_LISTED = 12


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Make what zarr-python and its stores raise an `InputError` with the name."""
    try:
        yield
    except (LucidError, MemoryError):
        raise
    except ImportError as error:
        raise ExtraError(f"{name}: its address needs a package that is not installed: {error}") from error
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{name}: its metadata is damaged: {said(error)}") from error
    except Exception as error:
        raise InputError(f"{name}: cannot be read: {said(error)}") from error


def said(error: BaseException) -> str:
    """Return what an error says, in one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def store_of(spec: Spec, *, read_only: bool = True) -> Any:
    """Return the store of a hierarchy; raises `ExtraError` where its address needs a package."""
    if spec.url is not None:
        require("fsspec", "zarr")
        store = zarr.storage.FsspecStore.from_url(spec.url, read_only=read_only)
        store.fs.invalidate_cache()  # of what was listed before this process, or another, wrote there
        return store
    if spec.is_folder:
        return OwnFiles(spec.path)
    return zarr.storage.ZipStore(spec.path, mode="r")


def address(spec: Spec) -> tuple[Any, str]:
    """Return the file system behind an address, looked at anew, and the path of the hierarchy in it."""
    fsspec: Any = require("fsspec", "zarr")
    files, root = fsspec.core.url_to_fs(spec.url)
    files.invalidate_cache()
    return files, str(root).rstrip("/")


def node_of(spec: Spec) -> Any:
    """Return the array or group that is meant, to be read only; raises `InputError`."""
    with reading(str(spec)):
        store = store_of(spec)
        try:
            return zarr.open(store=store, path=spec.inner or "", mode="r")
        except (FileNotFoundError, KeyError) as error:
            raise InputError(f"{spec}: holds no Zarr array or group.{_near(spec, store)}") from error


def _near(spec: Spec, store: Any) -> str:
    """Say what the hierarchy holds instead of a node that it does not hold."""
    if not spec.inner:
        return f" One has a file {' or '.join(ZARR_FILES)}"
    try:
        paths = arrays_in(zarr.open(store=store, mode="r"))
    except Exception:
        return ""
    return f" {spec.name} holds {listed(paths)}" if paths else ""


def arrays_in(group: Any) -> list[str]:
    """Return the paths of the arrays of a group, those of its groups too; none of a lone array."""
    if not hasattr(group, "members"):
        return []
    return sorted(path for path, one in group.members(max_depth=None) if hasattr(one, "shape"))


def listed(paths: list[str]) -> str:
    """Return the first of some paths as people write them."""
    more = len(paths) - MOST_LISTED
    return ", ".join(paths[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def missing(array: Any) -> tuple[int, int]:
    """Return how many chunks, or shards, of an array are not there, and how many it has."""
    together = getattr(array, "shards", None) or array.chunks
    counts = [-(-size // one) for size, one in zip(array.shape, together, strict=True)]
    there, above = sync(_keys(array.store_path.store, array.path)), f"{array.path}/" if array.path else ""
    found = sum(above + array.metadata.encode_chunk_key(at) in there for at in np.ndindex(*counts))
    return math.prod(counts) - found, math.prod(counts)


async def _keys(store: Any, path: str) -> set[str]:
    """Return the names of all files below a path."""
    return {key async for key in store.list_prefix(path)}


def check_codecs(name: str, array: Any) -> None:
    """Raise `InputError` where reading an array would run a codec that is not known to be safe."""
    for codec in _codecs(array.metadata.to_dict()):
        if codec.removeprefix("numcodecs.") not in SAFE_CODECS:
            raise InputError(f"{name}: is stored with the codec {codec!r}, which is not run; store it with another one")


def _codecs(metadata: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the codecs in the metadata of an array of either format, those within shards too."""
    for codec in (*(metadata.get("filters") or ()), metadata.get("compressor"), *(metadata.get("codecs") or ())):
        if codec is None:
            continue
        found = codec if isinstance(codec, dict) else getattr(codec, "get_config", codec.to_dict)()
        yield str(found.get("id") or found.get("name"))
        within = found.get("configuration") or {}
        yield from _codecs({"codecs": [*within.get("codecs", ()), *within.get("index_codecs", ())]})


def digest(spec: Spec) -> str:
    """Return a SHA-256 of a node: of the names of its files, their sizes and contents.

    Of more than 8 GiB, and behind an address, only the contents of the metadata count, and the names and sizes of what
    can be listed.
    """
    whole = hashlib.sha256()
    if spec.url is not None:
        for line in _far(spec):
            whole.update(line)
    else:
        files = sorted(path for path in spec.node.rglob("*") if path.is_file()) if spec.is_folder else [spec.path]
        all_of_them = sum(path.stat().st_size for path in files) <= MOST_HASHED
        for path in files:
            name = path.relative_to(spec.node).as_posix() if spec.is_folder else ""
            whole.update(f"{name}\0{path.stat().st_size}\0".encode())
            if all_of_them or path.name in ZARR_FILES:
                with path.open("rb") as file:
                    feed(whole, file)
    return whole.hexdigest()


def _far(spec: Spec) -> Iterator[bytes]:
    """Yield what tells of a node behind an address: metadata of its arrays, and where they are listed, files, sizes."""
    node = node_of(spec)
    with reading(str(spec)):
        members = [("", node), *(node.members(max_depth=None) if hasattr(node, "members") else ())]
        for path, one in sorted(members, key=lambda pair: pair[0]):
            yield f"{path}\0{json.dumps(one.metadata.to_dict(), sort_keys=True, default=str)}\0".encode()
        files, root = address(spec)
        if spec.url is not None and not spec.url.startswith("http"):
            found = files.find(f"{root}/{spec.inner or ''}".rstrip("/"), detail=True)
            yield from (f"{path}\0{found[path].get('size')}\0".encode() for path in sorted(found))
