"""Units of length as files spell them."""

from lucid_core.units import MM_PER_UNIT

SPELLINGS = {
    "um": ("micrometer", "micrometre", "micrometers", "micron", "microns", "µm", "μm", "\\u00b5m"),
    "mm": ("millimeter", "millimetre", "millimeters"),
    "nm": ("nanometer", "nanometre", "nanometers"),
}
_MM = MM_PER_UNIT | {name: MM_PER_UNIT[unit] for unit, names in SPELLINGS.items() for name in names}
_MM |= {"m": 1e3, "cm": 10.0, "centimeter": 10.0, "Å": 1e-7, "å": 1e-7, "angstrom": 1e-7, "pm": 1e-9}
_MM |= {"inch": 25.4, "in": 25.4}


def mm_per(unit: str) -> float | None:
    """Return the millimetres of a unit, None for one that is not known."""
    return _MM.get(unit, _MM.get(unit.lower()))
