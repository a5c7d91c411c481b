"""The README's commands run and print what it shows."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
VARIES = re.compile(r"seconds|plan  |solver  |loss  |peak memory|\((numpy|numba)\): [0-9.e-]+ s|[0-9.]+ s$")
"""Lines that differ from run to run or machine to machine: times, memory next to them, and last digits of sums."""


def sessions() -> list[tuple[str, str]]:
    """Return every command of the console blocks with what stands below it, in order."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def comparable(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if not VARIES.search(line)]


def test_console_sessions(tmp_path):
    pytest.importorskip("numba", reason="the README shows plans with Numba installed")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for name in [name for name in environment if name.startswith("LUCID_CONV3D_")]:
        del environment[name]
    assert len(sessions()) >= 8
    shutil.copytree(README.parent / "configs", tmp_path / "configs")
    for command, shown in sessions():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
        )
        assert comparable(done.stdout + done.stderr) == comparable(shown), command


def test_python_example():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    exec(example, names)
    assert names["y"].shape == (2, 16, 8, 16, 16)


@pytest.mark.parametrize("end", ["--kernel gaussian --fwhm 4mm", "-m pytest"])
def test_the_two_lines_that_set_up(end):
    """`.ci/run` runs both; here, that each is one line of its own."""
    lines = re.findall(r"```sh\n([^\n]*)\n```", README.read_text())
    assert sum(line.startswith("python3 -m venv .venv && ") and line.endswith(end) for line in lines) == 1
