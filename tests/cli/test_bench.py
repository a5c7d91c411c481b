"""What `bench` measures, that it checks before it times, and what it says of what it leaves out."""

import json
import math
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import lucid_cli.peers
import lucid_core
import lucid_core.functional
from lucid_cli.bench import contestants, figures, timing, verify
from lucid_cli.bench.workloads import WORKLOADS
from lucid_cli.peers import peers
from lucid_cli.settings import Settings
from lucid_core import blas
from lucid_core.arguments import layer_arguments
from lucid_core.errors import RunError
from lucid_core.execute import execute
from lucid_core.factors import factors
from lucid_core.problem import conv_problem
from tests import reference
from tests.cli.conftest import contents, make_nifti, noise, ok, run

QUICK = ("--quick", "--engine", "numpy", "-j", 1)
ALONE = (*QUICK, "--no-peers", "-q")
KEYS = [
    *("schema", "version", "machine", "threads", "rounds", "quick", "accuracy", "values", "workloads"),
    *("geometric_mean", "worst_ratio", "worst_choice_ratio", "worst_error_ratio"),
]
ROW = [
    *("name", "shapes", "layer", "macs", "algorithm", "engine", "seconds", "gflop_s", "members", "peers"),
    *("peer_ratio", "choice_ratio"),
]
LAYERS = (
    {},
    {"stride": (1, 2, 3), "padding": (2, 0, 1)},
    {"dilation": (1, 2, 1), "padding": (1, 2, 3), "bias": True},
    {"groups": 2, "padding": 1},
    {"groups": 2, "padding": 1, "padding_mode": "circular", "bias": True},
    {"kernel": (2, 3, 4), "padding": "same"},
    {"kernel": (2, 3, 4), "padding": "same", "padding_mode": "replicate"},
    {"padding": 2, "padding_mode": "reflect"},
    {"channels": (1, 1), "padding": 1},
    {"channels": (1, 1), "kernel": (3, 5, 1), "padding": (1, 2, 0), "padding_mode": "reflect", "bias": True},
    {"channels": (1, 1), "padding": 1, "padding_mode": "circular"},
    {"channels": (1, 1), "padding": 1, "padding_mode": "replicate", "separable": True},
    {"channels": (1, 1), "padding": 1, "separable": True, "bias": True},
)


def made(channels=(4, 6), kernel=3, bias=False, separable=False, groups=1, **layer):
    """Return a problem, its arrays, and what `tests/reference.py` makes of them."""
    x = noise(1 if channels == (1, 1) else 2, channels[0], 6, 7, 8)
    sizes = reference.triple(kernel)
    weight = noise(channels[1], channels[0] // groups, *sizes, seed=1)
    if separable:
        weight = np.einsum("i,j,k->ijk", *noise(3, 3, seed=2).astype(np.float64)).astype(np.float32)[None, None]
    offsets = noise(channels[1], seed=3) if bias else None
    arguments = layer_arguments(
        *channels, kernel, *(layer.get(name, default) for name, default in (("stride", 1), ("padding", 0))),
        layer.get("dilation", 1), groups, layer.get("padding_mode", "zeros"),
    )  # fmt: skip
    problem = conv_problem(x.shape, arguments, bias=bias, separable=factors(weight) is not None)
    return problem, x, weight, offsets, reference.conv3d(x, weight, offsets, groups=groups, **layer)


def measured(*args):
    """Return the JSON of a run."""
    return json.loads(ok("bench", "--json", *args).out)


class TestTruth:
    @pytest.mark.parametrize("layer", LAYERS)
    def test_it_is_what_the_oracle_says(self, layer):
        problem, x, weight, bias, (values, sizes) = made(**layer)
        known = verify.truth(problem, x, weight, bias)
        at = tuple(known.places.T)
        assert known.shape == values.shape
        assert (np.abs(known.values - values[at]) <= 4 * reference.UNIT_ROUNDOFF * sizes[at]).all()
        np.testing.assert_allclose(known.sizes, sizes[at], rtol=1e-14)
        assert known.largest >= sizes.max()
        assert len(np.unique(known.places, axis=0)) > 100

    def test_every_corner_is_looked_at(self):
        problem, x, weight, bias, _ = made()
        known = verify.truth(problem, x, weight, bias)
        corners = {tuple(place[2:]) for place in known.places[:8].tolist()}
        assert corners == {(d, h, w) for d in (0, 3) for h in (0, 4) for w in (0, 5)}

    @pytest.mark.parametrize("wrong", (1e-6, math.nan, math.inf))
    def test_one_wrong_voxel_is_told(self, wrong):
        problem, x, weight, bias, (values, sizes) = made(padding=1)
        known = verify.truth(problem, x, weight, bias)
        known.check("fine", values, 0.0)
        place = tuple(known.places[3])
        values[place] += wrong * sizes[place]
        known.check("near", np.nan_to_num(values, nan=9e9, posinf=9e9), math.inf)
        with pytest.raises(RunError, match=rf"somebody is wrong: .* at output voxel \[{place[0]}, {place[1]}, "):
            known.check("somebody", values, 1e-7)

    def test_a_normwise_error_is_measured_by_the_largest_voxel(self):
        problem, x, weight, bias, (values, _) = made(padding=1)
        known = verify.truth(problem, x, weight, bias)
        moved = values + 1e-3 * known.largest
        known.check("normwise", moved, 1.1e-3, normwise=True)
        for normwise, share in ((True, 0.9e-3), (False, 1.1e-3)):
            with pytest.raises(RunError):
                known.check("wrong", moved, share, normwise=normwise)

    def test_a_wrong_shape(self):
        problem, x, weight, bias, (values, _) = made()
        with pytest.raises(RunError, match=r"shape \(2, 6, 4, 5\), not \(2, 6, 4, 5, 6\)"):
            verify.truth(problem, x, weight, bias).check("it", values[..., 0], 1.0)


class TestPeers:
    @pytest.mark.parametrize("layer", LAYERS)
    @pytest.mark.parametrize("name", peers())
    def test_it_computes_what_it_does_not_refuse(self, name, layer):
        peer = peers()[name]
        problem, x, weight, bias, (values, sizes) = made(**layer)
        if peer.refuses(problem):
            pytest.skip(peer.refuses(problem))
        for package in peer.packages:
            pytest.importorskip(package)
        call = peer.prepare(problem, x, weight, bias, 1)
        for _ in range(2):
            found = call()
            assert found.shape == problem.out_shape
            assert (np.abs(found - values) <= 1e-5 * sizes).all()
        np.testing.assert_array_equal(x, noise(*x.shape))

    @pytest.mark.parametrize(
        ("name", "change", "words"),
        (
            ("scipy", {"stride": (1, 1, 2)}, "stride"),
            ("scipy", {"dilation": (2, 1, 1)}, "dilation"),
            ("scipy", {"batch": 2}, "one volume"),
            ("scipy", {"out_channels": 2}, "one channel"),
            ("scipy", {"pads": ((1, 1), (1, 1), (1, 2))}, "centred"),
            ("scipy", {"pads": ((1, 1), (0, 0), (1, 1))}, "centred"),
            ("onnxruntime", {"dtype": "float64"}, "float32 only"),
            ("openvino", {"dtype": "float64"}, "float32 only"),
            ("onnxruntime", {"padding_mode": "reflect"}, "zeros only"),
            ("openvino", {"padding_mode": "circular"}, "zeros only"),
        ),
    )
    def test_refusals(self, name, change, words):
        problem = made(channels=(1, 1), padding=1)[0]
        assert peers()[name].refuses(problem) is None
        assert words in peers()[name].refuses(replace(problem, **change))

    def test_looking_at_them_imports_none(self):
        names = [package for peer in peers().values() for package in peer.packages]
        script = (
            "import sys; from lucid_cli.peers import peers; [peer.missing() for peer in peers().values()]; "
            f"print(*[name for name in {names} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == []

    def test_what_is_not_installed_is_said(self, monkeypatch):
        there = {"onnxruntime", "openvino"}
        monkeypatch.setattr(lucid_cli.peers, "find_spec", lambda name: name in there or None)
        assert {name: peer.missing() for name, peer in peers().items()} == {
            "onnxruntime": "it needs onnx to be installed too",
            "openvino": None,
            "scipy": "not installed",
            "torch": "not installed",
        }
        there.clear()
        (row,) = measured(*QUICK, "-q", "--workload", "1-1-k3")["workloads"]
        assert row["peers"] == [{"name": name, "seconds": None, "skipped": "not installed"} for name in sorted(peers())]
        assert row["peer_ratio"] is None
        out = ok("bench", *QUICK, "--workload", "1-1-k3").out
        assert "no peer  torch: not installed\n" in out
        assert "peer/ours  no peer was timed\n" in out


class TestMedians:
    def test_in_turn_and_every_first_call_is_not_counted(self, monkeypatch):
        seconds = {"a": iter((100, 1, 90, 5, 80, 3)), "b": iter((200, 30, 300, 10, 400, 20))}
        clock, calls = [0.0], []

        def contestant(name):
            def call():
                calls.append(name)
                clock[0] += next(seconds[name])

            return call

        monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
        monkeypatch.setattr(time, "sleep", lambda pause: calls.append(pause))
        assert timing.medians({name: contestant(name) for name in "ab"}, 3, 0.25) == {"a": 3, "b": 20}
        assert calls == [0.25, "a", "a", 0.25, "b", "b"] * 3


class TestWorkloads:
    def test_names_are_unique_and_listed(self):
        lines = ok("bench", "--list").out.splitlines()
        assert [line.split()[0] for line in lines] == [load.name for load in WORKLOADS]
        assert len({load.name for load in WORKLOADS}) == len(WORKLOADS) >= 20
        assert "16-32-k3-s2       16->32, kernel 3, 96x96x96, stride 2" in lines
        assert "batch-4-16-16-k3  16->16, kernel 3, 4 of 48x48x48" in lines

    def test_from_a_clone(self):
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.engine", "--list"], capture_output=True, text=True, check=True
        )
        assert done.stdout == ok("bench", "--list").out

    @pytest.mark.parametrize("load", WORKLOADS, ids=lambda load: load.name)
    def test_the_problem_is_true_of_the_arrays(self, load):
        small = load.small()
        x, weight = small.arrays()
        problem = small.problem
        assert (x.shape, x.dtype) == (problem.in_shape, np.float32)
        assert weight.size == problem.parameters
        assert problem.separable == (factors(weight) is not None) == ("separable" in str(load))
        assert all(np.array_equal(*pair) for pair in zip((x, weight), small.arrays(), strict=True))
        assert max(small.shape[2:]) <= 32
        same = tuple(-(-size // stride) for size, stride in zip(load.problem.size, load.problem.stride, strict=True))
        assert load.problem.out_size == same

    def test_the_unknown_one(self):
        result = run("bench", "--workload", "1-1-k8")
        assert (result.code, result.out) == (2, "")
        assert "unknown workload '1-1-k8'; legal: 1-1-k3, " in result.err
        assert "Did you mean '1-1-k" in result.err


class TestReport:
    def test_json(self):
        found = measured(*ALONE, "--workload", "1-16-k3", "--workload", "8-8-k3-s2", "--all")
        assert list(found) == KEYS
        assert (found["schema"], found["version"]) == ("lucid-conv3d/bench-1", lucid_core.__version__)
        assert (found["threads"], found["rounds"], found["quick"]) == (1, 1, True)
        assert found["machine"]["copy_gb_s"] > 0 < found["machine"]["sgemm_gflop_s"]
        assert found["machine"]["packages"]["numpy"] == np.__version__
        assert [row["name"] for row in found["workloads"]] == ["1-16-k3", "8-8-k3-s2"]
        first, second = found["workloads"]
        assert second["shapes"] == {"input": [1, 8, 32, 32, 32], "output": [1, 8, 16, 16, 16]}
        assert (second["macs"], second["layer"]["stride"]) == (8 * 16**3 * 8 * 27, [2, 2, 2])
        errors = []
        for row in (first, second):
            assert list(row) == ROW
            times = {(one["algorithm"], one["engine"]): one["seconds"] for one in row["members"]}
            assert times[row["algorithm"], row["engine"]] > 0
            assert row["gflop_s"] == pytest.approx(2 * row["macs"] / row["seconds"] / 1e9)
            assert row["choice_ratio"] == pytest.approx(row["seconds"] / min(filter(None, times.values())))
            assert all((one["seconds"] is None) == bool(one["skipped"]) for one in row["members"])
            ran = [one for one in row["members"] if not one["skipped"]]
            assert all(0 < one["worst_error"] <= one["error_bound"] for one in ran)
            assert all(one["worst_error"] is None for one in row["members"] if one["skipped"])
            errors.append(max(one["worst_error"] / one["error_bound"] for one in ran))
        assert found["worst_error_ratio"] == max(errors)
        assert found["worst_choice_ratio"] == max(row["choice_ratio"] for row in (first, second))
        assert [found[name] for name in ("geometric_mean", "worst_ratio")] == [None, None]

    def test_ratios_to_the_peers(self):
        pytest.importorskip("scipy")
        found = measured(*QUICK, "-q", "--workload", "1-1-k3", "--workload", "separable-k9")
        ratios = []
        for row in found["workloads"]:
            seconds = [one["seconds"] for one in row["peers"] if one["seconds"]]
            ratios.append(row["peer_ratio"])
            assert row["peer_ratio"] == pytest.approx(min(seconds) / row["seconds"])
        assert found["geometric_mean"] == pytest.approx(math.sqrt(math.prod(ratios)))
        assert found["worst_ratio"] == min(ratios)

    def test_a_table_on_stdout_and_progress_on_stderr(self):
        result = ok("bench", *QUICK, "--no-peers", "--workload", "64-64-k3", "--workload", "batch-4-16-16-k3")
        head, first, second, *rest = result.out.splitlines()
        assert head.split()[:4] == ["workload", "volume", "chosen", "ours"]
        assert first.split()[:3] == ["64-64-k3", "32x32x32", "gemm/numpy"]
        assert second.startswith("batch-4-16-16-k3  4 of 32x32x32  gemm/numpy ")
        assert len(first) == len(second) == len(head)
        assert any(line.startswith("  machine  ") for line in rest)
        assert result.err.splitlines() == [
            "1 of 2: 64-64-k3 (64->64, kernel 3, 32x32x32)",
            "2 of 2: batch-4-16-16-k3 (16->16, kernel 3, 4 of 32x32x32)",
        ]

    def test_progress_is_as_asked(self):
        options = (*QUICK, "--no-peers", "--workload", "1-1-k3", "--progress")
        assert ok("bench", *options, "none").err == ""
        assert json.loads(ok("bench", *options, "json").err) == {
            "event": "progress", "input": "1-1-k3", "done": 0, "total": 1,
        }  # fmt: skip

    def test_what_is_much_slower_is_skipped_unless_all_are_asked_for(self):
        options = ("--workload", "16-32-k3-s2", *ALONE)
        skipped, timed = (measured(*options, *more)["workloads"][0]["members"] for more in ((), ("--all",)))
        (one,) = (one for one in skipped if (one["algorithm"], one["engine"]) == ("direct", "numpy"))
        (other,) = (one for one in timed if (one["algorithm"], one["engine"]) == ("direct", "numpy"))
        assert "times slower than the fastest; --all times it too" in one["skipped"]
        assert (one["seconds"], other["skipped"]) == (None, None)
        assert other["seconds"] > 0

    def test_the_algorithm_asked_for(self):
        options = ("--workload", "1-16-k3", "--workload", "separable-k9", *QUICK, "--no-peers", "--json")
        result = ok("bench", *options, "--algorithm", "separable")
        (row,) = json.loads(result.out)["workloads"]
        assert row["name"] == "separable-k9"
        assert {one["algorithm"] for one in row["members"]} == {"separable"}
        assert "left out, as nothing that was asked for computes them: 1-16-k3\n" in result.err
        alone = run("bench", "--workload", "1-16-k3", *ALONE, "--algorithm", "separable")
        assert (alone.code, alone.err.count("\n")) == (2, 1)
        assert "the kernel is not a product" in alone.err


class TestOurs:
    def test_it_is_the_very_call_of_conv3d(self, monkeypatch):
        seen = []

        def watched(plan, filters, reader, writer):
            seen.append((plan, writer._array.shape, writer._array.dtype, writer._array.ctypes.data % 64))

        load = next(load for load in WORKLOADS if load.name == "16-16-k3-d2").small()
        x, weight = load.arrays()
        terms = contestants.Terms(Settings(), 1, 1, False, False)
        for module in (contestants, lucid_core.functional):
            monkeypatch.setattr(module, "execute", watched)
        contestants._Arena(load, terms)._ours("gemm", "numpy")()
        contestants._Arena(load, terms)._ours()()
        lucid_core.conv3d(x, weight, padding=2, dilation=2, threads=1, algorithm="gemm", engine="numpy")
        lucid_core.conv3d(x, weight, padding=2, dilation=2, threads=1)
        assert seen[:2] == seen[2:]


class TestRightBeforeFast:
    @pytest.mark.parametrize("share", (1e-5, math.nan))
    def test_a_wrong_result_of_ours_ends_the_run(self, monkeypatch, share):
        def wrong(plan, filters, reader, writer):
            execute(plan, filters, reader, writer)
            writer._array[0, 0, 0, 0, 0] += share * np.abs(filters[0].weight).sum()

        monkeypatch.setattr(contestants, "execute", wrong)
        result = run("bench", *ALONE, "--workload", "1-1-k3")
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("Error: 1-1-k3: ours is wrong: ")
        assert "unexpected" not in result.err

    def test_so_does_one_of_a_peer(self, monkeypatch):
        scipy = peers()["scipy"]
        pytest.importorskip("scipy")
        monkeypatch.setattr(type(scipy), "prepare", lambda self, problem, *_: lambda: np.zeros(problem.out_shape))
        result = run("bench", *QUICK, "--workload", "1-1-k3", "-q")
        assert result.code == 1
        assert "1-1-k3: scipy is wrong: 0 at output voxel" in result.err


class TestInputs:
    def test_the_layer_on_the_shape_of_a_file_of_which_only_the_header_is_read(self, folder):
        source = make_nifti(folder / "scan.nii.gz", noise(64, 96, 128), sform=np.eye(4))
        source.write_bytes(source.read_bytes()[: 1500 << 10])
        (folder / "c.yaml").write_text("layer: {stride: 2, bias: false}\nrun: {output: out.nii}\n")
        layer = ("--out-channels", 3, "--kernel-size", 3, "--padding", 1, "-c", "c.yaml")
        before = contents(folder)
        options = (*ALONE[1:], "--rounds", 2)
        found = measured("scan.nii.gz", *layer, *options, "--quick")
        (row,) = found["workloads"]
        assert (row["name"], found["rounds"], found["values"]) == ("scan.nii.gz", 2, "random")
        assert row["shapes"] == {"input": [1, 1, 32, 32, 32], "output": [1, 3, 16, 16, 16]}
        assert (row["layer"]["stride"], row["layer"]["bias"]) == ([2, 2, 2], False)
        assert contents(folder) == before

    def test_whole_volumes_several_inputs_and_built_in_ones(self, folder, monkeypatch):
        monkeypatch.setattr(figures, "VOXELS", 8)
        monkeypatch.setattr(figures, "ROWS", 16)
        for name, shape in (("a.npy", (4, 5, 40)), ("b.npy", (6, 7, 8))):
            np.save(folder / name, noise(*shape))
        found = measured(
            "a.npy", "b.npy", *ALONE[1:], "--rounds", 1, "--kernel", "box", "--size", "2vox", "--stride", 2, "--tile", 2
        )
        shapes = [row["shapes"] for row in found["workloads"]]
        assert [one["input"][2:] for one in shapes] == [[4, 5, 40], [6, 7, 8]]
        assert [one["output"][2:] for one in shapes] == [[2, 3, 20], [3, 4, 4]]
        both = measured("b.npy", "--workload", "1-1-k3", *ALONE, "--kernel", "identity")["workloads"]
        assert [row["name"] for row in both] == ["1-1-k3", "b.npy"]

    @pytest.mark.parametrize(
        ("args", "code", "words"),
        (
            (("--kernel", "box", "--size", "3vox"), 2, "--kernel says a layer, but no INPUT"),
            (("--kernel-size", 3), 2, "--kernel-size says a layer, but no INPUT"),
            (("scan.npy",), 2, "nothing says what to convolve with"),
            (("scan.npy", "--kernel-size", 9), 5, "the kernel is larger"),
            (("nothing.npy", "--kernel-size", 3), 3, "nothing.npy"),
            (("--report", "r.json"), 2, "--json"),
            (("--rounds", 0), 2, "'0' is not an integer of at least 1"),
            (("--engine", "nump", "--quick"), 2, "unknown engine 'nump'"),
            (("--accuracy", "normal", "--quick"), 2, "unknown accuracy 'normal'"),
        ),
    )
    def test_refusals(self, scan, args, code, words):
        result = run("bench", *args)
        assert (result.code, result.out) == (code, "")
        assert result.err.startswith("Error: ")
        assert result.err.count("\n") == 1
        assert words in result.err
        assert "unexpected" not in result.err

    def test_volumes_that_do_not_fit_into_memory(self, monkeypatch):
        monkeypatch.setattr(lucid_core.machine, "available_bytes", lambda: 4 * 4 * 32**3 - 1)
        result = run("bench", *ALONE, "--workload", "1-1-k3")
        assert result.code == 6
        assert "this workload would take 512.0 KiB of memory" in result.err


def test_the_threads_of_the_matrix_products_are_put_back():
    switch = blas.controls()
    if switch is None:
        pytest.skip("this BLAS has no switch")
    before = switch[0]()
    with figures._blas_threads(before + 1):
        assert switch[0]() == before + 1
    assert switch[0]() == before
