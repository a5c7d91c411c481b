"""Which axis of a file is what: the rules that turn a file's axes into batch, channels, D, H and W."""

from lucid_cli.volumes import FIVE, VolumeInfo
from lucid_core.errors import ArgumentError, ShapeError

ROLE = {"d": "z", "h": "y", "w": "x", "t": "n"}
"""Other letters that `--axes` takes, and the role each means."""


def roles(info: VolumeInfo, *, axes: str | None, axis4: str, in_channels: int | None, each_channel_alone: bool) -> str:
    """Return the role (n, c, z, y, x) of each axis of a file, in its order.

    `axes` says it outright. The 4th axis of a NIfTI (`t` in `info.axes`) is a batch with a named kernel
    (`each_channel_alone`) and when `in_channels` is 1, the channels when it is `in_channels` long, unless `axis4`
    says which; otherwise `ShapeError` asks for it.
    """
    if axis4 != "auto" and info.format != "nifti":
        raise ArgumentError(
            f"--axis4 {axis4} is for NIfTI; say what the axes of {info.path} are with --axes, as in NDHW"
        )
    if axes is not None:
        return _said(info, axes)
    if "t" not in info.axes:
        return info.axes
    return info.axes.replace("t", _fourth(info, axis4, in_channels, each_channel_alone))


def _fourth(info: VolumeInfo, axis4: str, in_channels: int | None, each_channel_alone: bool) -> str:
    length = info.shape[3]
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
    if info.format == "nifti" and not said.startswith("xyz"):
        raise ArgumentError(
            f"--axes {axes}: the first axes of a NIfTI are x, y, z (WHD); only the others have a choice"
        )
    return said


def output_axes(format_name: str, in_format: str, in_roles: str, batch: int, channels: int) -> str:
    """Return the roles of the axes of an output with these sizes, in its file's order.

    NIfTI: x, y, z, then the batch or the channels as 4th axis, or both as 4th and 5th. Others keep the input's axes
    where these hold the result, else N, C, D, H, W.
    """
    if format_name == "nifti":
        if batch > 1 and channels > 1:
            return "xyznc"
        if channels > 1:
            return "xyzc"
        return "xyzn" if batch > 1 or (in_format == "nifti" and in_roles == "xyzn") else "xyz"
    kept = "".join(letter for letter in FIVE if letter in in_roles) if in_format == "nifti" else in_roles
    held = {"n": batch, "c": channels}
    fits = all(size == 1 or letter in kept for letter, size in held.items())
    return kept if fits else FIVE
