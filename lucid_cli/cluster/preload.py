"""What workers that are started here do first (dask's preload)."""

import signal
from typing import Any


def dask_setup(worker: Any) -> None:  # noqa: ARG001 - dask calls it so
    """Leave Ctrl-C in the terminal to the process that has started the workers: it ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
