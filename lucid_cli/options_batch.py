"""The options of many inputs: lists and shards of them, files at once, and a BIDS dataset of what is made of them."""

from lucid_cli import offers
from lucid_cli.options import option
from lucid_cli.shard import ShardType
from lucid_cli.types import Count, FileName, Word

BIDS = [
    option("run", "--bids", is_flag=True, help="Make --out-dir a BIDS derivative dataset: names and metadata."),
    option(
        "run", "--desc", type=Word(), metavar="LABEL", show_default="the kernel", help="Label of desc- in BIDS names."
    ),
    option(
        "run",
        "--skull-stripped/--no-skull-stripped",
        default=None,
        help="For --bids, where the metadata of a derivative does not say it.",
    ),
]

BATCH = [
    option(
        "",
        "--from-file",
        type=FileName(offers.files("")),
        metavar="LIST|-",
        help="Take more inputs from a file or stdin, one a line.",
    ),
    option("", "--shard", type=ShardType(), help="Take only every n-th input, from the i-th on: for job arrays."),
    option(
        "run", "-J", "--jobs", type=Count(0), show_default="1", help="Files in work at once; 0: as many as threads."
    ),
]
