"""`config init`, `config check` and `config schema`: what they say is what `apply` does."""

import json
import math
import re
from pathlib import Path

import click
import jsonschema
import nibabel
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_cli.commands.apply import command as apply
from lucid_cli.config import options_of
from lucid_cli.config_schema import schema
from lucid_cli.mistakes import SECTIONS, find
from lucid_cli.plain_yaml import read
from lucid_core.kernels import kernels
from lucid_core.units import ByteSize
from tests.cli.conftest import contents, make_nifti, make_volume, noise, ok, read_volume, run, save_weights

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
OPTIONS = {option.key: option for option in options_of(apply) if option.section in SECTIONS}
VALIDATOR = jsonschema.Draft202012Validator(json.loads(json.dumps(schema())))
MM = np.diag([0.9, 1.1, 2.5, 1])


def check(text, *args):
    """Check a configuration and return its problems as (line, column, message)."""
    Path("c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = run("config", "check", "c.yaml", *args)
    found = [re.fullmatch(r"c\.yaml:(\d+):(\d+): (.+)", line) for line in result.err.splitlines()]
    assert result.out == ""
    if result.code == 0:
        assert found == [None]
        assert result.err.startswith("c.yaml: fine")
        return []
    assert result.code == 2, result
    assert all(found), result.err
    return [(int(one[1]), int(one[2]), one[3]) for one in found]


def only(text, *args):
    """Check a configuration that has one problem and return it."""
    (problem,) = check(text, *args)
    return problem


@pytest.fixture
def brain(folder):
    """Return a NIfTI of three axes whose voxels are not cubes."""
    return make_nifti(folder / "scan.nii.gz", noise(8, 9, 10).T, sform=MM)


MANY = """\
layer:
  strid: 2
  padding: sme
  padding_mode: mirror
weights:
  kernel: box
  sigma: 2vox
run:
  engine: nuba
  stride: 2
  threads: two
volume:
  out_dtype: flaot32
  out_dtype: int8
  cast: [clip]
bias: maybe
octal: 010
12: 3
"""


class TestCheck:
    def test_everything_is_told_at_once_with_its_place_and_the_nearest(self, folder):
        expected = [
            (2, 3, "unknown key 'layer.strid'. Did you mean 'stride'?"),
            (3, 12, "Did you mean 'same'?"),
            (4, 17, "is called 'reflect' here"),
            (7, 3, "the kernel 'box' has no sigma: it takes size"),
            (9, 11, "unknown engine 'nuba'; legal: auto, numpy, numba, torch. Did you mean 'numba'?"),
            (10, 3, "wrong section; legal: layer.stride"),
            (11, 12, "'two' is not an integer of at least 0"),
            (14, 3, "'out_dtype' stands twice"),
            (15, 9, "is a list where one value belongs"),
            (16, 7, "'maybe' is neither true nor false"),
            (17, 1, "unknown key 'octal'"),
            (17, 8, "'010' is not a decimal number"),
            (18, 1, "the key 12 is no name"),
        ]
        found = check(MANY)
        assert [one[:2] for one in found] == [one[:2] for one in expected]
        for (_, _, message), (_, _, words) in zip(found, expected, strict=True):
            assert words in message

    @pytest.mark.parametrize(
        ("text", "place", "words"),
        (
            ("kernel: gausian", (1, 9), "Did you mean 'gaussian'"),
            ("kernel: gaussian", (1, 1), "needs its width"),
            ("# words\nweights: {kernel: gaussian, fwhm: 2}", (2, 35), "has no unit"),
            ("sigma: 2mm", (1, 1), "give --kernel NAME too"),
            ("seed: 1\nkernel: sobel", (1, 1), "--seed is for random weights"),
            ("kernel: box\nsize: 2.5vox", (2, 1), "whole voxels"),
            ("kernel: derivative\nsigma: 2mm\norder: 0,0,30", (3, 1), "no order 30"),
            ("threads: 2", (1, 1), "nothing says what to convolve with"),
            ("kernel_size: 3\nstride: 2\npadding: same", (3, 1), "needs stride 1"),
            ("kernel_size: 3\ngroups: 2\nout_channels: 3", (2, 1), "groups=2 does not divide out_channels=3"),
            ("weights: absent.npz", (1, 1), "no such file"),
            ("weights: w.npz\nkernel_size: 5", (2, 1), "kernel_size is said to be"),
            ("weights: {weights: w.npz, kernel: box}", (1, 11), "give one"),
            ("kernel: identity\nmask: absent.nii", (2, 1), "no such file"),
            ("kernel: identity\nmask: w.npz", (2, 1), "suffix"),
            ("kernel: identity\noutside: 3", (2, 1), "give --mask FILE too"),
            ("kernel: identity\noutput: out.xyz", (2, 1), "the suffix says no format"),
            ("kernel: identity\ncast: rescale", (2, 1), "needs an integer --out-dtype"),
            ("kernel: identity\noutput: o.npy\ncompression: 3", (3, 1), "does not go with .npy"),
            ("kernel: identity\nnormalize: percentile:99,1", (2, 12), "percentile:1,99"),
            ("kernel: identity\naxes: NDH", (2, 7), "as in NDHW"),
            ("kernel: identity\nlayer: 3", (2, 1), "is a section"),
            ("", (1, 1), "empty"),
            ("a: [1, 2\nb: 3", (2, 2), "not plain YAML"),
            ("layer:\n  stride: 2\n\tseed: 1", (3, 1), "indent with spaces"),
            ("layer: &a {stride: 2}", (1, 8), "anchors"),
            (b"kernel: box\nsize: \xff3vox", (2, 7), "not plain YAML"),
            ("kernel: box\nsize:3vox\nthreads: 2", (2, 1), "with a space behind the colon"),
            ('kernel: box\nsize: "3vox\nthreads: 2', (2, 7), "a quote is not closed"),
            ("layer: {stride: 2\nkernel: box", (2, 7), "a bracket is not closed"),
        ),
    )
    def test_one_problem_stands_where_it_is(self, folder, text, place, words):
        save_weights("w.npz", noise(1, 1, 3, 3, 3))
        line, column, message = only(text)
        assert ((line, column), words in message) == (place, True), message

    @pytest.mark.parametrize(
        "text",
        (
            "kernel: gaussian\nsigm: 2mm",
            "kernel: gaussian\nsigma: 2",
            "kernel: gausian\nsigma: 2mm",
            "kernel: identity\ncast: rescale\nout_dtype: int9",
            "kernel: identity\nvolume: {cast: rescale, dtype: int8}",
            "layers: [{kernel: gaussian, sgma: 2mm}]",
        ),
    )
    def test_what_follows_from_another_problem_is_not_told(self, folder, text):
        only(text)

    def test_the_first_problem_is_what_apply_says_with_its_line(self, brain):
        for text in (MANY, "kernel: box\nsize: 3vox\nlayer: {stride: 0}", "layers:\n- {kernel: box, size: 3}"):
            line, _, message = check(text)[0]
            result = run("apply", "scan.nii.gz", "-o", "out.nii", "-c", "c.yaml")
            assert result.code == 2
            assert f"c.yaml, line {line}" in result.err
            assert message.split(": ")[-1].rstrip(".") in result.err

    @pytest.mark.parametrize("name", kernels())
    def test_every_kernel_is_told_from_its_options(self, brain, name):
        """A value in mm for every option of a kernel is fine; without those that it needs it is not; nor is another."""
        values = {
            "sigma": "2mm",
            "size": "6mm",
            "radius": "5mm",
            "order": "0,0,1",
            "offset": "1,0,-2mm",
            "wavelength": "8mm",
        }
        taken = [option for option in kernels()[name].options if option in values]
        text = "".join(f"{option}: {values[option]}\n" for option in taken)
        assert check(f"kernel: {name}\n{text}") == []
        needs = bool(taken) and name != "identity"
        assert [place[0] for place in check(f"kernel: {name}")] == ([1] if needs else [])
        other = next(option for option in values if option not in taken)
        line, column, message = check(f"kernel: {name}\n{text}{other}: {values[other]}")[0]
        assert (line, column) == (len(taken) + 2, 1)
        assert f"has no {other}" in message

    def test_each_entry_of_a_list_of_layers_is_looked_at(self, folder):
        text = """\
layers:
- {kernel: gaussian, size: 3vox}
- rleu
- {kernl: box, size: 3}
- kernel: box
  size: 3vox
  stride: 0
- {weights: nope.npz}
- {clip: [1, 0]}
- {kernel: box, size: 6mm, device: cpu}
- {kernel: box, size: 6mm}
stride: 3
mask: absent.nii
"""
        expected = [
            (2, 4, "layer 1: the kernel 'gaussian' needs its width"),
            (2, 22, "layer 1: the kernel 'gaussian' has no size"),
            (3, 3, "layer 2: unknown operation 'rleu'"),
            (4, 4, "layer 3: unknown key 'kernl'"),
            (4, 22, "layer 3: size: the length '3' has no unit"),
            (7, 11, "layer 4: stride: 0"),
            (8, 4, "layer 5: nope.npz: no such file"),
            (9, 3, "layer 6: clip takes low, then high"),
            (10, 28, "layer 7: device holds for all layers"),
            (12, 1, "stride stands beside layers"),
            (13, 1, "--normalize takes its statistics"),
            (13, 1, "absent.nii: no such file"),
        ]
        found = check(text)
        assert [one[:2] for one in found] == [one[:2] for one in expected]
        for (_, _, message), (_, _, words) in zip(found, expected, strict=True):
            assert message.startswith(words) or words in message

    @pytest.mark.parametrize(
        ("text", "place", "words"),
        (
            ("weights: {weights: w.npz}", (1, 11), "2 input channels"),
            ("kernel_size: 99", (1, 1), "larger than the padded input"),
            ("kernel: box\nsize: 3vox\nmax_memory: 1M", (3, 1), "may be taken"),
            ("kernel: gaussian\nsigma: 100m", (2, 8), "unknown unit"),
            ("kernel: sobel\npadding_mode: renormalize", (2, 1), "sums to"),
            ("layers: [{kernel_size: 3}, {weights: w.npz}]", (1, 1), "layer 2: the layer takes 2 input channels"),
            ("kernel: identity\nalgorithm: winograd", (2, 1), "cannot compute"),
        ),
    )
    def test_a_layer_that_does_not_fit_the_scan(self, brain, text, place, words):
        save_weights("w.npz", noise(1, 2, 3, 3, 3))
        line, column, message = only(text, "scan.nii.gz")
        assert ((line, column), words in message) == (place, True), (line, column, message)

    def test_what_fits_is_told_with_its_plan(self, brain, folder):
        (folder / "c.yaml").write_text("{kernel: box, size: 2vox, stride: 2, padding: valid}")
        before = contents(folder)
        result = ok("config", "check", "c.yaml", "scan.nii.gz", "--json")
        assert result.err.startswith("c.yaml: fine for scan.nii.gz: 1x1x8x9x10 -> 1x1x4x4x5 voxels")
        found = json.loads(result.out)
        assert (found["schema"], found["status"], found["problems"]) == ("lucid-conv3d/config-check-1", "ok", [])
        planned = json.loads(ok("plan", "scan.nii.gz", "-c", "c.yaml", "--json").out)["items"][0]
        for key in ("input", "output", "shapes", "macs", "status"):
            assert found["item"][key] == planned[key]
        assert contents(folder) == before

    def test_problems_as_json(self, folder):
        (folder / "c.yaml").write_text("kernel: identity\nrun: {engine: nuba}\n")
        result = run("config", "check", "c.yaml", "--json")
        assert (result.code, len(result.err.splitlines())) == (2, 1)
        found = json.loads(result.out)
        assert (found["status"], found["file"], found["item"]) == ("failed", "c.yaml", None)
        (problem,) = found["problems"]
        assert (problem["line"], problem["column"], problem["key"]) == (2, 15, "run.engine")
        assert "Did you mean 'numba'?" in problem["message"]

    def test_what_cannot_be_read_has_its_own_exit_code(self, folder):
        (folder / "c.yaml").write_text("kernel: identity")
        for args, code in ((("absent.yaml",), 2), (("c.yaml", "absent.nii"), 3), (("c.yaml", "-"), 2)):
            result = run("config", "check", *args)
            assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
            assert result.err.startswith("Error: ")

    @pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
    def test_every_config_here_is_fine(self, brain, config):
        assert ok("config", "check", config).err.splitlines() == [f"{config}: fine"]
        assert ok("config", "check", config, "scan.nii.gz").err.startswith(f"{config}: fine for scan.nii.gz")


def make_scan(kind):
    """Make a scan of some kind and return its name and what stands active for it."""
    gaussian = {"weights": {"kernel": "gaussian"}, "volume": {"out_dtype": "float32"}}
    if kind == "nifti":
        return make_nifti("scan.nii.gz", noise(8, 9, 10, dtype=np.int16).T, sform=MM), gaussian, "1.4mm"
    if kind == "microscope":
        return make_nifti("scan.nii", noise(8, 9, 10).T, sform=np.diag([2e-4, 2e-4, 1e-3, 1])), gaussian, "0.34um"
    if kind == "times":
        gaussian["volume"]["axis4"] = "batch"
        return make_nifti("scan.nii.gz", noise(3, 8, 9, 10).T, sform=MM), gaussian, "1.4mm"
    if kind == "channels":
        return make_volume("scan.npy", noise(2, 8, 9, 10)), gaussian, "1vox"
    return make_volume("scan.h5", noise(2, 3, 8, 9, 10)), gaussian, "1vox"


class TestInit:
    @pytest.mark.parametrize("kind", ("nifti", "microscope", "times", "channels", "five"))
    def test_it_fits_the_scan_and_runs_as_it_is(self, folder, kind):
        scan, active, sigma = make_scan(kind)
        active["weights"]["sigma"] = sigma
        ok("config", "init", scan.name, "-o", "c.yaml")
        text = Path("c.yaml").read_text()
        tree = yaml.safe_load(text)
        assert {name: section for name, section in tree.items() if section} == active
        assert list(tree) == list(SECTIONS)
        assert ok("config", "check", "c.yaml", scan.name).err.startswith("c.yaml: fine for")
        ok("apply", scan.name, "-o", "out.npy", "-c", "c.yaml", "-q")
        ok("apply", scan.name, "-o", "said.npy", "--kernel", "gaussian", "--sigma", sigma, "-q")
        np.testing.assert_array_equal(read_volume("out.npy"), read_volume("said.npy"))
        for line in re.findall(r"^#   lucid-conv3d (.*)", text, re.MULTILINE):
            ok(*line.split(), *(("--overwrite", "-q") if line.startswith("apply") else ()))

    def test_no_name_of_a_file_ends_a_comment(self, folder):
        make_volume("a\nkernel: box\x07\udcff.npy", noise(4, 5, 6))
        ok("config", "init", "a\nkernel: box\x07\udcff.npy", "-o", "c.yaml")
        assert ok("config", "check", "c.yaml").err == "c.yaml: fine\n"

    def test_a_scan_of_nibabel(self, folder):
        scan = Path(nibabel.__file__).parent / "tests" / "data" / "functional.nii"
        text = ok("config", "init", scan).out
        assert "(xyzt) int16, 4x4x8 mm" in text
        assert "It has 20 entries" in text
        assert "file holds int16" in text
        assert "20x1x3x21x17 -> 20x1x3x21x17" in text
        assert "#spacing: 8,4,4mm" in text
        assert yaml.safe_load(text)["weights"] == {"kernel": "gaussian", "sigma": "5mm"}

    @pytest.mark.parametrize("scan", (None, "scan.nii.gz"))
    def test_every_option_is_in_it_and_every_value_that_is_one_is_legal(self, brain, scan):
        """Each line is taken in by itself: what is no value is a word that the option refuses, saying what is legal."""
        text = ok("config", "init", *filter(None, [scan])).out
        lines = re.findall(r"^  #?([a-z0-9_]+): (.*)$", text, re.MULTILINE)
        assert sorted(key for key, _ in lines) == sorted(OPTIONS)
        words = {"D,H,W", "INTEGER", "LENGTH", "SIZE", "true|false", "float32|float64", "LIST", "D|H|W|z|y|x|all"}
        words |= {"LETTERS", "HOW", "none|1..9", "2|3"}
        with click.Context(apply) as ctx:
            for key, value in lines:
                found = find({key: read(value).value}, OPTIONS.values(), ctx)
                assert bool(found.mistakes) == (value in words), (key, value)
                if not found.mistakes:
                    assert VALIDATOR.is_valid({OPTIONS[key].section: found.given})

    def test_help_and_types_are_those_of_the_options(self, folder):
        text = " ".join(re.sub(r"\n\s*# ", " ", ok("config", "init").out).split())
        for option in OPTIONS.values():
            assert " ".join(option.help.split()) in text
        for name in kernels():
            assert name in text

    def test_nothing_is_replaced_unless_it_is_said(self, brain, folder):
        (folder / "c.yaml").write_text("mine")
        before = contents(folder)
        for args, words in (
            (("-o", "c.yaml"), "--overwrite"),
            (("scan.nii.gz", "-o", "scan.nii.gz", "--overwrite"), "same file as the input"),
            (("-o", "absent/c.yaml"), "does not exist"),
        ):
            result = run("config", "init", *args)
            assert (result.code, words in result.err) == (4, True)
        assert contents(folder) == before
        ok("config", "init", "scan.nii.gz", "-o", "c.yaml", "--overwrite")
        assert "gaussian" in (folder / "c.yaml").read_text()
        for args, code in ((("absent.nii",), 3), (("-",), 2)):
            assert run("config", "init", *args).code == code


def values(options):
    """Return a strategy of values that an option may or may not take."""
    whole = st.integers(-2, 40)
    number = whole | st.floats(allow_nan=False, allow_infinity=False).filter(lambda one: one != math.floor(one))
    plain = st.one_of(whole, number, st.booleans(), st.none(), st.text("aefnostxyz, -+.0123", max_size=6))
    unit = st.sampled_from(["mm", "um", "vox", "", "cm", "M", "GiB", "kb"])
    texts = st.builds(lambda parts, between, end: between.join(parts) + end, _numbers(), st.sampled_from(",x "), unit)
    names = st.sampled_from([*sorted({name for option in options for name in _enum(option)}), "same", "valid", "nan"])
    odd = st.sampled_from(["zscore", "percentile:1,99", "percentile:1", "NDHW", "zyx", "DHWW", "ndhwcc", "YES", "010"])
    lists = st.lists(plain | texts, max_size=4)
    return st.one_of(plain, texts, names, odd, lists)


def _numbers():
    one = st.integers(-3, 30).map(str) | st.floats(-5, 30).map(lambda value: f"{value:.2f}")
    return st.lists(one, min_size=1, max_size=4)


def _enum(option):
    kind = getattr(option.type, "schema", dict)()
    return [str(name) for name in kind.get("enum", [])]


def beyond_a_schema(key, value):
    """Say whether no schema could tell this value from its like: sizes of lengths, and the order of percentiles."""
    text = str(value)
    if key == "normalize":
        return text.startswith("percentile")
    if key in ("axes", "layers", "weights"):
        return True
    if OPTIONS[key].type.name == "length":
        return any(float(one or 1) < 1e-6 for one in re.findall(r"[\d.]*\d", text))
    return False


class TestSchema:
    def test_it_is_one_and_stdout_holds_it(self):
        found = json.loads(ok("config", "schema").out)
        jsonschema.Draft202012Validator.check_schema(found)
        assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert found["$defs"]["stride"]["description"] == OPTIONS["stride"].help
        assert found["$defs"]["stride"]["default"] == 1
        assert set(found["$defs"]["kernel"]["enum"]) == set(kernels())
        assert {"stride", "kernel-size", "kernel_size", "force", *SECTIONS} <= set(found["properties"])

    @pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
    def test_every_config_here_is_valid(self, config):
        VALIDATOR.validate(yaml.safe_load(config.read_text()))

    def test_what_init_prints_is_valid(self, brain):
        for args in ((), ("scan.nii.gz",)):
            VALIDATOR.validate(yaml.safe_load(ok("config", "init", *args).out))

    @pytest.mark.parametrize(
        "text",
        (
            "strid: 2",
            "layer: {strid: 2}",
            "run: {stride: 2}",
            "layer: {layer: {stride: 2}}",
            "kernel-size: 1\nkernel_size: 3",
            "overwrite: true\nforce: true",
            "stride: 0",
            "stride: [1, 2]",
            "stride: null",
            "stride: {d: 1}",
            "padding: full",
            "padding_mode: edge",
            "kernel: gausian",
            "axis: q",
            "sigma: 3",
            "sigma: 1,2mm",
            "max_memory: 512",
            "out_dtype: float",
            "cast: clp",
            "engine: nuba",
            "compression: 10",
            "bias: maybe",
            "config: other.yaml",
            "debug: true",
            "layers: []",
            "layers: [rleu]",
            "layers: [{kernel: box, strid: 2}]",
            "layers: [{kernel: box, dtype: float32}]",
            "layers: [{layers: [relu]}]",
            "layers: [{clip: 1}]",
            "layers: [clip]",
            "- stride",
            "words",
        ),
    )
    def test_what_apply_refuses_is_not_valid(self, folder, text):
        assert check(text) != []
        assert not VALIDATOR.is_valid(yaml.safe_load(text))

    @pytest.mark.parametrize(
        "text",
        (
            "layer:\nkernel: box",
            "weights: w.npz",
            "weights: {weights: [[1, 2], [3, 4]]}",
            "layer: {kernel-size: 3, padding_mode: reflect}\nforce: true",
            "outside: .nan",
            "compression: 3",
            "layers: [{kernel: scharr, axis: all}, magnitude, {leaky-relu: 0.1}, {scale: [2]}, {clip: [0, 1]}]",
            "layers: '[relu]'",
        ),
    )
    def test_what_apply_takes_is_valid(self, text):
        tree = yaml.safe_load(text)
        with click.Context(apply) as ctx:
            assert find(tree, OPTIONS.values(), ctx).mistakes == []
        VALIDATOR.validate(tree)

    @pytest.mark.parametrize("key", OPTIONS)
    def test_a_value_is_valid_where_its_option_takes_it(self, key):
        @settings(max_examples=40, deadline=None, derandomize=True)
        @given(values([OPTIONS[key]]))
        def compare(value):
            with click.Context(apply) as ctx:
                taken = find({OPTIONS[key].section: {key: value}}, OPTIONS.values(), ctx).mistakes == []
            valid = VALIDATOR.is_valid({OPTIONS[key].section: {key: value}})
            assert valid == taken or (valid and beyond_a_schema(key, value)), (key, value, taken)

        compare()

    def test_the_patterns_know_every_unit(self):
        for unit in ("k", "KB", "Mi", "MiB", "gb", "TIB"):
            ByteSize.parse(f"1.5 {unit}")
            assert VALIDATOR.is_valid({"max_memory": f"1.5 {unit}"})
        for unit in ("mm", "um", "µm", "nm", "vox"):
            assert VALIDATOR.is_valid({"sigma": f"1,.5,2e-1 {unit}"})


@pytest.mark.parametrize(
    ("option", "value", "legal", "near"),
    (
        ("--kernel", "gausian", "legal: box, ", "gaussian"),
        ("--kernel", "Gaussian", "legal: box, ", "gaussian"),
        ("--padding-mode", "reflct", "legal: zeros, ", "reflect"),
        ("--padding", "sme", "'same', or 'valid'", "same"),
        ("--engine", "nuba", "legal: auto, numpy, numba, torch", "numba"),
        ("--algorithm", "sepparable", "legal: auto, direct", "separable"),
        ("--accuracy", "normwse", "legal: componentwise, normwise", "normwise"),
        ("--device", "cpuu", "legal: auto, cpu", "cpu"),
        ("--out-dtype", "flaot32", "legal: float16, float32, ", "float32"),
        ("--normalize", "zscor", "legal: zscore, minmax, percentile", "zscore"),
        ("--normalize", "percentle:1,99", "legal: zscore", "percentile"),
        ("--compression", "nnoe", "legal: none, 1", "none"),
        ("--axis", "al", "legal: D, H, W", "all"),
        ("--cast", "clp", "'error', 'clip', 'rescale'", "clip"),
        ("--nan", "renormalise", "'propagate', 'renormalize'", "renormalize"),
        ("--axis4", "bach", "'auto', 'batch', 'channel'", "batch"),
        ("--dtype", "float23", "'float32', 'float64'", "float32"),
        ("--weights-layout", "troch", "'torch', 'keras'", "torch"),
        ("--progress", "br", "'auto', 'bar'", "bar"),
    ),
)
def test_a_slip_of_a_name_is_met_with_the_nearest(scan, option, value, legal, near):
    result = run("apply", "scan.npy", "-o", "x.npy", "--kernel", "box", "--size", "3vox", option, value)
    assert (result.code, result.err.count("\n")) == (2, 1)
    for words in (option, repr(value), legal, f"Did you mean {near!r}?"):
        assert words in result.err or value.startswith("percentle"), result.err
