"""The engine torch on the CPU: what is the process's stays as it was, and the way to a device of its own."""

import gc
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import lucid_core as lucid
from lucid_core import machine, nn
from lucid_core.algorithms import member
from lucid_core.arguments import layer_arguments
from lucid_core.compute import Filters
from lucid_core.errors import ArgumentError, LimitError
from lucid_core.execute import execute
from lucid_core.planner import plan
from lucid_core.problem import conv_problem
from lucid_core.room import BLAS_BYTES
from lucid_core.tensors import devices, lane, precision
from lucid_core.tensors.algorithm import copying
from lucid_core.volume import ArrayReader, ArrayWriter

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*autocast:UserWarning")]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 9, 14, 13)).astype(np.float32)
WEIGHT = RNG.normal(size=(6, 2, 3, 3, 3)).astype(np.float32)
BIAS = RNG.normal(size=6).astype(np.float32)


def convolved(x=X, **options):
    options = {"padding": 1, "groups": 2, "engine": "torch", "algorithm": "gemm", "threads": 2} | options
    return lucid.conv3d(x, WEIGHT, BIAS, **options)


EXPECTED = lucid.conv3d(X.astype(np.float64), WEIGHT.astype(np.float64), BIAS.astype(np.float64), padding=1, groups=2)


def switches():
    return [(name, getattr(owner, name)) for owner, name, _ in precision._switches(torch, False)]


class TestSwitches:
    def test_they_are_held_while_it_computes_and_put_back(self, monkeypatch):
        before, seen, multiply = switches(), [], torch.mm
        monkeypatch.setattr(torch, "mm", lambda *args, **kwargs: seen.append(switches()) or multiply(*args, **kwargs))
        convolved()
        assert switches() == before
        assert seen
        assert all(one == [(name, value) for _, name, value in precision._switches(torch, False)] for one in seen)

    @pytest.mark.parametrize("asked", ("high", "medium"))
    def test_a_caller_who_rounds_changes_no_bit(self, asked):
        expected, before = convolved(), torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(asked)
        try:
            assert convolved().tobytes() == expected.tobytes()
            assert torch.get_float32_matmul_precision() == asked
        finally:
            torch.set_float32_matmul_precision(before)

    @pytest.mark.parametrize("algorithm", ("direct", "gemm", "native"))
    def test_automatic_casts_of_a_caller_change_no_bit(self, algorithm):
        options = {"algorithm": algorithm, "accuracy": "normwise"}
        expected = convolved(**options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert convolved(**options).tobytes() == expected.tobytes()

    def test_a_default_dtype_and_threads_stay(self):
        expected, threads = convolved(), torch.get_num_threads()
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(3)
        try:
            assert convolved().tobytes() == expected.tobytes()
            assert torch.get_num_threads() == 3
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_num_threads(threads)

    def test_they_are_put_back_after_an_error(self):
        before = switches()
        with pytest.raises(ZeroDivisionError), precision.held(tf32=False):
            assert switches() != before
            _ = 1 / 0
        assert switches() == before

    def test_one_that_wants_them_otherwise_waits(self):
        order = []

        def other():
            with precision.held(tf32=True):
                order.append("other")

        thread = threading.Thread(target=other)
        with precision.held(tf32=False), precision.held(tf32=False):
            thread.start()
            thread.join(0.1)
            order.append("first")
        thread.join()
        assert order == ["first", "other"]


def test_all_algorithms_are_weighed():
    problem = conv_problem((1, 4, 20, 20, 20), layer_arguments(4, 4, 3))
    weighed = plan(problem, engine="torch").candidates
    assert {one.algorithm for one in weighed if one.seconds} == {"direct", "gemm"}
    refused = {(one.algorithm, one.engine): one.refused for one in weighed if one.refused}
    assert refused["native", "torch"] == "its error is bounded normwise only; ask for accuracy='normwise'"
    assert refused["gemm", "numpy"] == "it belongs to engine 'numpy'"
    with pytest.raises(ArgumentError, match=r"'separable' cannot compute this: .*an output channel sums several"):
        plan(problem, engine="torch", algorithm="separable")


class TestArrays:
    def test_any_layout_is_taken_and_none_is_changed(self):
        x = X.astype(">f4")
        x.flags.writeable = False
        for given in (x, X[:, :, ::-1], X[..., ::-1], np.broadcast_to(X[:, :1], X.shape)):
            close = lucid.conv3d(given, WEIGHT, BIAS, padding=1, groups=2, engine="numpy")
            np.testing.assert_allclose(convolved(given), close, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("step", ((1, 1, -1), (1, -2, 1), (2, 2, 2)))
    def test_an_output_of_any_steps_is_filled(self, step):
        layer = layer_arguments(4, 6, 3, padding=1, groups=2)
        problem = conv_problem(X.shape, layer, bias=True)
        sizes = zip((9, 14, 13), step, strict=True)
        room = np.zeros((2, 6, *(size * abs(one) for size, one in sizes)))
        out = room.astype(np.float32)[(..., *(slice(None, None, one) for one in step))]
        out = out[:, :, :9, :14, :13]
        execute(plan(problem, engine="torch", threads=2), [Filters(WEIGHT, BIAS)], ArrayReader(X), ArrayWriter(out))
        np.testing.assert_allclose(out, EXPECTED, rtol=1e-4, atol=1e-4)

    def test_a_default_run_loads_no_torch(self):
        code = (
            "import sys, numpy as np, lucid_core\n"
            "lucid_core.conv3d(np.ones((1, 4, 4, 4), 'f4'), np.ones((1, 1, 3, 3, 3), 'f4'))\n"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(lucid.__file__).parents[1])


@pytest.fixture
def pretended(monkeypatch):
    """A GPU that is the CPU: all that a lane to a device does but streams."""

    @contextmanager
    def streaming(device):
        yield None

    monkeypatch.setattr(devices, "missing", lambda device: None if device.index < 2 else "torch finds 2 GPUs")
    monkeypatch.setattr(devices.Device, "for_torch", "cpu")
    monkeypatch.setattr("lucid_core.planner.free_bytes", lambda device: None if device.is_cpu else 1 << 30)
    monkeypatch.setattr(lane, "_streaming", streaming)


class TestDevice:
    @pytest.mark.parametrize("algorithm", ("direct", "gemm", "native"))
    def test_it_gives_what_the_cpu_gives(self, pretended, algorithm):
        options = {"algorithm": algorithm, "accuracy": "normwise"}
        assert convolved(device="cuda", **options).tobytes() == convolved(**options).tobytes()

    def test_masks_and_borders_are_left_out(self, pretended):
        mean, mask = np.ones((1, 1, 3, 3, 3), np.float32), RNG.random((9, 14, 13)) < 0.5
        for options in ({"mask": mask, "outside": 7}, {"nan": "renormalize"}, {"padding_mode": "renormalize"}):
            given = {"padding": 1, "engine": "torch", **options}
            found = lucid.conv3d(X[:1, :1], mean, device="cuda:1", **given)
            assert found.tobytes() == lucid.conv3d(X[:1, :1], mean, **given).tobytes()

    @pytest.mark.parametrize("device", ("cpu", "cuda"))
    def test_a_lane_that_ended_keeps_no_memory(self, pretended, device):
        gc.disable()
        try:
            with lane.worker(devices.Device(device), {}, grows=False) as scratch:
                scratch.array("here", (1000,), "float32")
                scratch.lane.tensor("there", (1000,), "float32")
                scratch.lane.constant(WEIGHT)
                held = [scratch._buffers["here"]]
                held += [*scratch.lane._buffers.values()] if device == "cuda" else [scratch._buffers["there"]]
                kept = [weakref.ref(one) for one in held]
                held.clear()
            assert len(kept) == 2
            assert all(one() is None for one in kept)
        finally:
            gc.enable()

    def test_lanes_begin_operations_in_turn(self, pretended, monkeypatch):
        busy, most, multiply = [], [], torch.mm

        def slowly(*args, **kwargs):
            busy.append(1)
            most.append(len(busy))
            time.sleep(0.002)
            busy.pop()
            return multiply(*args, **kwargs)

        monkeypatch.setattr(torch, "mm", slowly)
        problem = conv_problem(X.shape, layer_arguments(4, 6, 3, padding=1, groups=2), bias=True)
        out = np.empty(problem.out_shape, np.float32)
        made = plan(problem, device="cuda", algorithm="gemm", threads=4, tile=(2, 14, 13))
        execute(made, [Filters(WEIGHT, BIAS)], ArrayReader(X), ArrayWriter(out))
        assert set(most) == {1}
        np.testing.assert_allclose(out, EXPECTED, rtol=1e-4, atol=1e-4)

    def test_workspace_cuts_no_rows(self, pretended, monkeypatch):
        monkeypatch.setattr("lucid_core.planner.free_bytes", lambda device: None if device.is_cpu else 64 << 30)
        for channels, made, size in ((1, 1, 512), (1, 16, 256), (16, 16, 192), (64, 64, 96)):
            layer = layer_arguments(channels, made, 3, padding=1)
            problem = conv_problem((1, channels, size, size, size), layer)
            chosen = plan(problem, device="cuda", accuracy="normwise", threads=8)
            assert chosen.tile[1:] == (size, size)

    def test_layers_compute_there(self, pretended):
        lucid.manual_seed(0)
        net = nn.Sequential(nn.Conv3d(4, 3, 3, padding=1, device="cuda"), nn.ReLU(), nn.Conv3d(3, 2, 3, device="cuda"))
        assert net[0].device == "cuda:0"
        found = net(X)
        for layer in (net[0], net[2]):
            layer.device = "cpu"
        np.testing.assert_allclose(found, net(X), rtol=1e-4, atol=1e-4)
        net[0].device = "cuda:1"  # each by itself then
        np.testing.assert_allclose(net(X), found, rtol=1e-4, atol=1e-4)

    def test_its_memory_is_told_part_by_part(self, pretended):
        layer = layer_arguments(8, 16, 3, padding=1)
        problem = conv_problem((1, 8, 64, 96, 96), layer)
        made = plan(problem, device="cuda", algorithm="gemm", threads=3, tile=(40, 96, 96))
        assert (made.engine, made.device, made.threads, made.in_work) == ("torch", "cuda:0", 3, 2)
        d, h, w = made.tile
        memory, step = made.device_memory, 2 << 20
        block, out = 4 * 8 * (d + 2) * (h + 2) * (w + 2), 4 * 16 * d * h * w
        assert memory.blocks == made.in_work * -(-block // step) * step
        assert memory.outputs == made.in_work * -(-out // step) * step
        assert memory.workspace > made.in_work * BLAS_BYTES
        assert memory.weights == step
        assert memory.peak_bytes == sum(vars(memory).values()) <= made.device_limit_bytes == 1 << 30
        assert plan(problem, device="cuda", threads=64).threads <= 8

    @pytest.mark.parametrize("megabytes", (16, 60, 300))
    def test_tiles_keep_its_limit(self, pretended, monkeypatch, megabytes):
        monkeypatch.setattr("lucid_core.planner.free_bytes", lambda device: megabytes << 20)
        problem = conv_problem((1, 1, 300, 300, 300), layer_arguments(1, 1, 3, padding=1))
        made = plan(problem, device="cuda", threads=8)
        assert made.device_memory.peak_bytes <= megabytes << 20
        assert made.algorithm == plan(problem, device="cuda", threads=1).algorithm

    def test_where_nothing_keeps_it_that_is_said(self, pretended, monkeypatch):
        monkeypatch.setattr("lucid_core.planner.free_bytes", lambda device: 1 << 20)
        with pytest.raises(LimitError, match=r"of the memory of device cuda:0, of which 1\.0 MiB may be taken"):
            plan(conv_problem((1, 1, 30, 30, 30), layer_arguments(1, 1, 3)), device="cuda")

    @pytest.mark.parametrize(
        ("options", "words"),
        (
            (
                {"device": "cuda", "engine": "numpy"},
                "engine 'numpy' computes on the CPU only; leave it out on device 'cuda'",
            ),
            ({"device": "cuda:2"}, "device 'cuda:2' is not there: torch finds 2 GPUs"),
            ({"device": "metal", "dtype": "float64"}, "Metal computes in float32 only, and the arithmetic is float64"),
            ({"device": "cuda", "tf32": True, "dtype": "float64"}, "tf32 rounds numbers of float32"),
            ({"tf32": True}, "tf32 is for tensor cores of a GPU, and the device is 'cpu'"),
            ({"device": "metal", "tf32": True}, "and the device is 'metal'"),
        ),
    )
    def test_what_is_refused(self, pretended, options, words):
        options = dict(options)
        problem = conv_problem((1, 1, 9, 9, 9), layer_arguments(1, 1, 3), dtype=options.pop("dtype", "float32"))
        with pytest.raises(ArgumentError, match=words):
            plan(problem, **options)

    def test_tf32_loosens_the_bounds_of_matrix_products_alone(self, pretended):
        problem = conv_problem((1, 4, 9, 9, 9), layer_arguments(4, 4, 3))
        strict, loose = (
            {
                one.algorithm: one.error_bound
                for one in plan(problem, device="cuda", tf32=tf32).candidates
                if one.seconds
            }
            for tf32 in (False, True)
        )
        assert loose["direct"] == strict["direct"]
        assert 2**-9 < loose["gemm"] < 2**-8.9


MEASURED = {
    (1, 16, 256, 1): {"direct": 22.79, "gemm": 10.14, "native": 4.13},
    (16, 16, 192, 1): {"direct": 158.3, "gemm": 22.21, "native": 7.35},
    (32, 32, 128, 1): {"direct": 211.52, "gemm": 16.76, "native": 4.22},
    (32, 32, 128, 32): {"direct": 7.47, "gemm": 139.27, "native": 1.69},
}
"""Milliseconds on an NVIDIA H200 for channels in and out, voxels along each axis, and groups; 3 x 3 x 3 filters."""


@pytest.mark.parametrize("layer", MEASURED)
def test_the_rates_of_a_gpu_order_the_algorithms_as_it_does(layer):
    channels, made, size, groups = layer
    arguments = layer_arguments(channels, made, 3, groups=groups)
    problem = conv_problem((1, channels, size, size, size), arguments)
    rates = machine.rates("float32", "cuda")
    costs = {
        name: 1e3 * (member(name, "torch").cost(problem, rates) - copying(problem, rates)) for name in MEASURED[layer]
    }
    assert sorted(costs, key=costs.__getitem__) == sorted(costs, key=MEASURED[layer].__getitem__)
    for name, seconds in MEASURED[layer].items():
        assert seconds / 2.5 < costs[name] < seconds * 2.5, name


def test_no_tensor_of_a_tile_has_more_elements_than_32_bits_count():
    problem = conv_problem((1, 1, 1300, 1300, 1300), layer_arguments(1, 1, 1))
    with pytest.raises(
        LimitError, match=r"a tile would have a tensor of 2197000000 elements; legal: fewer than 2\*\*31"
    ):
        plan(problem, engine="torch", tile=problem.out_size)
    assert np.prod(plan(problem, engine="torch").tile) < 2**31


def truncated(values):
    """Cut float32 off to TF32."""
    return (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def test_the_bound_of_tf32_holds_where_factors_and_sums_are_cut_off():
    """The worst that tensor cores may do, with every number just below the next one of TF32."""
    from lucid_core.algorithms import ErrorBound

    terms = 64
    x = np.full(terms, 1 + 2.0**-10 - 2.0**-23, np.float32)
    total, step = np.float32(0), np.float32(0)
    for one in truncated(x) * truncated(x):
        step = np.float64(total) + np.float64(one)
        total = np.float32(step)
        if total > step:
            total = np.nextafter(total, np.float32(0))
    exact = float((x.astype(np.float64) ** 2).sum())
    bound = ErrorBound("componentwise", terms + 2)
    assert bound.gamma("float32") * exact < exact - total <= bound.with_tf32().gamma("float32") * exact
