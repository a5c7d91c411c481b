"""A kernel by its name or from a file of weights, and files of weights that are written."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_cli.named import given_options, made, rounded
from lucid_cli.output import check_target, protect, write_bytes
from lucid_cli.settings import Settings
from lucid_cli.weight_files import suffix_of
from lucid_cli.weight_saving import SAVERS
from lucid_cli.weights import is_list, load, split
from lucid_core.errors import ArgumentError
from lucid_core.kernels import kernels
from lucid_core.registry import choose
from lucid_core.units import Spacing

Array = npt.NDArray[Any]
PLAIN = (".npy", ".nii", ".nii.gz")
"""Formats that hold the weights of one layer and nothing else."""
SAVED = (".npy", *SAVERS, ".nii", ".nii.gz")
MOST_NIFTI1 = 2**15 - 1
"""Voxels along an axis of a NIfTI-1."""


@dataclass(frozen=True)
class Filters:
    """Filters to look at: weights (O, C/g, K_D, K_H, K_W), float64 where they are a named kernel's."""

    name: str
    options: dict[str, Any]
    weight: Array
    bias: Array | None
    spacing: Spacing | None
    """Of the volume that they are for, in mm along D, H, W, where it is said."""
    files: tuple[Path, ...] = ()
    """The file that they were read from."""


def chosen(text: str, settings: Settings) -> Filters:
    """Return the filters of a named kernel, made for `settings.spacing`, or of a file of weights."""
    spacing = None if settings.spacing is None else settings.spacing.millimetres()
    path, _ = split(text)
    listed = is_list(text)
    if not suffix_of(path) and not listed:
        choose("kernel or file of weights", text, kernels())
        for name in ("weights_axes", "weights_layout"):
            if getattr(settings, name) is not None:
                option = name.replace("_", "-")
                raise ArgumentError(f"--{option} belongs to a file of weights, and {text!r} is a named kernel")
        kernel = made(changed(settings, kernel=text), spacing)
        return _flipped(Filters(kernel.name, kernel.options, kernel.bank[:, np.newaxis], None, spacing), settings)
    if given := given_options(settings):
        raise ArgumentError(f"--{next(iter(given))} belongs to a named kernel, and {text!r} is a file of weights")
    loaded = load(text, settings.weights_axes or "zyx", settings.weights_layout or "torch")
    return _flipped(Filters(text, {}, loaded.weight, loaded.bias, spacing, () if listed else (path,)), settings)


def _flipped(filters: Filters, settings: Settings) -> Filters:
    return changed(filters, weight=filters.weight[..., ::-1, ::-1, ::-1]) if settings.flip else filters


def write(filters: Filters, output: str, overwrite: bool) -> None:
    """Write filters to a file that `weights.load` reads; the suffix says the format."""
    content = encoded(filters, output)
    write_bytes(check_target(Path(output), protect(filters.files), overwrite, skips=False), content, overwrite)


def saved_suffix(output: str) -> str:
    """Return the suffix of a name that weights can be saved under, or raise `ArgumentError` with the legal ones."""
    found = next((one for one in SAVED if Path(output).name.lower().endswith(one)), None)
    if found is None:
        raise ArgumentError(f"{output}: the suffix says no format for weights here; legal: {', '.join(SAVED)}")
    return found


def encoded(filters: Filters, output: str) -> bytes:
    """Return what such a file of this name holds. Raises `ArgumentError` for a format that has no place for it."""
    suffix = saved_suffix(output)
    if filters.bias is not None and suffix in PLAIN:
        raise ArgumentError(
            f"{output}: a {suffix} has no place for the bias of {filters.name}; use .npz or .safetensors"
        )
    if suffix in SAVERS:
        return _named_arrays(SAVERS[suffix], filters)
    return {".npy": _npy, ".nii": _nifti, ".nii.gz": _nifti_gz}[suffix](filters)


def _npy(filters: Filters) -> bytes:
    file = io.BytesIO()
    np.save(file, _plain(filters.weight), allow_pickle=False)
    return file.getvalue()


def _plain(weight: Array) -> Array:
    """Return one filter as (K_D, K_H, K_W), several as they are."""
    return np.ascontiguousarray(weight[0, 0] if weight.shape[:2] == (1, 1) else weight)


def _named_arrays(save: Callable[..., bytes], filters: Filters) -> bytes:
    arrays = {"weight": np.ascontiguousarray(filters.weight)}
    return save(arrays if filters.bias is None else arrays | {"bias": filters.bias})


def _nifti(filters: Filters) -> bytes:
    """Return a NIfTI of x, y, z and, where there are several filters, c; its middle lies at 0 mm."""
    from nibabel.nifti1 import Nifti1Image
    from nibabel.nifti2 import Nifti2Image

    volume = _plain(rounded(filters.weight, np.dtype(np.float32)))
    if volume.ndim == 5:
        if volume.shape[1] > 1:
            raise ArgumentError(f"a NIfTI has no place for {volume.shape[1]} input channels; use .npz or .safetensors")
        volume = volume[:, 0]
    z, y, x = filters.spacing or (1.0, 1.0, 1.0)
    affine = np.diag([x, y, z, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(volume.shape[-1:-4:-1]) - 1) / 2)
    image = (Nifti2Image if max(volume.shape) > MOST_NIFTI1 else Nifti1Image)(volume.T, affine)
    image.header.set_xyzt_units("mm")
    made: bytes = image.to_bytes()
    return made


def _nifti_gz(filters: Filters) -> bytes:
    import gzip

    return gzip.compress(_nifti(filters), mtime=0)
