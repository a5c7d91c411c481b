"""Two hundred small scans: what a batch takes besides their own work, `python -m tests.benchmarks.batch`.

`.nii.gz` of 64^3 int16 are smoothed by one command with one file and with two files at once, and by a command a file;
the programs run in turn. The own work of the files is the sum of `seconds.total` in the report.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.benchmarks.files import OURS, apart, goal, write_scan

FILES = 200
LAYER = ("--kernel", "gaussian", "--sigma", "1.5mm", "-q", "--overwrite")


def at_once(folder: Path, jobs: int) -> tuple[float, float]:
    """Return the seconds that one command takes for all scans, and those of their own work."""
    began = time.perf_counter()
    command = [OURS, "apply", "in", "--out-dir", "out", *LAYER, "-J", str(jobs), "--report", "report.json"]
    subprocess.run(command, cwd=folder, check=True)
    seconds = time.perf_counter() - began
    items = json.loads((folder / "report.json").read_text())["items"]
    return seconds, sum(item["seconds"]["total"] for item in items)


def one_by_one(folder: Path) -> tuple[float, float]:
    """Return the seconds that a command a scan takes for a tenth of the scans, times ten."""
    began = time.perf_counter()
    for path in sorted(folder.glob("in/*"))[: FILES // 10]:
        subprocess.run([OURS, "apply", str(path), "--out-dir", "out", *LAYER], cwd=folder, check=True)
    return 10 * (time.perf_counter() - began), 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        apart(write_scan, folder / "in" / "000.nii.gz", (64, 64, 64), "int16")
        for number in range(1, FILES):
            (folder / "in" / f"{number:03}.nii.gz").write_bytes((folder / "in" / "000.nii.gz").read_bytes())
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "one command": lambda: at_once(folder, 1),
            "one command, -J 2": lambda: at_once(folder, 2),
            "a command a file": lambda: one_by_one(folder),
        }
        found = [{name: way() for name, way in ways.items()} for _ in range(rounds)]
    for name in ways:
        print(f"{name:<46}{median(one[name][0] for one in found):>9.2f} s")
    goal("one command: time / own work", median(one["one command"][0] / one["one command"][1] for one in found), 1.5)


if __name__ == "__main__":
    main()
