"""Where values come from: flags > --set > environment > YAML > defaults; and what a YAML file may hold."""

import codecs
import json

import pytest
import yaml

from tests.cli.conftest import contents, ok, run

ORDERED = (
    (("--stride", "5"), {"LUCID_CONV3D_STRIDE": "3"}, "stride: 2", ("--set", "stride=4"), 5),
    ((), {"LUCID_CONV3D_STRIDE": "3"}, "stride: 2", ("--set", "stride=4"), 4),
    ((), {"LUCID_CONV3D_STRIDE": "3"}, "stride: 2", (), 3),
    ((), {}, "stride: 2", (), 2),
    ((), {}, "seed: 1", (), 1),
    (("--stride", "5"), {}, "stride: 2", (), 5),
    (("--stride", "5"), {"LUCID_CONV3D_STRIDE": "3"}, "seed: 1", (), 5),
)


def config(text, name="c.yaml"):
    """Write a configuration and return the options that read it."""
    with open(name, "wb") as file:  # noqa: PTH123 - in the working folder
        file.write(text if isinstance(text, bytes) else text.encode())
    return ("-c", name)


def settled(*args):
    """Return what --print-config prints, by section."""
    return yaml.safe_load(ok("plan", *args, "--print-config").out)


def refused(*args, words=()):
    """Expect a wrong usage in one line of words."""
    result = run("plan", "scan.npy", *args)
    assert (result.code, result.out) == (2, ""), result
    assert result.err.startswith("Error: ")
    assert result.err.count("\n") == 1
    assert "unexpected failure" not in result.err
    for word in words:
        assert word in result.err, result.err


pytestmark = pytest.mark.usefixtures("scan")


class TestPrecedence:
    @pytest.mark.parametrize(("flags", "environment", "text", "changes", "expected"), ORDERED)
    def test_order(self, monkeypatch, flags, environment, text, changes, expected):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        options = ("scan.npy", "--kernel-size", 1, *config(text), *changes, *flags)
        layer = json.loads(ok("plan", *options, "--json").out)["layer"]
        assert layer["stride"] == [expected] * 3

    def test_a_flag_that_says_the_default_still_wins(self, monkeypatch):
        monkeypatch.setenv("LUCID_CONV3D_SEED", "7")
        assert settled("--seed", "0")["layer"]["seed"] == 0
        assert settled(*config("axis4: batch"), "--axis4", "auto")["volume"]["axis4"] == "auto"

    def test_flags_without_a_value(self, monkeypatch):
        assert settled(*config("bias: no"))["layer"]["bias"] is False
        assert settled(*config("bias: no"), "--bias")["layer"]["bias"] is True
        assert settled(*config("bias: true"), "--no-bias")["layer"]["bias"] is False
        monkeypatch.setenv("LUCID_CONV3D_OVERWRITE", "1")
        assert settled()["run"]["overwrite"] is True
        monkeypatch.setenv("LUCID_CONV3D_BIAS", "false")
        assert settled()["layer"]["bias"] is False

    def test_set_is_heard_in_order_and_by_section(self):
        found = settled("--set", "stride=2", "--set", "layer.stride=[1, 2, 3]", "--set", "weights.kernel=box")
        assert (found["layer"]["stride"], found["weights"]["kernel"]) == ([1, 2, 3], "box")
        assert settled("--set", "kernel-size=3,1,1")["layer"]["kernel_size"] == [3, 1, 1]

    def test_the_whole_run_from_a_file(self, folder):
        text = """
            weights: {kernel: gaussian, sigma: 1vox}
            layer: {stride: [1, 2, 2]}
            run: {output: out.nii, quiet: true}
        """
        ok("apply", "scan.npy", *config(text))
        assert "out.nii" in contents(folder)


class TestYaml:
    def test_sections_and_the_top_mean_the_same(self):
        flat = "kernel_size: 3\nweights-axes: xyz\nout-dtype: int16\nthreads: 2\n"
        deep = "layer: {kernel-size: 3}\nweights: {weights_axes: xyz}\nvolume: {out_dtype: int16}\nrun:\n  threads: 2\n"
        assert settled(*config(flat)) == settled(*config(deep))

    def test_the_key_weights_is_a_file_too(self):
        assert settled(*config("weights: w.npz:enc"))["weights"]["weights"] == "w.npz:enc"
        assert settled(*config("weights: {weights: w.npz}"))["weights"]["weights"] == "w.npz"

    @pytest.mark.parametrize(
        "text",
        (
            codecs.BOM_UTF8 + b"stride: 2\n",
            b"stride: 2\r\nseed: 1\r\n",
            "stride: 2\n".encode("utf-16"),
            b'{"stride": 2, "seed": 1}',
            b"--- \nstride: 2 # a comment\n",
            b"layer:\nstride: 2\n",
            b"stride: '2'",
            b"stride: [2, 2, 2]",
            b"stride: 2x2x2",
        ),
    )
    def test_ways_to_write_it(self, text):
        assert settled(*config(text))["layer"]["stride"] in (2, [2, 2, 2])

    @pytest.mark.parametrize("value", ("3", "'3'", "none"))
    def test_a_compression_level_is_a_number_or_a_word(self, value):
        found = settled(*config(f"compression: {value}"))["volume"]["compression"]
        assert str(found) == value.strip("'")

    @pytest.mark.parametrize("value", ("y", "'y'"))
    def test_the_axis_y_is_no_boolean(self, value):
        assert settled(*config(f"axis: {value}"))["weights"]["axis"] == "y"

    @pytest.mark.parametrize(
        ("text", "words"),
        (
            ("strid: 2", ("unknown key 'strid'", "c.yaml", "Did you mean 'stride'")),
            ("layer: {strid: 2}", ("'layer.strid'", "Did you mean 'stride'")),
            ("layers: {stride: 2}", ("'layers'", "Did you mean 'layer'")),
            ("wholly_unknown_thing: 1", ("unknown key", "--help")),
            ("run: {stride: 2}", ("wrong section", "layer.stride")),
            ("stride: 2\nstride: 3", ("stands twice", "c.yaml")),
            ("stride: 2\nlayer: {stride: 3}", ("stands twice",)),
            ("kernel-size: 1\nkernel_size: 3", ("stands twice",)),
            ("stride: &a 2\nseed: *a", ("anchors",)),
            ("a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]", ("anchors",)),
            ("a: &a [*a]", ("anchors",)),
            ("stride: !!int 2", ("tag",)),
            ("stride: !!python/object/apply:os.mkdir [SENTINEL]", ("tag",)),
            ("!!python/object/new:os.system [mkdir SENTINEL]", ("tag",)),
            ("stride: !mine 2", ("tag",)),
            ("", ("empty",)),
            ("# nothing\n", ("empty",)),
            ("just words", ("keys and values",)),
            ("- stride\n- 2", ("keys and values",)),
            ("stride: 2\n\tseed: 1", ("line 2",)),
            ("stride: 2\n---\nseed: 1", ("line 2",)),
            ("stride: [2, 2", ("not plain YAML",)),
            ("[" * 5000, ("nested too deeply",)),
            ("stride: " + "[" * 5000 + "]" * 5000, ("nested too deeply",)),
            ("stride: " + "{a: " * 5000 + "}" * 5000, ("nested too deeply",)),
            ("#" * (2 << 20), ("longer than",)),
            (b"\x00\x01\x02stride", ("not plain YAML",)),
            (b"\xffstride: \xe9", ("not plain YAML",)),
            ("1: 2", ("no name",)),
            ("true: 2", ("no name",)),
            ("? [a, b]\n: 2", ("no name",)),
            ("stride:", ("no value",)),
            ("stride: null", ("no value",)),
            ("stride: {d: 2}", ("no value",)),
            ("stride: 010", ("010",)),
            ("stride: 0x10", ("0x10",)),
            ("stride: 1:30", ("1:30",)),
            ("stride: 1_0", ("1_0",)),
            ("stride: 0", ("'--stride'", "c.yaml")),
            ("stride: true", ("True", "--stride")),
            ("stride: 1.5", ("1.5",)),
            ("stride: [1, 1]", ("three",)),
            ("stride: [[1, 1, 1]]", ("three",)),
            ("stride: []", ("three",)),
            ("stride: [1, 1, true]", ("three",)),
            ("padding: .nan", ("--padding",)),
            ("padding: full", ("'same'", "'valid'")),
            ("bias: maybe", ("--bias", "c.yaml")),
            ("bias: [true]", ("--bias", "c.yaml")),
            ("quiet: [true]", ("quiet", "c.yaml")),
            ("cast: [clip]", ("--cast", "c.yaml")),
            ("dtype: [float32]", ("--dtype",)),
            ("dtype: 32", ("--dtype",)),
            ("kernel: [box]", ("--kernel",)),
            ("kernel: 3", ("kernel",)),
            ("sigma: 1.5", ("no unit",)),
            ("sigma: [1, 2, 3]", ("--sigma",)),
            ("seed: -1", ("--seed",)),
            ("seed: 1e3", ("--seed",)),
            ("weights: {kernel: [1]}", ("--kernel",)),
            ("config: other.yaml", ("config",)),
            ("set: stride=2", ("set",)),
            ("print_config: true", ("print_config",)),
            ("debug: true", ("debug",)),
        ),
        ids=lambda value: str(value)[:40] if isinstance(value, (str, bytes)) else "",
    )
    def test_what_it_may_not_hold(self, folder, text, words):
        refused("--kernel-size", 1, *config(text), words=words)
        assert sorted(contents(folder)) == ["c.yaml", "scan.npy"]

    def test_a_file_that_is_not_there(self, folder):
        refused("--kernel-size", 1, "-c", "absent.yaml", words=("absent.yaml",))
        refused("--kernel-size", 1, "-c", ".", words=("configuration .",))


class TestSet:
    @pytest.mark.parametrize(
        ("change", "words"),
        (
            ("stride", ("KEY=VALUE",)),
            ("strid=2", ("unknown key", "Did you mean 'stride'")),
            ("run.stride=2", ("wrong section", "layer.stride")),
            ("deep.layer.stride=2", ("unknown key",)),
            ("stride=", ("not an integer",)),
            ("stride=0", ("--stride", "--set")),
            ("stride=!!int 2", ("not an integer",)),
            ("stride=[2", ("not plain YAML",)),
            ("=2", ("unknown key",)),
            ("layer=2", ("layer",)),
        ),
    )
    def test_what_it_may_not_say(self, change, words):
        refused("--kernel-size", 1, "--set", change, words=words)


class TestEnvironment:
    def test_a_name_that_no_option_has(self, monkeypatch):
        monkeypatch.setenv("LUCID_CONV3D_STRIDES", "2")
        refused("--kernel-size", 1, words=("LUCID_CONV3D_STRIDES", "Did you mean 'LUCID_CONV3D_STRIDE'"))

    def test_a_value_that_is_wrong_says_where_it_stands(self, monkeypatch):
        monkeypatch.setenv("LUCID_CONV3D_KERNEL_SIZE", "big")
        refused(words=("LUCID_CONV3D_KERNEL_SIZE", "--kernel-size"))
        ok("plan", "scan.npy", "--kernel-size", 1)

    def test_an_empty_one_says_nothing(self, monkeypatch):
        monkeypatch.setenv("LUCID_CONV3D_STRIDE", "")
        assert "stride" not in settled()["layer"]

    @pytest.mark.parametrize("value", ("3", "3,3,3", "3x3x3"))
    def test_sizes(self, monkeypatch, value):
        monkeypatch.setenv("LUCID_CONV3D_KERNEL_SIZE", value)
        assert settled()["layer"]["kernel_size"] in (3, [3, 3, 3])


class TestPrintConfig:
    OPTIONS = (
        *("--in-channels", 1, "--out-channels", 2, "--kernel-size", "3,1,3", "--stride", 2, "--padding", "1,0,1"),
        *("--dilation", "1,2,1", "--groups", 1, "--no-bias", "--padding-mode", "reflect", "--dtype", "float64"),
        *("--seed", 5, "--weights-axes", "xyz", "--sigma", "1.5,1,1mm", "--flip", "--axes", "NDHW", "--compression", 6),
        *("--axis4", "batch", "--spacing", "800um", "--out-dtype", "int16", "--cast", "clip", "-j", 2, "--tile", "4"),
        *("--batch-size", 3, "-o", "out.npy", "--overwrite", "--report", "r.json", "--progress", "none", "-v"),
    )

    def test_it_reads_back_to_itself(self):
        first = ok("apply", "scan.npy", *self.OPTIONS, "--print-config").out
        assert ok("apply", "scan.npy", *config(first), "--print-config").out == first
        assert ok("plan", "scan.npy", *config(first), "--print-config").out == first
        found = yaml.safe_load(first)
        assert list(found) == ["layer", "weights", "volume", "run"]
        assert found["layer"]["kernel_size"] == [3, 1, 3]
        assert found["weights"]["sigma"] == "1.5,1,1mm"
        assert found["volume"]["spacing"] == "800um"
        assert found["run"]["overwrite"] is True

    def test_it_does_nothing_else(self, folder):
        result = ok("apply", "absent.npy", "-o", "out.npy", "--kernel", "identity", "--print-config")
        assert result.err == ""
        assert list(contents(folder)) == ["scan.npy"]

    def test_defaults_read_back(self):
        first = ok("apply", "--print-config").out
        assert ok("apply", *config(first), "--print-config").out == first
