"""Two volumes compared, of any formats: `compare` returns a `Comparison`, `words` prints it.

`values` streams the voxels of both, `headers` looks at the rest, and each verdict is a `parts.Part`.
"""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from lucid_cli.comparison.headers import compare_dtype, compare_geometry, compare_header, compare_shape
from lucid_cli.comparison.parts import DIFFERS, IGNORED, Part
from lucid_cli.comparison.values import compare_values
from lucid_cli.formats import Spec
from lucid_cli.opening import opened
from lucid_cli.volumes import Source, VolumeInfo
from lucid_core.errors import ArgumentError
from lucid_core.registry import choose

PARTS = ("shape", "values", "geometry", "dtype", "header")
"""What is compared."""


@dataclass(frozen=True)
class Comparison:
    """What two volumes have in common, and what not; `b` is the reference."""

    a: VolumeInfo
    b: VolumeInfo
    rtol: float
    atol: float
    parts: dict[str, Part]
    """All of `PARTS`."""

    @property
    def same(self) -> bool:
        """Whether no part differs of those that were compared."""
        return not self.differing

    @property
    def differing(self) -> list[str]:
        """Names of the parts that differ."""
        return [name for name, part in self.parts.items() if part.verdict == DIFFERS]


def compare(a: Spec, b: Spec, rtol: float = 0.0, atol: float = 0.0, ignore: Collection[str] = ()) -> Comparison:
    """Compare a volume with a reference `b`, in bounded memory; values are the same where |a - b| <= atol + rtol |b|.

    `ignore` names parts that are left out; without the values, headers alone are read. Raises `InputError` naming the
    file that cannot be read, `ArgumentError` for an unknown part.
    """
    left_out = {choose("part", name, PARTS) for name in ignore}
    if len(left_out) == len(PARTS):
        raise ArgumentError(f"nothing is left to compare: all of {', '.join(PARTS)} are ignored")
    if a.is_pipe and b.is_pipe:
        raise ArgumentError("only one of the two volumes can come from stdin; name a file for the other")
    with ExitStack() as stack:
        first, second = opened(a, stack), opened(b, stack)
        compared: dict[str, Callable[[Source, Source], Part]] = {
            "shape": compare_shape,
            "values": partial(compare_values, rtol=rtol, atol=atol),
            "geometry": compare_geometry,
            "dtype": compare_dtype,
            "header": compare_header,
        }
        parts = {name: Part(IGNORED) if name in left_out else compared[name](first, second) for name in PARTS}
        return Comparison(first.info, second.info, rtol, atol, parts)
