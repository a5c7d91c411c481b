"""`config init`: a configuration to begin with, every option in it with its help, made from the options' declarations.

What is not commented out is a Gaussian that runs as it stands; with a scan its width, the values of the other options
and the comments fit that scan.
"""

import math
import shlex
import textwrap
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import yaml

from lucid_cli.commands.apply import command as apply
from lucid_cli.config import ConfiguredOption, options_of
from lucid_cli.config_check import in_words, most_memory, plan, readable
from lucid_cli.formats import Spec, format_of
from lucid_cli.mistakes import SECTIONS
from lucid_cli.opening import open_info
from lucid_cli.report import Item, volume_line
from lucid_cli.settings import Settings
from lucid_cli.volumes import VolumeInfo
from lucid_core.kernels.gaussian import FWHM_PER_SIGMA
from lucid_core.units import Length, Spacing, format_bytes

WIDTH = 100
"""Characters of a line of comment."""
LEAST_MM = 0.1
"""A width below this is written in um."""


@dataclass
class Fit:
    """What fits one scan, or any: the keys that are active, values of others, and words for both."""

    about: list[str]
    active: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def files(scan: str | None) -> list[Path]:
    """Return the files that a configuration for a scan must not replace."""
    if scan is None:
        return []
    spec = readable(scan)
    return list(format_of(spec).files_read(spec))


def starter(scan: str | None, output: str | None) -> str:
    """Return the configuration; `output` is the file that it will be, which its first lines name."""
    fit = _fit_any() if scan is None else _fit(readable(scan))
    file, volume = shlex.quote(output or "FILE.yaml"), shlex.quote(scan or "scan.nii.gz")
    head = [
        *(_comment(line, "") for line in fit.about),
        "# Take the # from the front of an option to say it: its value is the default, or tells what belongs there.",
        _printable(f"#   lucid-conv3d config check {file} {volume}"),
        _printable(f"#   lucid-conv3d apply {volume} -o out.nii.gz -c {file}"),
    ]
    blocks = ["\n".join(head)]
    for section in SECTIONS:
        options = [option for option in options_of(apply) if option.section == section]
        blocks.append("\n".join([f"{section}:", *(_lines(option, fit) for option in options)]))
    return "\n\n".join(blocks) + "\n"


def _lines(option: ConfiguredOption, fit: Fit) -> str:
    """Return an option: its help and what is said of it for the scan, then its key and value."""
    words = " ".join(filter(None, [option.help, _choices(option), fit.notes.get(option.key)]))
    active = option.key in fit.active
    value = fit.active[option.key] if active else fit.values.get(option.key, _default(option))
    return f"{_comment(words, '  ')}\n  {'' if active else '#'}{option.key}: {_yaml(value)}"


def _comment(text: str, indent: str) -> str:
    later = f"{indent}#   "
    return textwrap.fill(_printable(text), WIDTH, initial_indent=later[:-2], subsequent_indent=later)


def _printable(text: str) -> str:
    """Return a text in which the name of a file, which may hold anything, cannot end a comment."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _names(option: ConfiguredOption) -> list[str]:
    """Return the names that an option takes, where they are known."""
    kind: Any = option.type
    known = [] if isinstance(kind, click.types.BoolParamType) else kind.schema().get("enum", [])
    return [name for name in known if isinstance(name, str)]


def _choices(option: ConfiguredOption) -> str:
    """Return the names that an option takes, where its help leaves some out."""
    names = _names(option)
    told = all(name in str(option.help) or name == option.otherwise for name in names)
    return "" if told else f"One of {', '.join(names)}."


def _default(option: ConfiguredOption) -> Any:
    """Return the value of an option where nothing is said, or words for what belongs there."""
    if option.otherwise is not None:
        return option.otherwise
    if option.is_flag:
        return "true|false"
    return option.metavar or "|".join(_names(option)) or option.type.name.upper()


def _yaml(value: Any) -> str:
    """Return a value as YAML writes it in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return text.removesuffix("\n...\n").strip()


def _fit_any() -> Fit:
    """Return what fits any volume: lengths in voxels."""
    return Fit(
        ["A configuration of lucid-conv3d: a Gaussian of 1.5 voxels, on the grid of the input."],
        {"kernel": "gaussian", "sigma": "1.5vox"},
        _of_named_kernels(),
        {"sigma": "In mm it needs a volume whose file holds its spacing."},
    )


def _of_named_kernels() -> dict[str, Any]:
    """Return the defaults of a named kernel where they are not those of other layers."""
    return {"padding": "same", "padding_mode": "replicate"}


def _fit(spec: Spec) -> Fit:
    """Return what fits a scan, from its header and the plan of a run."""
    info = open_info(spec)
    sigma = Length((1.0, 1.0, 1.0), "vox") if info.spacing is None else _sigma(info.spacing)
    active = {"kernel": "gaussian", "sigma": str(sigma), "out_dtype": "float32"}
    active |= {"axis4": "batch"} if "t" in info.axes else {}
    planned = plan(replace(Settings(), kernel="gaussian", sigma=sigma), spec)
    about = [
        f"A configuration of lucid-conv3d for {volume_line(planned.input)}",
        f"As it stands: {in_words(planned)}",
    ]
    return Fit(about, active, _of_named_kernels() | _values(info, planned), _notes(info, planned, sigma))


def _sigma(spacing: Spacing) -> Length:
    """Return the width of a Gaussian of about a voxel, in all directions of the world alike."""
    mean = math.prod(spacing) ** (1 / 3)
    unit, size = ("mm", mean) if mean >= LEAST_MM else ("um", 1000 * mean)
    width = float(f"{size:.2g}")
    return Length((width, width, width), unit)


def _values(info: VolumeInfo, planned: Item) -> dict[str, Any]:
    """Return values of inactive options that say of the scan and the run what would be so without them."""
    assert planned.shapes is not None and planned.layer is not None and planned.plan is not None
    spacing = {} if info.spacing is None else {"spacing": ",".join(f"{one:.7g}" for one in info.spacing) + "mm"}
    return spacing | {
        "in_channels": planned.shapes["input"][1],
        "out_channels": planned.shapes["output"][1],
        "groups": planned.shapes["input"][1],
        "dtype": planned.layer["dtype"],
        "axes": info.axes,
        "threads": planned.plan.threads,
        "tile": list(planned.plan.tile),
        "max_memory": f"{most_memory(planned.plan) >> 20}MiB",
    }


def _notes(info: VolumeInfo, planned: Item, sigma: Length) -> dict[str, str]:
    """Return words for options: what they are for the scan."""
    assert planned.plan is not None
    channels = f"The volume has {planned.shapes['input'][1] if planned.shapes else 1}."
    notes = {
        "in_channels": channels,
        "sigma": _of_sigma(sigma, info.spacing),
        "out_dtype": f"The file holds {info.dtype}; float32 keeps the fractions of a mean.",
        "max_memory": f"This run takes {format_bytes(most_memory(planned.plan))} at most.",
        "spacing": "The file says this one." if info.spacing else "The file holds none, so that lengths are in voxels.",
    }
    if "t" in info.axes:
        notes["axis4"] = f"It has {info.shape[3]} entries: volumes of a batch, such as times, unless it says channel."
    return notes


def _of_sigma(sigma: Length, spacing: Spacing | None) -> str:
    """Return a width in voxels and as full width at half maximum."""
    voxels = ",".join(f"{one:.3g}" for one in sigma.voxels(spacing))
    fwhm = f"{FWHM_PER_SIGMA * sigma.values[0]:.3g} {sigma.unit}"
    return f"Here {voxels} voxels along D,H,W: a full width at half maximum of {fwhm}."
