"""What dask workers gain and cost on this machine, `python -m tests.benchmarks.cluster`.

Two workers against one, each of one thread, on a Zarr that they read and write themselves; and what a tile costs more
than in this process, with tiles so small that they are nothing but cost. The programs run in turn. What is measured of
a tile goes into `tests.benchmarks.schedule`.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.files import OURS, goal

KERNEL = ("--kernel", "sphere", "--radius", "4vox", "--algorithm", "direct", "--engine", "numpy")
SIZE, SMALL, TINY = 640, 128, 8
"""Voxels along an axis: of the volume, of that of small tiles, and of these."""


def seconds(folder: Path, *words: str) -> dict[str, float]:
    """Return the seconds of a run by stage: those of the work, without the start of programs."""
    command = [OURS, "apply", *words, "-o", "out.zarr", "--overwrite", "-q", "--no-provenance", "--report", "-"]
    report = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(report)["items"][0]["seconds"]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    large, small = ("large.zarr", *KERNEL, "-j", "1"), ("small.zarr", "--kernel", "identity", "-j", "1")
    tiny = ("--chunks", str(TINY), "--tile", str(TINY))
    ways = {
        "one process": large,
        "one worker": (*large, "--executor", "dask", "--workers", "1"),
        "two workers": (*large, "--executor", "dask", "--workers", "2"),
        "small tiles, one process": (*small, *tiny),
        "small tiles, one worker": (*small, *tiny, "--executor", "dask", "--workers", "1"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, size in (("large.zarr", SIZE), ("small.zarr", SMALL)):
            subprocess.run([OURS, "sample", "noise", "-o", file, "--shape", str(size)], cwd=folder, check=True)
        found = [{way: seconds(folder, *words) for way, words in ways.items()} for _ in range(rounds)]
    for way in ways:
        stages = "  ".join(f"{stage} {median(one[way][stage] for one in found):.2f}" for stage in found[0][way])
        print(f"{way:<30}{stages} s")
    total = [{way: one[way]["total"] for way in ways} for one in found]
    goal("two workers / one worker", median(one["two workers"] / one["one worker"] for one in total), 1 / 1.6)
    tiles = (SMALL // TINY) ** 3
    more = median(one["small tiles, one worker"] - one["small tiles, one process"] for one in total)
    print(f"a tile costs {1000 * more / tiles:.2f} ms more on a worker ({tiles} tiles; goal: under 5)")


if __name__ == "__main__":
    main()
