"""What an output is made from: the files that are read, with their hashes, and the resolved configuration."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lucid_cli.config import ConfiguredOption, tree
from lucid_cli.formats import Spec, format_of, parse_spec
from lucid_cli.journal import hash_files
from lucid_cli.layers import weights_files
from lucid_cli.provenance import SCHEMA, sidecar_path
from lucid_cli.settings import Settings
from lucid_cli.types import Size
from lucid_core import __version__
from lucid_core.plan import Plan

RUN_KEYS = ("accuracy", "algorithm", "engine")
"""What of the section `run` tells on the values; `tf32` does where it is on."""


@dataclass(frozen=True)
class Read:
    """What a run reads, and what for: input, mask or weights. It may be several files, such as a pair or a series."""

    role: str
    path: Path | str
    files: tuple[Path, ...]
    zarr: Spec | None = None
    """The Zarr that it is, whose files are too many to be named."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes of its files, one behind the other; of a Zarr as `zarr_store.digest` takes it."""
        return _sha256(self.files, tuple(_stamp(file) for file in self.files), self.zarr)

    def to_json(self) -> dict[str, Any]:
        """Return what provenance says of it."""
        return {"role": self.role, "path": str(self.path), "sha256": self.sha256}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


@cache
def _sha256(
    files: tuple[Path, ...],
    stamps: tuple[tuple[int, int, int] | None, ...],  # noqa: ARG001
    zarr: Spec | None,
) -> str:
    """Return a hash; weights and masks of many inputs are hashed once, as long as they stay as they are."""
    if zarr is None:
        return hash_files(files)
    from lucid_cli.zarr_store import digest

    return digest(zarr)


def read_by(spec: Spec, settings: Settings) -> list[Read]:
    """Return what a run on an input reads; a pipe is nothing that could be read again."""
    return [*([] if spec.is_pipe else [read_as("input", spec)]), *_read_by_all(settings)]


def _read_by_all(settings: Settings) -> list[Read]:
    """Return what is read whatever the input is."""
    return [
        *([read_as("mask", parse_spec(settings.mask))] if settings.mask else []),
        *(Read("weights", path, (path,)) for path in weights_files(settings)),
    ]


def read_as(role: str, spec: Spec) -> Read:
    """Return what reading a volume is."""
    files = format_of(spec).files_read(spec) if spec.suffix else [spec.path]
    return Read(role, str(spec) if spec.is_zarr else spec.path, tuple(files), spec if spec.is_zarr else None)


def files_read(inputs: Iterable[Spec], settings: Settings, config: str | None) -> list[Path]:
    """Return the files that a run on all inputs reads, and the sidecars of these where outputs have such."""
    specs = [spec for spec in inputs if not spec.is_pipe]
    paths = [path for one in [read_as("input", spec) for spec in specs] + _read_by_all(settings) for path in one.files]
    paths += [sidecar_path(spec) for spec in specs if settings.has_sidecar]
    return paths + [Path(path) for path in (config, settings.from_file) if path]


def files_written(out: Spec, settings: Settings) -> list[Path]:
    """Return the files of an output, and last its sidecar where it has one; a pipe is none."""
    files: list[Path] = [] if out.is_pipe else format_of(out).files(out)
    return [*files, sidecar_path(out)] if files and settings.has_sidecar else files


def provenance(spec: Spec, settings: Settings, plan: Plan, read: list[Read]) -> dict[str, Any]:
    """Return the provenance of what a plan makes of an input."""
    return {
        "schema": SCHEMA,
        "program": "lucid-conv3d",
        "version": __version__,
        "command": "apply",
        "input": str(spec),
        "configuration": configuration(settings),
        "files": [one.to_json() for one in read],
        "computed": {"algorithm": plan.algorithm, "engine": plan.engine},
    }


def configuration(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the values of all options that tell on the values of an output, by section; sizes as three numbers."""
    known = options()
    sizes = {option.name for option in known if isinstance(option.type, Size)}
    values = {
        name: (value,) * 3 if name in sizes and isinstance(value, int) else value
        for name, value in vars(settings).items()
    }
    found = tree(values, known)
    found["run"] = {key: found["run"][key] for key in (*RUN_KEYS, *(["tf32"] if settings.tf32 else []))}
    return found


def options() -> list[ConfiguredOption]:
    """Return the options of `apply`."""
    from lucid_cli.commands.apply import command

    return [param for param in command.params if isinstance(param, ConfiguredOption)]
