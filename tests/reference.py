"""The oracle: 3-D cross-correlation by the definition, in plain loops over Python floats.

It shares no code with the engine: a padded volume is never made, each tap looks up the voxel it stands on.
"""

import itertools
import math

import numpy as np

UNIT_ROUNDOFF = 2.0**-53


def triple(value):
    return (value,) * 3 if isinstance(value, int) else tuple(value)


def axis_pads(padding, kernel_size, dilation):
    """Return ((low, high), ...) along D, H, W; an odd total of "same" has its extra voxel at the high end."""
    if padding == "valid":
        return ((0, 0),) * 3
    if padding == "same":
        totals = [step * (size - 1) for step, size in zip(dilation, kernel_size, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((pad, pad) for pad in triple(padding))


def voxel(position, size, mode):
    """Return the index of the voxel that stands at a position of an axis, or None for a zero of the padding."""
    last = size - 1
    if mode == "zeros":
        return position if 0 <= position <= last else None
    if mode == "replicate":
        return 0 if position < 0 else last if position > last else position
    if mode == "circular":
        while position < 0:
            position += size
        while position > last:
            position -= size
        return position
    if mode == "symmetric":
        while not 0 <= position <= last:
            position = -1 - position if position < 0 else 2 * last + 1 - position
        return position
    assert mode == "reflect"
    while not 0 <= position <= last:
        position = -position if position < 0 else last - (position - last)
    return position


def conv3d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    """Return (y, sum |x||w| + |b|), both float64, for x (N, C, D, H, W).

    Each product is rounded once and their sum once (`math.fsum`), so y is within 2.5 * UNIT_ROUNDOFF of the second.
    """
    stride, dilation = triple(stride), triple(dilation)
    channels, share, *kernel_size = weight.shape
    pads = axis_pads(padding, kernel_size, dilation)
    out = [
        (size + low + high - step * (taps - 1) - 1) // hop + 1
        for size, (low, high), step, taps, hop in zip(x.shape[2:], pads, dilation, kernel_size, stride, strict=True)
    ]
    taken = [
        [[voxel(place * hop - low + tap * step, size, padding_mode) for tap in range(taps)] for place in range(count)]
        for size, (low, _), step, taps, hop, count in zip(
            x.shape[2:], pads, dilation, kernel_size, stride, out, strict=True
        )
    ]
    values = np.empty((x.shape[0], channels, *out))
    sizes = np.empty_like(values)
    volumes, filters = np.asarray(x, np.float64).tolist(), np.asarray(weight, np.float64).tolist()
    for n, o, i, j, k in itertools.product(*map(range, values.shape)):
        first = o // (channels // groups) * share
        terms = [] if bias is None else [float(bias[o])]
        for c in range(share):
            volume = volumes[n][first + c]
            for kd, d in enumerate(taken[0][i]):
                for kh, h in enumerate(taken[1][j]):
                    for kw, w in enumerate(taken[2][k]):
                        inside = d is not None and h is not None and w is not None
                        terms.append((volume[d][h][w] if inside else 0.0) * filters[o][c][kd][kh][kw])
        values[n, o, i, j, k] = _sum(terms)
        sizes[n, o, i, j, k] = sum(abs(term) for term in terms)
    return values, sizes


def _sum(terms):
    """Sum with one rounding; what is not finite as IEEE does."""
    return math.fsum(terms) if all(map(math.isfinite, terms)) else sum(terms)


def conv3d_backward(grad, x, weight, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros"):
    """Return, for x, weight and bias, the gradient and its sum of |products|, float64: each output's share, added."""
    stride, dilation = triple(stride), triple(dilation)
    channels, share, *kernel_size = weight.shape
    pads = axis_pads(padding, kernel_size, dilation)
    volumes, filters, grads = (np.asarray(one, np.float64) for one in (x, weight, grad))
    products = [[[] for _ in range(one.size)] for one in (volumes, filters)]
    for place in itertools.product(*map(range, grads.shape)):
        n, o, *out = place
        first = o // (channels // groups) * share
        for c, *tap in itertools.product(*map(range, (share, *kernel_size))):
            at = [
                voxel(p * hop - low + t * step, size, padding_mode)
                for p, t, hop, (low, _), step, size in zip(out, tap, stride, pads, dilation, x.shape[2:], strict=True)
            ]
            inside, term = None not in at, (o, c, *tap)
            source = (n, first + c, *(at if inside else (0, 0, 0)))
            seen = volumes[source] if inside else 0.0
            products[1][np.ravel_multi_index(term, filters.shape)].append(float(grads[place]) * float(seen))
            if inside:
                products[0][np.ravel_multi_index(source, volumes.shape)].append(
                    float(grads[place]) * float(filters[term])
                )
    products.append([values.ravel().tolist() for values in grads.swapaxes(0, 1)])
    shapes = (volumes.shape, filters.shape, (channels,))
    return [
        tuple(np.reshape([sums(terms) for terms in one], shape) for sums in (_sum, _size))
        for one, shape in zip(products, shapes, strict=True)
    ]


def _size(terms):
    return sum(map(abs, terms))
