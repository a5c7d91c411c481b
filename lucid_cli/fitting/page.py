"""Pictures of a fit: the losses over the epochs, the filters that were learned, and the page of `--report`."""

import shlex
import sys

from lucid_cli import kernel_plot, kernel_report
from lucid_cli.fitting.report import Outcome
from lucid_cli.fitting.work import Fitted
from lucid_cli.kernel_file import Filters
from lucid_cli.pictures.drawing import figure, png
from lucid_cli.pictures.markup import document, escaped, image, pairs

DPI, PAGE_DPI = 100, 64
INCHES = (7.0, 4.0)


def plot(outcome: Outcome) -> bytes:
    """Return a PNG of the losses over the epochs; of an exact solution, which has none, of its filters."""
    assert outcome.fitted is not None
    return curve(outcome.fitted, outcome.job.settings.loss, DPI) if outcome.fitted.curve else _picture(outcome)


def _picture(outcome: Outcome) -> bytes:
    return kernel_plot.picture(_filters(outcome)[0], DPI)


def curve(fitted: Fitted, loss: str, dpi: int) -> bytes:
    """Return a PNG of the losses over the epochs; the best epoch is marked."""
    made = figure(figsize=INCHES, layout="constrained")
    panel, epochs = made.subplots(), fitted.curve
    numbers = [one.number for one in epochs]
    panel.plot(numbers, [one.training for one in epochs], label="training", marker="." if len(epochs) < 30 else None)
    if epochs[0].validation is not None:
        panel.plot(numbers, [one.validation for one in epochs], label="validation", linestyle="--")
    best = fitted.facts["best_epoch"]
    panel.axvline(best, color="0.6", linewidth=1, label=f"best epoch, {best}")
    losses = [one.training for one in epochs] + [one.validation for one in epochs if one.validation is not None]
    panel.set(xlabel="epoch", ylabel=loss, yscale="log" if min(losses) > 0 else "linear")
    panel.legend()
    return png(made, dpi)


def _filters(outcome: Outcome) -> list[Filters]:
    spacing = outcome.job.pairs[0].input.info.spacing
    layers = outcome.model.convolutions
    return [
        Filters("learned filters" if len(layers) == 1 else f"convolution {number}", {}, one.weight, one.bias, spacing)
        for number, one in enumerate(layers, start=1)
    ]


def page(outcome: Outcome) -> str:
    """Return the report as a page that needs nothing from outside."""
    body = [f'<pre class="command">{escaped(shlex.join(["lucid-conv3d", *sys.argv[1:]]))}</pre>']
    fitted = outcome.fitted
    assert fitted is not None
    body += [f'<p class="warning">{escaped(warning)}</p>' for warning in outcome.warnings]
    body.append(pairs(outcome.rows()))
    if fitted.curve:
        drawn = curve(fitted, outcome.job.settings.loss, PAGE_DPI)
        body += ["<h2>Loss</h2>", image(drawn, "loss of training and validation over the epochs")]
    for filters in _filters(outcome):
        picture = image(
            kernel_plot.picture(filters, PAGE_DPI, small=True), f"mid-planes and response of {filters.name}"
        )
        body += [f"<h2>{escaped(filters.name)}</h2>", picture, f"<pre>{escaped(kernel_report.table(filters))}</pre>"]
    return document(f"lucid-conv3d fit: {outcome.output}", body)
