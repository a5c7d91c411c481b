"""Lazy convolution of dask arrays: bit for bit the result in memory, for every chunking, computed when asked for."""

import itertools
import math
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_core import compiled, conv3d, nn
from lucid_core.errors import ArgumentError, ArgumentTypeError, LucidError, ShapeError
from lucid_core.padding import LEGAL
from lucid_core.pieces import Recipe, prepared
from tests.core.test_sequential import networks

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

TYPES = ("f4", "f4", "f8", "f2", "i2", "i4", "u1", ">f4", "?")


def triples(low, high):
    return st.tuples(*[st.integers(low, high)] * 3)


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@st.composite
def chunks_of(draw, shape):
    """Draw any way to cut an array, single voxels among them."""
    found = []
    for size in shape:
        cuts = draw(st.one_of(st.just(()), st.just(range(1, size)), st.sets(st.integers(1, max(size - 1, 1)))))
        edges = [0, *sorted(cut for cut in cuts if cut < size), size]
        found.append(tuple(np.diff(edges).tolist()) if size else (0,))
    return tuple(found)


def with_nans(draw, values):
    if values.dtype.kind == "f" and draw(st.booleans()):
        values[np.random.default_rng(3).random(values.shape) < 0.2] = np.nan
    return values


@st.composite
def masks(draw, size):
    """Draw a mask and how it is cut, None where it is no dask array."""
    inside = (np.random.default_rng(4).random(size) < 0.7).astype(draw(st.sampled_from(("?", "f4", "i2"))))
    return with_nans(draw, inside), draw(st.one_of(st.none(), chunks_of(size)))


@st.composite
def calls(draw):
    """Draw x, its chunks, and the other arguments of `conv3d`, most of which fit."""
    groups, dtype = draw(st.integers(1, 2)), np.dtype(draw(st.sampled_from(TYPES)))
    channels, size = groups * draw(st.integers(1, 2)), draw(triples(1, 7))
    batch = draw(st.sampled_from(((), (1,), (2,), (3,), (0,))))
    shape = (*batch, channels, *size)
    x = with_nans(draw, (4 * numbers(0, *shape)).astype(dtype))
    weight = numbers(1, groups * draw(st.integers(1, 2)), channels // groups, *draw(triples(1, 4)))
    arguments = {
        "stride": draw(st.one_of(st.just(1), triples(1, 4))),
        "padding": draw(st.one_of(triples(0, 4), st.sampled_from(("same", "valid")))),
        "dilation": draw(st.one_of(st.just(1), triples(1, 3))),
        "groups": groups,
        "padding_mode": draw(st.sampled_from(LEGAL)),
        "algorithm": draw(st.sampled_from(("auto", "direct", "gemm"))),
        "nan": draw(st.sampled_from(("propagate", "propagate", "renormalize"))),
        "outside": draw(st.sampled_from((0.0, -7.5, math.nan))),
    }
    averages = arguments["padding_mode"] == "renormalize" or arguments["nan"] == "renormalize"
    mask, mask_chunks = draw(masks(size)) if draw(st.integers(0, 3)) == 0 else (None, None)
    weight = np.abs(weight) + 0.01 if averages or mask is not None else weight
    legal = dtype.newbyteorder("=") if dtype.kind == "f" else np.result_type(dtype, np.float32)
    arguments["bias"] = draw(st.sampled_from((None, numbers(2, len(weight)).astype(legal))))
    return x, draw(chunks_of(shape)), weight.astype(legal), arguments, mask, mask_chunks


def computed(array):
    """Compute a dask array, and see that it is what it said it would be."""
    values = array.compute(scheduler="synchronous")
    assert isinstance(array, da.Array)
    assert (array.shape, array.dtype) == (values.shape, values.dtype)
    assert type(array._meta) is np.ndarray
    assert (array._meta.dtype, array._meta.ndim) == (values.dtype, values.ndim)
    return values


def assert_bits(first, second):
    assert (first.dtype, first.shape) == (second.dtype, second.shape)
    assert np.array_equal(first, second, equal_nan=True)
    zeros = first == 0
    assert np.array_equal(np.signbit(first[zeros]), np.signbit(second[zeros]))


def test_every_chunking_gives_the_bits_of_the_whole_or_the_same_refusal():
    seen = set()

    @settings(max_examples=300)
    @given(calls())
    def check(call):
        x, chunks, weight, arguments, mask, mask_chunks = call
        given_mask = mask if mask_chunks is None else da.from_array(mask, mask_chunks)
        try:
            expected = conv3d(x, weight, mask=mask, **arguments)
        except LucidError as error:
            seen.add("refused")
            with pytest.raises(type(error), match=re.escape(str(error))):
                conv3d(da.from_array(x, chunks), weight, mask=given_mask, **arguments)
            return
        found = computed(conv3d(da.from_array(x, chunks), weight, mask=given_mask, **arguments))
        assert_bits(found, expected)
        seen.update((arguments["padding_mode"], x.dtype.str, x.ndim))
        seen.add("no mask" if mask is None else "mask" if mask_chunks is None else "dask mask")

    check()
    assert {*LEGAL, "refused", "<f4", ">f4", "<f2", "<i2", 4, 5, "no mask", "mask", "dask mask"} <= seen


WORST = (
    ({"padding": 3, "padding_mode": "reflect"}, (4, 5, 4), (7, 3, 5)),
    ({"padding": 3, "padding_mode": "symmetric", "stride": 3}, (3, 5, 4), (7, 5, 5)),
    ({"padding": 4, "padding_mode": "circular"}, (4, 4, 5), (6, 3, 9)),
    ({"padding": 4, "stride": 3, "dilation": 2}, (5, 6, 7), (3, 3, 3)),
    ({"padding": 9, "padding_mode": "replicate", "stride": (1, 2, 4)}, (2, 3, 4), (1, 3, 2)),
    ({"padding": 20, "dilation": 5}, (2, 3, 1), (3, 2, 1)),
    ({"padding": "same", "padding_mode": "circular"}, (4, 5, 6), (4, 2, 4)),
    ({"padding": 2, "padding_mode": "renormalize"}, (4, 5, 6), (4, 2, 4)),
    ({"stride": 2**62}, (4, 5, 6), (2, 2, 2)),
)


@pytest.mark.parametrize(("arguments", "size", "kernel_size"), WORST)
@pytest.mark.parametrize("chunks", (1, 2, -1))
def test_halos_wider_than_chunks_and_volumes(arguments, size, kernel_size, chunks):
    x, weight = numbers(0, 2, 2, *size), np.abs(numbers(1, 3, 2, *kernel_size))
    found = computed(conv3d(da.from_array(x, chunks), weight, **arguments))
    assert_bits(found, conv3d(x, weight, **arguments))


needs_numba = pytest.mark.skipif(compiled.refusal() is not None, reason=str(compiled.refusal()))


@pytest.mark.parametrize(
    ("algorithm", "engine", "stride"),
    (
        ("direct", "numpy", 2),
        ("gemm", "numpy", 2),
        ("separable", "numpy", 1),
        pytest.param("direct", "numba", 1, marks=needs_numba),
    ),
)
def test_every_algorithm_and_engine(algorithm, engine, stride):
    shape, cut = (2, 1, 21, 22, 37), (1, 1, 8, (3, 9, 10), 16)
    x, taps = numbers(0, *shape).astype("f4"), np.array([1, 2, 1], "f4")
    weight = np.einsum("i,j,k->ijk", taps, taps, taps)[None, None]
    how = {"stride": stride, "padding": 1, "padding_mode": "reflect", "algorithm": algorithm, "engine": engine}
    assert_bits(computed(conv3d(da.from_array(x, cut), weight, **how)), conv3d(x, weight, **how))


def test_chunks_follow_those_of_the_input():
    x = da.zeros((3, 2, 12, 13, 14), chunks=((1, 2), 1, (4, 8), (13,), (2, 2, 10)), dtype="f4")
    weight = np.ones((5, 2, 3, 3, 3), "f4")
    assert conv3d(x, weight, padding=1).chunks == ((1, 2), (5,), (4, 8), (13,), (2, 2, 10))
    assert conv3d(x, weight, padding=1, stride=2).chunks == ((1, 2), (5,), (2, 4), (7,), (1, 1, 5))
    assert conv3d(x, weight).chunks == ((1, 2), (5,), (3, 7), (11,), (1, 2, 9))
    assert conv3d(x[0], weight).chunks == ((5,), (3, 7), (11,), (1, 2, 9))
    assert conv3d(x, weight, padding=1, stride=6).chunks[4] == (1, 2)


def never(*_):
    raise AssertionError("computed while the graph was built")


def far(shape, chunks, dtype="f4"):
    """Return an array whose chunks cannot be computed."""
    return da.zeros(shape, chunks=chunks, dtype=dtype).map_blocks(
        never, dtype=dtype, meta=np.empty((0,) * len(shape), dtype)
    )


def test_building_the_graph_computes_nothing():
    x, mask = far((2, 1, 8, 9, 10), 4), far((8, 9, 10), 3, "?")
    layer = nn.Conv3d(1, 2, 3, padding=1, padding_mode="circular")
    net = nn.Sequential(layer, nn.ReLU(), nn.Magnitude())
    smooth = conv3d(x, np.ones((1, 1, 3, 3, 3), "f4"), mask=mask, nan="renormalize")
    for lazily in (layer(x), net(x), nn.Argmax()(x), smooth):
        assert isinstance(lazily, da.Array)
        with pytest.raises(AssertionError, match="computed while"):
            lazily.compute(scheduler="synchronous")


def test_the_same_call_has_the_same_name_and_another_one_has_not():
    x, weight = da.zeros((1, 1, 8, 8, 8), chunks=4, dtype="f4"), np.ones((1, 1, 3, 3, 3), "f4")
    first = conv3d(x, weight)
    assert first.name == conv3d(x, weight.copy()).name
    others = (conv3d(x, 2 * weight), conv3d(x, weight, padding=1), conv3d(x.rechunk(3), weight), conv3d(x[0], weight))
    assert len({first.name, *(other.name for other in others)}) == 5


@pytest.mark.parametrize("count", (2, 4, 8))
def test_the_graph_grows_with_the_chunks_and_holds_the_weights_once(count):
    x = da.zeros((1, 1, 32 * count, 64, 64), chunks=(1, 1, 32, 32, 32), dtype="f4")
    weight = numbers(1, 8, 1, 9, 9, 9).astype("f4")
    lazily = conv3d(x, weight, padding=4)
    tasks = lazily.dask.layers[lazily.name]
    assert len(tasks) <= 1 + 12 * lazily.npartitions
    recipes = [one for one in tasks.values() if isinstance(one, Recipe)]
    assert len(recipes) == 1
    assert len(pickle.dumps(recipes[0])) < weight.nbytes + 20_000
    others = {key: task for key, task in tasks.items() if not isinstance(task, Recipe)}
    assert len(pickle.dumps(others)) < 2000 * lazily.npartitions


def test_a_chunk_reads_its_halo_and_no_more():
    read = []

    def note(block, block_info=None):
        read.append(tuple(block_info[0]["chunk-location"][2:]))
        return block

    x = da.zeros((1, 1, 30, 30, 30), chunks=5, dtype="f4").map_blocks(note, dtype="f4", meta=np.empty((0,) * 5, "f4"))
    lazily = conv3d(x, np.ones((1, 1, 3, 3, 3), "f4"), padding=1, padding_mode="circular")
    lazily.blocks[0, 0, 2, 3, 4].compute(scheduler="synchronous")
    assert sorted(read) == list(itertools.product((1, 2, 3), (2, 3, 4), (3, 4, 5)))
    read.clear()
    lazily.blocks[0, 0, 0, 5, 3].compute(scheduler="synchronous")
    assert set(read) == set(itertools.product((5, 0, 1), (4, 5, 0), (2, 3, 4)))
    assert len(read) == 27


def test_weights_are_prepared_once_a_process(monkeypatch):
    x, layer = numbers(0, 1, 1, 12, 12, 12).astype("f4"), nn.Conv3d(1, 4, 3)
    lazily = layer(da.from_array(x, 3))
    (recipe,) = (one for one in lazily.dask.layers[lazily.name].values() if isinstance(one, Recipe))
    assert prepared(pickle.loads(pickle.dumps(recipe))) is prepared(recipe)


LAYERS = (
    nn.Scale(2.0, -1.0),
    nn.Conv3d(2, 6, 3, padding=1, padding_mode="reflect"),
    nn.LeakyReLU(),
    nn.Conv3d(6, 6, (1, 2, 3), stride=(1, 2, 1), padding=2, groups=2, padding_mode="circular"),
    nn.Abs(),
    nn.Conv3d(6, 3, 2, dilation=2),
)


@pytest.mark.parametrize("last", (nn.Magnitude(), nn.Argmax(), nn.Clip(-0.5, 0.5), nn.Conv3d(3, 1, 1)))
@pytest.mark.parametrize("dtype", ("f4", "f8", "f2", "i2"))
@pytest.mark.parametrize("chunks", ((1, 1, 3, 4, 5), (2, 2, 1, 9, 2)))
def test_a_sequential_is_one_pass_with_the_same_bits(last, dtype, chunks):
    x = (10 * numbers(0, 2, 2, 8, 9, 10)).astype(dtype)
    net = nn.Sequential(*(_cast(layer, dtype) for layer in (*LAYERS, last)))
    lazily = net(da.from_array(x, chunks))
    assert_bits(computed(lazily), net(x))
    assert_bits(computed(net(da.from_array(x[1], chunks[1:]))), net(x[1]))
    if dtype != "f2":
        assert sum(name.startswith("conv3d-") for name in lazily.dask.layers) == 1


def _cast(layer, dtype):
    """Return a layer with weights that go with a dtype."""
    if not isinstance(layer, nn.Conv3d) or dtype in ("f4", "i2"):
        return layer
    given = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    copy = nn.Conv3d(*given, layer.groups, padding_mode=layer.padding_mode, dtype=dtype)
    copy.load_state_dict(layer.state_dict())
    return copy


@settings(max_examples=60)
@given(networks(), st.data())
def test_any_layers_in_any_chunks(drawn, data):
    layers, shape = drawn
    x = numbers(0, *shape).astype("f4")
    net = nn.Sequential(*layers)
    assert_bits(computed(net(da.from_array(x, data.draw(chunks_of(shape))))), net(x))


@pytest.mark.parametrize("operation", (nn.ReLU(), nn.Argmax(), nn.Magnitude(), nn.Sequential(nn.Abs(), nn.Argmax())))
@pytest.mark.parametrize("shape", ((2, 3, 4, 5, 6), (3, 4, 5, 6)))
@pytest.mark.parametrize("dtype", ("f4", "i4"))
def test_operations_go_chunk_by_chunk(operation, shape, dtype):
    x = (5 * numbers(0, *shape)).astype(dtype)
    assert_bits(computed(operation(da.from_array(x, 2))), operation(x))


def case(padding_mode="reflect"):
    x = numbers(0, 2, 3, 20, 21, 22).astype("f4")
    layer = nn.Conv3d(3, 4, 3, padding=2, padding_mode=padding_mode)
    return layer, x, da.from_array(x, (1, 2, 7, 8, 9))


@pytest.mark.parametrize("scheduler", ("threads", "processes"))
def test_threads_and_processes(scheduler):
    layer, x, lazily = case()
    assert_bits(layer(lazily).compute(scheduler=scheduler, num_workers=2), layer(x))


def test_distributed():
    distributed = pytest.importorskip("distributed")
    layer, x, lazily = case("circular")
    with (
        dask.config.set({"distributed.worker.memory.target": False}),
        distributed.LocalCluster(2, processes=False, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert_bits(client.compute(layer(lazily)).result(timeout=60), layer(x))


def test_what_cannot_be_lazy_is_refused():
    x, weight = da.zeros((1, 1, 8, 8, 8), chunks=4, dtype="f4"), np.ones((1, 1, 3, 3, 3), "f4")
    for unknown in (x[:, :, x[0, 0, :, 0, 0] == 0], x[:, :, :, :, x[0, 0, 0, 0] == 0]):
        for call in (lambda x: conv3d(x, weight), nn.ReLU(), nn.Sequential(nn.Conv3d(1, 1, 3))):
            with pytest.raises(
                ArgumentError, match=r"the chunks of x have no known shape: call x.compute_chunk_sizes()"
            ):
                call(unknown)
    with pytest.raises(ArgumentTypeError, match=r"the chunks of x are of MaskedArray, legal: NumPy arrays"):
        conv3d(da.ma.masked_equal(x, 0), weight)
    with pytest.raises(ArgumentError, match=r"threads=2 cannot be kept for a dask array.*num_workers"):
        conv3d(x, weight, threads=2)
    assert conv3d(x, weight, threads=1).shape == (1, 1, 6, 6, 6)
    with pytest.raises(ShapeError, match="mask must hold numbers of shape"):
        conv3d(x, weight, mask=da.zeros((8, 8, 7)))
    with pytest.raises(ArgumentTypeError, match="cannot convolve values of dtype complex64"):
        conv3d(x.astype("c8"), weight)


def test_arrays_of_the_query_planner_are_refused():
    script = (
        "import dask; dask.config.set({'array.query-planning': True}); import dask.array as da; "
        "x = da.zeros((1, 1, 8, 8, 8), chunks=4, dtype='f4'); print('made', hasattr(x, 'expr')); "
        "from lucid_core import nn; nn.Conv3d(1, 1, 3)(x)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if "made True" not in done.stdout:
        pytest.skip("this dask has no query planner for arrays")
    assert "ArgumentError: x is an array of dask's query planner" in done.stderr
    assert "array.query-planning" in done.stderr


def test_known_again_it_is_convolved():
    x, weight = numbers(0, 1, 1, 8, 8, 8), numbers(1, 1, 1, 3, 3, 3)
    lazily = da.from_array(x, 3)
    chosen = lazily[:, :, lazily[0, 0, :, 0, 0] > 0]
    chosen.compute_chunk_sizes()
    assert_bits(computed(conv3d(chosen, weight, padding=1)), conv3d(x[:, :, x[0, 0, :, 0, 0] > 0], weight, padding=1))


def test_chunks_of_no_voxels():
    x = numbers(0, 2, 2, 6, 6, 6)
    lazily = da.from_array(x, ((0, 2), (1, 0, 1), (3, 0, 3), (0, 6), (6, 0)))
    weight = numbers(1, 1, 2, 3, 3, 3)
    assert_bits(computed(conv3d(lazily, weight, padding=2)), conv3d(x, weight, padding=2))


def test_a_border_too_wide_to_be_computed_is_refused_when_computed():
    lazily = conv3d(da.zeros((1, 1, 3, 3, 3), chunks=1), np.ones((1, 1, 1, 1, 1)), padding=2**50, engine="numpy")
    assert lazily.shape[2:] == (2**51 + 3,) * 3
    with pytest.raises(MemoryError, match="does not fit into memory"):
        lazily.blocks[0, 0, 0, 0, 0].compute(scheduler="synchronous")


def test_a_large_chunk_is_cut_into_tiles():
    x = da.zeros((1, 1, 600, 600, 600), chunks=-1, dtype="f4")
    lazily = conv3d(x, np.ones((1, 1, 5, 5, 5), "f4"), engine="numpy", algorithm="direct")
    (recipe,) = (one for one in lazily.dask.layers[lazily.name].values() if isinstance(one, Recipe))
    assert math.prod(recipe.tile) * 4 < 64 << 20
    assert recipe.plan.threads == 1


def test_arrays_of_dask_in_memory_beside_arrays_of_numpy():
    x, weight, mask = numbers(0, 1, 1, 6, 6, 6), np.ones((1, 1, 3, 3, 3)), np.arange(216).reshape(6, 6, 6) % 3
    expected = conv3d(x, weight, mask=mask)
    found = conv3d(x, da.from_array(weight, 2), mask=da.from_array(mask, 2))
    assert type(found) is np.ndarray
    assert_bits(found, expected)
    assert_bits(computed(conv3d(da.from_array(x, 2), da.from_array(weight, 2), mask=mask)), expected)
