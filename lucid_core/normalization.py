"""Normalised convolution: s(M X) / s(M), M being 1 where the input counts and 0 where it does not.

(Knutsson and Westin, CVPR 1993, with a certainty of 0 or 1.) What does not count, be it outside a mask, missing, or
beyond the border, has no part in a result, whatever its value. s is the layer without its bias, which is added after.
Where s(M) is 0 nothing is known, and the result is NaN.

With g = gamma(K + 2) of the algorithm, n = sum |w||M X| and m = sum |w|M, a result y is off by at most
(g n + |y| g m) / (|s(M)| - g m) + u |y|: where all weights are positive, little more than twice the bound of s itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ArgumentError, ArgumentTypeError

Array = npt.NDArray[Any]
NO_SUM = 1e-6
"""A filter whose sum is below this share of the sum of magnitudes cannot be normalised."""


@dataclass(frozen=True)
class Normalization:
    """What counts. With neither a mask nor missing voxels, all that lies inside the volume."""

    mask: bool = False
    """Only what lies inside a mask, which is the same for all channels and volumes."""
    missing: bool = False
    """Only what is not NaN."""
    outside: float = 0.0
    """The result where no voxel nearest to its centre lies inside the mask."""

    @property
    def of_voxels(self) -> bool:
        """Whether voxels are looked at, so that M is convolved; else s(M) follows from the borders alone."""
        return self.mask or self.missing


def check_sums(weight: Array) -> None:
    """Raise `ArgumentError` where a filter of weights (O, C/g, K_D, K_H, K_W) sums to 0."""
    exact = weight.astype(np.float64)
    sums, sizes = exact.sum(axis=(1, 2, 3, 4)), np.abs(exact).sum(axis=(1, 2, 3, 4))
    (wrong,) = np.nonzero(np.abs(sums) <= NO_SUM * sizes)
    if wrong.size:
        which = "the kernel sums" if len(sums) == 1 else f"filter {wrong[0]} of {len(sums)} sums"
        raise ArgumentError(
            f"{which} to {sums[wrong[0]]:.3g}, so its result s(M X) / s(M) has no meaning: a mask, missing voxels and "
            "padding_mode 'renormalize' need a kernel that averages, such as gaussian or box"
        )


def checked_outside(value: Any, dtype: npt.DTypeLike) -> float:
    """Return the value outside a mask as a float; `ArgumentError` for what the dtype of the arithmetic cannot hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating, np.integer)):
        raise ArgumentTypeError(f"outside must be a number or NaN, not {value!r}")
    number, most = float(value), float(np.finfo(dtype).max)
    if most < abs(number) < np.inf:
        raise ArgumentError(f"outside must be at most {most:.3g} in {np.dtype(dtype)}, not {number:g}")
    return number
