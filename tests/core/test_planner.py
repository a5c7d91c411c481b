"""The planner: every candidate explained, the algorithm apart from the tiles, the memory told and kept."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_core import compiled, conv3d, machine, planner
from lucid_core.algorithms import ErrorBound, algorithms
from lucid_core.algorithms.direct import Direct
from lucid_core.arguments import layer_arguments
from lucid_core.cutting import FACTORING_BYTES, SLOT_BYTES, window_planes
from lucid_core.errors import ArgumentError, ArgumentTypeError, ExtraError, LimitError
from lucid_core.plan import COMPILER_BYTES, PROCESS_BYTES, Ends
from lucid_core.planner import plan
from lucid_core.problem import conv_problem


def problem(
    channels=1,
    out_channels=1,
    size=(32, 40, 48),
    kernel_size=3,
    *,
    batch=1,
    dtype="float32",
    separable=False,
    **options,
):
    layer = layer_arguments(channels, out_channels, kernel_size, **options)
    return conv_problem((batch, channels, *size), layer, dtype=dtype, separable=separable)


PROBLEM = problem(padding=1)


def test_every_algorithm_is_a_candidate_with_its_price_or_refusal():
    made = plan(PROBLEM, engine="numpy")
    family = [one for one in algorithms().values() if one.engine != "torch"]
    assert [(one.algorithm, one.engine) for one in made.candidates] == [(one.name, one.engine) for one in family]
    for one in made.candidates:
        assert (one.seconds is None) == (one.refused is not None)
        if one.accuracy == "componentwise":
            assert one.error_bound == pytest.approx(29 * 2.0**-24, rel=1e-5)
    refused = {(one.algorithm, one.engine): one.refused for one in made.candidates if one.refused}
    assert refused.pop(("separable", "numpy")) == "the kernel is not a product of three 1-D kernels"
    assert refused.pop(("fft", "numpy")) == "its error is bounded normwise only; ask for accuracy='normwise'"
    assert refused == {(name, "numba"): "it belongs to engine 'numba'" for name in ("direct", "separable", "winograd")}


def test_torch_is_weighed_where_it_is_asked_for():
    assert all(one.engine != "torch" for one in plan(PROBLEM, accuracy="normwise").candidates)
    with pytest.raises(ArgumentError, match="algorithm 'native' cannot compute this: it belongs to engine 'torch'"):
        plan(PROBLEM, algorithm="native")


def test_the_cheapest_is_chosen():
    for one in (PROBLEM, problem(16, 32), problem(separable=True, kernel_size=9)):
        made = plan(one, start_seconds=0)
        way = min((one for one in made.candidates if one.seconds), key=lambda one: one.seconds)
        assert (made.algorithm, made.engine) == (way.algorithm, way.engine)


@pytest.mark.parametrize(
    ("one", "algorithm"),
    (
        (problem(1, 1, (64, 64, 64), padding=1), "direct"),
        (problem(16, 32, (64, 64, 64), padding=1), "gemm"),
        (problem(1, 1, (64, 64, 64), 9, separable=True), "separable"),
    ),
)
def test_which_algorithm_suits_which_layer(one, algorithm):
    assert plan(one, engine="numpy").algorithm == algorithm


@pytest.fixture
def numba():
    if compiled.refusal():
        pytest.skip(compiled.refusal())


@pytest.mark.parametrize(
    ("one", "accuracy", "algorithm"),
    (
        (problem(1, 1, (64, 128, 128), padding=1), "componentwise", "direct"),
        (problem(32, 32, (64, 64, 64), padding=1), "componentwise", "direct"),
        (problem(1, 1, (128, 128, 128), 9, separable=True), "componentwise", "separable"),
        (problem(32, 32, (64, 64, 64), padding=1), "normwise", "winograd"),
        (problem(1, 1, (128, 128, 128), 21), "normwise", "fft"),
    ),
)
def test_which_algorithm_suits_which_layer_with_numba(numba, one, accuracy, algorithm):
    assert plan(one, accuracy=accuracy).algorithm == algorithm


def test_compiled_kernels_are_loaded_where_they_save_enough(numba):
    """The saving is that of one volume, so the choice does not follow from the batch."""
    for batch in (1, 40):
        assert plan(problem(1, 1, (16, 16, 16), padding=1, batch=batch)).engine == "numpy"
        assert plan(problem(1, 1, (192, 192, 192), padding=1, batch=batch)).engine == "numba"
        assert plan(problem(1, 1, (64, 128, 128), padding=1, batch=batch), start_seconds=10).engine == "numpy"


def test_without_numba_all_is_numpy(monkeypatch):
    monkeypatch.setattr(compiled, "installed", lambda: False)
    made = plan(problem(32, 32, (64, 64, 64), padding=1))
    assert made.engine == "numpy"
    reasons = {one.refused for one in made.candidates if one.engine == "numba" and one.accuracy == "componentwise"}
    assert "Numba is not installed (pip install 'lucid-conv3d[fast]')" in reasons
    with pytest.raises(ExtraError, match=r"engine 'numba' cannot run: Numba is not installed \(pip install 'lucid"):
        plan(PROBLEM, engine="numba")


@pytest.mark.parametrize("reason", ("NUMBA_DISABLE_JIT is set", "this processor has no fused multiply-add"))
def test_where_numba_cannot_compile_all_is_numpy(monkeypatch, reason):
    monkeypatch.setattr(compiled, "installed", lambda: True)
    if "JIT" in reason:
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    else:
        monkeypatch.setattr(compiled, "vectors", lambda: None)
    assert plan(problem(32, 32, (64, 64, 64), padding=1)).engine == "numpy"
    with pytest.raises(ArgumentError, match=f"engine 'numba' cannot run: {reason}; use engine 'numpy'"):
        plan(PROBLEM, engine="numba")


@given(
    st.integers(1, 64),
    st.one_of(st.none(), st.tuples(*[st.integers(1, 50)] * 3)),
    st.sampled_from(((1, 1), (8, 8), (3, 40))),
    st.sampled_from(("float32", "float64")),
)
def test_the_algorithm_follows_from_the_problem_alone(threads, tile, channels, dtype):
    one = problem(*channels, padding=1, dtype=dtype)
    assert plan(one, threads=threads, tile=tile).algorithm == plan(one, threads=1).algorithm


@pytest.mark.parametrize("batch", (1, 7))
def test_the_algorithm_does_not_follow_from_the_batch(batch):
    assert plan(problem(8, 8, batch=batch)).algorithm == plan(problem(8, 8)).algorithm


@pytest.mark.parametrize("name", ("direct", "gemm"))
def test_an_algorithm_can_be_asked_for(name):
    made = plan(PROBLEM, algorithm=name, engine="numpy", threads=2)
    assert (made.algorithm, made.engine, made.device, made.threads) == (name, "numpy", "cpu", 2)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    (
        (
            {"algorithm": "gems"},
            ArgumentError,
            "unknown algorithm 'gems'; legal: auto, direct, fft, gemm, native, separable, winograd.* 'gemm'",
        ),
        (
            {"engine": "numpi"},
            ArgumentError,
            r"unknown engine 'numpi'; legal: auto, numpy, numba, torch\. Did you mean 'numpy'",
        ),
        ({"accuracy": "high"}, ArgumentError, "unknown accuracy 'high'; legal: componentwise, normwise"),
        ({"algorithm": "separable"}, ArgumentError, "algorithm 'separable' cannot compute this: the kernel is not"),
        ({"threads": -2}, ArgumentError, "threads must be at least 0, not -2"),
        ({"threads": 1.0}, ArgumentTypeError, r"threads must be an integer, not 1\.0"),
        ({"tile": (1, 0, 1)}, ArgumentError, "tile along H must be at least 1, not 0"),
        ({"tile": (1, 1)}, ArgumentError, "tile must be one integer or three"),
    ),
)
def test_what_is_refused(options, kind, words):
    with pytest.raises(kind, match=words):
        plan(PROBLEM, **options)


def test_a_tile_asked_for_is_cut_to_the_output():
    made = plan(PROBLEM, tile=(10, 99, 16))
    assert made.tile == (10, 40, 16)
    assert made.tiles == 4 * 1 * 3
    assert plan(problem(batch=3), tile=(30, 38, 46)).tiles == 3


@given(
    st.tuples(*[st.integers(3, 600)] * 3),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(1, 16),
    st.sampled_from(("direct", "gemm")),
)
def test_a_tile_fits_the_output_and_its_memory(size, channels, out_channels, threads, name):
    one = problem(channels, out_channels, size, padding=1)
    made = plan(one, threads=threads, algorithm=name, engine="numpy")
    assert all(1 <= step <= count for step, count in zip(made.tile, one.out_size, strict=True))
    assert made.tiles == math.prod(-(-count // step) for step, count in zip(made.tile, one.out_size, strict=True))
    memory = made.memory
    if made.tile != (1, 1, 1):
        assert memory.blocks + memory.workspace + memory.outputs <= made.in_work * SLOT_BYTES


def test_there_are_tiles_enough_for_the_threads():
    assert plan(problem(size=(130, 8, 8)), threads=4).tiles == 16
    assert plan(problem(size=(66, 8, 8)), threads=4).tiles == 8
    assert plan(problem(size=(66, 8, 8)), threads=1).tiles == 4
    assert plan(problem(size=(40, 8, 8)), threads=2).tiles == 4  # five would leave one thread without work
    assert plan(problem(size=(66, 8, 8), batch=8), threads=4).tiles >= 16


def test_slabs_are_not_cut_thinner_than_the_kernel():
    """Every slab reads its halo again: thin ones would read more halo than outputs."""
    one = problem(size=(64, 64, 64), kernel_size=(31, 1, 1), padding=(15, 0, 0))
    assert plan(one, threads=1).tile[0] >= 30
    assert plan(one, threads=4).tiles == 4
    assert plan(problem(size=(66, 8, 8)), threads=3).tiles == 6


def test_threads_are_the_cores_unless_said(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 5)
    assert plan(PROBLEM).threads == plan(PROBLEM, threads=0).threads == 5
    assert plan(PROBLEM, threads=2).threads == 2


def test_a_tile_a_thread_is_in_work():
    whole = plan(PROBLEM, tile=PROBLEM.out_size, threads=8)
    assert (whole.tiles, whole.in_work) == (1, 1)
    assert plan(PROBLEM, tile=(4, 40, 48), threads=3).in_work == 3
    assert plan(problem(batch=0), threads=3).in_work == 1


def test_memory_is_told_part_by_part():
    made = plan(problem(2, 4, (10, 10, 10), padding=1), tile=(5, 10, 10), threads=2, algorithm="direct", engine="numpy")
    assert made.memory.process == PROCESS_BYTES
    assert made.memory.weights == 2 * 4 * (4 * 2 * 27) + FACTORING_BYTES * 27
    assert made.memory.blocks == 2 * 4 * (2 * 7 * 12 * 12)
    assert made.memory.outputs == 2 * 4 * (4 * 5 * 10 * 10)
    assert made.memory.workspace == 2 * algorithms()["direct"].workspace(made.problem, (5, 10, 10))
    assert made.memory.peak_bytes == sum(vars(made.memory).values())


ENDS = Ends(process=1000, compiler=0, reader=100, plane=10, planes_at_once=3, writer=7, copies=2.0)


def test_the_ends_of_a_run_take_memory_too():
    made = plan(PROBLEM, tile=(4, 40, 48), threads=2, engine="numpy", ends=ENDS)
    bare = plan(PROBLEM, tile=(4, 40, 48), threads=2, engine="numpy").memory
    assert made.memory.process == 1000
    held = window_planes(PROBLEM, 4) + 4
    assert made.memory.reader == 100 + 10 * min(held, PROBLEM.size[0])
    assert made.memory.writer == 7 + 2 * bare.outputs
    assert (made.memory.blocks, made.memory.workspace) == (bare.blocks, bare.workspace)
    if compiled.refusal() is None:
        assert plan(PROBLEM, engine="numba").memory.process == PROCESS_BYTES + COMPILER_BYTES


def test_what_is_said_of_no_ends():
    plain = Ends(100 << 20, 176 << 20, 256 << 20, reader=0, plane=0, planes_at_once=1, writer=0, block=1, waiting=0)
    assert Ends() == plain
    assert FACTORING_BYTES == 24


@pytest.mark.parametrize(("depth", "waits"), ((3, True), (4, False), (8, False), (30, True), (32, False)))
def test_what_waits_for_the_rest_of_its_block_takes_memory(depth, waits):
    made = plan(PROBLEM, tile=(depth, 40, 48), engine="numpy", ends=Ends(writer=7, block=4, waiting=1000))
    assert made.memory.writer == 7 + 1000 * waits


@pytest.mark.parametrize(
    ("one", "threads", "algorithm", "tile"),
    (
        (problem(1, 1, (256, 256, 256), padding=1), 2, "direct", (32, 256, 256)),
        (problem(16, 32, (64, 64, 64), padding=1), 2, "direct", (8, 64, 64)),
        (problem(1, 1, (128, 512, 512), 9), 1, "direct", (40, 126, 504)),
        (problem(1, 1, (128, 512, 512), 9), 1, "gemm", (40, 252, 504)),
        (problem(1, 1, (512, 700, 700), (15, 1, 1)), 4, "direct", (16, 350, 700)),
        (problem(8, 8, (181, 217, 181), padding=1), 3, "direct", (16, 217, 181)),
        (problem(1, 1, (8, 4000, 4000), padding=1), 2, "direct", (1, 500, 4000)),
        (problem(1, 1, (64, 64, 64), padding=1, batch=4), 2, "direct", (32, 64, 64)),
        (problem(1, 1, (64, 64, 64), padding=1, batch=3), 4, "direct", (11, 64, 64)),
        (problem(1, 1, (64, 64, 64), padding=1, batch=16), 2, "direct", (64, 64, 64)),
        (problem(1, 1, (8, 4000, 4000), padding=1), 2, "gemm", (1, 1000, 4000)),
    ),
)
def test_how_volumes_are_cut(one, threads, algorithm, tile):
    """Tiles whose speed and memory were looked at; a change here is one of both."""
    assert plan(one, threads=threads, algorithm=algorithm, engine="numpy").tile == tile


@pytest.mark.parametrize("share", (1.0, 0.6, 0.3, 0.1))
@pytest.mark.parametrize("channels", ((1, 1), (4, 8)))
def test_a_limit_is_kept_by_smaller_tiles_and_fewer_of_them(share, channels):
    wide = problem(*channels, (64, 96, 96), padding=1)
    free = plan(wide, threads=4, engine="numpy", ends=ENDS)
    limit = int(share * free.memory.peak_bytes)
    made = plan(wide, threads=4, engine="numpy", ends=ENDS, limit_bytes=limit)
    assert made.memory.peak_bytes <= limit == made.limit_bytes
    assert made.algorithm == free.algorithm
    assert (made.tile == free.tile and made.threads == 4) == (share == 1.0)
    assert made.tiles == math.prod(-(-n // t) for n, t in zip(wide.out_size, made.tile, strict=True))
    thinner = made.tile[1:] == free.tile[1:] and made.threads == 4
    assert thinner or made.tile[0] == 1 or made.threads < 4


def test_a_limit_that_nothing_keeps_names_the_least_that_would_do():
    with pytest.raises(
        LimitError, match=r"needs at least .* \(process: 1\.0 GiB\), but 1\.0 MiB may be taken"
    ) as failure:
        plan(PROBLEM, ends=Ends(process=1 << 30), limit_bytes=1 << 20)
    least = int(re.search(r"--max-memory (\d+)MiB", str(failure.value))[1])
    assert plan(PROBLEM, ends=Ends(process=1 << 30), limit_bytes=least << 20).memory.peak_bytes <= least << 20
    with pytest.raises(LimitError):
        plan(PROBLEM, ends=Ends(process=1 << 30), limit_bytes=(least - 2) << 20)  # one more than needed is named


def test_a_tile_that_was_asked_for_stays_under_a_limit():
    asked = {"tile": (8, 40, 48), "engine": "numpy", "ends": ENDS}
    one = plan(PROBLEM, threads=1, **asked)
    made = plan(PROBLEM, threads=4, **asked, limit_bytes=one.memory.peak_bytes)
    assert (made.tile, made.threads) == ((8, 40, 48), 1)
    with pytest.raises(MemoryError, match="a tile smaller than 8x40x48 takes less"):
        plan(PROBLEM, threads=1, **asked, limit_bytes=one.memory.peak_bytes - 1)


@pytest.mark.parametrize("grain", ((4, 1, 1), (16, 16, 16), (64, 64, 64), (7, 30, 50)))
def test_tiles_are_whole_grains(grain):
    wide = problem(1, 8, (200, 300, 400), padding=1)
    made = plan(wide, threads=2, engine="numpy", ends=Ends(grain=grain))
    for size, step, whole in zip(made.tile, grain, wide.out_size, strict=True):
        assert size % step == 0 or size == whole


def test_a_plan_prints_itself():
    text = str(plan(PROBLEM, algorithm="gemm", threads=2, tile=(8, 40, 48)))
    assert text.startswith(
        "algorithm gemm (numpy) on 2 threads\n4 tiles of 8x40x48 output voxels (D, H, W)\npeak memory "
    )
    assert "\n  direct (numpy): " in text
    assert "\n* gemm (numpy): " in text
    assert "\n  separable (numpy): refused: the kernel is not a product of three 1-D kernels" in text


class Quick(Direct):
    """A stand-in for an algorithm that is quick, and whose error follows the largest value near by."""

    name = "quick"

    def cost(self, problem, rates):
        return 1e-12

    def error_bound(self, problem):
        return ErrorBound("normwise", 60)


@pytest.fixture
def quick(monkeypatch):
    family = {**algorithms(), "quick": Quick()}
    monkeypatch.setattr(planner, "algorithms", lambda: family)
    monkeypatch.setattr("lucid_core.algorithms.algorithms", lambda: family)


def test_a_normwise_algorithm_has_to_be_admitted(quick):
    made = plan(PROBLEM)
    assert made.algorithm != "quick"
    refusal = next(one.refused for one in made.candidates if one.algorithm == "quick")
    assert refusal == "its error is bounded normwise only; ask for accuracy='normwise'"
    with pytest.raises(
        ArgumentError, match="algorithm 'quick' cannot compute this: its error is bounded normwise only"
    ):
        plan(PROBLEM, algorithm="quick")
    admitted = plan(PROBLEM, accuracy="normwise")
    assert admitted.algorithm == "quick"
    assert admitted.candidates[-1].error_bound == pytest.approx(60 * 2.0**-24, rel=1e-5)


def test_normwise_also_admits_the_stricter(quick):
    assert plan(PROBLEM, accuracy="normwise", algorithm="direct").algorithm == "direct"


def test_accuracy_reaches_the_planner_from_conv3d(quick):
    x, w = np.ones((1, 1, 4, 4, 4), np.float32), np.ones((1, 1, 3, 3, 3), np.float32)
    with pytest.raises(ArgumentError, match="ask for accuracy='normwise'"):
        conv3d(x, w, algorithm="quick")
    assert conv3d(x, w, algorithm="quick", accuracy="normwise").tolist() == conv3d(x, w).tolist()


def test_an_algorithm_of_another_engine_is_refused(quick, monkeypatch):
    monkeypatch.setattr(Quick, "engine", "rocket")
    made = plan(PROBLEM, engine="numpy", accuracy="normwise")
    assert made.algorithm != "quick"
    assert next(one.refused for one in made.candidates if one.algorithm == "quick") == "it belongs to engine 'rocket'"


def test_gamma():
    bound = ErrorBound("componentwise", 29)
    assert bound.gamma("float32") == 29 * 2.0**-24 / (1 - 29 * 2.0**-24)
    assert bound.gamma("float64") == 29 * 2.0**-53 / (1 - 29 * 2.0**-53)


@pytest.mark.parametrize(
    ("affinity", "slurm", "quota", "expected"),
    (
        (8, "", "", 8),
        (8, "3", "", 3),
        (8, "12", "", 8),
        (8, "0", "", 8),
        (8, "two", "", 8),
        (8, "", "250000 100000\n", 2),
        (8, "", "50000 100000\n", 1),
        (8, "", "max 100000\n", 8),
        (4, "3", "900000 100000\n", 3),
    ),
)
def test_cores_are_what_is_allowed(monkeypatch, tmp_path, affinity, slurm, quota, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    if quota:
        (tmp_path / "cpu.max").write_text(quota)
    assert machine.cores() == expected


@pytest.mark.parametrize(("most", "used", "expected"), (("1000", "400", 600), ("1000", "2000", 0)))
def test_memory_of_a_cgroup(monkeypatch, tmp_path, most, used, expected):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{most}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    assert machine.available_bytes() == expected


def test_cached_files_of_a_cgroup_count_as_free(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000")
    (tmp_path / "memory.current").write_text("400")
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 150\nactive_file 50\n")
    assert machine.available_bytes() == 750


def test_memory_without_a_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    free = machine.available_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    assert (free is None) == (machine.available_bytes() is None)
    assert free is None or free > 1 << 20


def test_a_tile_is_not_cut_below_what_its_halo_takes():
    """A kernel of 241 voxels on 64: cutting the tile to a voxel saved next to nothing and took 300 times as long."""
    layer = layer_arguments(1, 1, 241, padding="same", padding_mode_name="replicate")
    problem = conv_problem((1, 1, 64, 64, 64), layer, separable=True)
    chosen = plan(problem, threads=2)
    assert (chosen.algorithm, chosen.tiles) == ("separable", 2)


def test_a_tile_of_a_large_kernel_takes_more_memory_before_it_reads_much_more_halo():
    layer = layer_arguments(1, 1, 31, padding="same", padding_mode_name="replicate")
    chosen = plan(conv_problem((1, 1, 256, 256, 256), layer, separable=True), threads=2, engine="numpy")
    assert chosen.algorithm == "separable"
    assert chosen.tile == (64, 256, 256)
    memory = chosen.memory
    parts = (memory.blocks + memory.workspace + memory.outputs) / chosen.in_work
    assert SLOT_BYTES < parts <= 2 * SLOT_BYTES


def test_a_large_tile_is_cut_until_it_fits():
    problem = conv_problem((1, 1, 8, 4096, 4096), layer_arguments(1, 16, 3, padding=1))
    chosen = plan(problem, threads=2)
    assert chosen.tile[0] == 1
    assert chosen.tile[1] < 4096
    assert chosen.memory.outputs / chosen.in_work < SLOT_BYTES
