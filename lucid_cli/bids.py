"""`--bids`: outputs as a derivative dataset of the Brain Imaging Data Structure (BIDS 1.10): names and metadata.

An output is called after its source, with `res-` where the grid is another and `desc-`, in the order of the
specification; its sidecar holds what the source's metadata says, which BIDS collects from sidecars in all folders down
to the file, and what derivatives require: Sources, SkullStripped, Resolution.
"""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lucid_cli.formats import Spec
from lucid_cli.listing import Listed
from lucid_cli.output import check_target, write_bytes
from lucid_cli.settings import Settings
from lucid_cli.talk import say
from lucid_core import __version__
from lucid_core.arguments import triple
from lucid_core.errors import ArgumentError, InputError, OutputError
from lucid_core.regions import Triple

VERSION = "1.10.0"
DATASET = "dataset_description.json"
LINK = "source"
"""What a derivative dataset calls the one that it is made from."""
SUFFIXES = (".nii", ".nii.gz")
APART = {"derivatives", "sourcedata", "code"}
"""Folders of a dataset that are no part of it."""
BEFORE_DESC = ("res", "den", "label")
"""Entities that come last, before `desc`, in this order."""
SLICE_KEYS = ("SliceTiming", "SliceEncodingDirection")
"""What no longer holds where slices were added up or left out."""
MOST_BYTES = 1 << 24

_ENTITY = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")
_SUFFIX = re.compile(r"[a-zA-Z0-9]+")


@dataclass(frozen=True)
class BidsFile:
    """A file of a dataset: where it lies, and the entities and the suffix of its name."""

    path: Path
    root: Path
    entities: dict[str, str]
    suffix: str

    @property
    def uri_path(self) -> str:
        """The path in the dataset, as BIDS URIs hold it."""
        return self.path.absolute().relative_to(self.root).as_posix()


def bids_file(spec: Spec) -> BidsFile:
    """Take the name of a file apart; raises `InputError` where it is none of a BIDS dataset."""
    entities, suffix = _apart(spec.stem)
    if entities is None or "sub" not in entities or not _SUFFIX.fullmatch(suffix):
        raise InputError(f"{spec}: is no BIDS name, such as sub-01_T1w.nii.gz; leave out --bids")
    if spec.suffix not in SUFFIXES:
        raise InputError(f"{spec}: --bids is for {' and '.join(SUFFIXES)}")
    path = spec.path.absolute()
    root = next((folder for folder in path.parents if (folder / DATASET).is_file()), None)
    if root is None:
        raise InputError(f"{spec}: no folder above it holds {DATASET}; --bids is for files of a BIDS dataset")
    return BidsFile(spec.path, root, entities, suffix)


def _apart(stem: str) -> tuple[dict[str, str] | None, str]:
    """Return the entities, None where something else stands among them, and the suffix of a name."""
    *parts, suffix = stem.split("_")
    matches = [_ENTITY.fullmatch(part) for part in parts]
    entities = {match[1]: match[2] for match in matches if match}
    return (entities if len(entities) == len(parts) else None), suffix


def derivative(spec: Spec, settings: Settings) -> Path:
    """Return the path of a file's output below the derivative dataset."""
    source = bids_file(spec)
    last = {key: source.entities[key] for key in BEFORE_DESC if key in source.entities}
    stride = total_stride(settings)
    if stride != (1, 1, 1):
        last = {"res": ""} | last | {"res": f"stride{'x'.join(map(str, stride))}"}
    entities = {key: value for key, value in source.entities.items() if key not in (*BEFORE_DESC, "desc")} | last
    entities["desc"] = source.entities.get("desc", "") + label(settings, first="desc" not in source.entities)
    name = "_".join([*(f"{key}-{value}" for key, value in entities.items()), source.suffix])
    return Path(source.uri_path).parent / f"{name}{spec.suffix}"


def label(settings: Settings, *, first: bool = True) -> str:
    """Return the label of `desc`: `--desc`, or the kernel's name."""
    words = re.findall("[a-zA-Z0-9]+", settings.desc or settings.kernel or "conv3d")
    if not words:
        raise ArgumentError(f"--desc {settings.desc!r} is no label; legal: letters and digits")
    text = "".join([words[0], *(word[:1].upper() + word[1:] for word in words[1:])])
    return text if first else text[:1].upper() + text[1:]


def total_stride(settings: Settings) -> Triple:
    """Return the input voxels from output voxel to output voxel along D, H, W."""
    entries = [entry for entry in settings.layers or () if isinstance(entry, dict)]
    said = [settings.stride, *(entry.get("stride") for entry in entries)]
    strides = [triple("stride", one, 1) for one in said if one is not None]
    d, h, w = (math.prod(one[axis] for one in strides) for axis in range(3))
    return d, h, w


def metadata(spec: Spec, out_dir: Path, settings: Settings, *, mixes_slices: bool) -> dict[str, Any]:
    """Return the sidecar of an output: what holds of the source's, and what derivatives require."""
    source = bids_file(spec)
    found = {key: value for key, value in _collected(source).items() if key not in ("Sources", "RawSources")}
    if mixes_slices:
        found = {key: value for key, value in found.items() if key not in SLICE_KEYS}
    said = found.get("SkullStripped")
    stripped = said if isinstance(said, bool) else settings.skull_stripped
    if stripped is None:
        if _description(source.root).get("DatasetType", "raw") != "raw":
            raise ArgumentError(
                f"{spec}: its metadata lacks SkullStripped, which BIDS requires; say --skull-stripped or "
                "--no-skull-stripped"
            )
        stripped = False  # raw scans are as they came from the scanner
    stride = total_stride(settings)
    place = "" if source.root == out_dir.absolute() else LINK
    return {
        **found,
        "Description": f"{source.suffix} convolved by lucid-conv3d ({label(settings)})",
        "Sources": [f"bids:{place}:{source.uri_path}"],
        "SkullStripped": stripped,
        **({} if stride == (1, 1, 1) else {"Resolution": f"every {_counted(stride)} voxel of the source (z, y, x)"}),
    }


def _counted(stride: Triple) -> str:
    return " x ".join(f"{step}." for step in stride)


def _collected(source: BidsFile) -> dict[str, Any]:
    """Return the metadata of a file, of all sidecars down to it whose entities are among its own."""
    folder, found = source.path.absolute().parent, dict[str, Any]()
    below = [folder, *folder.parents]
    for one in reversed(below[: below.index(source.root) + 1]):
        fitting = []
        for path in one.glob(f"*{source.suffix}.json"):
            entities, suffix = _apart(path.stem)
            if entities is not None and suffix == source.suffix and entities.items() <= source.entities.items():
                fitting.append((len(entities), path))
        for _, path in sorted(fitting):
            found |= _object(path)
    return found


def _object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no JSON object")
    return found


def _description(root: Path) -> dict[str, Any]:
    return _object(root / DATASET)


def description(source: Path, out_dir: Path) -> dict[str, Any]:
    """Return the description of a derivative dataset that is made from the one in a folder."""
    way = Path(os.path.relpath(source, out_dir.absolute())).as_posix()
    return {
        "Name": f"{_description(source).get('Name', source.name)}, convolved",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "lucid-conv3d", "Version": __version__}],
        "DatasetLinks": {LINK: quote(os.fsencode(way))},
    }


def of_dataset(inputs: list[Listed]) -> list[Listed]:
    """Leave out what was found that is no part of a dataset: below derivatives and so on, or without a BIDS name.

    Raises `InputError` where nothing is left.
    """
    kept = [one for one in inputs if not one.found or (not APART.intersection(one.below.parts) and _is_bids(one.spec))]
    if not kept:
        raise InputError("no scan of a BIDS dataset is among the inputs; derivatives are taken where they are named")
    return kept


def _is_bids(spec: Spec) -> bool:
    try:
        bids_file(spec)
    except InputError:
        return False
    return True


def checked_description(inputs: list[Spec], out_dir: Path) -> bytes | None:
    """Return the description that a derivative dataset is to have, None where it has one.

    Raises `ArgumentError` where it would be made from two datasets, which its links could not tell apart.
    """
    roots = sorted({bids_file(spec).root for spec in inputs})
    if len(roots) > 1:
        raise ArgumentError(f"--bids: the inputs are of {roots[0]} and of {roots[1]}; give each its own --out-dir")
    wanted, path = description(roots[0], out_dir), out_dir / DATASET
    if not path.exists():
        return (json.dumps(wanted, indent=2) + "\n").encode()
    link = _description(out_dir).get("DatasetLinks", {}).get(LINK)
    if link not in (None, wanted["DatasetLinks"][LINK]):
        raise ArgumentError(f"{path}: the outputs there are made from {link}; give another --out-dir")
    return None


def describe(content: bytes, out_dir: Path) -> None:
    """Write the description of a derivative dataset, unless another run has written it meanwhile."""
    path = out_dir / DATASET
    try:
        write_bytes(check_target(path, {}, overwrite=False), content, overwrite=False)
    except OutputError:
        if not path.exists():
            say(f"Warning: another run is writing {path}")
