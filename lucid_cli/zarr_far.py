"""Zarr outputs behind an address (fsspec): a bucket, a server, the memory of this process."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lucid_cli.formats import Spec
from lucid_cli.formats.zarr import ArraySink, ZarrSink
from lucid_cli.volumes import Array, Target
from lucid_cli.zarr_layout import Layout
from lucid_cli.zarr_library import zarr
from lucid_cli.zarr_store import address, said, store_of
from lucid_core.errors import LucidError, OutputError
from lucid_core.regions import Region

BEHIND = "name the address behind it"
NO_OUTPUT = {"file": "name the folder", "dir": BEHIND, "http": "it is read only", "https": "it is read only"}
"""Kinds of addresses that no output has, and what to do."""


@contextmanager
def storing(spec: Spec) -> Iterator[None]:
    """Make what an address answers an `OutputError`."""
    try:
        yield
    except (LucidError, MemoryError):
        raise
    except Exception as error:
        raise OutputError(f"{spec}: cannot be written there: {said(error)}") from error


class FarArraySink(ArraySink):
    """Stores regions of whole chunks, or shards, behind an address."""

    def __init__(self, array: Any, axes: str, spec: Spec) -> None:
        super().__init__(array, axes)
        self._spec = spec

    def encode(self, batch: int, region: Region, block: Array) -> None:
        """Store the voxels (C, d, h, w) of a region of one volume."""
        with storing(self._spec):
            super().encode(batch, region, block)


class FarSink(ZarrSink):
    """Fills a hierarchy behind an address: nothing is an array there until the metadata come, at the end."""

    def __init__(self, target: Target, found: Layout, spec: Spec) -> None:
        self._spec = spec
        with storing(spec):
            super().__init__(store_of(spec, read_only=False), target, found, spec.inner or "")
            self._files, self._root = address(spec)
            node = f"{self._root}/{spec.inner or ''}".rstrip("/")
            if self._files.exists(node):
                self._files.rm(node, recursive=True)

    def shared(self) -> ArraySink:
        """Return what stores regions of the first array."""
        return FarArraySink(self.arrays[0], self._target.axes, self._spec)

    def finish(self) -> None:
        """Complete the hierarchy: what describes a node comes after what is below it."""
        with storing(self._spec):
            super().finish()
            for key in sorted(self.documents, key=lambda one: -one.count("/")):
                path = f"{self._root}/{key}"
                if not (self._is_above(key) and self._files.exists(path)):
                    self._files.pipe_file(path, self.documents[key].to_bytes())
            self._relist()

    def _relist(self) -> None:
        """List the output in the consolidated metadata of the groups above it that have such."""
        store, names = store_of(self._spec, read_only=False), (self._spec.inner or "").split("/")[:-1]
        for depth in range(len(names), -1 if self._spec.inner else 0, -1):
            path = "/".join(names[:depth])
            if zarr.open_group(store, path=path, mode="r").metadata.consolidated_metadata is not None:
                zarr.consolidate_metadata(store, path=path)

    def _is_above(self, key: str) -> bool:
        """Say whether a document is one of a group that the output lies in, which others may share."""
        inner = self._spec.inner
        return inner is not None and not key.startswith(f"{inner}/")


def check_apart(spec: Spec, read: Iterable[Spec]) -> None:
    """Raise `OutputError` where an output would lie in what is read, or hold it, or where its address is no own one."""
    with storing(spec):
        files, _ = address(spec)
        kind = files.protocol if isinstance(files.protocol, str) else files.protocol[0]
        if "::" in str(spec.url) or kind in NO_OUTPUT:
            raise OutputError(f"{spec}: nothing is written through {kind!r}; {NO_OUTPUT.get(kind, BEHIND)}")
        own = _node(spec)
        for other in (one for one in read if one.url is not None):
            found = _node(other)
            if own[0] == found[0] and (own[1].startswith(found[1]) or found[1].startswith(own[1])):
                raise OutputError(f"{spec}: lies in the input {other}, or holds it; name another output")


def _node(spec: Spec) -> tuple[type, str]:
    """Return the kind of file system and the path, with a slash at its end, of a node behind an address."""
    files, root = address(spec)
    return type(files), f"{root}/{spec.inner or ''}".rstrip("/") + "/"
