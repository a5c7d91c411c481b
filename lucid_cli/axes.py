"""Which axis of a file is what: the rules that turn a file's axes into batch, channels, D, H and W."""

from lucid_cli.volumes import FIVE, VolumeInfo
from lucid_core.errors import ArgumentError, ShapeError

ROLE = {"d": "z", "h": "y", "w": "x", "t": "n"}
"""Other letters that `--axes` takes, and the role each means."""


OWN_AXES: dict[str, tuple[str, str, str | None, str | None]] = {
    "nifti": ("xyz", "xyzn", "xyzc", "xyznc"),
    "mgh": ("xyz", "xyzn", "xyzc", None),
    "metaimage": ("xyz", "xyzn", "cxyz", "cxyzn"),
    "nrrd": ("xyz", "xyzn", "cxyz", "cxyzn"),
    "mrc": ("zyx", "nzyx", None, None),
    "tiff": ("zyx", "nzyx", "zcyx", "nzcyx"),
    "ome_tiff": ("zyx", "nzyx", "zcyx", "nzcyx"),
}
"""Roles of the axes that a format has of its own: of one volume, of a batch, of channels and of both, where it can."""


def roles(info: VolumeInfo, *, axes: str | None, axis4: str, in_channels: int | None, each_channel_alone: bool) -> str:
    """Return the role (n, c, z, y, x) of each axis of a file, in its order.

    `axes` says it outright. The axis of time (`t` in `info.axes`), the 4th of a NIfTI, is a batch with a named kernel
    (`each_channel_alone`) and when `in_channels` is 1, the channels when it is `in_channels` long, unless `axis4`
    says which; otherwise `ShapeError` asks for it. Beside an axis of channels it is a batch.
    """
    if axis4 != "auto" and info.format != "nifti" and "t" not in info.axes:
        raise ArgumentError(
            f"--axis4 {axis4} is for NIfTI and other files with an axis of time; say what the axes of {info.path} are "
            "with --axes, as in NDHW"
        )
    if axes is not None:
        return _said(info, axes)
    if "t" not in info.axes:
        return info.axes
    return info.axes.replace("t", _fourth(info, axis4, in_channels, each_channel_alone))


def _fourth(info: VolumeInfo, axis4: str, in_channels: int | None, each_channel_alone: bool) -> str:
    length = info.shape[info.axes.index("t")]
    if "c" in info.axes:
        return "n"
    if axis4 != "auto":
        return {"batch": "n", "channel": "c"}[axis4]
    if each_channel_alone or in_channels == 1 or (in_channels is None and length == 1):
        return "n"
    if in_channels == length:
        return "c"
    layer = "takes a number of channels that is not known" if in_channels is None else f"takes {in_channels} channels"
    raise ShapeError(
        f"{info.path}: the 4th axis has {length} entries and the layer {layer}: "
        "say what the axis is with --axis4 batch or --axis4 channel"
    )


def spelled(axes: str) -> str:
    """Return the roles that `--axes` spells, or raise `ArgumentError`."""
    said = "".join(ROLE.get(letter, letter) for letter in axes.lower())
    if not set("xyz") <= set(said) <= set(FIVE) or len(set(said)) != len(said):
        raise ArgumentError(f"--axes {axes!r} must hold each of D, H, W once, and N and C at most once, as in NDHW")
    return said


def _said(info: VolumeInfo, axes: str) -> str:
    """Return the roles that `--axes` gives, in the file's order."""
    said = spelled(axes)
    if len(said) != len(info.shape):
        raise ShapeError(f"{info.path}: --axes {axes} names {len(said)} axes, the file has {len(info.shape)}")
    if "xyz" in info.axes and said.find("xyz") != info.axes.find("xyz"):
        first = "first axes of a NIfTI" if info.format == "nifti" else f"axes of {info.path} ({info.axes})"
        raise ArgumentError(f"--axes {axes}: the {first} are x, y, z (WHD); only the others have a choice")
    if info.details.get("levels") and [said.index(axis) for axis in "zyx"] != [info.axes.index(axis) for axis in "zyx"]:
        raise ArgumentError(
            f"--axes {axes}: the image {info.path} says which of its axes is z, y and x ({info.axes}); "
            "only the others have a choice"
        )
    return said


def output_axes(format_name: str, in_format: str, in_roles: str, batch: int, channels: int) -> str:
    """Return the roles of the axes of an output with these sizes, in its file's order.

    A format with axes of its own, as NIfTI, has those (`OWN_AXES`), or `ShapeError` says what it cannot hold. Others
    keep the input's axes where these hold the result, else N, C, D, H, W; a Zarr has no more axes than it needs.
    """
    if format_name in OWN_AXES:
        alone, of_batch, of_channels, of_both = OWN_AXES[format_name]
        was_batch = format_name == in_format and in_roles == of_batch
        axes = of_both if batch > 1 and channels > 1 else of_channels if channels > 1 else of_batch
        if axes is None:
            raise ShapeError(
                f"the output has {batch} volumes of {channels} channels, which the format {format_name} cannot hold; "
                "name the output .nii, .h5 or .npy"
            )
        return alone if channels == 1 and batch == 1 and not was_batch else axes
    kept = "".join(letter for letter in FIVE if letter in in_roles) if in_format in OWN_AXES else in_roles
    held = {"n": batch, "c": channels}
    if all(size == 1 or letter in kept for letter, size in held.items()):
        return kept
    return "".join(letter for letter in FIVE if letter in kept or held[letter] > 1) if format_name == "zarr" else FIVE
