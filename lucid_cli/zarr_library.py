"""zarr-python, imported quietly: what it leaves behind after an error, or warns of, is nothing to say to a user."""

import inspect
import logging
import sys
import warnings
from typing import Any

from lucid_core.optional import require

CONCURRENCY = 4
"""Chunks of one box that are read or written at a time."""
_said_of_others = sys.unraisablehook


def _unraisable(told: Any) -> None:
    """Say nothing of what an error left behind in stores that work side by side."""
    if not inspect.iscoroutine(told.object):
        _said_of_others(told)


sys.unraisablehook = _unraisable
logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it complains of tasks that an error left behind
warnings.filterwarnings("ignore", module=r"zarr\.|numcodecs")  # of files that are no node, and of what is not specified
warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # a signal came between two steps
with warnings.catch_warnings(record=True):  # numcodecs puts its own wishes before any filter
    zarr: Any = require("zarr", "zarr")
sync: Any = require("zarr.core.sync", "zarr").sync
zarr.config.set({"async.concurrency": CONCURRENCY})
