"""What torch computes, on the CPU or on a device of its own; arrays come and go as NumPy's.

`devices` names and finds devices. `lane` is one worker's way to its device: a stream, tensors that it keeps from tile
to tile, and host memory that copies run from while other lanes compute. `precision` holds the switches of torch that
change results. `algorithm` is what the algorithms of the engine share: a padded block goes up, the output comes down,
and between lie elementwise operations and matrix products of one fixed shape, whose order of summation no tile changes.

Nothing here imports torch before it is run: a plan for the CPU loads none.
"""

import importlib.util
from functools import cache
from typing import Any

from lucid_core.errors import ExtraError
from lucid_core.optional import require

EXTRA = "torch"
"""The extra of this distribution that brings torch."""
Tensor = Any
_broken: list[str] = []


def refusal() -> str | None:
    """Return why torch cannot compute here, or None. Costs no import of torch."""
    if not installed():
        return f"torch is not installed (pip install 'lucid-conv3d[{EXTRA}]')"
    return f"torch cannot be imported: {_broken[0]}" if _broken else None


def library() -> Any:
    """Import torch; raise `ExtraError` where it is missing or broken."""
    try:
        return require("torch", EXTRA)
    except OSError as error:
        raise ExtraError(f"torch cannot be imported: {_noted(error)}") from error
    except ExtraError as error:
        if installed():
            raise ExtraError(f"torch cannot be imported: {_noted(error.__cause__)}") from error
        raise


def _noted(error: BaseException | None) -> str:
    _broken[:] = [str(error)]
    return _broken[0]


@cache
def installed() -> bool:
    """Say whether torch can be imported."""
    return importlib.util.find_spec("torch") is not None
