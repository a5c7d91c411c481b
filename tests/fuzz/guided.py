"""The same checks under Atheris, which keeps inputs that reach new code and damages them further."""

import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = ["lucid_cli", "lucid_core", "nibabel.nifti1", "nibabel.nifti2", "numpy.lib", "zipfile", "yaml", "click"]


def fuzz(names: Sequence[str], inputs: int, seed: int, save: Path) -> int:
    """Fuzz formats of one file, each in a child; return how many failed."""
    import atheris

    with atheris.instrument_imports(include=PACKAGES):
        from tests.fuzz.fuzzers import FUZZERS
    failed = 0
    for name in names or [name for name in FUZZERS if name != "pair"]:
        with tempfile.TemporaryDirectory() as folder:
            child = os.fork()
            if not child:
                _guide(atheris, FUZZERS[name], [f"-runs={inputs}", f"-seed={seed + 1}"], save, Path(folder))
            failed += os.waitpid(child, 0)[1] != 0
    return int(failed > 0)


def _guide(atheris: Any, fuzzer: Any, options: list[str], save: Path, folder: Path) -> None:
    """Run libFuzzer, which ends the process; what fails is left as `save/NAME-crash-...`."""
    from tests.fuzz.fuzzers import damage
    from tests.fuzz.workers import FAILED, tried

    (corpus := folder / "corpus").mkdir()
    save.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(fuzzer.seeds):
        (corpus / str(number)).write_bytes(case[fuzzer.suffix])
    packed = [case[fuzzer.suffix] for case in fuzzer.seeds]

    def one(data: bytes) -> None:
        outcome = tried(fuzzer, {fuzzer.suffix: data}, folder)
        if outcome.startswith(FAILED):
            raise AssertionError(outcome)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        fresh = fuzzer.damaged(rng)[fuzzer.suffix] if rng.random() < 0.1 else damage(rng, data, fuzzer.damages, packed)
        return fresh[:most]

    options = [*options, "-timeout=10", "-rss_limit_mb=1024", "-max_len=8192"]
    places = [f"-artifact_prefix={save}/{fuzzer.name}-", str(corpus)]
    atheris.Setup(["fuzz", *options, *places], one, custom_mutator=mutate)
    atheris.Fuzz()
