"""Every option, declared once, in the groups of the configuration: layer, weights, volume, run.

`LAYER`, `WEIGHTS`, `VOLUME`, `OUTPUT` and so on are lists of decorators; `with_options` puts such lists on a command.
`settings.Settings` holds their values.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from lucid_cli import names, offers
from lucid_cli.config import ConfiguredOption, read_config, read_set
from lucid_cli.types import (
    Choice,
    Count,
    FileName,
    LayerList,
    LengthType,
    MemorySize,
    NestedList,
    Number,
    Size,
    Word,
)

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]


def option(section: str, *names: str, **attributes: Any) -> Decorator:
    """Declare an option of a section of the configuration; "" keeps it out of YAML.

    Where nothing said must be told from the default, which is then None, `show_default` says what holds.
    """
    decorator: Decorator = click.option(
        *names, cls=ConfiguredOption, section=section, **{"show_default": True, **attributes}
    )
    decorator.name = next(name for name in names if name.startswith("--"))  # type: ignore[attr-defined]
    return decorator


def only(group: Sequence[Decorator], *names: str) -> list[Decorator]:
    """Return some options of a group, by their long names, in their order there."""
    found = {one.name: one for one in group}  # type: ignore[attr-defined]
    return [found[name] for name in names]


def with_options(*groups: Sequence[Decorator]) -> Callable[[Function], Function]:
    """Put the options of several groups on a command, in this order."""

    def decorate(function: Function) -> Function:
        for decorator in reversed([one for group in groups for one in group]):
            function = decorator(function)
        return function

    return decorate


LAYER = [
    option("layer", "--in-channels", type=Count(1), help="Input channels; by default those of weights and volume."),
    option("layer", "--out-channels", type=Count(1), help="Output channels; by default those of the weights."),
    option("layer", "--kernel-size", type=Size(1), help="Kernel voxels, such as 3 or 3,3,1."),
    option("layer", "--stride", type=Size(1), show_default="1", help="Step from output to output voxel."),
    option(
        "layer",
        "--padding",
        type=Size(0, ("same", "valid")),
        show_default="0",
        help="Voxels, 'same' or 'valid'; a named kernel has same.",
    ),
    option("layer", "--dilation", type=Size(1), show_default="1", help="Step from tap to tap."),
    option("layer", "--groups", type=Count(1), show_default="1", help="Groups of channels that are convolved apart."),
    option("layer", "--bias/--no-bias", default=None, help="Whether a bias is added. Default: as the weights have it."),
    option(
        "layer",
        "--padding-mode",
        type=names.PADDING_MODE,
        show_default="zeros",
        help="Outside: zeros, reflect, replicate, circular, symmetric, renormalize; a named kernel has replicate.",
    ),
    option(
        "layer",
        "--device",
        type=names.DEVICE,
        default="cpu",
        help="Where: cpu, cuda, cuda:1, metal; auto is a GPU if any.",
    ),
    option("layer", "--dtype", type=Choice(["float32", "float64"]), help="Arithmetic; by default from the volume."),
    option("layer", "--seed", type=Count(0), show_default="0", help="Seed of random initial weights."),
    option(
        "layer",
        "--layers",
        type=LayerList(),
        metavar="LIST",
        help="A stack, such as '[{weights: a.npz, padding: 1}, relu, {kernel: box, size: 3vox}]'.",
    ),
]

WEIGHTS = [
    option(
        "weights",
        "--weights",
        type=NestedList(),
        metavar="FILE[:KEY]",
        help=".npy, .npz, .safetensors, .h5, .pt, .onnx, .nii.gz, .csv; or a list, such as [[0,1,0],[1,-4,1],[0,1,0]].",
    ),
    option(
        "weights",
        "--weights-axes",
        type=Choice(["zyx", "xyz"]),
        show_default="zyx",
        help="Order of the kernel axes in the file; xyz for models trained on nibabel arrays.",
    ),
    option(
        "weights",
        "--weights-layout",
        type=Choice(["torch", "keras"]),
        show_default="torch",
        help="Order of all axes: torch is out, in, kernel; keras is kernel, in, out.",
    ),
    option("weights", "--kernel", type=names.KERNEL, metavar="NAME", help="Such as gaussian; 'kernel list' shows all."),
]

KERNEL = [
    option("weights", "--sigma", type=LengthType(), help="Standard deviation of the kernel, such as 1.5mm or 2vox."),
    option("weights", "--fwhm", type=LengthType(), help="Full width at half maximum, such as 6mm."),
    option("weights", "--sigma2", type=LengthType(), help="Of the wider Gaussian of dog. Default 1.6 sigma."),
    option("weights", "--truncate", type=Number(0), show_default="4", help="Sigmas at which a Gaussian is cut off."),
    option("weights", "--size", type=LengthType(), help="Size of the kernel, such as 3vox or 6mm."),
    option("weights", "--radius", type=LengthType(), help="Radius of the kernel, such as 5mm."),
    option("weights", "--axis", type=names.KERNEL_AXIS, help="Of the kernel: z, y, x, also D, H, W; or all, a bank."),
    option("weights", "--order", type=Size(0), help="Order of the derivative along D,H,W, such as 0,0,1."),
    option("weights", "--neighbours", type=Count(1), show_default="6", help="Of the Laplacian: 6, 18 or 26."),
    option("weights", "--offset", type=LengthType(signed=True), help="Shift along D,H,W, such as 1,0,-2vox."),
    option("weights", "--amount", type=Number(), show_default="1", help="Strength of unsharp."),
    option("weights", "--wavelength", type=LengthType(), help="Of a Gabor filter, such as 8mm."),
    option("weights", "--direction", type=Number(each="D,H,W"), show_default="0,0,1", help="Of a Gabor filter's wave."),
    option("weights", "--phase", type=Number(), show_default="0", help="Of a Gabor filter, in degrees; 0 is a cosine."),
    option("weights", "--flip", is_flag=True, help="Flip the kernel along every axis: a true convolution."),
]
"""The options of named kernels."""

VOLUME = [
    option("volume", "--axes", type=names.AXES, metavar="LETTERS", help="Axes of the array, such as NDHW or zyxc."),
    option(
        "volume",
        "--axis4",
        type=Choice(["auto", "batch", "channel"]),
        default="auto",
        help="What the 4th axis is, time or channels.",
    ),
    option(
        "volume", "--spacing", type=LengthType(), help="Voxel spacing D,H,W, such as 2,1,1mm, instead of the file's."
    ),
    option("volume", "--mask", type=FileName(), metavar="FILE", help="Convolve only what is inside, as s(M X) / s(M)."),
    option("volume", "--outside", type=Number(nan=True), show_default="0", help="Outside the mask: a number or nan."),
    option(
        "volume",
        "--nan",
        type=Choice(["propagate", "renormalize"]),
        default="propagate",
        help="Missing voxels: renormalize leaves them out, as outside a mask, and fills them in.",
    ),
    option(
        "volume",
        "--normalize",
        type=names.NORMALIZE,
        shell_complete=offers.normalizations,
        metavar="HOW",
        help="Scale the input first, inside the mask: zscore, minmax or percentile:1,99.",
    ),
    option("volume", "--out-dtype", type=names.OUT_DTYPE, default="float32", help="Type of output values."),
    option(
        "volume",
        "--cast",
        type=Choice(["error", "clip", "rescale"]),
        default="error",
        help="What to do with values an integer output cannot hold.",
    ),
]

PLANNING = [
    option(
        "run", "--accuracy", type=names.ACCURACY, default="componentwise", help="Error bound: componentwise, normwise."
    ),
    option("run", "-j", "--threads", type=Count(0), help="Threads; 0 or none: all cores this process may use."),
    option("run", "--max-memory", type=MemorySize(), help="Most memory of the whole process, such as 512M or 2GiB."),
    option("run", "--tile", type=Size(1), help="Output voxels computed at a time; changes no result."),
    option("run", "--batch-size", type=Count(1), help="Volumes of the batch axis in work at once."),
    option(
        "run",
        "--algorithm",
        type=names.ALGORITHM,
        default="auto",
        help="auto, direct, fft, gemm, native, separable, winograd.",
    ),
    option("run", "--engine", type=names.ENGINE, default="auto", help="What computes: auto, numpy, numba or torch."),
    option("run", "--tf32/--no-tf32", default=False, help="Let a GPU multiply with 11 bits, errors of 1/512."),
]

CONFIG = [
    option(
        "",
        "-c",
        "--config",
        type=FileName(offers.files(".yaml", ".yml")),
        metavar="FILE.yaml",
        is_eager=True,
        callback=read_config,
        help="Read options from YAML.",
    ),
    option(
        "",
        "--set",
        "set_",
        metavar="KEY=VALUE",
        multiple=True,
        is_eager=True,
        callback=read_set,
        shell_complete=offers.settings,
        help="Change one key of the configuration, such as layer.stride=2.",
    ),
    option("", "--print-config", is_flag=True, help="Print the resolved configuration as YAML and stop."),
]

TALK = [
    option(
        "run",
        "--progress",
        type=Choice(["auto", "bar", "log", "json", "none"]),
        default="auto",
        help="auto is a bar on a terminal, else a line every 10 % or 30 s.",
    ),
    option("run", "-q", "--quiet", is_flag=True, help="Print nothing but errors."),
    option("run", "-v", "--verbose", is_flag=True, help="Print the plan with every algorithm weighed."),
]

DEBUG = [option("", "--debug", is_flag=True, help="Show the traceback of an error.")]

OUTPUT = [
    option(
        "run", "-o", "--output", type=FileName(written=True), metavar="OUTPUT", help="A file, or an existing folder."
    ),
    option(
        "run",
        "--out-dir",
        type=FileName(offers.files(), written=True),
        metavar="FOLDER",
        help="A folder for the outputs, made if missing.",
    ),
    option(
        "run",
        "--name",
        type=Word(),
        metavar="PATTERN",
        show_default="{stem}_conv3d{suffix}",
        help="Names in a folder, of {stem} {suffix} {kernel} {parent}.",
    ),
    option("run", "--overwrite", "--force", is_flag=True, help="Replace an existing output."),
    option("run", "--skip-existing", is_flag=True, help="Leave out inputs whose output is finished and whole."),
    option("run", "--resume", is_flag=True, help="Keep what is computed if the run is ended, and go on from there."),
    option("run", "--fail-fast", is_flag=True, help="Stop at the first input that fails, those in work too."),
    option("run", "--dry-run", is_flag=True, help="Plan only: read headers, write nothing."),
    option(
        "run",
        "--provenance/--no-provenance",
        default=True,
        show_default="keep it",
        help="Keep in NIfTI and HDF5 outputs what they were made from.",
    ),
    option("run", "--sidecar", is_flag=True, help="Write what an output was made from to a .json beside it."),
    option(
        "run",
        "--report",
        type=FileName(offers.files(".json", ".html"), written=True),
        metavar="FILE|-",
        help="Write the report: .json, or .html with pictures.",
    ),
]
