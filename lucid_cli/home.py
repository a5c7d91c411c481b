"""Names of files in a home folder, which no shell expands in the value of an option or in YAML."""

import os
import re
from typing import Any


def in_home(text: str) -> str:
    """Return the name of a file with a leading `~/` or `~user/` put in full."""
    return os.path.expanduser(text) if re.match("~[^/]*/", text) else text  # noqa: PTH111 - an unknown user stays


def weights_in_home(entry: Any) -> Any:
    """Return an entry of a list of layers with the name of its weights put in full."""
    if isinstance(entry, dict) and isinstance(entry.get("weights"), str):
        return entry | {"weights": in_home(entry["weights"])}
    return entry
