"""The lower levels of a multiscale image: each is the mean of boxes of two voxels of the one before.

Along an axis whose voxels are already twice as long as the shortest, nothing is halved, until the others have caught
up. A level has half the voxels, rounded up; the last box of an odd axis holds one voxel twice. Its voxels are centred
between those they are the mean of, half a voxel further on.
"""

from dataclasses import dataclass

import numpy as np

from lucid_core.compute import Filters
from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.units import Spacing
from lucid_core.volume import Shape5, arithmetic_dtype


@dataclass(frozen=True)
class Shrinking:
    """From one level to the next: voxels along D, H, W that become one, 1 or 2, and the size of the next level."""

    factors: Triple
    size: Triple

    def placed(
        self, scale: dict[str, float], translation: dict[str, float]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return scale and translation of the next level, by the letters of the axes, from those of this one."""
        by_letter = dict(zip("zyx", self.factors, strict=True))
        wider = {letter: step * by_letter.get(letter, 1) for letter, step in scale.items()}
        moved = {
            letter: start + scale[letter] * (by_letter.get(letter, 1) - 1) / 2 for letter, start in translation.items()
        }
        return wider, moved

    def problem(self, shape: Shape5, dtype: str) -> ConvProblem:
        """Return the convolution that makes the next level of a level of this shape, each channel by itself."""
        batch, channels, d, h, w = shape
        pads = tuple((0, -size % factor) for size, factor in zip((d, h, w), self.factors, strict=True))
        return ConvProblem(
            batch,
            channels,
            channels,
            (d, h, w),
            self.factors,
            self.factors,
            (pads[0], pads[1], pads[2]),
            groups=channels,
            padding_mode="replicate",
            dtype=arithmetic_dtype(dtype).name,
            separable=True,
        )

    def filters(self, channels: int, dtype: str) -> Filters:
        """Return the weights of that convolution, exact powers of two."""
        count = self.factors[0] * self.factors[1] * self.factors[2]
        return Filters(np.full((channels, 1, *self.factors), 1 / count, arithmetic_dtype(dtype)))


def shrinkings(size: Triple, spacing: Spacing | None, *, most: int) -> tuple[Shrinking, ...]:
    """Return how the levels follow from each other: one at least, then until no axis has more than `most` voxels."""
    steps: list[Shrinking] = []
    lengths = spacing or (1.0, 1.0, 1.0)
    while max(size) > 1 and (not steps or max(size) > most):
        shortest = min(length for length, count in zip(lengths, size, strict=True) if count > 1)
        d, h, w = (2 if count > 1 and length < 2 * shortest else 1 for length, count in zip(lengths, size, strict=True))
        size = (-(-size[0] // d), -(-size[1] // h), -(-size[2] // w))
        lengths = (lengths[0] * d, lengths[1] * h, lengths[2] * w)
        steps.append(Shrinking((d, h, w), size))
    return tuple(steps)
