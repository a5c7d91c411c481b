"""The floors of the engine: a module imports from its own floor or a lower one, and nobody but NumPy."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lucid_core

ROOT = Path(lucid_core.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
TOP = ROOT / "__init__.py"
THIRD_PARTY = {"numpy"}
COMPILERS = {"numba", "llvmlite"}


def floors():
    """Read the table in the docstring of the package: module or folder -> floor."""
    table = lucid_core.__doc__.split("keeps that):")[1].split("Example::")[0]
    found, floor = {}, None
    for digit, names in re.findall(r"^ {4}(\d| )  (\S+(?: \S+)*)", table, re.MULTILINE):
        floor = int(digit) if digit.strip() else floor
        for name in names.split():
            assert found.setdefault(name.strip("/"), floor) == floor, f"{name} stands on two floors"
    return found


FLOORS = floors()


def home(path):
    """Return the name under which a module stands in the table: its own, or that of its folder."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree):
    """Yield what a tree imports, as dotted names; `from a import b` is a.b as well as a."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def identify(path):
    return path.relative_to(ROOT).as_posix()


def test_every_module_stands_on_one_floor():
    assert set(FLOORS.values()) == {0, 1, 2, 3, 4, 5, 6}
    assert {home(path) for path in MODULES if path != TOP} == set(FLOORS)


@pytest.mark.parametrize("path", [path for path in MODULES if path != TOP], ids=identify)
def test_a_module_imports_from_its_own_floor_or_lower(path):
    own = FLOORS[home(path)]
    for name in imports(parsed(path)):
        package, *rest = name.split(".")
        assert package != "lucid_cli"
        if package == "lucid_core":
            assert rest[0] in FLOORS, f"{name}: import from the module, not from the package"
            assert FLOORS[rest[0]] <= own, f"{identify(path)} on floor {own} imports {name} of floor {FLOORS[rest[0]]}"


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_a_module_needs_nobody_but_numpy_and_a_kernel_its_compiler(path):
    packages = {name.split(".")[0] for name in imports(parsed(path))} - sys.stdlib_module_names
    compilers = COMPILERS if home(path) == "compiled" else set()
    assert packages <= THIRD_PARTY | compilers | {"lucid_core"}


def loaded(statement):
    """Return the packages that a fresh interpreter loads from files for a statement, beside the standard library's."""
    script = (
        "import sys; before = set(sys.modules); "
        f"{statement}; "
        "new = [name for name in set(sys.modules) - before if getattr(sys.modules[name], '__file__', None)]; "
        "print(*{name.split('.')[0] for name in new} - set(sys.stdlib_module_names))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_engine_loads_numpy_only():
    assert loaded("import lucid_core, lucid_core.nn; lucid_core.conv3d") == {"lucid_core", "numpy"}


def test_the_words_of_the_engine_cost_no_numpy():
    words = ("errors", "registry", "optional", "units", "padding", "regions")
    assert loaded(f"import lucid_core, {', '.join(f'lucid_core.{word}' for word in words)}") == {"lucid_core"}


def test_the_package_names_what_it_serves():
    for name in lucid_core.__all__:
        assert getattr(lucid_core, name) is not None
    with pytest.raises(AttributeError, match="'lucid_core' has no attribute 'conv2d'"):
        lucid_core.__getattr__("conv2d")
