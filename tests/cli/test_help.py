"""What the help says: its examples run, its suggestions fit, and asking costs no heavy import."""

import importlib
import pkgutil
import re
import shlex
import subprocess
import sys

import pytest

import lucid_cli.commands
import lucid_core
from tests.cli.conftest import Result, finished, ok, program, run

COMMANDS = tuple(sorted(module.name for module in pkgutil.iter_modules(lucid_cli.commands.__path__)))
HEAVY = (
    "numpy",
    "nibabel",
    "h5py",
    "yaml",
    "tqdm",
    "scipy",
    "torch",
    "safetensors",
    "numba",
    "onnx",
    "onnxruntime",
    "openvino",
    "matplotlib",
)


def commands(command=None, path=()):
    """Yield every command with the words that call it, those of groups after their group."""
    for name in COMMANDS if command is None else getattr(command, "commands", ()):
        one = (
            importlib.import_module(f"lucid_cli.commands.{name}").command if command is None else command.commands[name]
        )
        yield (*path, name), one
        yield from commands(one, (*path, name))


def examples(command):
    """Return the examples of a command's help."""
    return [line.strip() for line in command.epilog.splitlines() if line.strip().startswith("lucid-conv3d ")]


EVERY = list(commands())
EXAMPLES = [example for _, command in EVERY for example in examples(command)]


@pytest.fixture
def stage(folder):
    """Return a folder with the files that examples name."""
    ok("sample", "phantom", "-o", "scan.nii.gz", "--shape", "12,14,16", "--spacing", "2,1,1mm")
    ok("apply", "scan.nii.gz", "-o", "expected.nii.gz", "--kernel", "box", "--size", "3vox", "-q")
    (folder / "result.nii.gz").write_bytes((folder / "expected.nii.gz").read_bytes())
    (folder / "smooth.yaml").write_text("kernel: gaussian\nsigma: 1.5mm\n")
    (folder / "scans").mkdir()
    for name in ("a", "b"):
        (folder / "scans" / f"{name}.nii.gz").write_bytes((folder / "scan.nii.gz").read_bytes())
    (folder / "smooth.nii.gz").write_bytes((folder / "expected.nii.gz").read_bytes())
    (folder / "net.yaml").write_text("layers: [{kernel_size: 3, out_channels: 2}, relu, {kernel_size: 1}]\nepochs: 2\n")
    for name in ("raw", "clean"):
        (folder / name).mkdir()
        (folder / name / "a.nii.gz").write_bytes((folder / "scan.nii.gz").read_bytes())
    for part in (1, 2):
        shard = ("--shard", f"{part}/2", "--report", f"shard-{part}.json")
        ok("apply", "scans", "--out-dir", "done", "--kernel", "box", "--size", "3vox", "-q", *shard)
    return folder


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_runs(stage, example):
    before = set(stage.iterdir())
    ok(*shlex.split(example)[1:])
    outputs = re.findall(r"(?:-o|--out-dir|--output) (\S+?)(?::|\s|$)", example)
    assert {path.name for path in set(stage.iterdir()) - before} == {output.strip("/") for output in outputs}


@pytest.mark.parametrize(("words", "command"), EVERY, ids=[" ".join(words) for words, _ in EVERY])
def test_every_command_has_examples(words, command):
    assert any(shlex.split(example)[1:][: len(words)] == list(words) for example in examples(command))


@pytest.mark.parametrize("flag", ("-h", "--help"))
def test_help_of_all_and_of_each(flag):
    overall = ok(flag)
    assert overall.err == ""
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", overall.out, re.MULTILINE)
        result = ok(name, flag)
        assert result.out.startswith(f"Usage: lucid-conv3d {name}")
        assert re.search(r"Examples:\n +lucid-conv3d ", result.out)


def test_without_words_help_is_shown_and_the_usage_is_wrong():
    result = run()
    assert result.code == 2
    assert "Usage: lucid-conv3d" in result.err + result.out


def test_every_option_is_explained():
    for name in COMMANDS:
        for param in importlib.import_module(f"lucid_cli.commands.{name}").command.params:
            assert param.param_type_name == "argument" or param.help, param.name


@pytest.mark.parametrize("args", (("--help",), ("--version",), *((name, "--help") for name in COMMANDS)))
def test_help_loads_nothing_heavy(args):
    code = (
        "import sys; sys.argv[1:] = {!r}\n"
        "from lucid_cli.main import _run\n"
        "code = _run()\n"
        "loaded = [name for name in {!r} if name in sys.modules]\n"
        "sys.exit(str(loaded) if loaded or code else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code.format(list(args), HEAVY)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_version_as_a_module_and_as_a_script(tmp_path):
    with program("--version", cwd=tmp_path) as one:
        result = finished(one)
    assert (result.code, result.out, result.err) == (0, f"lucid-conv3d {lucid_core.__version__}\n", "")
    assert ok("--version").out == result.out


def test_a_whole_run_as_a_module(tmp_path):
    with program("sample", "ramp", "-o", "a.nii.gz", "--shape", "4", cwd=tmp_path) as one:
        assert finished(one) == Result(0, "", "")
    assert (tmp_path / "a.nii.gz").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    (
        (("aplly",), ("unknown command 'aplly'", "Did you mean 'apply'", "kernel, ", "sample")),
        (("convolve",), ("unknown command 'convolve'", "legal: ")),
        (("apply", "--kernal", "box"), ("--kernal", "--kernel")),
        (("info", "--jason", "a"), ("--json",)),
        (("sample", "-o", "a.npy", "--shap", "3"), ("--shap",)),
    ),
)
def test_a_slip_is_met_with_a_suggestion(folder, args, words):
    result = run(*args)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: ")
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err


@pytest.mark.parametrize("words", ((), *(words for words, _ in EVERY)), ids=" ".join)
def test_help_fits_80_columns_whole(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = ok(*words, "--help").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.partition("\nCommands:\n")[2]
