"""The gradients of `conv3d`: by the definition, by finite differences, by torch, and by what must hold of them."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lucid_core as lucid
from lucid_core import adjoint, compiled, machine, parameter_gradients
from lucid_core.arguments import layer_arguments
from lucid_core.boundary import Window
from lucid_core.compiled import strips
from lucid_core.correlations import RUN, Part, correlations, direct_numba
from lucid_core.errors import ArgumentError, ArgumentTypeError, ShapeError
from lucid_core.functional import layer_of
from lucid_core.padding import PADDING_MODES, widest_pad
from lucid_core.problem import conv_problem
from lucid_core.regions import Region
from lucid_core.scratch import Scratch
from tests.core.test_compiled import Guarded, finish, on_linux, start
from tests.reference import axis_pads
from tests.reference import conv3d_backward as oracle

without_numba = pytest.mark.skipif(compiled.refusal() is not None, reason=str(compiled.refusal()))
engines = pytest.mark.parametrize("engine", ("numpy", pytest.param("numba", marks=without_numba)))
NAMES = ("x", "weight", "bias")
WANTED = {"numpy": NAMES, "numba": ("weight", "bias")}
"""The gradient for x is made by the engine's convolutions, each of which takes Numba seconds to compile."""


def volume(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def triples(low, high):
    return st.one_of(st.integers(low, high), st.tuples(*[st.integers(low, high)] * 3))


def as_triple(value):
    return (value,) * 3 if isinstance(value, int) else value


@st.composite
def layers(draw, largest=6, modes=tuple(PADDING_MODES), widest=7):
    """Draw the shapes of x and weight, and the arguments of a layer that fits."""
    groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
    share, made = draw(st.integers(1, 3)), draw(st.sampled_from((1, 2, 3, 4, 9)))
    kernel = draw(st.tuples(*[st.integers(1, 3)] * 3))
    arguments = {
        "stride": draw(st.one_of(st.just(1), triples(1, 4))),
        "padding": draw(st.one_of(triples(0, 3), st.sampled_from(("same", "valid")))),
        "dilation": draw(st.one_of(st.just(1), triples(1, 3))),
        "groups": groups,
        "padding_mode": draw(st.sampled_from(modes)),
    }
    if arguments["padding"] == "same":
        arguments["stride"] = 1
    pads = axis_pads(arguments["padding"], kernel, as_triple(arguments["dilation"]))
    sizes = []
    for axis, most in zip(range(3), (largest, largest, widest), strict=True):
        extent = as_triple(arguments["dilation"])[axis] * (kernel[axis] - 1) + 1
        fitting = [
            size
            for size in range(1, 40)
            if size + sum(pads[axis]) >= extent and max(pads[axis]) <= widest_pad(arguments["padding_mode"], size)
        ]
        sizes.append(draw(st.integers(fitting[0], max(fitting[0], most))))
    batch = draw(st.integers(1, 2))
    return (batch, groups * share, *sizes), (groups * made, share, *kernel), arguments


def arrays(layer, dtype=np.float64, seed=0):
    """Return grad, x, weight and the arguments of a layer."""
    shape, kernel, arguments = layer
    x, weight = volume(*shape, dtype=dtype, seed=seed), volume(*kernel, dtype=dtype, seed=seed + 1)
    out = lucid.conv3d(x, weight, engine="numpy", **arguments).shape
    return volume(*out, dtype=dtype, seed=seed + 2), x, weight, arguments


def gamma(terms, dtype):
    share = terms * float(np.finfo(dtype).eps) / 2
    return share / (1 - share)


@engines
@pytest.mark.parametrize("dtype", (np.float32, np.float64))
@given(layer=layers(largest=3, widest=20))
@settings(max_examples=20)
def test_the_definition(engine, dtype, layer):
    grad, x, weight, arguments = arrays(layer, dtype)
    found = lucid.conv3d_backward(grad, x, weight, engine=engine, threads=1, wanted=WANTED[engine], **arguments)
    expected = oracle(grad, x, weight, **arguments)
    terms = {"x": weight[:, 0].size + x[0, 0].size, "weight": RUN, "bias": 0}
    for name, values, (exact, sizes) in zip(NAMES, found, expected, strict=True):
        if values is not None:
            assert values.dtype == dtype
            assert values.shape == exact.shape
            share = gamma(terms[name] + 2, dtype) + gamma(3, np.float64)
            assert (np.abs(values - exact) <= share * sizes).all()


@engines
@given(layer=layers(largest=9, widest=40), seed=st.integers(0, 2**32))
@settings(max_examples=40)
def test_the_adjoint_identities(engine, layer, seed):
    """<conv(x, w), g> = <x, gx> = <w, gw>."""
    grad, x, weight, arguments = arrays(layer, seed=seed)
    found = lucid.conv3d_backward(grad, x, weight, engine=engine, threads=1, wanted=WANTED[engine], **arguments)
    product = np.vdot(lucid.conv3d(x, weight, engine="numpy", **arguments), grad)
    share = 1e-11 * max(1.0, np.abs(grad).sum() * np.abs(x).max())
    for one, gradient in ((x, found.x), (weight, found.weight)):
        assert gradient is None or abs(np.vdot(one, gradient) - product) <= share
    np.testing.assert_allclose(found.bias, grad.sum(axis=(0, 2, 3, 4)), rtol=1e-12, atol=1e-11)


@given(layer=layers(largest=5))
@settings(max_examples=20)
def test_finite_differences(layer):
    """The loss sum(g y^2 / 2) at random directions, by central differences: exact to rounding, being quadratic."""
    grad, x, weight, arguments = arrays(layer)
    bias = volume(len(weight), seed=7)

    def loss(x, weight, bias):
        return 0.5 * (grad * lucid.conv3d(x, weight, bias, engine="numpy", **arguments) ** 2).sum()

    slope = grad * lucid.conv3d(x, weight, bias, engine="numpy", **arguments)
    found = lucid.conv3d_backward(slope, x, weight, engine="numpy", **arguments)
    point = [x, weight, bias]
    for place, gradient in enumerate(found):
        towards = volume(*gradient.shape, seed=9)
        ends = [
            loss(*(one + sign * 0.5 * towards if at == place else one for at, one in enumerate(point)))
            for sign in (1, -1)
        ]
        scale = abs(ends[0]) + abs(ends[1]) + 1
        assert abs((ends[0] - ends[1]) - np.vdot(gradient, towards)) <= 1e-10 * scale


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@engines
@given(layer=layers(largest=9, modes=("zeros", "reflect", "replicate", "circular"), widest=40))
@settings(max_examples=50)
def test_torch_autograd(engine, layer):
    torch = pytest.importorskip("torch")
    grad, x, weight, arguments = arrays(layer)
    module = torch.nn.Conv3d(x.shape[1], len(weight), weight.shape[2:], dtype=torch.float64, **arguments)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weight))
    theirs = torch.from_numpy(x).requires_grad_()
    module(theirs).backward(torch.from_numpy(grad))
    found = lucid.conv3d_backward(grad, x, weight, engine=engine, threads=1, wanted=WANTED[engine], **arguments)
    for ours, other in zip(found, (theirs.grad, module.weight.grad, module.bias.grad), strict=True):
        if ours is not None:
            np.testing.assert_allclose(ours, other.numpy(), rtol=0, atol=1e-10)


@pytest.mark.torch
@without_numba
@pytest.mark.parametrize("stride", (1, 2, (3, 1, 2)))
@pytest.mark.parametrize("mode", ("zeros", "reflect", "replicate", "circular"))
def test_torch_autograd_for_x_by_numba(mode, stride):
    torch = pytest.importorskip("torch")
    module = torch.nn.Conv3d(4, 4, 3, stride, 2, padding_mode=mode, groups=2, dtype=torch.float64)
    x = torch.from_numpy(volume(1, 4, 6, 9, 21)).requires_grad_()
    y = module(x)
    grad = volume(*y.shape)
    y.backward(torch.from_numpy(grad))
    weight = module.weight.detach().numpy()
    found = lucid.conv3d_backward(grad, x.detach().numpy(), weight, stride, 2, 1, 2, mode, engine="numba")
    for ours, other in zip(found, (x.grad, module.weight.grad, module.bias.grad), strict=True):
        np.testing.assert_allclose(ours, other.numpy(), rtol=0, atol=1e-10)


def large(dtype=np.float32):
    """Return arguments of several parts: two volumes, cut along D."""
    x, weight = volume(2, 3, 14, 20, 33, dtype=dtype), volume(5, 3, 3, 3, 3, dtype=dtype, seed=1)
    return volume(2, 5, 14, 20, 33, dtype=dtype, seed=2), x, weight


@engines
@pytest.mark.parametrize("arguments", ({"padding": 1}, {"padding": 1, "padding_mode": "reflect"}))
def test_the_same_bits_for_every_number_of_threads(engine, arguments, monkeypatch):
    monkeypatch.setattr(parameter_gradients, "PART_BYTES", 100_000)
    first = lucid.conv3d_backward(*large(), engine=engine, threads=1, **arguments)
    for threads in (2, 3):
        again = lucid.conv3d_backward(*large(), engine=engine, threads=threads, **arguments)
        assert [one.tobytes() for one in first] == [one.tobytes() for one in again]


@given(layer=layers(largest=20, widest=40), size=st.integers(1, 1 << 16))
@settings(max_examples=30)
def test_boxes_cover_the_output_once(layer, size):
    grad, x, weight, arguments = arrays(layer)
    problem = conv_problem(x.shape, layer_of(weight, None, **arguments))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameter_gradients, "PART_BYTES", size)
        counted = np.zeros(grad.shape[2:], int)
        for box in parameter_gradients.boxes(problem):
            counted[box.slices] += 1
    assert (counted == 1).all()


@engines
def test_no_argument_is_modified_and_none_need_be_contiguous(engine):
    grad, x, weight = large(np.float64)
    apart = [np.repeat(one, 2, axis=-1)[..., ::2] for one in (grad, x, weight)]
    turned = [np.ascontiguousarray(one[:, ::-1])[:, ::-1] for one in (grad, x, weight)]
    swapped = [one.astype(one.dtype.newbyteorder()) for one in (grad, x, weight)]
    expected = lucid.conv3d_backward(grad, x, weight, padding=1, engine=engine)
    for given_arrays in (apart, turned, swapped):
        copies = [one.copy() for one in given_arrays]
        for one in given_arrays:
            one.flags.writeable = False
        found = lucid.conv3d_backward(*given_arrays, padding=1, engine=engine)
        for ours, plain in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-12, atol=1e-11)
        for one, copy in zip(given_arrays, copies, strict=True):
            np.testing.assert_array_equal(one, copy)


@engines
@pytest.mark.parametrize(
    ("dtype", "expected"),
    ((np.float16, np.float16), (np.int16, np.float32), (np.uint8, np.float32), (np.int32, np.float64)),
)
def test_other_dtypes(engine, dtype, expected):
    rng = np.random.default_rng(0)
    x, weight, grad = (
        rng.integers(0, 4, shape).astype(dtype) for shape in ((2, 2, 5, 5, 5), (4, 2, 3, 3, 3), (2, 4, 3, 3, 3))
    )
    found = lucid.conv3d_backward(grad, x, weight, engine=engine)
    exact = oracle(grad, x, weight)
    for values, (one, _) in zip(found, exact, strict=True):
        assert values.dtype == expected
        np.testing.assert_array_equal(values, one.astype(expected))


@pytest.mark.parametrize("engine", ("auto", "numpy"))
def test_one_volume_and_an_empty_batch(engine):
    grad, x, weight = large()
    single = lucid.conv3d_backward(grad[0], x[0], weight, padding=1, engine=engine)
    batch = lucid.conv3d_backward(grad[:1], x[:1], weight, padding=1, engine=engine)
    assert single.x.shape == x[0].shape
    for one, other in zip(single, batch, strict=True):
        assert one.tobytes() == other.tobytes()
    empty = lucid.conv3d_backward(grad[:0], x[:0], weight, padding=1, engine=engine)
    assert empty.x.shape == x[:0].shape
    assert not empty.weight.any()
    assert not empty.bias.any()


def test_only_what_is_wanted():
    grad, x, weight = large()
    whole = lucid.conv3d_backward(grad, x, weight, padding=1)
    for name in NAMES:
        found = lucid.conv3d_backward(grad, x, weight, padding=1, wanted=(name,))
        assert [one is None for one in found] == [name != other for other in NAMES]
        assert getattr(found, name).tobytes() == getattr(whole, name).tobytes()


def patterns(values):
    return [pattern(values) for pattern in (np.isnan, np.isposinf, np.isneginf)]


@engines
@given(layer=layers(largest=3, widest=18), data=st.data())
@settings(max_examples=30)
def test_nan_and_inf_where_the_definition_has_them(engine, layer, data):
    *given_arrays, arguments = arrays(layer)
    for one in given_arrays:
        if data.draw(st.booleans()):
            bad = data.draw(st.sampled_from((np.nan, np.inf, -np.inf)))
            one.reshape(-1)[data.draw(st.integers(0, one.size - 1))] = bad
    found = lucid.conv3d_backward(*given_arrays, engine=engine, wanted=WANTED[engine], **arguments)
    for values, (exact, _) in zip(found, oracle(*given_arrays, **arguments), strict=True):
        if values is not None:
            for ours, theirs in zip(patterns(values), patterns(exact), strict=True):
                np.testing.assert_array_equal(ours, theirs)


@engines
def test_large_strides_and_what_no_output_reads(engine):
    """Voxels that no tap reads have no gradient; a step that is never taken may be of any size."""
    grad, x, weight = volume(1, 2, 2, 1, 2), volume(1, 1, 9, 5, 12), volume(2, 1, 2, 1, 2)
    arguments = {"stride": (7, 2**40, 8), "dilation": (1, 2**40, 3)}
    found = lucid.conv3d_backward(grad, x, weight, engine=engine, **arguments)
    exact = oracle(grad, x, weight, **arguments)
    for values, (one, _) in zip(found, exact, strict=True):
        np.testing.assert_allclose(values, one, rtol=1e-12, atol=1e-13)
    assert np.count_nonzero(found.x) == 16


G, X, W = volume(1, 2, 3, 3, 3), volume(1, 1, 5, 5, 5), volume(2, 1, 3, 3, 3)
REFUSED = {
    "a grad of another shape": (
        (G[..., :2], X, W),
        {},
        ShapeError,
        r"grad must have the shape .* \(1, 2, 3, 3, 3\), not \(1, 2, 3, 3, 2\)",
    ),
    "a grad of one volume for a batch": ((G[0], X, W), {}, ShapeError, r"not \(2, 3, 3, 3\)"),
    "a grad of another dtype": (
        (G.astype(np.float32), X, W),
        {},
        ArgumentTypeError,
        "grad has dtype float32 and x has",
    ),
    "a weight of another dtype": ((G, X, W.astype(np.float32)), {}, ArgumentTypeError, "weight has dtype float32"),
    "an x of 3 axes": ((G, X[0, 0], W), {}, ShapeError, "x must have 5 axes"),
    "a weight of 4 axes": ((G, X, W[0]), {}, ShapeError, "weight must have 5 axes"),
    "channels that do not fit": ((G, X, volume(2, 2, 3, 3, 3)), {}, ShapeError, "takes 2 input channels"),
    "renormalize": ((G, X, W), {"padding_mode": "renormalize"}, ArgumentError, "has no gradient here"),
    "an unknown gradient": ((G, X, W), {"wanted": ("weights",)}, ArgumentError, "Did you mean 'weight'"),
    "one name": ((G, X, W), {"wanted": "weight"}, ArgumentTypeError, "several names"),
    "no gradient": ((G, X, W), {"wanted": ()}, ArgumentError, "wanted names no gradient"),
    "an engine of another kind": ((G, X, W), {"engine": "torch"}, ArgumentError, "unknown engine 'torch'"),
    "threads below 0": ((G, X, W), {"threads": -1}, ArgumentError, "threads must be at least 0"),
    "complex numbers": ((G * 1j, X * 1j, W * 1j), {}, ArgumentTypeError, "complex128"),
}


@pytest.mark.parametrize(("given_arrays", "arguments", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(given_arrays, arguments, error, message):
    with pytest.raises(error, match=message):
        lucid.conv3d_backward(*given_arrays, **arguments)


def test_an_error_of_a_thread_comes_out(monkeypatch):
    monkeypatch.setattr(parameter_gradients, "PART_BYTES", 100_000)
    monkeypatch.setattr(parameter_gradients, "window_on", lambda *_: 1 / 0)
    for threads in (1, 3):
        with pytest.raises(ZeroDivisionError):
            lucid.conv3d_backward(*large(), padding=1, wanted=("weight",), engine="numpy", threads=threads)


@engines
def test_no_padded_volume_is_made(engine, monkeypatch):
    """What is taken beside the results stays far below the volume."""
    monkeypatch.setattr(parameter_gradients, "PART_BYTES", 1 << 20)
    x, weight = volume(1, 2, 96, 96, 96, dtype=np.float32), volume(2, 2, 3, 3, 3, dtype=np.float32)
    lucid.conv3d_backward(x[..., :20], x[..., :20], weight, padding=1, engine=engine, wanted=("weight", "bias"))
    tracemalloc.start()
    try:
        lucid.conv3d_backward(x, x, weight, padding=1, engine=engine, threads=1, wanted=("weight", "bias"))
        assert tracemalloc.get_traced_memory()[1] < x.nbytes // 2
    finally:
        tracemalloc.stop()


def stay_within(dtype, count):
    """Sum drawn parts among pages that cannot be touched, and compare them with those of NumPy."""
    rng, ways, checked = np.random.default_rng(3), correlations(), 0
    while checked < count:
        groups, size = int(rng.integers(1, 3)), (*rng.integers(1, 8, size=2), rng.integers(1, 60))
        stride, padding, dilation = rng.choice((1, 1, 2, 3), (3, 3)).tolist()
        channels = groups * int(rng.integers(1, 4)), groups * int(rng.choice((1, 2, 4, 17)))
        try:
            layer = layer_arguments(*channels, rng.integers(1, 4, size=3).tolist(), stride, padding, dilation, groups)
            problem = conv_problem((1, channels[0], *map(int, size)), layer, dtype=dtype)
        except ValueError:
            continue
        checked += 1
        memory = Guarded(bool(rng.integers(0, 2)))
        x, grad = (volume(*one[1:], dtype=dtype, seed=checked) for one in (problem.in_shape, problem.out_shape))
        out = Region((0, 0, 0), problem.out_size)
        found = []
        for way, scratch, copied in ((ways["numba"], memory, memory.copy), (ways["numpy"], Scratch(), np.copy)):
            window = Window(copied(x), problem.input_region(out), problem.padding_mode)
            part = Part(copied(grad), window)
            found.append((way.correlate(problem, part, scratch), way.totals(part.grad)))
        for ours, plain in zip(*found, strict=True):
            np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-3 if dtype == "float32" else 1e-11)
        memory.release()


@without_numba
@on_linux
def test_kernels_read_only_the_memory_they_are_given():
    code = "import sys; from tests.core.test_gradients import stay_within as run; run(sys.argv[1], int(sys.argv[2]))"
    for one in [start(code, dtype, 150) for dtype in ("float32", "float64")]:
        finish(one)


WIDTHS = """
import sys
from lucid_core import machine
found = machine.Vectors(int(sys.argv[1]), int(sys.argv[2]))
machine.vectors = lambda: found
from tests.core.test_gradients import check_other_vectors
check_other_vectors()
"""


def check_other_vectors():
    """Sum by the vectors there are, along voxels and along channels, against the definition."""
    ways = set()
    for channels, kernel, stride, width in (((1, 1), 3, 1, 37), ((2, 4), 2, 1, 35), ((2, 9), 2, 2, 13)):
        x, weight = volume(1, channels[0], 3, 5, width), volume(*channels[::-1], *[kernel] * 3)
        grad = volume(*lucid.conv3d(x, weight, stride=stride, engine="numpy").shape)
        found = lucid.conv3d_backward(grad, x, weight, stride, wanted=WANTED["numba"], engine="numba")
        for ours, (exact, _) in zip(found[1:], oracle(grad, x, weight, stride)[1:], strict=True):
            np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-12)
        problem = conv_problem(x.shape, layer_arguments(*channels, kernel, stride), dtype="float64")
        ways.add(direct_numba.blocking(problem, grad.shape[4]).channels)
    assert ways == {False, True}
    assert strips.lanes(8) == machine.vectors().bytes // 8


@without_numba
def test_vectors_of_any_width(tmp_path):
    for one in [start(WIDTHS, *found, NUMBA_CACHE_DIR=str(tmp_path / str(found[0]))) for found in ((32, 16), (16, 32))]:
        finish(one)


def test_gaps_are_blank_whatever_a_scratch_holds():
    """What no output reads is never multiplied, even by zero: the bits follow from the problem alone."""
    problem = conv_problem((1, 2, 7, 7, 9), layer_arguments(2, 3, 3, 2))
    window = Window(volume(2, 7, 7, 9, dtype=np.float32), Region((0, 0, 0), (7, 7, 9)), "zeros")
    part = Part(volume(3, 3, 3, 4, dtype=np.float32), window)
    used = Scratch()
    used.array("phases", (10_000,), np.float32).fill(np.nan)
    way = correlations()["numpy"]
    assert way.correlate(problem, part, used).tobytes() == way.correlate(problem, part, Scratch()).tobytes()


@given(layer=layers(largest=9, widest=12))
def test_tap_by_tap_as_by_phases(layer):
    """A weight that is not finite takes the other way to the gradient for x: the same sums, where both are finite."""
    grad, x, weight, arguments = arrays(layer)
    expected = lucid.conv3d_backward(grad, x, weight, wanted=("x",), engine="numpy", threads=1, **arguments).x
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adjoint.np, "isfinite", lambda values: np.zeros(1, bool))
        patch.setattr(adjoint, "execute", None)
        found = lucid.conv3d_backward(grad, x, weight, wanted=("x",), engine="numpy", threads=1, **arguments).x
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@without_numba
def test_compiled_kernels_where_they_are_worth_loading():
    layer = layer_arguments(16, 16, 3)
    small, large = (conv_problem((1, 16, size, size, size), layer) for size in (6, 64))
    assert [parameter_gradients.chosen(one, "auto").engine for one in (small, large)] == ["numpy", "numba"]
    assert [parameter_gradients.chosen(large, engine).engine for engine in ("numpy", "numba")] == ["numpy", "numba"]


def test_every_phase_has_a_gradient_once():
    """The phases of an axis lie beside one another, for every stride, dilation and pad."""
    for stride, dilation, kernel, pad in np.ndindex(5, 4, 4, 3):
        layer = layer_arguments(1, 1, kernel + 1, stride + 1, pad, dilation + 1)
        problem = conv_problem((1, 1, 14, 14, 14), layer)
        found = adjoint.axis_phases(problem, 0, pad, 14)
        counted = np.zeros(14, int)
        for phase in found:
            counted[phase.stored] += 1
            assert min(phase.pads) >= 0
        assert counted.max() <= 1
        assert sum(len(range(kernel + 1)[phase.taps]) for phase in found) <= kernel + 1
