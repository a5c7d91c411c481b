"""Files that failed once, and a short run of every fuzzer, keep the property: read, or refused in words."""

from pathlib import Path

import pytest

from tests.fuzz.fuzzers import FUZZERS
from tests.fuzz.workers import FAILED, Tally, fuzz, outcomes

CORPUS = sorted(path for path in (Path(__file__).parent / "corpus").iterdir() if path.suffix != ".img")
INPUTS = 200


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_a_file_that_failed_once_is_read_or_refused(path):
    fuzzer = FUZZERS[path.name.partition("_")[0]]
    case = {fuzzer.suffix: path.read_bytes()}
    if fuzzer.name == "pair":
        case[".img"] = path.with_suffix(".img").read_bytes()
    assert not next(outcomes(fuzzer, lambda _: case, [0], alone=True)).startswith(FAILED)


@pytest.mark.parametrize("fuzzer", FUZZERS.values(), ids=FUZZERS)
def test_the_undamaged_files_are_accepted(fuzzer):
    found = list(outcomes(fuzzer, fuzzer.seeds.__getitem__, range(len(fuzzer.seeds)), alone=False))
    assert found == ["accepted"] * len(fuzzer.seeds)


@pytest.mark.parametrize("fuzzer", FUZZERS.values(), ids=FUZZERS)
def test_damaged_files_are_read_or_refused(fuzzer):
    tally = Tally()
    fuzz(fuzzer, 0, range(INPUTS), tally)
    assert not tally.failures
    assert tally.outcomes.total() == INPUTS
