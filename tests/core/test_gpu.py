"""The engine torch on a GPU: the contract of every algorithm, the same bits for every tiling, its memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid_core as lucid
from lucid_core import nn
from lucid_core.algorithms import algorithms
from lucid_core.arguments import layer_arguments
from lucid_core.compute import Filters
from lucid_core.errors import ArgumentError, LimitError
from lucid_core.execute import execute
from lucid_core.planner import plan
from lucid_core.problem import conv_problem
from lucid_core.tensors import lane
from lucid_core.volume import ArrayReader, ArrayWriter
from tests.contracts.test_algorithms import FACTORED, NORMWISE, WIDE, cases, make_case, tolerance

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU"),
]
MEMBERS = [name for name, way in algorithms().items() if way.engine == "torch"]
EXACT = [name for name in MEMBERS if name not in NORMWISE]
every = pytest.mark.parametrize("name", MEMBERS)
exact = pytest.mark.parametrize("name", EXACT)


@every
@settings(max_examples=40)
@given(data=st.data())
def test_meets_the_oracle_within_its_bound(name, data):
    case = data.draw(cases(name))
    values, sizes = case.expected()
    computed = case.compute(name, device="cuda", threads=2)
    assert (np.abs(computed - values) <= tolerance(algorithms()[name], case, sizes)).all()


@exact
@settings(max_examples=30)
@given(data=st.data())
def test_every_tiling_and_thread_count_gives_the_same_bits(name, data):
    case = data.draw(cases(name, batches=(1, 2), longest=8))
    tile = data.draw(st.tuples(*[st.integers(1, size) for size in case.problem.out_size]))
    whole = case.compute(name, tile=case.problem.out_size, device="cuda")
    again = case.compute(name, tile=tile, threads=data.draw(st.integers(1, 4)), device="cuda")
    assert again.tobytes() == whole.tobytes()


WIDE_CASES = [
    (name, label) for label in WIDE for name in EXACT if algorithms()[name].refuses(WIDE[label].problem) is None
]


@pytest.mark.parametrize(("name", "label"), WIDE_CASES)
def test_every_tiling_of_a_wide_volume_gives_the_same_bits(name, label):
    case = WIDE[label]
    depth, height, width = case.problem.out_size
    whole = case.compute(name, tile=(depth, height, width), device="cuda").tobytes()
    for threads, tile in enumerate(((1, height, width), (depth, 9, 37), (2, 13, 64)), start=2):
        assert case.compute(name, tile=tile, threads=threads, device="cuda").tobytes() == whole, tile


@every
@settings(max_examples=20)
@given(data=st.data())
def test_nan_and_inf_reach_exactly_the_voxels_whose_field_holds_them(name, data):
    case = data.draw(cases(name, batches=(1,)))
    x, weight = case.x.copy(), case.weight.copy()
    for bad in data.draw(st.lists(st.sampled_from((np.nan, np.inf, -np.inf)), min_size=1, max_size=2)):
        x.reshape(-1)[data.draw(st.integers(0, x.size - 1))] = bad
    if name not in FACTORED:
        weight.reshape(-1)[::2] = 0
    case.x, case.weight = x, weight
    values, _ = case.expected()
    computed = case.compute(name, device="cuda")
    for pattern in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(pattern(computed), pattern(values))


class Kept(ArrayWriter):
    """Gives no memory to compute into, as files do not, and keeps what comes."""

    def view(self, batch, region):
        return None


LARGE = {
    "direct_torch": make_case(1, 2, 1, 1, (96, 160, 150), (3, 3, 3), padding=1, padding_mode="reflect"),
    "direct_torch of groups": make_case(4, 1, 24, 24, (20, 90, 111), (3, 3, 3), groups=12, padding=1),
    "separable_torch": make_case(2, 1, 2, 2, (96, 160, 150), (9, 9, 9), groups=2, padding=4, factored=True),
    "gemm_torch": make_case(3, 1, 12, 20, (60, 90, 110), (3, 3, 3), padding=1),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("writer", (ArrayWriter, Kept))
def test_lanes_that_overlap_give_the_same_bits_each_time(name, writer):
    case, name = LARGE[name], name.split()[0]
    whole = case.compute(name, tile=case.problem.out_size, device="cuda")
    values = lucid.conv3d(case.x, case.weight, case.bias, engine="numpy", **case.arguments)
    np.testing.assert_allclose(whole, values, rtol=1e-3, atol=1e-4 * np.abs(values).max())
    way = algorithms()[name]
    for tile in ((7, 200, 200), (11, 50, 60)):
        made = plan(case.problem, algorithm=way.name, device="cuda", threads=8, tile=tile)
        for _ in range(3):
            out = np.full(case.problem.out_shape, 7, np.float32)
            execute(made, [Filters(case.weight, case.bias)], ArrayReader(case.x), writer(out))
            assert out.tobytes() == whole.tobytes()


class TestTf32:
    CASE = make_case(4, 1, 32, 48, (20, 40, 40), (3, 3, 3), padding=1)

    @pytest.mark.parametrize("name", ("gemm_torch", "native_torch"))
    def test_it_is_off_unless_asked_for_and_keeps_its_bound(self, name):
        case = self.CASE
        double = [array.astype(np.float64) for array in (case.x, case.weight, case.bias)]
        values = lucid.conv3d(*double, padding=1)
        sizes = lucid.conv3d(*map(np.abs, double), padding=1)
        strict = self.CASE.compute(name, device="cuda")
        loose = self.CASE.compute(name, device="cuda", tf32=True)
        way = algorithms()[name]
        assert (np.abs(loose - values) <= tolerance(way, case, sizes, tf32=True)).all()
        assert (np.abs(loose - values) / sizes).max() > 20 * (np.abs(strict - values) / sizes).max()
        assert (np.abs(strict - values) / sizes).max() < 2.0**-18

    def test_its_bits_follow_from_no_tile(self):
        whole = self.CASE.compute("gemm_torch", tile=self.CASE.problem.out_size, device="cuda", tf32=True)
        again = self.CASE.compute("gemm_torch", tile=(3, 17, 40), threads=4, device="cuda", tf32=True)
        assert again.tobytes() == whole.tobytes()

    @pytest.mark.parametrize("asked", ("high", "medium"))
    def test_a_caller_who_rounds_changes_no_bit(self, asked):
        names = ("gemm_torch", "native_torch")
        expected = {name: self.CASE.compute(name, device="cuda") for name in names}
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(asked)
        try:
            for name in names:
                assert self.CASE.compute(name, device="cuda").tobytes() == expected[name].tobytes()
            with torch.autocast("cuda"):
                assert self.CASE.compute("gemm_torch", device="cuda").tobytes() == expected["gemm_torch"].tobytes()
        finally:
            torch.set_float32_matmul_precision(before)


MEASURED = {
    "direct": (1, 1, (256, 300, 300), {"padding": 1}),
    "gemm": (16, 32, (64, 128, 128), {"padding": 1}),
    "native": (16, 32, (64, 128, 128), {"padding": 1}),
}


class TestMemory:
    @pytest.mark.parametrize("name", MEASURED)
    @pytest.mark.parametrize("threads", (1, 4))
    def test_no_more_is_taken_than_was_told(self, name, threads):
        channels, made, size, options = MEASURED[name]
        problem = conv_problem((1, channels, *size), layer_arguments(channels, made, 3, **options))
        chosen = plan(problem, algorithm=name, accuracy="normwise", device="cuda", threads=threads)
        lane._idle.clear()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        x = np.ones(problem.in_shape, np.float32)
        weight = np.ones((made, channels, 3, 3, 3), np.float32)
        execute(chosen, [Filters(weight)], ArrayReader(x), ArrayWriter(np.empty(problem.out_shape, np.float32)))
        taken = torch.cuda.max_memory_reserved() - before
        print(f"{name} {threads}: {taken / 2**20:.0f} of {chosen.device_memory.peak_bytes / 2**20:.0f} MiB")
        assert 0.2 * chosen.device_memory.peak_bytes < taken <= chosen.device_memory.peak_bytes

    def test_a_device_that_is_full_is_an_error_of_ours(self):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.0005)
        try:
            with pytest.raises(LimitError, match="device cuda:0 has too little free memory"):
                lucid.conv3d(
                    np.ones((1, 256, 256, 256), np.float32), np.ones((1, 1, 3, 3, 3), np.float32), device="cuda"
                )
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)


def test_layers_masks_and_stacks_compute_there():
    x = np.random.default_rng(0).normal(size=(1, 3, 20, 30, 40)).astype(np.float32)
    lucid.manual_seed(1)
    net = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1, device="cuda"), nn.ReLU(), nn.Conv3d(8, 2, 3, device="cuda"))
    found = net(x)
    for layer in (net[0], net[2]):
        layer.device = "cpu"
    np.testing.assert_allclose(found, net(x), rtol=1e-4, atol=1e-5)
    mean, mask = np.ones((1, 1, 3, 3, 3), np.float32), x[0, 0] > 0
    given = {"padding": 1, "mask": mask, "outside": -1}
    on_gpu, on_cpu = (lucid.conv3d(x[:, :1], mean, device=device, **given) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)


def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(ArgumentError, match=r"device 'cuda:99' is not there: torch finds \d+ GPU"):
        nn.Conv3d(1, 1, 3, device="cuda:99")


@pytest.mark.parametrize("device", ("cuda", "auto"))
def test_the_command_line_computes_there(tmp_path, device):
    pytest.importorskip("nibabel")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 30, 40)).astype(np.float32))
    words = f"apply x.npy -o y.npy --kernel gaussian --sigma 1vox --device {device} --report r.json"
    command = [sys.executable, "-m", "lucid_cli", *words.split()]
    paths = [str(Path(lucid.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (item,) = json.loads((tmp_path / "r.json").read_text())["items"]
    print(f"host: {item['peak_rss_bytes'] / 2**20:.0f} of {item['plan']['peak_bytes'] / 2**20:.0f} MiB")
    assert item["plan"]["device"] == "cuda:0"
    assert item["peak_rss_bytes"] <= item["plan"]["peak_bytes"]
    assert "auto" not in done.stderr
