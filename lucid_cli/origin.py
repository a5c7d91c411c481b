"""What an output is made from: the files that are read, with their hashes, and the resolved configuration."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lucid_cli.config import ConfiguredOption, tree
from lucid_cli.formats import Spec, format_of, parse_spec
from lucid_cli.journal import hash_files
from lucid_cli.layers import weights_files
from lucid_cli.provenance import SCHEMA
from lucid_cli.settings import Settings
from lucid_core import __version__
from lucid_core.plan import Plan

RUN_KEYS = ("accuracy", "algorithm", "engine")
"""What of the section `run` tells on the values."""


@dataclass(frozen=True)
class ReadFile:
    """A file that a run reads, and what for: input, mask or weights."""

    role: str
    path: Path

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of all of its bytes."""
        return hash_files([self.path])

    def to_json(self) -> dict[str, Any]:
        """Return what provenance says of it."""
        return {"role": self.role, "path": str(self.path), "sha256": self.sha256}


def files_of(spec: Spec, settings: Settings) -> list[ReadFile]:
    """Return the files that a run on an input reads; a pipe is none."""
    read = [] if spec.is_pipe else [spec]
    return [
        *(ReadFile("input", path) for path in _files(read)),
        *(ReadFile("mask", path) for path in _files([parse_spec(settings.mask)] if settings.mask else [])),
        *(ReadFile("weights", path) for path in weights_files(settings)),
    ]


def _files(specs: Iterable[Spec]) -> list[Path]:
    return [path for spec in specs for path in (format_of(spec).files_read(spec) if spec.suffix else [spec.path])]


def provenance(spec: Spec, settings: Settings, plan: Plan, files: list[ReadFile]) -> dict[str, Any]:
    """Return the provenance of what a plan makes of an input."""
    return {
        "schema": SCHEMA,
        "program": "lucid-conv3d",
        "version": __version__,
        "command": "apply",
        "input": str(spec),
        "configuration": configuration(settings),
        "files": [file.to_json() for file in files],
        "computed": {"algorithm": plan.algorithm, "engine": plan.engine},
    }


def configuration(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the values of all options that tell on the values of an output, by section."""
    found = tree(vars(settings), options())
    found["run"] = {key: found["run"][key] for key in RUN_KEYS}
    return found


def options() -> list[ConfiguredOption]:
    """Return the options of `apply`."""
    from lucid_cli.commands.apply import command

    return [param for param in command.params if isinstance(param, ConfiguredOption)]
