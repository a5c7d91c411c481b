"""A comparison printed: as a table for people, or as JSON."""

import json
import math
from typing import Any

from lucid_cli.comparison import Comparison
from lucid_cli.report import volume_line
from lucid_core import __version__

SCHEMA = "lucid-conv3d/compare-1"


def table(done: Comparison) -> str:
    """Return the two volumes, a verdict a part with what differs, and the verdict on all."""
    rows = [("a", volume_line(done.a.to_json())), ("b", volume_line(done.b.to_json()))]
    for name, part in done.parts.items():
        first, *others = part.lines or ("",)
        rows += [(name, f"{part.verdict:<12}  {first}".rstrip()), *(("", f"{'':<12}  {line}") for line in others)]
    verdict = "same" if done.same else f"the volumes differ: {', '.join(done.differing)}"
    return "".join(f"{name:>8}  {text}\n" for name, text in [*rows, ("result", verdict)])


def dump(done: Comparison) -> str:
    """Return JSON; numbers that it does not know are the words nan, inf and -inf."""
    compared = {
        "schema": SCHEMA,
        "version": __version__,
        "same": done.same,
        "a": done.a.to_json(),
        "b": done.b.to_json(),
        "rtol": done.rtol,
        "atol": done.atol,
        "parts": {
            name: {"verdict": part.verdict, "lines": list(part.lines), **part.found}
            for name, part in done.parts.items()
        },
    }
    return json.dumps(_known(compared), indent=2, allow_nan=False) + "\n"


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_known(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
