"""`preview`: one picture of a scan, or of a scan and what became of it."""

from contextlib import ExitStack
from pathlib import Path

from lucid_cli.formats import format_of, parse_spec
from lucid_cli.opening import opened
from lucid_cli.output import check_target, protect, write_bytes
from lucid_cli.pictures.figure import drawn
from lucid_cli.pictures.rows import Window, pictured
from lucid_cli.pictures.scans import Scan, check_picked
from lucid_cli.talk import say
from lucid_core.errors import ArgumentError
from lucid_core.optional import require
from lucid_core.regions import Triple

DPI = 150


def preview(
    names: list[str],
    output: str,
    *,
    overwrite: bool,
    volume: int | None,
    channel: int | None,
    window: Window | None,
    at: Triple | None,
) -> None:
    """Draw the mid-planes of one file or two into a PNG, or those through the voxel `at` of the first.

    Raises `ArgumentError` for what is in none of the files, `ExtraError` without matplotlib, and what the formats and
    `check_target` raise.
    """
    path, specs = Path(output), [parse_spec(name) for name in names]
    if path.suffix.lower() != ".png":
        raise ArgumentError(f"-o {output}: the picture is a PNG; give a name that ends in .png")
    if window and not window[0] < window[1]:
        raise ArgumentError(
            f"--window {window[0]:g},{window[1]:g}: the first value is black, the second, larger, white"
        )
    if sum(spec.is_pipe for spec in specs) > 1:
        raise ArgumentError("stdin can be read only once; name a file")
    read = [one for spec in specs if spec.suffix for one in format_of(spec).files_read(spec)]
    target = check_target(path, protect(read), overwrite, skips=False)
    require("matplotlib", "viz")
    with ExitStack() as stack:
        sources = [opened(spec, stack) for spec in specs]
        for warning in (warning for source in sources for warning in source.warnings):
            say(f"Warning: {warning}")
        check_picked([source.info for source in sources], volume, channel)
        before, *after = (Scan(source, source.info, volume, channel) for source in sources)
        picture = pictured(before, after[0] if after else None, at, window)
    write_bytes(target, drawn(picture, DPI), overwrite)
