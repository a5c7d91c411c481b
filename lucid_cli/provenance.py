"""Provenance: what made an output, kept in it: version, resolved configuration, hashes of the files that were read.

It holds neither a clock nor the output's name nor what changes no value (threads, tiles, limits), so that the same run
writes the same bytes. A NIfTI keeps it as a comment extension (ecode 6), HDF5 as the attribute `lucid_conv3d`, every
format in a sidecar where `--sidecar` asks for one.
"""

import json
from pathlib import Path
from typing import Any

from lucid_cli.formats import Spec

SCHEMA = "lucid-conv3d/provenance-1"
ATTRIBUTE = "lucid_conv3d"
"""Attribute of an HDF5 dataset that holds provenance."""
MOST_SIDECAR_BYTES = 1 << 24
SIDECAR_KEY = "LucidConv3d"
"""What provenance stands under in a sidecar, beside keys of others."""


def text(found: dict[str, Any]) -> str:
    """Return provenance as it is kept in a file."""
    return json.dumps(found, sort_keys=True, separators=(",", ":"))


def sidecar_path(spec: Spec) -> Path:
    """Return the sidecar of a file: of its name, with .json for its suffix."""
    return spec.path.with_name(f"{spec.stem}.json")


def sidecar(found: dict[str, Any], metadata: dict[str, Any]) -> bytes:
    """Return a sidecar that holds metadata and provenance."""
    return (json.dumps(metadata | {SIDECAR_KEY: found}, indent=2) + "\n").encode()


def parse(content: str) -> dict[str, Any] | None:
    """Return the provenance that a text is, None where it is none of this program."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA and _is_whole(found) else None


def _is_whole(found: dict[str, Any]) -> bool:
    """Say whether provenance has all of its parts, each of its kind."""
    try:
        texts = [found["version"], found["input"], found["computed"]["algorithm"], found["computed"]["engine"]]
        texts += [file[key] for file in found["files"] for key in ("role", "path", "sha256")]
        sections = [dict(values) for values in found["configuration"].values()]
    except (LookupError, TypeError, ValueError, AttributeError):
        return False
    return all(isinstance(one, str) for one in texts) and bool(sections)


def kept_beside(spec: Spec) -> dict[str, Any] | None:
    """Return the provenance in the sidecar of an output, None where there is none."""
    try:
        with sidecar_path(spec).open("rb") as file:
            return parse(text(json.loads(file.read(MOST_SIDECAR_BYTES))[SIDECAR_KEY]))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Say what tells an output's provenance from another: the files by their content, not by their names."""
    theirs, ours = ([(file["role"], file["sha256"]) for file in one["files"]] for one in (found, wanted))
    if theirs != ours:
        changed = [role for role in ("input", "mask", "weights") if _of(role, theirs) != _of(role, ours)]
        return f"another {' and another '.join(changed)}"
    old, new = _settings(found), _settings(wanted)
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    shown = [f"{key} {old.get(key, 'not given')} instead of {new.get(key, 'not given')}" for key in keys]
    return f"other settings: {', '.join(shown)}" if shown else None


def _of(role: str, files: list[tuple[str, str]]) -> list[str]:
    return [digest for one, digest in files if one == role]


def _settings(found: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration by section.key, without names of files."""
    named = {("weights", "weights"): "weights", ("volume", "mask"): "mask"}
    roles = {file["role"] for file in found["files"]}
    return {
        f"{section}.{key}": _unnamed(value) if key == "layers" else value
        for section, values in found["configuration"].items()
        for key, value in values.items()
        if named.get((section, key)) not in roles
    }


def _unnamed(layers: Any) -> Any:
    """Return a list of layers without the names of files of weights: these are compared by their content."""
    if not isinstance(layers, list):
        return layers
    return [{**one, "weights": None} if isinstance(one, dict) and "weights" in one else one for one in layers]
