"""The command `python -m tests.mutation MODULE...`."""

import argparse
import random
import sys
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
    *("units", "volume", "arguments", "normalized", "masked", "stack", "compute", "elementwise", "intensity"),
)
FILES = (
    *("formats/nifti", "formats/npy", "formats/hdf5", "nifti_header", "rawfile", "planes", "boxes", "streams"),
    *("compression", "crc", "volumes", "axes", "output", "sink", "temporary", "journal"),
)
DEFAULT = [*(f"lucid_core/{name}.py" for name in MODULES), *(f"lucid_cli/{name}.py" for name in FILES)]
"""Shape arithmetic, boundaries, tiling, planner, units, masks and stacks; formats and writers."""


def main() -> int:
    """Try the mutants of some modules; return 1 where less than nine in ten are noticed."""
    asked = _arguments()
    if asked.survey or not COVERAGE.exists():
        survey()
    known, total = Survey(), Counter[str]()
    with TemporaryDirectory() as folder, ThreadPoolExecutor(asked.jobs) as pool:
        trees: SimpleQueue[Tree] = SimpleQueue()
        for number in range(asked.jobs):
            trees.put(Tree(Path(folder) / str(number)))
        for trial in [Trial(Path(name), asked, known, trees, pool) for name in asked.modules or DEFAULT]:
            total += trial.told()
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


class Trial:
    """The mutants drawn of a module, handed to the pool."""

    def __init__(
        self,
        module: Path,
        asked: argparse.Namespace,
        known: Survey,
        trees: SimpleQueue[Tree],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._module, self._seconds, self._survey, self._trees = module, asked.seconds, known, trees
        self._found = list(mutants(module.read_text()))
        self._drawn = random.Random(asked.seed).sample(self._found, min(asked.most, len(self._found)))
        self._outcomes = [pool.submit(self._outcome, mutant) for mutant in self._drawn]

    def _outcome(self, mutant: Mutant) -> str:
        tree = self._trees.get()
        try:
            return tree.outcome(
                self._module, mutant.source, self._survey.stages(self._module, mutant.line, self._seconds)
            )
        finally:
            self._trees.put(tree)

    def told(self) -> Counter[str]:
        """Wait for the outcomes, print those that survive, and return how many came to what."""
        outcomes = [one.result() for one in self._outcomes]
        counts = Counter(outcomes)
        described = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        print(f"{self._module}: {len(self._found)} mutants, tried {len(self._drawn)}: {described}")
        for mutant, one in zip(self._drawn, outcomes, strict=True):
            if one == "survived":
                print(f"  {self._module}:{mutant.line}: {mutant.what}")
        sys.stdout.flush()
        return counts


if __name__ == "__main__":
    sys.exit(main())
