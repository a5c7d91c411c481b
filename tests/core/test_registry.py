"""Families that are folders, names with suggestions, errors, and optional packages."""

import pytest

from lucid_core import errors
from lucid_core.algorithms import algorithms
from lucid_core.errors import ArgumentError, ArgumentTypeError, ExtraError, LucidError
from lucid_core.optional import require
from lucid_core.registry import choose, did_you_mean, members


def test_the_folder_is_the_list(tmp_path, monkeypatch):
    package = tmp_path / "zoo_of_this_test"
    package.mkdir()
    for name in ("__init__", "zebra", "ape"):
        (package / f"{name}.py").write_text(f"NAME = {name!r}\n")
    (package / "notes.txt").write_text("not a module")
    monkeypatch.syspath_prepend(tmp_path)
    found = members("zoo_of_this_test")
    assert {name: module.NAME for name, module in found.items()} == {"ape": "ape", "zebra": "zebra"}
    assert list(found) == ["ape", "zebra"]


def test_algorithms_are_a_family():
    assert list(algorithms()) == sorted(algorithms())
    assert {"direct", "gemm", "separable"} <= set(algorithms())


def test_did_you_mean():
    assert did_you_mean("gem", ["direct", "gemm"]) == " Did you mean 'gemm'?"
    assert did_you_mean("xyz", ["direct", "gemm"]) == ""
    assert did_you_mean("x", []) == ""


def test_choose():
    assert choose("colour", "red", iter(["red", "blue"])) == "red"
    with pytest.raises(ArgumentError, match=r"^unknown colour 'blu'; legal: red, blue\. Did you mean 'blue'\?$"):
        choose("colour", "blu", iter(["red", "blue"]))
    with pytest.raises(ArgumentError, match=r"^unknown colour 'x'; legal: red, blue\.$"):
        choose("colour", "x", ["red", "blue"])


@pytest.mark.parametrize("name", (None, 3, ["red"]))
def test_what_is_no_name(name):
    with pytest.raises(ArgumentTypeError, match=r"colour must be a name, not .*; legal: red, blue"):
        choose("colour", name, ["red", "blue"])


def test_a_package_that_is_there():
    assert require("json", "all").dumps([]) == "[]"


def test_a_package_that_is_missing_is_named_with_its_pip_line():
    with pytest.raises(
        ExtraError, match=r"needs the package 'no_such_package_here'.*pip install 'lucid-conv3d\[fast\]'"
    ) as caught:
        require("no_such_package_here", "fast")
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.parametrize(
    ("name", "built_in"),
    (
        ("ArgumentError", ValueError),
        ("ArgumentTypeError", TypeError),
        ("ShapeError", ValueError),
        ("ExtraError", ImportError),
        ("InputError", OSError),
        ("OutputError", OSError),
        ("LimitError", MemoryError),
        ("RunError", RuntimeError),
    ),
)
def test_errors_are_ours_and_what_a_caller_would_catch(name, built_in):
    kind = getattr(errors, name)
    assert issubclass(kind, LucidError)
    assert issubclass(kind, built_in)
    assert str(kind("told")) == "told"
