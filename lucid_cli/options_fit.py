"""The options of `fit`: what is learned, from what, and how; and its options that take all the words that follow."""

import itertools
from collections.abc import Iterator

import click

from lucid_cli import names, offers
from lucid_cli.options import LAYER, OUTPUT, PLANNING, TALK, VOLUME, only, option
from lucid_cli.sections import SectionedCommand
from lucid_cli.types import Choice, Count, FileName, NestedList, Number, Size

SPREADING = ("--target", "--mask")
"""Options that take all the words up to the next option, so that a shell can write names out."""

TARGETS = [
    option(
        "volume",
        "--target",
        type=FileName(),
        multiple=True,
        metavar="TARGET...",
        help="What is to be made of each INPUT, in the same order: files, folders, quoted patterns.",
    ),
    option(
        "run",
        "-o",
        "--output",
        type=FileName(offers.weights, written=True),
        metavar="FILE",
        help="For the weights: .safetensors, .npz; .npy or .nii for one layer without bias.",
    ),
]

LEARNED = [
    *only(LAYER, "--in-channels"),
    option("layer", "--out-channels", type=Count(1), help="Output channels; by default those of the target."),
    *only(LAYER, "--kernel-size", "--stride"),
    option(
        "layer",
        "--padding",
        type=Size(0, ("same", "valid")),
        show_default="what makes the target's size",
        help="Voxels, 'same' or 'valid'.",
    ),
    *only(LAYER, "--dilation", "--groups"),
    option("layer", "--bias/--no-bias", default=None, show_default="bias", help="Whether a bias is learned."),
    option(
        "layer",
        "--padding-mode",
        type=names.PADDING_MODE,
        show_default="replicate, or zeros with --padding",
        help="Outside, for apply: zeros, reflect, replicate, circular, symmetric.",
    ),
    option(
        "layer", "--dtype", type=Choice(["float32", "float64"]), help="Of the weights; by default from the volumes."
    ),
    option(
        "layer", "--seed", type=Count(0), show_default="0", help="Seed of weights, tiles to validate and their order."
    ),
    *only(LAYER, "--layers"),
    option(
        "weights",
        "--weights",
        type=NestedList(),
        metavar="FILE[:KEY]",
        help="Begin with these instead of random ones; what the file says of its layer holds.",
    ),
]

SCANS = [
    *only(VOLUME, "--axes"),
    option("volume", "--target-axes", type=names.AXES, metavar="LETTERS", help="As --axes, of the targets."),
    *only(VOLUME, "--axis4", "--spacing"),
    option(
        "volume",
        "--mask",
        "masks",
        type=FileName(),
        multiple=True,
        metavar="MASK...",
        help="Learn only from what is inside: one on the grid of each target, or one for all.",
    ),
    option(
        "volume",
        "--borders/--no-borders",
        default=False,
        show_default="no-borders",
        help="Learn also from outputs that read beyond the border, as padding-mode has it.",
    ),
]

SOLVING = [
    option(
        "run",
        "--solver",
        type=Choice(["auto", "exact", "cg", "adam"]),
        default="auto",
        help="exact for one layer with loss mse, by conjugate gradients (cg) over 4096 weights a filter; else adam.",
    ),
    option("run", "--loss", type=Choice(["mse", "l1", "huber"]), default="mse", help="What is made small."),
    option("run", "--l2", type=Number(0), default=0.0, help="Ridge: this times the sum of squared weights is added."),
    option(
        "run",
        "--constraint",
        type=Choice(["nonnegative", "sum1", "zero-sum", "symmetric"]),
        multiple=True,
        help="What each filter keeps; may be repeated.",
    ),
    option(
        "run",
        "--validation",
        type=Number(0),
        show_default="0.1 for adam, else 0",
        help="Share of the scans, or of the tiles, to validate with.",
    ),
    option("run", "--epochs", type=Count(1), default=100, help="Most passes of adam over all tiles."),
    option("run", "--patience", type=Count(1), show_default="10", help="Epochs without a better one that end it."),
    option("run", "--learning-rate", type=Number(0), default=1e-3, help="Of adam, for inputs of deviation 1."),
    option("run", "--batch-size", type=Count(1), show_default="1", help="Tiles of a step of adam."),
    option(
        "run",
        "--tile",
        type=Size(1),
        show_default="up to 2**17 voxels, 2**15 for adam",
        help="Output voxels of a tile.",
    ),
]

RUNNING = [
    *only(PLANNING, "--threads", "--max-memory"),
    *only(OUTPUT, "--overwrite", "--resume", "--dry-run"),
    option(
        "run",
        "--report",
        type=FileName(offers.files(".json", ".html"), written=True),
        metavar="FILE|-",
        help="Write the report: .json, or .html with pictures.",
    ),
    option(
        "run",
        "--plot",
        type=FileName(offers.files(".png"), written=True),
        metavar="FILE.png",
        help="Draw the losses over the epochs; of an exact solution its filters.",
    ),
    *only(TALK, "--progress", "--quiet"),
]


class SpreadingCommand(SectionedCommand):
    """A command some of whose options take all the words that follow, up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the option before each of its words; raise `BadOptionUsage` for one without."""
        for word, following in itertools.pairwise([*args, "--"]):
            if word in SPREADING and _is_option(following) and not ctx.resilient_parsing:
                raise click.BadOptionUsage(word, f"Option '{word}' requires an argument.", ctx)
        return super().parse_args(ctx, list(_spread(args)))


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"


def _spread(args: list[str]) -> Iterator[str]:
    """Yield arguments as click takes them: an option before each of its words."""
    spreading, plain = "", False
    for word in args:
        if plain or not _is_option(word):
            yield from (spreading, word) if spreading and not plain else (word,)
        elif word in SPREADING:
            spreading = word
        else:
            spreading, plain = "", word == "--"
            yield word
