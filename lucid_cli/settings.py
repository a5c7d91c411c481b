"""The values of the options of `apply` and `plan`, a line an option."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from lucid_cli.formats import parse_spec
from lucid_core.units import ByteSize, Length

PAGES = (".html", ".htm")
"""Suffixes of a report that is a page with pictures."""
Sizes = int | tuple[int, int, int]


@dataclass(frozen=True)
class Settings:
    """The values of the options, None where nothing was said."""

    in_channels: int | None = None
    out_channels: int | None = None
    kernel_size: Sizes | None = None
    stride: Sizes | None = None
    padding: Sizes | str | None = None
    dilation: Sizes | None = None
    groups: int | None = None
    bias: bool | None = None
    padding_mode: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    seed: int | None = None
    layers: tuple[Any, ...] | None = None
    weights: str | None = None
    weights_axes: str | None = None
    weights_layout: str | None = None
    flip: bool = False
    kernel: str | None = None
    sigma: Length | None = None
    fwhm: Length | None = None
    sigma2: Length | None = None
    truncate: float | None = None
    size: Length | None = None
    radius: Length | None = None
    axis: str | None = None
    order: Sizes | None = None
    neighbours: int | None = None
    offset: Length | None = None
    amount: float | None = None
    wavelength: Length | None = None
    direction: tuple[float, float, float] | None = None
    phase: float | None = None
    axes: str | None = None
    axis4: str = "auto"
    spacing: Length | None = None
    mask: str | None = None
    outside: float | None = None
    nan: str = "propagate"
    normalize: str | None = None
    out_dtype: str = "float32"
    cast: str = "error"
    compression: str | None = None
    chunks: Sizes | None = None
    shards: Sizes | None = None
    zarr_format: str | None = None
    pyramid: bool = False
    level: int | None = None
    shuffle: bool | None = None
    accuracy: str = "componentwise"
    threads: int | None = None
    max_memory: ByteSize | None = None
    tile: Sizes | None = None
    batch_size: int | None = None
    algorithm: str = "auto"
    engine: str = "auto"
    executor: str = "threads"
    scheduler: str | None = None
    workers: int | None = None
    tf32: bool = False
    output: str | None = None
    out_dir: str | None = None
    from_file: str | None = None
    shard: tuple[int, int] | None = None
    jobs: int | None = None
    name: str | None = None
    overwrite: bool = False
    skip_existing: bool = False
    resume: bool = False
    fail_fast: bool = False
    dry_run: bool = False
    provenance: bool = True
    bids: bool = False
    desc: str | None = None
    skull_stripped: bool | None = None
    sidecar: bool = False
    report: str | None = None
    progress: str = "auto"
    quiet: bool = False
    verbose: bool = False

    @property
    def has_sidecar(self) -> bool:
        """Whether a sidecar is written beside every output."""
        return self.sidecar or self.bids

    @property
    def makes_folders(self) -> bool:
        """Whether outputs go into a folder, where a tree of folders is made for them."""
        into = self.output is not None and Path(self.output).is_dir() and not parse_spec(self.output).is_folder
        return self.out_dir is not None or into

    @property
    def draws(self) -> bool:
        """Whether the report is a page with pictures."""
        return self.report is not None and self.report.lower().endswith(PAGES)

    @classmethod
    def of(cls, params: dict[str, Any]) -> Self:
        """Take the values of a command's parameters; those that are no settings are left out."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in params.items() if name in names})
