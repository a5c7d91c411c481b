"""The command `python -m tests.fuzz`."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

SAVED = Path(tempfile.gettempdir()) / "lucid-fuzz"


def main() -> int:
    """Fuzz the formats that are asked for; return 1 where one failed."""
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PATH": os.devnull}
    asked = _arguments()
    if asked.atheris:
        from tests.fuzz import guided

        return guided.fuzz(asked.formats, asked.inputs, asked.seed, asked.save)
    from tests.fuzz.fuzzers import FUZZERS

    unknown = set(asked.formats) - set(FUZZERS)
    if unknown:
        sys.exit(f"no format {', '.join(unknown)}; legal: {', '.join(FUZZERS)}")
    return int(sum(_failures(name, asked) for name in asked.formats or FUZZERS) > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz every reader with damaged files.")
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help="by default all")
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs a format (10000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to go on from (0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (0)")
    parser.add_argument("--save", type=Path, default=SAVED, help=f"folder for inputs that fail ({SAVED})")
    parser.add_argument("--atheris", action="store_true", help="let Atheris look for inputs that reach new code")
    return parser.parse_args()


def _failures(name: str, asked: argparse.Namespace) -> int:
    """Fuzz one format, print what came of it, and return the number of distinct failures."""
    from tests.fuzz.fuzzers import FUZZERS
    from tests.fuzz.workers import Tally, fuzz

    started, tally = time.monotonic(), Tally()
    fuzz(FUZZERS[name], asked.seed, range(asked.first, asked.first + asked.inputs), tally)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in tally.outcomes.most_common())
    print(f"{name}: {asked.inputs} inputs in {time.monotonic() - started:.0f} s: {counts}", flush=True)
    for number, (failure, case) in enumerate(tally.failures.items()):
        for suffix, data in case.items():
            asked.save.mkdir(parents=True, exist_ok=True)
            path = asked.save / f"{name}_{asked.seed}-{asked.first}-{number}{suffix}"
            path.write_bytes(data)
            print(f"  {failure}: {path}", flush=True)
    for failure, count in tally.not_again.items():
        print(f"  not again: {count} x {failure}", flush=True)
    return len(tally.failures)


if __name__ == "__main__":
    sys.exit(main())
