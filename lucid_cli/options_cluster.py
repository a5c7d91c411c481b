"""The options of who carries out a plan."""

from lucid_cli.options import option
from lucid_cli.types import Choice, Count, Word

CLUSTER = [
    option(
        "run",
        "--executor",
        type=Choice(["threads", "dask"]),
        default="threads",
        help="Who computes: threads of this process, or the workers of a dask cluster.",
    ),
    option(
        "run",
        "--scheduler",
        type=Word(),
        metavar="ADDRESS|slurm",
        help="Of dask: tcp://host:8786 of a cluster that runs, or slurm to start one. Default: one here.",
    ),
    option("run", "--workers", type=Count(1), help="Worker processes of dask, each of --threads and --max-memory."),
]
