"""The progress of training on stderr: a bar over epochs with the losses, or a line an epoch when one is due."""

import json
import time
from types import TracebackType
from typing import Any

from lucid_cli.progress import Due, kind_shown
from lucid_cli.talk import say
from lucid_core.events import Progress
from lucid_core.fitting.train import Epoch


class Epochs:
    """Shows the epochs of one fit; a context manager that ends what it shows."""

    def __init__(self, kind: str, epochs: int) -> None:
        self._kind = kind_shown(kind)
        self._epochs = epochs
        self._bar: Any = None
        self._due = Due(time.monotonic())

    def observe(self, event: Progress) -> None:
        """Take in that a tile was read."""
        if self._kind == "bar":
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(total=event.total, desc="fit", unit="tile", leave=False, initial=event.done)
            self._bar.update(event.done - self._bar.n)

    def tell(self, epoch: Epoch) -> None:
        """Take in an epoch."""
        if self._bar is not None:
            self._bar.set_postfix_str(_losses(epoch))
        elif self._kind in ("log", "json") and self._due.now(epoch.number / self._epochs):
            say(
                self._json(epoch)
                if self._kind == "json"
                else f"fit: epoch {epoch.number} of {self._epochs}, {_losses(epoch)}"
            )

    def _json(self, epoch: Epoch) -> str:
        known = {"event": "epoch", "epoch": epoch.number, "epochs": self._epochs}
        return json.dumps(known | {"training": epoch.training, "validation": epoch.validation})

    def __enter__(self) -> "Epochs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _losses(epoch: Epoch) -> str:
    loss = f"loss {epoch.training:.4g}"
    return loss if epoch.validation is None else f"{loss}, validation {epoch.validation:.4g}"
