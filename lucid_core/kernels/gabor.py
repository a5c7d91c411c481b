"""Gabor filter: a wave of some `wavelength` along `direction` (D,H,W; W unless said) under a Gaussian of sum 1.

A cosine at `phase` 0, at the centre of the kernel, and a sine, which differentiates, at 90 degrees (Daugman, 1985).
"""

import math

import numpy as np

from lucid_core.errors import ArgumentError
from lucid_core.kernels import NamedKernel, Taps
from lucid_core.kernels.gaussian import TRUNCATE, Vector, smooth, widths


def make(
    sigma: Vector | None = None,
    fwhm: Vector | None = None,
    wavelength: Vector | None = None,
    direction: Vector = (0.0, 0.0, 1.0),
    phase: float = 0.0,
    truncate: float = TRUNCATE,
) -> Taps:
    """Return Gaussian times cos(2 pi u . r / wavelength - phase), lengths in voxels along D, H, W, phase in degrees.

    u is `direction` at length 1, in the world: the wavelength in voxels of each axis says how long a voxel is.
    """
    if wavelength is None:
        raise ArgumentError("the kernel 'gabor' needs its wavelength, such as --wavelength 6mm")
    longest = max(map(abs, direction))
    if not longest:
        raise ArgumentError("the kernel 'gabor' needs a direction that is not 0,0,0, such as --direction 0,1,1")
    direction = (direction[0] / longest, direction[1] / longest, direction[2] / longest)
    length = math.hypot(*direction)
    taps = smooth(widths("gabor", sigma, fwhm), truncate)
    turns = sum(
        (part / length / wave) * (np.arange(size) - size // 2).reshape([-1 if axis == own else 1 for axis in range(3)])
        for own, (part, wave, size) in enumerate(zip(direction, wavelength, taps.shape, strict=True))
    )
    made: Taps = taps * np.cos(2 * math.pi * turns - math.radians(phase))
    return made


KERNEL = NamedKernel("gabor", ("sigma", "fwhm", "wavelength", "direction", "phase", "truncate"), make)
