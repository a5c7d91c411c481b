"""The command `python -m tests.mutation MODULE...`."""

import argparse
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.survey import COVERAGE, Survey, survey
from tests.mutation.trees import Tree

MODULES = (
    *("problem", "lattice", "geometry", "boundary", "padding", "regions", "tiling", "cutting", "planner", "plan"),
    *("units", "volume"),
)
FILES = (
    *("formats/nifti", "formats/npy", "formats/hdf5", "nifti_header", "rawfile", "planes", "boxes", "streams"),
    *("compression", "crc", "volumes", "axes", "output", "sink", "temporary", "journal"),
)
DEFAULT = [*(f"lucid_core/{name}.py" for name in MODULES), *(f"lucid_cli/{name}.py" for name in FILES)]
"""Shape arithmetic, boundaries, tiling, planner and units; formats and writers."""


def main() -> int:
    """Try the mutants of some modules; return 1 where less than nine in ten are noticed."""
    asked = _arguments()
    if asked.survey or not COVERAGE.exists():
        survey()
    total: Counter[str] = Counter()
    with TemporaryDirectory() as folder, ThreadPoolExecutor(asked.jobs) as pool:
        trees: SimpleQueue[Tree] = SimpleQueue()
        for number in range(asked.jobs):
            trees.put(Tree(Path(folder) / str(number)))
        for name in asked.modules or DEFAULT:
            total += _tried(Path(name), asked, trees, pool)
        while not trees.empty():
            trees.get().close()
    killed = total.total() - total["survived"]
    print(f"all: {killed} of {total.total()} killed, {killed / max(total.total(), 1):.1%}")
    return int(killed < 0.9 * total.total())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Would the suite notice?")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"by default {' '.join(DEFAULT)}")
    parser.add_argument("--most", type=int, default=60, help="mutants a module, drawn at random (60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (0)")
    parser.add_argument("--seconds", type=float, default=60, help="tests a mutant has to survive, in seconds (60)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once (2)")
    parser.add_argument("--survey", action="store_true", help="find anew which tests run which line")
    return parser.parse_args()


def _tried(
    module: Path, asked: argparse.Namespace, trees: "SimpleQueue[Tree]", pool: ThreadPoolExecutor
) -> Counter[str]:
    """Try the mutants of a module and print those that survive."""
    known, started = Survey(module), time.monotonic()
    found = list(mutants(module.read_text()))
    drawn = random.Random(asked.seed).sample(found, min(asked.most, len(found)))

    def outcome(mutant: Mutant) -> str:
        tree = trees.get()
        try:
            return tree.outcome(module, mutant.source, known.stages(mutant.line, asked.seconds))
        finally:
            trees.put(tree)

    outcomes = list(pool.map(outcome, drawn))
    counts = Counter(outcomes)
    described = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    print(f"{module}: {len(found)} mutants, tried {len(drawn)} in {time.monotonic() - started:.0f} s: {described}")
    for mutant, one in zip(drawn, outcomes, strict=True):
        if one == "survived":
            print(f"  {module}:{mutant.line}: {mutant.what}")
    sys.stdout.flush()
    return counts


if __name__ == "__main__":
    sys.exit(main())
