"""What commands tell of themselves: `--json-usage`, and `--boutiques` for the engines that run others' tools."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import lucid_core
from lucid_cli.failures import EXIT_CODES, MEANINGS
from lucid_cli.main import cli
from lucid_cli.types import FileName
from tests.cli.conftest import ok, run
from tests.cli.test_help import EVERY, HEAVY, examples

LEAVES = [words for words, command in EVERY if not isinstance(command, click.Group)]
KEYS = {
    "schema", "version", "exit_codes", "name", "path", "summary", "description", "usage", "arguments", "options",
    "examples", "commands",
}  # fmt: skip
VALUE = {"name", "metavar", "type", "required", "default", "choices", "words", "range", "repeatable"}
OPTION = VALUE | {"flags", "off_flags", "section", "env", "help"}
TYPES = {
    "boolean", "choice", "string", "integer", "number", "numbers", "size", "length", "memory", "list", "file", "output",
}  # fmt: skip


def usage(*words):
    result = ok(*words, "--json-usage")
    assert result.err == ""
    return json.loads(result.out)


def option(described, name):
    (found,) = [one for one in described["options"] if one["name"] == name]
    return found


def flat(described):
    yield described
    for one in described["commands"]:
        yield from flat(one)


@pytest.mark.parametrize("words", [words for words, _ in EVERY], ids=" ".join)
def test_every_command_tells_all_that_it_takes(words):
    command = dict(EVERY)[words]
    described = usage(*words)
    assert set(described) == KEYS
    assert (described["schema"], described["version"]) == ("lucid-conv3d/usage-1", lucid_core.__version__)
    assert described["path"] == ["lucid-conv3d", *words]
    assert described["examples"] == examples(command)
    told = {flag for one in described["options"] for flag in (*one["flags"], *one["off_flags"])}
    assert told >= {
        flag for param in command.params if isinstance(param, click.Option) and not param.hidden for flag in param.opts
    }
    assert told >= {"--help", "--json-usage"}
    assert all(set(one) == VALUE and one["type"] in TYPES for one in described["arguments"])
    assert all(set(one) == OPTION and one["type"] in TYPES for one in described["options"])
    assert all(one["help"] for one in described["options"])
    assert len(described["arguments"]) == sum(isinstance(param, click.Argument) for param in command.params)


def test_the_whole_program_tells_every_command():
    described = usage()
    assert {tuple(one["path"][1:]) for one in flat(described)} == {(), *(words for words, _ in EVERY)}
    assert {"--version", "--completion", "--man"} <= {flag for one in described["options"] for flag in one["flags"]}


def test_what_an_option_takes():
    described = usage("apply")
    (inputs,) = described["arguments"]
    assert (inputs["type"], inputs["repeatable"], inputs["metavar"]) == ("file", True, "INPUT...")
    threads = option(described, "threads")
    assert threads == {
        "name": "threads",
        "flags": ["-j", "--threads"],
        "off_flags": [],
        "metavar": "INTEGER",
        "type": "integer",
        "required": False,
        "default": None,
        "choices": None,
        "words": [],
        "range": {"min": 0, "max": None},
        "repeatable": False,
        "section": "run",
        "env": "LUCID_CONV3D_THREADS",
        "help": "Threads; 0 or none: all cores this process may use.",
    }
    assert option(described, "cast")["choices"] == ["error", "clip", "rescale"]
    assert option(described, "cast")["default"] == "error"
    assert "gaussian" in option(described, "kernel")["choices"]
    assert option(described, "padding")["words"] == ["same", "valid"]
    assert option(described, "outside")["words"] == ["nan"]
    assert option(described, "bias")["off_flags"] == ["--no-bias"]
    assert option(described, "mask")["type"] == "file"
    assert option(described, "output")["type"] == "output"
    assert option(described, "sigma")["type"] == "length"
    assert option(described, "set")["repeatable"] and option(described, "set")["env"] is None
    assert option(described, "overwrite")["flags"] == ["--overwrite", "--force"]
    assert option(usage("sample"), "output")["required"]


def test_every_file_is_declared_as_one():
    """What is named FILE, INPUT or OUTPUT in the help has the type of files, which shells complete."""
    for words, command in EVERY:
        for param in command.params:
            shown = (param.metavar or "").strip("[].")
            assert not isinstance(param.type, (click.Path, click.File)), f"{words} {param.opts}"
            if shown.startswith(("FILE.", "INPUT", "OUTPUT", "REPORT", "FOLDER")) or shown == "FILE":
                assert isinstance(param.type, FileName), f"{' '.join(words)} {param.opts}: give it type=FileName(...)"


def test_asking_needs_nothing_that_is_required_and_does_nothing(folder):
    assert usage("sample")["name"] == "sample"
    assert ok("sample", "ramp", "-o", "a.npy", "--json-usage").out.startswith("{")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("words", ((), ("apply",), ("kernel", "show"), ("apply", "--boutiques")), ids=" ".join)
def test_asking_loads_nothing_heavy(words):
    last = () if "--boutiques" in words else ("--json-usage",)
    code = (
        f"import sys; sys.argv[1:] = {[*words, *last]!r}\n"
        "from lucid_cli.main import _run\n"
        f"code = _run(); sys.exit(code or ' '.join(name for name in {HEAVY!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [(), *(words for words, _ in EVERY)], ids=" ".join)
def test_each_help_shows_it(words):
    assert "--json-usage" in ok(*words, "--help").out


def test_every_exit_code_has_a_meaning():
    assert {code for _, code in EXIT_CODES} | {0, 7, 129, 130, 143} == set(MEANINGS)
    assert all(f"{code} {meaning}" in " ".join(cli.help.split()) for code, meaning in MEANINGS.items())


def boutiques(*words):
    return ok(*words, "--boutiques").out


@pytest.fixture
def bosh(folder, monkeypatch, capsys):
    """Return the package's command, at home in a folder of its own, as it keeps what it has seen."""
    module = pytest.importorskip("boutiques.bosh", reason="boutiques is not installed")
    monkeypatch.setenv("HOME", str(folder))

    def call(*words):
        capsys.readouterr()
        module.bosh(list(map(str, words)))
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_a_descriptor_is_valid(bosh, words):
    Path("tool.json").write_text(boutiques(*words))
    bosh("validate", "tool.json")


def simulated(bosh, words, **inputs):
    """Return the words of the command line that an invocation makes."""
    Path("tool.json").write_text(boutiques(*words))
    Path("invocation.json").write_text(json.dumps(inputs))
    heading, line = bosh("exec", "simulate", "tool.json", "-i", "invocation.json").splitlines()
    assert heading == "Generated Command:"
    return shlex.split(line)


def test_an_invocation_makes_the_command_line(bosh, folder):
    made = simulated(
        bosh,
        ("apply",),
        inputs=["a scan.nii.gz", "b.nii"],
        output="out put",
        kernel="gaussian",
        sigma="1.5mm",
        threads=2,
        no_shuffle=True,
        set=["run.quiet=true", "layer.stride=2"],
        direction="0,0,1",
    )
    assert made == shlex.split(
        "lucid-conv3d apply 'a scan.nii.gz' b.nii --output 'out put' --kernel gaussian --sigma 1.5mm "
        "--direction 0,0,1 --no-shuffle --threads 2 --set run.quiet=true --set layer.stride=2"
    )


def test_the_command_line_of_an_invocation_runs(bosh, folder):
    ok("sample", "-o", "a scan.nii.gz", "--shape", "6")
    line = simulated(bosh, ("apply",), inputs=["a scan.nii.gz"], output="b.npy", kernel="box", size="3vox", quiet=True)
    ok(*line[1:])
    assert (folder / "b.npy").exists()


@pytest.mark.parametrize("wrong", ({"kernel": "gausian"}, {"threads": -1}, {"threads": 1.5}))
def test_an_invocation_that_cannot_run_is_refused(bosh, wrong):
    from boutiques.invocationSchemaHandler import InvocationValidationError

    with pytest.raises(InvocationValidationError, match=next(iter(wrong))):
        simulated(bosh, ("apply",), inputs=["a.nii"], **wrong)


def test_a_descriptor_has_the_exit_codes():
    codes = {one["code"]: one["description"] for one in json.loads(boutiques("apply"))["error-codes"]}
    assert codes == {code: meaning for code, meaning in MEANINGS.items() if code}


def test_a_group_has_no_descriptor():
    assert run("kernel", "--boutiques").code == 2
