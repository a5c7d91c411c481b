"""The type of `--shard`."""

from typing import Any

import click

from lucid_cli.types import MOST, integer


class ShardType(click.ParamType):
    """One of several equal parts of a list, such as `2/8`: the second of eight."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return the part, from 1, and how many there are, or fail with what is legal."""
        parts = value.split("/") if isinstance(value, str) else value
        numbers = [integer(part) for part in parts] if isinstance(parts, (list, tuple)) else []
        if len(numbers) == 2:
            index, count = numbers
            if index is not None and count is not None and 1 <= index <= count <= MOST:
                return index, count
        self.fail(f"{value!r} is not one of n parts, such as 1/8 to 8/8.", param, ctx)
