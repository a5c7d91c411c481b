"""The report of a fit: one typed result, as JSON, as a table, or as a page."""

import math
import shlex
from dataclasses import dataclass
from typing import Any

from lucid_cli.fitting.model import Model
from lucid_cli.fitting.pairs import Pair
from lucid_cli.fitting.saving import options_of
from lucid_cli.fitting.work import Fitted, Job
from lucid_cli.layers import described
from lucid_cli.report import grid_line, layer_rows
from lucid_core import __version__
from lucid_core.units import format_bytes

SCHEMA = "lucid-conv3d/fit-1"
MOST_SHOWN = 3
"""Pairs that the table shows."""


@dataclass(frozen=True)
class Outcome:
    """What was fitted to what, and what came of it."""

    job: Job
    fitted: Fitted | None
    """None where it is only planned."""
    seconds: float
    peak_rss_bytes: int

    @property
    def model(self) -> Model:
        """As it was learned, or is to begin."""
        return self.fitted.model if self.fitted else self.job.model

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is warned of: of the headers, and of what was learned."""
        return self.job.warnings + (self.fitted.warnings if self.fitted else ())

    @property
    def output(self) -> str:
        """The file of the weights, as it was named."""
        return str(self.job.settings.output)

    @property
    def command(self) -> str:
        """The command that applies the weights."""
        words = ["lucid-conv3d", "apply", "SCAN", "-o", "OUT", "--weights", self.output]
        return shlex.join([*words, *options_of(self.model, self.job.suffix)])

    def _layer(self) -> dict[str, Any]:
        return described(self.model.layer, self.job.training.problems[0])

    def to_json(self) -> dict[str, Any]:
        """Return the report."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "command": "fit",
            "status": "ok" if self.fitted else "planned",
            "layer": self._layer(),
            "pairs": [_pair_json(pair) for pair in self.job.pairs],
            "fit": self._fit_json(),
            "warnings": list(self.warnings),
            "output": {"path": self.output, "apply": self.command},
            "plan": dict(vars(self.job.memory)),
            "seconds": self.seconds,
            "peak_rss_bytes": self.peak_rss_bytes,
        }

    def _fit_json(self) -> dict[str, Any]:
        """Return how it is learned, and what came of it."""
        fitted, settings = self.fitted, self.job.settings
        curve = [
            {"epoch": one.number, "training": one.training, "validation": finite(one.validation)}
            for one in (fitted.curve if fitted else ())
        ]
        return {
            "solver": self.job.solver,
            "loss": settings.loss,
            "l2": settings.l2,
            "constraints": list(settings.constraint),
            "seed": settings.seed or 0,
            "borders": settings.borders,
            "training": {"tiles": len(self.job.training), "loss": finite(fitted.training) if fitted else None},
            "validation": {"tiles": len(self.job.validation), "loss": finite(fitted.validation) if fitted else None},
            **({name: finite(value) for name, value in fitted.facts.items()} if fitted else {}),
            "curve": curve,
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return what is known, named."""
        layer, memory, tiles = self._layer(), self.job.memory, len(self.job.training) + len(self.job.validation)
        found = [("pair", _pair_line(pair)) for pair in self.job.pairs[:MOST_SHOWN]]
        found += [("", f"and {len(self.job.pairs) - MOST_SHOWN} more")] if len(self.job.pairs) > MOST_SHOWN else []
        found += [row for one in layer.get("layers", [layer]) for row in layer_rows(one)]
        facts = self.fitted.facts if self.fitted else {"parameters": self.job.training.problems[0].parameters}
        told = [f"{name.replace('_', ' ')} {_short(value)}" for name, value in facts.items()]
        found += [
            ("solver", ", ".join([self.job.solver, *told])),
            *([("loss", _loss_line(self.fitted, self.job.settings.loss))] if self.fitted else []),
            ("plan", f"{memory.threads} threads, {tiles} tiles, peak {format_bytes(memory.peak_bytes)}"),
        ]
        if self.fitted:
            found += [("output", f"{self.output}, in {self.seconds:.2f} s"), ("apply it", self.command)]
        return found

    def table(self) -> str:
        """Return it as lines for people."""
        return "\n".join(f"{name:>10}  {text}" for name, text in self.rows())


def finite(value: Any) -> Any:
    """Return a value as JSON knows it: None for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _loss_line(fitted: Fitted, loss: str) -> str:
    parts = [f"{loss} {fitted.training:.6g} over the voxels it was learned from"]
    if fitted.validation is not None:
        parts.append(f"{fitted.validation:.6g} over those to validate with")
    return ", ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _pair_json(pair: Pair) -> dict[str, Any]:
    shown = {"input": pair.input.info.to_json(), "target": pair.target.info.to_json()}
    return shown if pair.mask is None else shown | {"mask": pair.mask.info.to_json()}


def _pair_line(pair: Pair) -> str:
    mask = "" if pair.mask is None else f", where {pair.mask.spec} is not 0"
    return f"{pair.input.spec} -> {pair.target.spec}  {grid_line(pair.target.info.to_json())}{mask}"
