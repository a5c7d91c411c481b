"""`.nii` and `.nii.gz`: a kernel whose voxels are the taps; of a 4-D one, each volume is a filter."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from lucid_cli.formats import format_of, parse_spec
from lucid_cli.weight_files import Array, ArrayFile, check_size
from lucid_core.errors import ShapeError
from lucid_core.regions import Region

ROLES = {3: "xyz", 4: "xyzc"}
"""What the axes are, by rank."""


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Open the volume: its taps are (K_D, K_H, K_W), or (O, 1, K_D, K_H, K_W)."""
    spec = parse_spec(str(path))
    with closing(format_of(spec).open_source(spec)) as source:
        shape = source.info.shape
        if len(shape) not in ROLES:
            raise ShapeError(f"weights {path}: a kernel has 3 axes, or 4 with one for its filters, not {len(shape)}")
        taps = shape[::-1] if len(shape) == 3 else (shape[3], 1, *shape[2::-1])
        roles = ROLES[len(shape)]

        def read(_: str) -> Array:
            check_size(path, "", 8 * int(np.prod(shape)))
            reading = source.readings(roles)[-1]
            values = np.empty((shape[3] if len(shape) == 4 else 1, *shape[2::-1]))
            source.reader(roles, reading, None).read(0, Region((0, 0, 0), (shape[2], shape[1], shape[0])), values)
            source.finish()
            return values.reshape(taps)

        yield ArrayFile(path, [""], lambda _: tuple(taps), read)
