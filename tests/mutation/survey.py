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
FIRST_SECONDS = 5
"""Seconds of the tests that are most about a line."""
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
    """The tests of every line, their seconds, and how many lines each runs in all."""

    def __init__(self) -> None:
        from coverage import CoverageData

        data = CoverageData(str(COVERAGE))
        data.read()
        self._seconds = _seconds()
        self._lines: dict[str, dict[int, set[str]]] = {}
        self._reach: Counter[str] = Counter()
        for file in data.measured_files():
            contexts = data.contexts_by_lineno(file)
            self._lines[file] = {line: self._tests(names) for line, names in contexts.items()}
            self._reach.update(name for names in self._lines[file].values() for name in names)

    def _tests(self, contexts: Iterable[str]) -> set[str]:
        return {name for name in (context.rpartition("|")[0] for context in contexts) if name in self._seconds}

    def stages(self, module: Path, line: int, seconds: float) -> list[list[str]]:
        """Return tests that run a line of a module: those that run the least beside it, then a case of every other.

        A line that only an import runs is tested by every file of tests that runs any line of its module.
        """
        lines = self._lines[str(module.resolve())]
        found = lines.get(line) or self._beside(set().union(*lines.values()))
        first = self._within(FIRST_SECONDS, sorted(found, key=lambda name: (self._reach[name], name)))
        others = self._within(seconds, self._by_case(found.difference(first)))
        return [stage for stage in (first, others) if stage]

    def _beside(self, names: set[str]) -> set[str]:
        """Return all tests of the files that hold some."""
        files = {name.partition("::")[0] for name in names}
        return {name for name in self._seconds if name.partition("::")[0] in files}

    def _by_case(self, names: set[str]) -> list[str]:
        """Return the fastest case of every test, then the second of each, and so on."""
        cases: Counter[str] = Counter()
        order = []
        for name in sorted(names, key=lambda name: (self._seconds[name], name)):
            function = name.partition("[")[0]
            order.append((cases[function], self._seconds[name], name))
            cases[function] += 1
        return [name for *_, name in sorted(order)]

    def _within(self, seconds: float, names: list[str]) -> list[str]:
        """Return the first tests, which take so many seconds together; one at least."""
        ends = list(accumulate(self._seconds[name] for name in names))
        return names[: max(bisect_right(ends, seconds), 1)]


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
