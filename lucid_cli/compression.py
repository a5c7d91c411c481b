"""What `--compression` may say for each kind of output."""

from lucid_core.errors import ArgumentError

DEFAULT_GZIP_LEVEL = 1
LEVELS = tuple("123456789")
LEGAL = {
    ".nii.gz": LEVELS,
    ".h5": ("none", *LEVELS),
    ".hdf5": ("none", *LEVELS),
}
"""Legal values by the suffix of the output; other formats know none only."""


def check_compression(suffix: str, compression: str | None) -> None:
    """Raise `ArgumentError` where an output with this suffix cannot be compressed so."""
    legal = LEGAL.get(suffix, ("none",))
    if compression is not None and compression not in legal:
        hint = "; for no compression name the output .nii" if compression == "none" else ""
        raise ArgumentError(f"--compression {compression!r} does not go with {suffix}; legal: {', '.join(legal)}{hint}")


def gzip_level(compression: str | None, default: int) -> int:
    """Return the gzip level 1 to 9 that a legal `--compression` means, 0 for none."""
    return default if compression is None else 0 if compression == "none" else int(compression)
