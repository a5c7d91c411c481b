"""What a newcomer is likely to type is met with what to type instead."""

from pathlib import Path

import pytest

from tests.cli.conftest import run


@pytest.mark.parametrize(
    "words",
    ("sample ramp -o out.npy", "kernel save sobel -o out.npy", "config init -o out.npy"),
)
def test_skip_existing_is_named_only_where_it_is_an_option(scan, words):
    Path("out.npy").write_bytes(b"")
    result = run(*words.split())
    assert (result.code, result.err) == (4, "Error: out.npy: exists; use --overwrite to replace it\n")
    apply = run("apply", "scan.npy", "-o", "out.npy", "--kernel", "identity")
    assert apply.err == "Error: out.npy: exists; use --overwrite to replace it or --skip-existing to leave it\n"
