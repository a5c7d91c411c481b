"""OME-TIFF: `.ome.tif` and `.ome.tiff`, whose OME-XML names the axes and says the spacing, in micrometres."""

import math
import uuid
from pathlib import Path

from lucid_cli.formats import Spec
from lucid_cli.formats.tiff import LARGEST_CLASSIC, files, files_read, open_source, raw_sink, writing
from lucid_cli.volumes import Sink, Target
from lucid_core import __version__

__all__ = ["files", "files_read", "open_sink", "open_source", "writing"]


def open_sink(temporaries: list[Path], target: Target, spec: Spec) -> Sink:  # noqa: ARG001
    """Open a temporary file to write an OME-TIFF, a BigTIFF where it needs to be one."""
    creator = f"lucid-conv3d {__version__}"
    same = f"{creator} {target.file_shape} {target.axes} {target.dtype} {target.spacing}"
    metadata = {"Creator": creator, "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, same)}"}
    for axis, step in zip("ZYX", target.spacing or (), strict=False):
        metadata |= {f"PhysicalSize{axis}": repr(1000 * step), f"PhysicalSize{axis}Unit": "µm"}
    size = math.prod(target.shape) * target.dtype.itemsize
    kind = {"ome": True, "bigtiff": size > LARGEST_CLASSIC}
    return raw_sink(temporaries, target, kind, {"metadata": metadata})
