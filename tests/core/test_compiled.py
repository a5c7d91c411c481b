"""The compiled kernels where they could do harm: memory around theirs, caches on disk, threads, missing Numba.

That their sums are right is in `tests/contracts`; here a child process runs what could crash one.
"""

import ctypes
import gc
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import lucid_core
from lucid_core import compiled, conv3d, machine, pages
from lucid_core.algorithms import algorithms, direct_numba, winograd_numba
from lucid_core.arguments import layer_arguments
from lucid_core.boundary import Window
from lucid_core.compiled import strips
from lucid_core.compute import Filters
from lucid_core.errors import ExtraError
from lucid_core.execute import execute
from lucid_core.factors import factors
from lucid_core.padding import PADDING_MODES
from lucid_core.planner import plan
from lucid_core.problem import conv_problem
from lucid_core.regions import Region
from lucid_core.scratch import Scratch
from lucid_core.volume import ArrayReader, ArrayWriter
from tests.reference import conv3d as oracle

ROOT = Path(lucid_core.__file__).parents[1]
COMPILED = ("direct_numba", "separable_numba", "winograd_numba")
with_numba = pytest.mark.skipif(compiled.refusal() is not None, reason=str(compiled.refusal()))
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="pages are protected by the calls of Linux")


def start(code, *arguments, root=ROOT, **environment):
    """Start Python on `code` in another process, with the packages below `root`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_DISABLE")}
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env=kept | {"PYTHONPATH": f"{root}{os.pathsep}{ROOT}"} | environment,
    )


def finish(process):
    """Return what a process printed; it must end without an error or a warning."""
    printed, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    return printed.strip()


def alone(code, *arguments, **options):
    return finish(start(code, *arguments, **options))


def volume(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def ends(x, out):
    return ArrayReader(x), ArrayWriter(out)


def factored(out_channels, kernel_size, dtype="float32", seed=0):
    """Return weights (O, 1, K_D, K_H, K_W) that are products of three 1-D kernels."""
    rng = np.random.default_rng(seed)
    axes = [rng.integers(1, 5, size=(out_channels, taps)) / 8 for taps in kernel_size]
    return np.einsum("oi,oj,ok->oijk", *axes)[:, None].astype(dtype)


# Memory


class Guarded(Scratch):
    """Arrays that end right before a page that cannot be touched, or begin right after one; filled with NaN."""

    PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096

    def __init__(self, at_end):
        self.at_end = at_end
        self.system = ctypes.CDLL(None)
        self.system.mmap.restype = ctypes.c_void_p
        self.system.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self.system.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.system.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self.taken = []

    def array(self, name, shape, dtype):
        size = math.prod(shape) * np.dtype(dtype).itemsize
        inside = max(-(-size // self.PAGE), 1) * self.PAGE
        begin = self.system.mmap(None, inside + 2 * self.PAGE, 3, 0x22, -1, 0)
        assert self.system.mprotect(begin, self.PAGE, 0) == 0
        assert self.system.mprotect(begin + self.PAGE + inside, self.PAGE, 0) == 0
        self.taken.append((begin, inside + 2 * self.PAGE))
        first = begin + self.PAGE + (inside - size if self.at_end else 0)
        ctypes.memset(begin + self.PAGE, 0xFF, inside)
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(first)).view(dtype).reshape(shape)

    def copy(self, values):
        taken = self.array("", values.shape, values.dtype)
        taken[...] = values
        return taken

    def release(self):
        for place in self.taken:
            self.system.munmap(*place)


def drawn(rng, name, dtype):
    """Draw a problem for a compiled algorithm that Numba compiles into few different kernels; None where it is none."""
    groups = int(rng.integers(1, 3))
    share = 1 if name == "separable_numba" else int(rng.integers(1, 4))
    out_channels = groups * (1 if name == "separable_numba" else int(rng.choice((1, 3))))
    kernel_size = [int(rng.integers(1, 5)), 3, 3]
    stride, dilation = [1, 1, 1], [int(rng.integers(1, 4)), 1, 1]
    if name != "winograd_numba":
        kernel_size[1:] = int(rng.choice((1, 3))), int(rng.integers(1, 8))
        dilation[1:] = rng.integers(1, 4, size=2).tolist()
    if name == "separable_numba":
        kernel_size = [int(taps) for taps in (rng.integers(2, 5), 3, rng.integers(2, 8))]
    if name == "direct_numba":
        stride = rng.choice((1, 1, 2, 3, 4), size=3).tolist()
    size = [int(rng.integers(1, 8)), int(rng.integers(1, 30)), int(rng.integers(1, rng.choice((9, 71))))]
    padding, mode = rng.integers(0, 4, size=3).tolist(), str(rng.choice(list(PADDING_MODES)))
    separable = name == "separable_numba"
    try:
        layer = layer_arguments(groups * share, out_channels, kernel_size, stride, padding, dilation, groups, mode)
        problem = conv_problem((1, groups * share, *size), layer, bias=True, dtype=dtype, separable=separable)
    except ValueError:
        return None
    return None if algorithms()[name].refuses(problem) else problem


def stay_within(name, dtype, count):
    """Run drawn tiles among pages that cannot be touched; what they do not own must not change."""
    rng, way, checked = np.random.default_rng(5), algorithms()[name], 0
    least = strips.STRIP_BYTES
    while checked < count:
        problem = drawn(rng, name, dtype)
        strips.STRIP_BYTES = int(rng.choice((least, 20000, 500)))
        strips.STREAMED_BYTES = int(rng.choice((0, 1 << 20)))
        forget_strips()
        if problem is None:
            continue
        checked += 1
        x = volume(problem.in_channels, *problem.size, dtype=dtype, seed=checked)
        share = problem.in_channels // problem.groups
        weight = volume(problem.out_channels, share, *problem.kernel_size, dtype=dtype, seed=checked)
        if problem.separable:
            weight = factored(problem.out_channels, problem.kernel_size, dtype, checked)
        bias = volume(problem.out_channels, dtype=dtype, seed=checked + 1)
        shape = [int(rng.integers(1, size + 1)) for size in problem.out_size]
        first = [int(rng.integers(0, size - tile + 1)) for size, tile in zip(problem.out_size, shape, strict=True)]
        region = Region(tuple(first), tuple(f + s for f, s in zip(first, shape, strict=True)))
        memory = Guarded(bool(rng.integers(0, 2)))
        turned = slice(None, None, int(rng.choice((1, -1))))
        source = memory.copy(x[:, turned, turned])[:, turned, turned]
        window = Window(source, problem.input_region(region), problem.padding_mode)
        below, above = rng.integers(0, 3, size=(2, 3)).tolist()
        if rng.integers(0, 2):  # rows of whole cache lines, which are stored past the caches
            above[2] = -(shape[2] + below[2]) % 16
        around = [low + size + high for low, size, high in zip(below, shape, above, strict=True)]
        whole = memory.array("", (problem.out_channels + 1, *around), dtype)
        whole[...] = 7
        out = whole[(slice(1, None), *(slice(low, low + size) for low, size in zip(below, shape, strict=True)))]
        prepared = way.prepare(problem, weight)
        if isinstance(prepared, np.ndarray):
            prepared = memory.copy(prepared)
        elif isinstance(prepared, tuple):
            prepared = tuple(memory.copy(one) if isinstance(one, np.ndarray) else one for one in prepared)
        way.run(problem, prepared, memory.copy(bias), window, region, out, memory)
        plain, expected = algorithms()["direct"], np.empty_like(out, order="C")
        there = Window(x, window.region, window.mode)
        with np.errstate(all="ignore"):
            plain.run(problem, plain.prepare(problem, weight), bias, there, region, expected, Scratch())
        allowed = 1e-3 if dtype == "float32" else 1e-11
        assert (np.abs(out - expected) <= allowed).all(), (problem, region)
        out[...] = 7
        assert (whole == 7).all(), (problem, region)
        memory.release()


def forget_strips():
    """Have strips chosen anew."""
    for remembered in (strips.strip, direct_numba._tables, winograd_numba._strip, winograd_numba._tables):
        remembered.cache_clear()


@with_numba
@on_linux
@pytest.mark.parametrize("name", COMPILED)
def test_kernels_read_and_write_only_the_memory_they_are_given(name):
    code = "import sys; from tests.core.test_compiled import stay_within as run; run(*sys.argv[1:3], int(sys.argv[3]))"
    for one in [start(code, name, dtype, 150) for dtype in ("float32", "float64")]:
        finish(one)


@with_numba
@pytest.mark.parametrize("name", ("direct_numba", "separable_numba"))
@pytest.mark.parametrize("stride", (1, 2))
def test_strips_of_any_size_give_the_same_bits(name, stride, monkeypatch):
    if name == "separable_numba" and stride > 1:
        pytest.skip("separable refuses strides")
    x, weight = volume(1, 3, 5, 37, 53), factored(3, (3, 3, 5))
    results, cuts = set(), set()
    for size in (strips.STRIP_BYTES, 30_000, 3_000, 1):
        monkeypatch.setattr(strips, "STRIP_BYTES", size)
        forget_strips()
        way = algorithms()[name]
        y = conv3d(x, weight, stride=stride, padding=1, groups=3, algorithm=way.name, engine="numba", threads=1)
        results.add(y.tobytes())
        layer = layer_arguments(3, 3, (3, 3, 5), stride, 1, 1, 3)
        problem = conv_problem(x.shape, layer, separable=factors(weight) is not None)
        cuts.add(sys.modules[type(way).__module__]._strip(problem, problem.out_size).out)
    forget_strips()
    assert len(cuts) >= 3
    assert len(results) == 1


@with_numba
@pytest.mark.parametrize("out_channels", (1, 4))
def test_leaving_out_taps_of_the_border_does_not_change_the_sign_of_a_zero(out_channels):
    x, weight = volume(1, 3, 7, 12, 32) * 1e-30, volume(out_channels, 3, 3, 3, 3) * 1e-30
    bias = np.array([-0.0, 0.0, -0.0, 0.0], np.float32)[:out_channels]
    problem = conv_problem(x.shape, layer_arguments(3, out_channels, 3, 1, 1, 1, 1, "zeros"), bias=True)
    seen = set()
    for tile in ((7, 12, 32), (7, 1, 32), (2, 5, 32), (1, 12, 7)):
        out = np.empty(problem.out_shape, np.float32)
        execute(plan(problem, engine="numba", algorithm="direct", tile=tile), [Filters(weight, bias)], *ends(x, out))
        seen.add(out.tobytes())
    assert len(seen) == 1
    assert not out.any()


LAYOUTS = {
    "turned": lambda x: x[:, :, ::-1, ::-1, ::-1].copy()[:, :, ::-1, ::-1, ::-1],
    "turned along H": lambda x: x[:, :, :, ::-1].copy()[:, :, :, ::-1],
    "transposed": lambda x: x.transpose(4, 3, 2, 1, 0).copy().transpose(4, 3, 2, 1, 0),
    "other channels first": lambda x: x.transpose(1, 3, 0, 2, 4).copy().transpose(2, 0, 3, 1, 4),
    "every second": lambda x: np.repeat(x, 2, axis=3)[:, :, :, ::2],
    "big-endian": lambda x: x.astype(">f4"),
    "misaligned": lambda x: np.frombuffer(b"-" + x.tobytes(), np.float32, offset=1).reshape(x.shape),
}


@with_numba
@pytest.mark.parametrize("label", LAYOUTS)
def test_the_layout_of_the_input_does_not_change_the_bits(label):
    x, weight = volume(2, 1, 4, 9, 33), volume(3, 1, 3, 3, 3, seed=1)
    plain = conv3d(x, weight, padding=1, padding_mode="reflect", algorithm="direct", engine="numba")
    other = LAYOUTS[label](x)
    np.testing.assert_array_equal(other, x)
    computed = conv3d(other, weight, padding=1, padding_mode="reflect", algorithm="direct", engine="numba")
    assert computed.tobytes() == plain.tobytes()


@with_numba
def test_one_voxel_broadcast_over_a_volume_is_read_as_one():
    one, weight = np.ones((1, 1, 1, 1, 1), np.float32), volume(3, 1, 3, 3, 3, seed=1)
    x = np.broadcast_to(one, (1, 1, 4, 9, 33))
    for volumes in (x, np.broadcast_to(np.ones((1, 1, 1, 1, 33), np.float32), x.shape)):
        computed = conv3d(volumes, weight, algorithm="direct", engine="numba")
        assert computed.tobytes() == conv3d(x.copy(), weight, algorithm="direct", engine="numba").tobytes()


@with_numba
def test_a_batch_of_no_volume_has_no_output():
    weight = factored(1, (3, 3, 3))
    for name in ("direct", "separable", "winograd"):
        y = conv3d(volume(0, 1, 4, 5, 6), weight, algorithm=name, engine="numba", accuracy="normwise", threads=2)
        assert y.shape == (0, 1, 2, 3, 4)


@with_numba
def test_a_stride_longer_than_the_volume_takes_no_memory_of_its_length():
    x, weight = volume(1, 1, 4, 4, 4), volume(1, 1, 2, 2, 2)
    computed = conv3d(x, weight, stride=2**40, algorithm="direct", engine="numba")
    np.testing.assert_allclose(computed, conv3d(x[..., :2, :2, :2], weight), rtol=1e-5)


WIDTHS = """
import hashlib, sys
from lucid_core import machine
found = machine.Vectors(int(sys.argv[1]), int(sys.argv[2]))
machine.vectors = lambda: found
from tests.core.test_compiled import sums_of_other_vectors
print(*sums_of_other_vectors(*sys.argv[3:]))
"""


def sums_of_other_vectors(*names):
    """Check a layer of each algorithm against the oracle, and return the bits of what must not vary."""
    bits = []
    for name in names:
        x = volume(1, 2, 4, 7, 37)
        weight = factored(2, (2, 3, 3)) if name == "separable" else volume(3, 2, 2, 3, 3, seed=1)
        options = {"stride": (1, 1, 2) if name == "direct" else 1, "groups": 2 if name == "separable" else 1}
        values, sizes = oracle(x, weight, padding=1, **options)
        computed = conv3d(
            x, weight, padding=1, algorithm=name, engine="numba", accuracy="normwise", threads=1, **options
        )
        allowed = 40 * sizes if name != "winograd" else 400 * sizes.max()
        assert (np.abs(computed - values) <= allowed * np.finfo(np.float32).eps).all(), name
        if name != "winograd":
            bits.append(computed.tobytes().hex()[:4000])
    assert strips.lanes(4) == machine.vectors().bytes // 4
    return bits


@with_numba
def test_vectors_of_any_width_give_the_same_bits(tmp_path):
    avx2 = start(WIDTHS, 32, 16, "direct", "separable", NUMBA_CACHE_DIR=str(tmp_path / "avx2"))
    neon = start(WIDTHS, 16, 32, "direct", "winograd", NUMBA_CACHE_DIR=str(tmp_path / "neon"))
    direct, separable = sums_of_other_vectors("direct", "separable", "winograd")
    assert finish(avx2).split() == [direct, separable]
    assert finish(neon) == direct


# The cache of compiled kernels

LARGEST = """
import sys, threading
import numpy as np
from lucid_core.algorithms.winograd_numba import largest
from lucid_core.boundary import Window
from lucid_core.regions import Region
def find(dtype):
    x = np.array([-3.5, 4.5, 8, 8], dtype).reshape(1, 1, 1, 4)
    return largest(Window(x, Region((0, 0, 0), (1, 1, 2)), "zeros"))
"""
"""Compiles the smallest kernel there is: it takes a window of two voxels, 4.5 the largest."""
FIND = LARGEST + "print(*map(find, sys.argv[1:]))"


def kept(folder, kind=""):
    return sorted(path for path in folder.rglob(f"*largest*{kind}") if path.suffix in (".nbi", ".nbc"))


@with_numba
def test_a_kernel_is_compiled_once_and_taken_from_the_cache(tmp_path):
    counted = FIND + "\nfrom lucid_core.compiled.winograd import largest as kernel"
    counted += "\nprint(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))"
    counted = "from lucid_core.compiled import jit\nprint(jit.kept()[1])\n" + counted + "\nprint(*jit.kept())"
    for before, hits, misses in ((0, 0, 1), (1, 1, 0)):
        printed = alone(counted, "float32", NUMBA_CACHE_DIR=str(tmp_path)).split()
        assert printed[:4] == [str(before), "4.5", str(hits), str(misses)]
        assert printed[4].startswith(str(tmp_path)) and printed[5] == "1"
    assert len(kept(tmp_path)) == 2


DAMAGES = {
    "empty": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "cut at the end": lambda data: data[:-1],
    "text": lambda data: b"damaged\n",
    "zeros": lambda data: bytes(len(data)),
    "its head garbled": lambda data: bytes(255 - byte for byte in data[:64]) + data[64:],
}


AGAIN = (
    LARGEST
    + """
import importlib
import numba
from lucid_core.compiled import winograd
for folder in sys.argv[1:]:
    numba.config.CACHE_DIR = folder
    importlib.reload(winograd)
    print(find("float32"), sum(winograd.largest.stats.cache_hits.values()))
"""
)
"""Finds the largest voxel with the kernel kept in each of the folders."""


@pytest.fixture
def damaged(tmp_path):
    """Caches of one kernel, each with one of its files damaged, and one that is whole."""
    alone(FIND, "float32", NUMBA_CACHE_DIR=str(tmp_path / "whole"))
    folders = {"whole": tmp_path / "whole"}
    for kind in (".nbi", ".nbc"):
        for label, damage in DAMAGES.items():
            folder = folders[f"{kind} {label}"] = tmp_path / f"{label}{kind}"
            shutil.copytree(tmp_path / "whole", folder)
            (path,) = kept(folder, kind)
            path.write_bytes(damage(path.read_bytes()))
    return folders


@with_numba
def test_a_damaged_cache_is_not_used(damaged):
    assert alone(AGAIN, *damaged.values()).splitlines() == ["4.5 1"] + ["4.5 0"] * (len(damaged) - 1)


@with_numba
def test_a_damaged_cache_is_made_anew(damaged):
    folders = [damaged[".nbi empty"], damaged[".nbi text"], damaged[".nbc empty"]]
    assert alone(AGAIN, *folders, *folders).splitlines() == ["4.5 0"] * 3 + ["4.5 1"] * 3


@with_numba
def test_a_folder_that_cannot_be_made_only_costs_time(tmp_path):
    (tmp_path / "file").touch()
    assert alone(FIND, "float32", NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache")) == "4.5"


@with_numba
def test_kernels_are_compiled_where_no_folder_can_be_written(tmp_path):
    without = "from numba.core import caching\ncaching.CacheImpl._locator_classes = []\n"
    assert alone(without + FIND, "float32", NUMBA_CACHE_DIR=str(tmp_path)) == "4.5"
    assert not kept(tmp_path)


@with_numba
def test_a_cache_that_cannot_be_written_any_more_only_costs_time(tmp_path):
    full = "from numba.core.caching import IndexDataCacheFile\n"
    full += "def save(*_): raise OSError(28, 'No space left on device')\nIndexDataCacheFile.save = save\n"
    assert alone(full + FIND, "float32", NUMBA_CACHE_DIR=str(tmp_path)) == "4.5"
    assert not kept(tmp_path)


@with_numba
def test_a_kernel_is_compiled_again_when_any_module_it_is_made_of_changed(tmp_path):
    shutil.copytree(ROOT / "lucid_core", tmp_path / "lucid_core", ignore=shutil.ignore_patterns("__pycache__"))
    options = {"root": tmp_path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert alone(FIND, "float32", **options) == "4.5"
    module = tmp_path / "lucid_core" / "compiled" / "packing.py"
    before = module.read_text()
    after = before.replace("numba.carray(_pointer(number, address)", "numba.carray(_pointer(number, address + 4)")
    assert after != before
    module.write_text(after)  # rows are now read one voxel further
    assert alone(FIND, "float32", **options) == "8.0"


@with_numba
def test_a_kernel_of_other_types_is_never_taken_for_the_one_asked_for(tmp_path):
    """Two processes that compile at the same time may give their kernels the same name in Numba's cache."""
    alone(FIND, "float32", "float64", NUMBA_CACHE_DIR=str(tmp_path))
    first, second = kept(tmp_path, ".nbc")
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert alone(FIND, "float32", "float64", NUMBA_CACHE_DIR=str(tmp_path)) == "4.5 4.5"


@with_numba
def test_processes_and_threads_may_compile_at_the_same_time(tmp_path):
    code = (
        LARGEST
        + """
found = []
threads = [threading.Thread(target=lambda one=one: found.append(find(one))) for one in sys.argv[1:] * 3]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*found)
"""
    )
    orders = (("float32", "float64"), ("float64", "float32"))
    for child in [start(code, *order, NUMBA_CACHE_DIR=str(tmp_path)) for order in orders]:
        assert finish(child).split() == ["4.5"] * 6


# The choice of the engine

TINY = "import sys, numpy as np\nfrom lucid_core import conv3d\nx = np.ones((1, 1, 6, 6, 6), np.float32)\n"
TINY += "weight = np.ones((1, 1, 3, 3, 3), np.float32)\n"
LARGE = "large, many = np.ones((1, 8, 48, 64, 64), np.float32), np.ones((3, 8, 3, 3, 3), np.float32)\n"
TRY = """
try:
    conv3d(x, weight, engine="numba")
except ValueError as error:
    print(type(error).__name__, error)
"""


def test_a_tiny_volume_does_not_load_numba():
    assert alone(TINY + "print(conv3d(x, weight).max(), 'numba' in sys.modules)") == "27.0 False"


@with_numba
def test_a_large_volume_is_worth_numba():
    assert alone(TINY + LARGE + "print(conv3d(large, many).max(), 'numba' in sys.modules)") == "216.0 True"


def test_without_numba_everything_is_computed_by_numpy():
    missing = "import sys; sys.modules['numba'] = None\n"
    printed = alone(missing + TINY + LARGE + "print(conv3d(x, weight).max(), conv3d(large, many).max())" + TRY)
    results, refused = printed.splitlines()
    assert results == "27.0 216.0"
    assert refused.startswith(f"{ExtraError.__name__} engine 'numba' cannot run: Numba is not installed")
    assert "pip install 'lucid-conv3d[fast]'" in refused


@with_numba
def test_a_numba_that_cannot_be_imported_counts_as_missing(tmp_path):
    """Numba raises ImportError beside a NumPy that is newer than it knows."""
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('Numba needs NumPy 2.3 or less')")
    broken = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    printed = alone(broken + TINY + LARGE + "print(conv3d(large, many).max())" + TRY)
    assert printed.startswith("216.0")
    assert "Error engine 'numba' cannot run" in printed


@with_numba
def test_numba_that_does_not_compile_is_refused():
    printed = alone(TINY + LARGE + "print(conv3d(large, many).max())" + TRY, NUMBA_DISABLE_JIT="1")
    assert printed.splitlines() == [
        "216.0",
        "ArgumentError engine 'numba' cannot run: NUMBA_DISABLE_JIT is set; use engine 'numpy'",
    ]


# Threads


def threads_left():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lucid-tile")]


@pytest.fixture
def layer():
    """A layer of some tiles, by NumPy: its tiles are those of any engine."""
    x, weight = volume(1, 2, 24, 20, 20), volume(3, 2, 3, 3, 3, seed=1)
    return lambda threads: conv3d(x, weight, algorithm="direct", engine="numpy", threads=threads)


def test_one_thread_is_that_of_the_caller(layer, monkeypatch):
    def refuse(_):
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    layer(threads=1)
    with pytest.raises(AssertionError, match="a thread was started"):
        layer(threads=2)


@with_numba
@pytest.mark.parametrize("name", ("direct", "separable", "winograd"))
def test_the_bits_do_not_depend_on_the_threads(name):
    x, weight = volume(2, 1, 23, 21, 35), factored(1, (3, 3, 3))
    options = {"padding": 1, "algorithm": name, "engine": "numba", "accuracy": "normwise"}
    assert len({conv3d(x, weight, threads=threads, **options).tobytes() for threads in (1, 2, 3, 7)}) == 1


def replace_run(monkeypatch, before):
    """Have `before(is it the caller's thread?)` called before every tile of `direct` by NumPy."""
    way, caller = type(algorithms()["direct"]), threading.current_thread()
    run = way.run

    def replaced(*arguments):
        before(threading.current_thread() is caller)
        return run(*arguments)

    monkeypatch.setattr(way, "run", replaced)


@pytest.mark.parametrize("in_caller", (True, False))
def test_the_error_of_any_thread_is_raised_and_ends_all(in_caller, layer, monkeypatch):
    def fail(is_caller):
        if is_caller is in_caller:
            raise RuntimeError("a tile failed")
        time.sleep(0.01)

    replace_run(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="a tile failed"):
        layer(threads=3)
    assert threads_left() == []


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
from lucid_core import conv3d
from lucid_core.algorithms import algorithms
way = type(algorithms()["direct"])
run, caller = way.run, threading.current_thread()
def slow(*arguments):
    time.sleep(float(sys.argv[1 if threading.current_thread() is caller else 2]))
    run(*arguments)
way.run = slow
x = np.ones((1, 1, 12, 8, 8), np.float32)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    conv3d(x, np.ones((1, 1, 3, 3, 3), np.float32), algorithm="direct", engine="numpy", threads=2)
except KeyboardInterrupt:
    print([thread.name for thread in threading.enumerate() if thread.name.startswith("lucid-tile")])
"""


@on_linux
@pytest.mark.parametrize(("caller", "other"), ((0.6, 0.6), (0.6, 0.1), (0, 0.9)))
def test_an_interrupt_leaves_no_thread(caller, other):
    """Ctrl-C comes while the caller computes a tile, or while it waits for the last tile of a slower thread."""
    assert alone(INTERRUPTED, caller, other) == "[]"


def test_a_thread_that_cannot_be_started_ends_those_that_were(layer, monkeypatch):
    replace_run(monkeypatch, lambda is_caller: time.sleep(0.05))
    begin, started = threading.Thread.start, []

    def limited(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    try:
        layer(threads=4)
    except RuntimeError as error:
        assert "can't start new thread" in str(error)
    assert started
    assert threads_left() == []


# Memory of results

LARGE_VALUES = pages.LEAST_KEPT_BYTES // 4


@pytest.fixture
def no_pages():
    gc.collect()
    pages.release()
    yield
    pages.release()


VIEWS = {
    "itself": lambda a: a,
    "a slice": lambda a: a[7:9],
    "every second": lambda a: a[::2],
    "reversed": lambda a: a[::-1],
    "reshaped": lambda a: a.reshape(4, -1),
    "of another type": lambda a: a.view(np.int32),
    "as it is": lambda a: a.astype(np.float32, copy=False),
    "memoryview": lambda a: memoryview(a),
    "array of a memoryview": lambda a: np.asarray(memoryview(a)),
    "array of a buffer": lambda a: np.frombuffer(a.data, np.float32),
    "strided": lambda a: np.lib.stride_tricks.as_strided(a, (3,), (8,)),
    "masked": lambda a: np.ma.array(a, copy=False),
    "kept by a cycle": lambda a: [ring := [a], ring.append(ring)],
}


@pytest.mark.parametrize("label", VIEWS)
def test_memory_is_used_again_only_when_its_last_view_is_gone(label, no_pages):
    first = pages.aligned((LARGE_VALUES,), np.float32)
    place = first.ctypes.data
    view = VIEWS[label](first)
    del first
    gc.collect()
    assert pages._kept == []
    assert pages.aligned((LARGE_VALUES,), np.float32).ctypes.data != place
    pages.release()
    del view
    gc.collect()
    assert len(pages._kept) == 1
    assert pages.aligned((LARGE_VALUES,), np.float32).ctypes.data == place


@pytest.mark.torch
def test_a_tensor_keeps_the_memory_of_its_result(no_pages):
    torch = pytest.importorskip("torch")
    first = pages.aligned((LARGE_VALUES,), np.float32)
    tensor = torch.from_numpy(first)[5:].view(-1)
    del first
    gc.collect()
    assert pages._kept == []
    del tensor
    assert len(pages._kept) == 1


def test_results_alive_at_the_same_time_share_no_memory(no_pages):
    rng, alive = np.random.default_rng(0), {}
    for tag in range(300):
        values = int(rng.integers(1, 4 * LARGE_VALUES))
        alive[tag] = pages.aligned((values,), np.float32)
        alive[tag][...] = tag
        for gone in rng.choice(list(alive), size=len(alive) // 8, replace=False):
            assert (alive.pop(gone) == gone).all()
    assert all((array == tag).all() for tag, array in alive.items())
    assert all(array.ctypes.data % pages.ALIGNMENT == 0 for array in alive.values())


def test_threads_share_no_memory_of_results(no_pages):
    wrong = []

    def work(thread):
        for turn in range(100):
            array = pages.aligned((LARGE_VALUES + 1000 * turn,), np.float32)
            array[...] = thread
            if not (array == thread).all():
                wrong.append(thread)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_more_is_kept_than_promised(no_pages, monkeypatch):
    monkeypatch.setattr(pages, "KEPT_BYTES", 5 * pages.LEAST_KEPT_BYTES)
    held = [pages.aligned((LARGE_VALUES,), np.float32) for _ in range(8)]
    held.append(pages.aligned((6 * LARGE_VALUES,), np.float32))
    held.append(pages.aligned((LARGE_VALUES // 2,), np.float32))
    held.clear()
    assert [array.nbytes // pages.LEAST_KEPT_BYTES for array in pages._kept] == [1] * 4
    pages.release()
    assert pages._kept == []


def test_much_larger_memory_is_not_spent_on_a_small_result(no_pages):
    del (large := [pages.aligned((4 * LARGE_VALUES,), np.float32)])[0]
    assert large == []
    small = pages.aligned((LARGE_VALUES,), np.float32)
    assert len(pages._kept) == 1
    del small


@pytest.mark.parametrize("shape", ((0,), (0, 3), (3, 0, 2), (1,), (15,)))
def test_arrays_of_few_or_no_values_have_their_shape(shape):
    assert pages.aligned(shape, np.float64).shape == shape


def test_a_process_that_holds_results_ends_without_a_word():
    code = "held = [conv3d(np.ones((1, 1, 40, 90, 90), np.float32), weight) for _ in range(3)]\n"
    code += "class Ring: pass\nring = Ring(); ring.self, ring.array = ring, held[0]\nprint(len(held))"
    assert alone(TINY + code) == "3"


@on_linux
def test_a_forked_process_computes():
    code = """
import os
before = conv3d(np.ones((1, 1, 40, 90, 90), np.float32), weight, threads=2)
if os.fork() == 0:
    del before
    os._exit(0 if (conv3d(np.ones((1, 1, 40, 90, 90), np.float32), weight, threads=2) == 27).all() else 1)
print(os.wait()[1], (before == 27).all())
"""
    assert alone(TINY + code) == "0 True"


# Numbers


@with_numba
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("name", ("direct", "separable", "winograd"))
def test_sums_of_small_integers_are_exact(name, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-50, 50, size=(1, 2, 5, 9, 37)).astype(dtype)
    weight = 4 * rng.integers(-9, 9, size=(3, 2, 3, 3, 3)).astype(dtype)
    groups = 1
    if name == "separable":
        weight, groups = np.tile(np.array([1, 2, 1], dtype), (2, 1, 3, 3, 1)), 2
    bias = rng.integers(-9, 9, size=len(weight)).astype(dtype)
    options = {"padding": 1, "groups": groups}
    computed = conv3d(x, weight, bias, algorithm=name, engine="numba", accuracy="normwise", threads=1, **options)
    np.testing.assert_array_equal(computed, oracle(x, weight, bias, **options)[0])


@with_numba
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("name", ("direct", "separable"))
def test_denormal_numbers_count(name, dtype):
    least = float(np.finfo(dtype).smallest_subnormal)
    whole = np.random.default_rng(0).integers(1, 9, size=(1, 1, 4, 5, 18))
    x, weight = (whole * least).astype(dtype), np.ones((1, 1, 3, 3, 3), dtype)
    computed = conv3d(x, weight, algorithm=name, engine="numba", threads=1)
    np.testing.assert_array_equal(computed / dtype_of(dtype, least), oracle(whole, weight)[0])


def dtype_of(dtype, value):
    return np.dtype(dtype).type(value)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("name", ("fft", pytest.param("winograd", marks=with_numba)))
def test_weights_near_the_largest_number_do_not_overflow_where_the_sum_does_not(name, dtype):
    largest = float(np.finfo(dtype).max)
    x = (np.random.default_rng(0).uniform(0.1, 1, size=(1, 1, 5, 6, 7)) * 1e-6).astype(dtype)
    for weight in (np.full((1, 1, 3, 3, 3), largest * 0.9, dtype), np.full((1, 1, 3, 3, 3), largest / 20, dtype)):
        computed = conv3d(x, weight, algorithm=name, accuracy="normwise") / weight.max()
        values, _ = oracle(x, np.ones_like(weight))
        np.testing.assert_allclose(computed, values, rtol=1e-4)


@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("name", ("fft", pytest.param("winograd", marks=with_numba)))
def test_weights_that_are_not_finite_give_what_the_definition_gives(name, bad):
    x, weight = volume(1, 2, 4, 6, 8), volume(3, 2, 3, 3, 3, seed=1)
    weight[1, 0, 1, 1, 1] = bad
    computed = conv3d(x, weight, padding=1, algorithm=name, accuracy="normwise")
    plain = conv3d(x, weight, padding=1, algorithm="direct", engine="numpy")
    np.testing.assert_array_equal(np.isfinite(computed), np.isfinite(plain))
    np.testing.assert_allclose(computed, plain, rtol=1e-4, atol=1e-4)
