"""The values of the options of `fit`, beside those it shares with `apply`."""

from dataclasses import dataclass

from lucid_cli.settings import Settings


@dataclass(frozen=True)
class FitSettings(Settings):
    """The values of the options, None where nothing was said."""

    target: tuple[str, ...] = ()
    target_axes: str | None = None
    masks: tuple[str, ...] = ()
    borders: bool = False
    solver: str = "auto"
    loss: str = "mse"
    l2: float = 0.0
    constraint: tuple[str, ...] = ()
    validation: float | None = None
    epochs: int = 100
    patience: int | None = None
    learning_rate: float = 1e-3
    plot: str | None = None
