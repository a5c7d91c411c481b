"""Completion, in the real shells where they are installed: option names, values, files, datasets in HDF5."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest

from lucid_cli import completion, main, names
from lucid_core.algorithms import algorithm_names
from lucid_core.kernels import AXES, kernels
from lucid_core.padding import LEGAL
from lucid_core.planner import ACCURACIES, ENGINES
from lucid_core.tensors.devices import DEVICES
from tests.cli.conftest import ok, run
from tests.cli.test_help import COMMANDS

SHELLS = ("bash", "zsh", "fish")
PROGRAM = Path(sys.executable).parent / "lucid-conv3d"
SECONDS = 20
CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"


PADDING_MODE = (
    "--padding-mode\tOutside: zeros, reflect, replicate, circular, symmetric, renormalize; "
    "a named kernel has replicate."
)
RE_MODES = [f"layer.padding_mode={mode}" for mode in ("reflect", "replicate", "renormalize")]


@pytest.fixture
def shelf(folder):
    """Return a folder with files of several kinds, some of awkward names."""
    for name in ("scan.nii.gz", "my scan.nii", "notes.txt", "layer.yaml", "w.npz", "odd$name.npy", ".hidden.nii"):
        (folder / name).touch()
    (folder / "sub folder").mkdir()
    (folder / "sub folder" / "deep.nii").touch()
    with h5py.File(folder / "a.h5", "w") as file:
        file["data"] = np.zeros((4, 5, 6), np.float32)
        file["group/raw"] = np.zeros((2, 3, 4, 5), np.uint8)
        file["group/two words"] = np.zeros((3, 3, 3), np.uint8)
        file["curve"] = np.zeros(7)
    return folder


def answer(line):
    """Return the kinds, values and words that the program answers to a shell."""
    done = subprocess.run(
        [PROGRAM],
        env=os.environ | {"_LUCID_CONV3D_COMPLETE": "zsh_complete", "COMP_WORDS": line},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [tuple(one.split("\t")) for one in done.stdout.splitlines() if one]


def values(line):
    """Return the values that fit at the end of a line, found in this process."""
    shell = completion.Zsh(main.cli, {}, "lucid-conv3d", "_LUCID_CONV3D_COMPLETE")
    with mock.patch.dict(os.environ, COMP_WORDS=line):
        return [item.value for item in shell.get_completions(*shell.get_completion_args())]


@pytest.mark.parametrize(
    ("line", "expected"),
    (
        ("", sorted(COMMANDS)),
        ("kernel s", ["save", "show"]),
        ("apply --padding-", ["--padding-mode"]),
        ("apply --no-b", ["--no-bias"]),
        ("apply --padding-mode ", list(LEGAL)),
        ("apply --padding ", ["same", "valid"]),
        ("apply --engine ", ["auto", "numpy", "numba", "torch"]),
        ("apply --algorithm ", ["auto", *algorithm_names()]),
        ("apply --accuracy ", list(ACCURACIES)),
        ("apply --kernel ", sorted(kernels())),
        ("apply --kernel=gau", ["--kernel=gaussian"]),
        ("apply --cast ", ["error", "clip", "rescale"]),
        ("apply --out-dtype ui", ["uint8", "uint16", "uint32", "uint64"]),
        ("apply --set layer.pa", ["layer.padding=", "layer.padding_mode="]),
        ("apply --set layer.padding_mode=re", RE_MODES),
        ("apply --set run.quiet=", ["run.quiet=true", "run.quiet=false"]),
        ("apply --set volume.mask=sc", ["volume.mask=scan.nii.gz"]),
        ("sample ch", ["checkerboard"]),
        ("bench --workload 1-1-", ["1-1-k3", "1-1-k9", "1-1-k3-mni"]),
        ("kernel show la", ["laplacian"]),
        ("info ", ["sub folder/", "a.h5", "my scan.nii", "odd$name.npy", "scan.nii.gz"]),
        ("info .", [".hidden.nii"]),
        ("info 'sub folder/d", ["sub folder/deep.nii"]),
        ("info my\\ s", ["my scan.nii"]),
        ("info nowhere/", []),
        ("apply -c ", ["sub folder/", "layer.yaml"]),
        ("apply --weights w", ["w.npz"]),
        ("info a.h5:", ["a.h5:/data", "a.h5:/group/raw", "a.h5:/group/two words"]),
        ("info a.h5::/da", ["a.h5::/data"]),
        ("info a.h5:group/r", ["a.h5:group/raw"]),
        ("apply --mask=a.h5:/d", ["--mask=a.h5:/data"]),
    ),
)  # fmt: skip
def test_what_fits_at_the_cursor(shelf, line, expected):
    assert values(f"lucid-conv3d {line}") == expected


def test_datasets_come_with_their_shapes(shelf):
    assert answer("lucid-conv3d info a.h5:/g")[0] == ("dataset", "a.h5:/group/raw", "2x3x4x5")


def test_what_stands_on_the_line_is_not_done(folder):
    os.mkfifo("pipe.yaml")
    line = "lucid-conv3d --version --json-usage --man apply -c pipe.yaml --set nonsense --json-usage --out-d"
    assert [value for _, value, _ in answer(line)] == ["--out-dir", "--out-dtype"]


@pytest.mark.parametrize("home", ("~/", "~nobody-of-this-name/"))
def test_a_home_is_followed_and_stays_as_typed(shelf, monkeypatch, home):
    monkeypatch.setenv("HOME", str(shelf))
    expected = ["~/scan.nii.gz"] if home == "~/" else []
    assert values(f"lucid-conv3d info {home}sc") == expected


def test_names_that_are_declared_are_those_that_are_legal():
    from lucid_cli.compression import LEVELS
    from lucid_cli.samples import KINDS
    from lucid_cli.sink import OUT_DTYPES

    for kind, legal in (
        (names.KERNEL, kernels()),
        (names.KERNEL_AXIS, AXES),
        (names.PADDING_MODE, LEGAL),
        (names.DEVICE, ("auto", *DEVICES)),
        (names.ENGINE, ("auto", *ENGINES)),
        (names.ACCURACY, ACCURACIES),
        (names.ALGORITHM, ("auto", *algorithm_names())),
        (names.OUT_DTYPE, [name for one in OUT_DTYPES.values() for name in one]),
        (names.COMPRESSION, LEVELS),
        (names.SAMPLE, KINDS),
    ):
        assert set(kind.legal) == set(legal)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("hdf5_*")), ids=lambda path: path.stem)
def test_a_damaged_file_offers_nothing_and_says_nothing(folder, path):
    shutil.copy(path, folder / "bad.h5")
    answer("lucid-conv3d info bad.h5:/")


def test_what_is_no_file_is_not_opened(folder):
    os.mkfifo(folder / "pipe.h5")
    (folder / "empty.h5").touch()
    assert answer("lucid-conv3d info pipe.h5:/") == answer("lucid-conv3d info empty.h5:/") == []


def test_an_answer_that_takes_too_long_is_none(shelf):
    code = (
        "import sys, time\n"
        "from lucid_cli import completion, main, offers\n"
        "completion.SECONDS = 0.1\n"
        "offers.names_in = lambda package: time.sleep(60)\n"
        "sys.argv = ['lucid-conv3d']\n"
        "main.main()"
    )
    environment = os.environ | {"_LUCID_CONV3D_COMPLETE": "bash_complete", "COMP_WORDS": "lucid-conv3d kernel show "}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_completing_options_loads_nothing_heavy(folder):
    code = (
        "import sys; from lucid_cli.main import _run\ntry: _run()\nexcept SystemExit: sys.exit('numpy' in sys.modules)"
    )
    environment = os.environ | {"_LUCID_CONV3D_COMPLETE": "zsh_complete", "COMP_WORDS": "lucid-conv3d apply --kernel g"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "plain\tgabor\t\nplain\tgaussian\t\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed(shell):
    result = ok("--completion", shell)
    assert "_LUCID_CONV3D_COMPLETE" in result.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=result.out, text=True, check=True, timeout=SECONDS)


def test_a_shell_that_is_not_known_is_refused():
    result = run("--completion", "tcsh")
    assert (result.code, result.out) == (2, "")
    assert "'bash', 'zsh', 'fish'" in result.err


SETUP = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "bind 'set enable-bracketed-paste off'; . ./script; "
        'bind -x \'"\\C-g": printf %s "$READLINE_LINE" > line.new; mv line.new line\'',
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -U compinit; compinit -D -u; . ./script; "
        "tell() { print -rn -- $BUFFER > line.new; mv line.new line }; zle -N tell; bindkey '^G' tell",
    ),
}
"""How each is started at a terminal; control-G writes what stands on the line to a file."""


class Terminal:
    """A shell at a terminal, with the script sourced."""

    def __init__(self, shell):
        Path("script").write_text(ok("--completion", shell).out)
        argv, setup = SETUP[shell]
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            environment = os.environ | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "> "}
            os.execvpe(argv[0], argv, environment)
        self.shown = ""
        self.write(setup + "; echo re''ady\r")
        self.wait(lambda: "ready" in self.shown)

    def write(self, text):
        os.write(self.descriptor, text.encode())

    def wait(self, done):
        end = time.monotonic() + SECONDS
        while not done():
            assert time.monotonic() < end, self.shown
            if select.select([self.descriptor], [], [], 0.02)[0]:
                self.shown += os.read(self.descriptor, 1 << 16).decode(errors="replace")

    def completed(self, typed):
        """Return the line after the tabulator is pressed at its end."""
        self.write(f"lucid-conv3d {typed}\t\x07")
        self.wait(Path("line").exists)
        line = Path("line").read_text()
        Path("line").unlink()
        self.write("\x15")
        return line.removeprefix("lucid-conv3d ")

    def close(self):
        os.close(self.descriptor)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def terminal(request, shelf):
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    one = Terminal(request.param)
    yield one
    one.close()


@pytest.mark.parametrize("terminal", SETUP, indirect=True)
def test_at_a_terminal(terminal):
    for typed, expected in (
        ("ap", "apply "),
        ("apply --padding-m", "apply --padding-mode "),
        ("apply --padding-mode=sy", "apply --padding-mode=symmetric "),
        ("apply --set layer.st", "apply --set layer.stride="),
        ("apply --set layer.padding_mode=sy", "apply --set layer.padding_mode=symmetric "),
        ("info sc", "info scan.nii.gz "),
        ("info my", "info my\\ scan.nii "),
        ("info odd", "info odd\\$name.npy "),
        ("info sub", "info sub\\ folder/"),
        ("info sub\\ folder/", "info sub\\ folder/deep.nii "),
        ("info a.h5:/da", "info a.h5:/data "),
        ("info a.h5:/group/t", "info a.h5:/group/two\\ words "),
        ("apply --mask=a.h5:/da", "apply --mask=a.h5:/data "),
        ("info a.h5:", "info a.h5:/"),
        ("info nothing-is-called-so", "info nothing-is-called-so"),
    ):
        assert terminal.completed(typed) == expected


@pytest.mark.parametrize("terminal", SETUP, indirect=True)
def test_quoted_names_at_a_terminal(terminal):
    for typed, expected in (
        ("info 'my s", "info 'my scan.nii' "),
        ('info "a.h5:/group/t', 'info "a.h5:/group/two words" '),
    ):
        assert terminal.completed(typed) == expected


@pytest.mark.parametrize("terminal", SETUP, indirect=True)
def test_shapes_are_shown_beside_datasets(terminal):
    terminal.write("lucid-conv3d info a.h5:/\t\t")
    terminal.wait(lambda: "4x5x6" in terminal.shown and "2x3x4x5" in terminal.shown)


def fish(line):
    """Return what fish would offer at the end of a line, with its words."""
    Path("script").write_text(ok("--completion", "fish").out)
    environment = os.environ | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(Path.cwd())}
    code = ["fish", "--no-config", "-c", "source script; complete -C $argv[1]", f"lucid-conv3d {line}"]
    done = subprocess.run(code, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    (
        ("apply --padding-m", PADDING_MODE),
        ("apply --padding-mode sy", "symmetric"),
        ("apply --kernel=gau", "--kernel=gaussian"),
        ("info my", "my scan.nii"),
        ("info my\\ s", "my scan.nii"),
        ("info a.h5:/da", "a.h5:/data\t4x5x6"),
        ("apply --set layer.st", "layer.stride=\tStep from output to output voxel."),
    ),
)
def test_in_fish(shelf, line, expected):
    assert fish(line) == [expected]
