"""HDF5: the numeric datasets of a file, by their paths and, behind `/`, also with dots, as in other files."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lucid_cli.hdf5_file import Hdf5Arrays
from lucid_cli.isolation import Isolated
from lucid_cli.weight_files import Array, ArrayFile, Shape, check_size

LAST_NAMES = ("weight", "bias", "kernel", "kernel:0", "bias:0", "vars.0", "vars.1")
"""Of weights and biases, as they follow the name of their layer."""


@contextmanager
def opened(path: Path) -> Iterator[ArrayFile]:
    """Open the file in a child process."""
    with closing(Isolated(str(path), Hdf5Arrays, path)) as child:
        found: dict[str, tuple[Shape, int, int]] = child.call("sizes")
        dotted = _dotted(found)

        def read(name: str) -> Array:
            check_size(path, name, *found[dotted[name]][1:])
            array: Array = child.call("read", dotted[name])
            return array

        yield ArrayFile(path, found, lambda name: found[dotted[name]][0], read, dotted)


def _dotted(found: Iterable[str]) -> dict[str, str]:
    """Name the datasets of HDF5 groups as the arrays of other files: `/conv/weight` is `conv.weight`, and itself."""
    names = {name: name for name in found}
    for name in tuple(names):
        names.setdefault(f"/{name}", name)
        group, _, last = name.rpartition("/")
        if group.endswith("vars"):  # Keras 3 numbers the variables of a layer
            group, last = group.removesuffix("vars").rstrip("/"), f"vars.{last}"
        if group and last in LAST_NAMES:
            for key in (group, f"/{group}", group.replace("/", ".")):
                names.setdefault(f"{key}.{last}", name)
    return names
