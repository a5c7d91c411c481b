"""The manual page: whole, well-formed, the same in the package, and found by `man` once installed."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from tests.cli.conftest import ok
from tests.cli.test_help import EVERY, EXAMPLES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "lucid_cli" / "lucid-conv3d.1"


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def rendered(*words):
    """Return the page as groff shows it, without bold and underlined letters."""
    argv = ["groff", "-man", "-ww", "-Tutf8", "-rLL=200n", "-P-c", *words, str(PAGE)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return " ".join(re.sub(".\b", "", done.stdout).replace("\u2010", "-").split())


def test_the_file_is_what_is_printed():
    assert ok("--man").out == PAGE.read_text(), "run: python -m lucid_cli --man > lucid_cli/lucid-conv3d.1"


def test_the_file_is_installed():
    with (ROOT / "pyproject.toml").open("rb") as file:
        installed = tomllib.load(file)["tool"]["setuptools"]["data-files"]
    assert installed == {"share/man/man1": ["lucid_cli/lucid-conv3d.1"]}


@needs("groff")
def test_every_option_and_example_is_shown_as_it_is_typed():
    shown = rendered()
    for words, command in EVERY:
        if not isinstance(command, click.Group):
            assert f" {' '.join(words)} lucid-conv3d {' '.join(words)} [OPTIONS]" in shown
        for param in command.params:
            if isinstance(param, click.Option):
                assert all(
                    re.search(rf" {re.escape(name)}[ ,]", shown) for name in (*param.opts, *param.secondary_opts)
                )
    for example in EXAMPLES:
        if not example.startswith("lucid-conv3d kernel show log"):  # a group's own
            assert " ".join(example.split()) in shown
    for heading in (
        "NAME",
        "SYNOPSIS",
        "LAYER OPTIONS",
        "OTHER OPTIONS",
        "GENERAL OPTIONS",
        "ENVIRONMENT",
        "EXIT STATUS",
    ):
        assert heading in shown
    assert "--channels INTEGER Channels. Default 1." in shown
    assert "'[{weights: a.npz, padding: 1}, relu, {kernel: box, size: 3vox}]'" in shown
    assert "6 over the memory or disk limit" in shown


@needs("mandoc")
def test_a_strict_reader_finds_no_fault():
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", PAGE], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []
