"""A volume's header in words: what `info` prints."""

import json
from typing import Any

from lucid_cli.volumes import VolumeInfo


def _full(info: VolumeInfo) -> dict[str, Any]:
    return info.to_json() | info.details


def as_json(info: VolumeInfo) -> str:
    """Return the `input` object of the shape report with the format's own details."""
    return json.dumps(_full(info), indent=2)


def as_json_list(infos: list[VolumeInfo]) -> str:
    """Return several of them as one JSON array."""
    return json.dumps([_full(info) for info in infos], indent=2)


def shape(info: VolumeInfo) -> str:
    """Return the sizes with spaces between."""
    return " ".join(map(str, info.shape))


def dtype(info: VolumeInfo) -> str:
    """Return the type of the stored values."""
    return info.dtype


def spacing(info: VolumeInfo) -> str:
    """Return the spacing with spaces between, `unknown` where the file has none."""
    steps = info.spacing_in_order()
    return "unknown" if steps is None else " ".join(f"{step:.7g}" for step in steps)


def table(info: VolumeInfo) -> str:
    """Return a line a field."""
    rows = {
        "path": info.path,
        "format": info.details.get("version", info.format),
        "shape": f"{'x'.join(map(str, info.shape))} ({info.axes})",
        "dtype": info.dtype,
        "spacing": "unknown" if info.spacing is None else f"{spacing(info)} mm",
    }
    rows |= {name: value for name, value in info.details.items() if name != "version" and value is not None}
    lines = [f"{name:>12}  {_words(value)}" for name, value in rows.items()]
    if info.affine is not None:
        lines += [f"{'affine' if not row else '':>12}  " + _row(values) for row, values in enumerate(info.affine)]
    return "\n".join(lines)


def _words(value: Any) -> str:
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else str(value)


def _row(values: Any) -> str:
    return " ".join(f"{value:11.6g}" for value in values)
