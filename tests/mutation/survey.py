"""Which tests run a line, and how long each takes: found once by the suite itself, under coverage."""

import subprocess
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from xml.etree import ElementTree

FOLDER = Path(".mutation")
COVERAGE, DURATIONS = FOLDER / "coverage", FOLDER / "durations.xml"
CLOSEST, FIRST_SECONDS = 3, 5
"""Files that are most about a line, and the seconds of tests that each gives."""
SETTINGS = """[run]
source = lucid_core, lucid_cli
"""
"""What a test starts is not measured: with the names of tests, a signal at a bad moment would make it wait for ever."""


def survey() -> None:
    """Run the whole suite once and keep what it ran; some minutes. Tests that fail tell nothing and are left out."""
    FOLDER.mkdir(exist_ok=True)
    report = (f"--junitxml={DURATIONS}", "-o", "junit_family=xunit1")
    (settings := FOLDER / "settings").write_text(SETTINGS)
    coverage = ("--cov", f"--cov-config={settings}", "--cov-context=test", "--cov-report=", "--cov-fail-under=0")
    if subprocess.call([sys.executable, "-m", "pytest", *coverage, *report]) > 1:
        sys.exit("the suite did not run to its end")
    Path(".coverage").rename(COVERAGE)


class Survey:
    """The tests of every line of a module, and their seconds."""

    def __init__(self, module: Path):
        from coverage import CoverageData

        data = CoverageData(str(COVERAGE))
        data.read()
        self._seconds = _seconds()
        self._sizes = Counter(map(_file, self._seconds))
        contexts = data.contexts_by_lineno(str(module.resolve()))
        self._lines = {line: self._tests(names) for line, names in contexts.items()}

    def _tests(self, contexts: Iterable[str]) -> set[str]:
        return {name for name in (context.rpartition("|")[0] for context in contexts) if name in self._seconds}

    def stages(self, line: int, seconds: float) -> list[list[str]]:
        """Return tests that run a line: those of the three files that are most about it, one by one, then others.

        A line that only an import runs is tested by what runs any line of its module.
        """
        found = self._lines.get(line) or set().union(*self._lines.values())
        files = Counter(_file(name) for name in found)
        closest = sorted(files, key=lambda file: (-files[file] / self._sizes[file], file))[:CLOSEST]
        first = [self._chosen({name for name in found if _file(name) == file}, FIRST_SECONDS) for file in closest]
        others = {name for name in found if _file(name) not in closest}
        return [*first, *([self._chosen(others, seconds)] if others else [])]

    def _chosen(self, names: set[str], seconds: float) -> list[str]:
        """Return tests that take so many seconds together: the fastest case of every function first, one at least."""
        cases: Counter[str] = Counter()
        order = []
        for name in sorted(names, key=lambda name: (self._seconds[name], name)):
            function = name.partition("[")[0]
            order.append((cases[function], self._seconds[name], name))
            cases[function] += 1
        order.sort()
        ends = list(accumulate(taken for _, taken, _ in order))
        return [name for _, _, name in order[: max(bisect_right(ends, seconds), 1)]]


def _file(name: str) -> str:
    return name.partition("::")[0]


def _seconds() -> dict[str, float]:
    """Return the seconds of every test that passed, by its pytest name."""
    found: dict[str, float] = defaultdict(float)
    for case in ElementTree.parse(DURATIONS).iter("testcase"):
        if len(case):  # an element says that it failed or was skipped
            continue
        file, name = case.get("file", ""), case.get("name", "")
        classes = case.get("classname", "").removeprefix(file.removesuffix(".py").replace("/", "."))
        found["::".join((file, *filter(None, classes.split(".")), name))] += float(case.get("time", 0))
    return dict(found)
