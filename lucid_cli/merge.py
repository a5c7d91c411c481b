"""`lucid-conv3d merge`: the reports of all shards of a batch, joined to the report that one run would have written."""

import itertools
import json
from pathlib import Path
from typing import Any

from lucid_cli import report
from lucid_cli.opening import check_input
from lucid_core.errors import InputError

MOST_NAMED = 10
"""Shards that are named where some are missing."""
MOST_BYTES = 1 << 30
"""A longer file is no report."""


def merged(paths: list[Path]) -> dict[str, Any]:
    """Return the report of a batch from those of its shards, items in the order of the inputs.

    Raises `InputError` for a file that is no report of a shard, for shards that are missing, given twice, of different
    numbers of shards or of different versions.
    """
    shards: dict[int, tuple[Path, dict[str, Any]]] = {}
    for path in paths:
        found = _read(path)
        index, first = found["shard"]["index"], next(iter(shards.values()), (path, found))
        if index in shards:
            raise InputError(f"{path}: is shard {index}, as {shards[index][0]} is; give each once")
        for key in ("version", "command"):
            if found[key] != first[1][key]:
                raise InputError(f"{path}: its {key} is {found[key]}, that of {first[0]} {first[1][key]}")
        if found["shard"]["count"] != first[1]["shard"]["count"]:
            counts = found["shard"]["count"], first[1]["shard"]["count"]
            raise InputError(f"{path}: is one of {counts[0]} shards, {first[0]} one of {counts[1]}")
        if found["shard"]["of"] != first[1]["shard"]["of"]:
            raise InputError(f"{path}: is of another batch than {first[0]}: other inputs, or another configuration")
        shards[index] = path, found
    return _joined([shards[index][1] for index in sorted(shards)])


def _joined(shards: list[dict[str, Any]]) -> dict[str, Any]:
    count = shards[0]["shard"]["count"]
    given = {one["shard"]["index"] for one in shards}
    if len(given) < count:
        missing = itertools.islice((index for index in range(1, count + 1) if index not in given), MOST_NAMED)
        names = ", ".join(map(str, missing)) + (", ..." if count - len(given) > MOST_NAMED else "")
        raise InputError(f"of {count} shards these are missing: {names}; give their reports too")
    longest = max(len(one["items"]) for one in shards)
    items = [one["items"][place] for place in range(longest) for one in shards if place < len(one["items"])]
    whole = {key: value for key, value in shards[0].items() if key != "shard"}
    layer = next((one["layer"] for one in shards if one["layer"]), None)
    return whole | {"status": report.overall({item["status"] for item in items}), "layer": layer, "items": items}


def _read(path: Path) -> dict[str, Any]:
    """Return the report of a shard."""
    check_input(path)
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MOST_BYTES))
        index, count, _ = (found["shard"][key] for key in ("index", "count", "of"))
        known = {key: found[key] for key in ("schema", "version", "command", "layer", "status")}
        whole = isinstance(index, int) and isinstance(count, int) and 1 <= index <= count
        if whole and known["schema"] == report.SCHEMA and all(_is_item(one) for one in found["items"]):
            return dict(found)
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    raise InputError(f"{path}: is no report of a shard, as apply --shard i/n --report FILE.json writes it")


def _is_item(item: Any) -> bool:
    return isinstance(item["status"], str) and isinstance(item["error"], str | None) and isinstance(item["input"], dict)
