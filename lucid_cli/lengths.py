"""Units of length and of time as files spell them."""

from lucid_core.units import MM_PER_UNIT

SPELLINGS = {
    "um": ("micrometer", "micrometre", "micrometers", "micron", "microns", "µm", "μm", "\\u00b5m"),
    "mm": ("millimeter", "millimetre", "millimeters"),
    "nm": ("nanometer", "nanometre", "nanometers"),
}
_MM = MM_PER_UNIT | {name: MM_PER_UNIT[unit] for unit, names in SPELLINGS.items() for name in names}
_MM |= {"m": 1e3, "cm": 10.0, "centimeter": 10.0, "Å": 1e-7, "å": 1e-7, "angstrom": 1e-7, "pm": 1e-9}
_MM |= {"inch": 25.4, "in": 25.4}

_SECONDS = {"second": 1.0, "sec": 1.0, "s": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_SECONDS |= {"millisecond": 1e-3, "msec": 1e-3, "ms": 1e-3, "microsecond": 1e-6, "usec": 1e-6, "us": 1e-6}


def seconds_per(unit: str) -> float | None:
    """Return the seconds of a unit, None for one that is not known."""
    return _SECONDS.get(unit.lower())


def mm_per(unit: str) -> float | None:
    """Return the millimetres of a unit, None for one that is not known."""
    return _MM.get(unit, _MM.get(unit.lower()))
