"""Kernels that are products of three 1-D kernels, found from their taps.

A filter w (K_D, K_H, K_W) of rank one is w[i, j, k] = a[i] b[j] c[k]. The factors are read off the cross through
its largest tap, and count only if their product, rounded to the arithmetic's precision, meets every tap so
closely that three 1-D passes still keep the error bound of the definition, gamma(K + 2) (see `ErrorBound`).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def factors(weight: Array) -> Array | None:
    """Return the 1-D kernels of weights (O, 1, K_D, K_H, K_W) as (O, K_D + K_H + K_W), or None where any has none."""
    sizes = weight.shape[2:]
    terms = int(np.prod(sizes))
    if weight.shape[1] != 1 or not np.isfinite(weight).all():
        return None
    spare = (terms + 2 - (sum(sizes) + 1)) * float(np.finfo(weight.dtype).eps) / 2
    split = [_cross(taps[0]) for taps in weight]
    for taps, (a, b, c) in zip(weight, split, strict=True):
        product = np.einsum("i,j,k->ijk", *(np.asarray(one, np.float64) for one in (a, b, c)))
        exact = taps[0].astype(np.float64)
        if not (np.abs(product - exact) <= spare * np.abs(exact)).all():
            return None
    return np.stack([np.concatenate(one) for one in split])


def _cross(taps: Array) -> tuple[Array, Array, Array]:
    """Return a, b, c through the largest tap: c holds its magnitude, a and b are at most 1."""
    exact = taps.astype(np.float64)
    d, h, w = np.unravel_index(np.abs(exact).argmax(), exact.shape)
    peak = exact[d, h, w] or 1.0
    a, b, c = exact[:, h, w] / peak, exact[d, :, w] / peak, exact[d, h, :]
    return a.astype(taps.dtype), b.astype(taps.dtype), c.astype(taps.dtype)
