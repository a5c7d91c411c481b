"""Measure the rates of `lucid_core.machine` on one core: `python -m tests.benchmarks.rates`.

The planner multiplies an algorithm's work by these rates. Run it on an idle machine, and put what it prints, rounded,
into the table of `lucid_core/machine.py` with the machine and the date.
"""

import numpy as np

import lucid_core
from lucid_cli.bench.timing import medians
from lucid_core import blas
from lucid_core.compiled.strips import lanes
from lucid_core.machine import CACHE_BYTES
from lucid_core.weighted import weighted_sums


def elementwise(dtype: str) -> float:
    """Additions a second of two arrays that stay in the L2 cache."""
    count = CACHE_BYTES // 8 // np.dtype(dtype).itemsize
    a, b = np.ones(count, dtype), np.ones(count, dtype)
    return 200 * count / medians({"add": lambda: [np.add(a, b, out=a) for _ in range(200)]})["add"]


def weighted(dtype: str) -> float:
    """Products a second that are added, of taps far apart, into sums that stay in the L2 cache."""
    count = CACHE_BYTES // 4 // np.dtype(dtype).itemsize
    values, weights, total = np.ones(count + 10 * 266, dtype), np.ones(11, dtype), np.empty(count, dtype)
    seconds = medians({"": lambda: [weighted_sums(values, weights, (266,), total) for _ in range(50)]})[""]
    return 50 * 11 * count / seconds


def gemm(dtype: str, rows: int, terms: int = 864, columns: int = 512) -> float:
    """Floating-point operations a second of one panel's product."""
    a, b, c = (np.ones(shape, dtype) for shape in ((rows, terms), (terms, columns), (rows, columns)))
    seconds = medians({"gemm": lambda: [np.matmul(a, b, out=c) for _ in range(10)]})["gemm"]
    return 10 * 2 * rows * terms * columns / seconds


def gather(dtype: str) -> float:
    """Values a second copied into the columns of a panel, in rows of 64."""
    source = np.ones((16, 10, 66, 66), dtype)
    windows = np.lib.stride_tricks.sliding_window_view(source, (3, 3, 3), axis=(1, 2, 3))
    taken = windows.transpose(0, 4, 5, 6, 1, 2, 3)[..., 0, :8, :]
    target = np.empty(taken.shape, dtype)
    return 10 * target.size / medians({"copy": lambda: [np.copyto(target, taken) for _ in range(10)]})["copy"]


def call() -> float:
    """Seconds of a NumPy call that does next to nothing."""
    a = np.ones(1)
    return medians({"call": lambda: [np.multiply(a, a, out=a) for _ in range(10000)]})["call"] / 10000


def fft(dtype: str, size: int = 80) -> float:
    """Operations a second, 2.5 n log2 n, of a transform of a block and back."""
    block = np.ones((size, size, size), dtype)
    seconds = medians({"fft": lambda: np.fft.irfftn(np.fft.rfftn(block), block.shape, (0, 1, 2))})["fft"]
    return 5 * block.size * np.log2(block.size) / seconds


def compiled(dtype: str, channels: int, out_channels: int, kernel: tuple[int, int, int], size: int) -> float:
    """Seconds of the compiled `direct` on one core, on volumes that stay in the caches."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, channels, size, size, size)).astype(dtype)
    weight = rng.standard_normal((out_channels, channels, *kernel)).astype(dtype)
    return medians({"": lambda: lucid_core.conv3d(x, weight, engine="numba", algorithm="direct", threads=1)})[""]


def fma(dtype: str) -> float:
    """Fused multiply-adds of vectors a second: many channels, everything else in the shade."""
    return 64 * 64 * 27 * 32**3 / lanes(np.dtype(dtype).itemsize) / compiled(dtype, 64, 64, (3, 3, 3), 34)


def load(dtype: str) -> float:
    """Vectors loaded a second: a single channel and taps along W alone load one for each multiplication."""
    values = 31 * 128**2 * 98
    return values / lanes(np.dtype(dtype).itemsize) / compiled(dtype, 1, 1, (1, 1, 31), 128)


def pack(dtype: str) -> float:
    """Values packed a second: one tap, so that everything else is little."""
    return 192**3 / compiled(dtype, 1, 1, (1, 1, 1), 192)


def store(dtype: str) -> float:
    """Values stored a second into memory that no cache holds."""
    values = np.ones(1 << 24, dtype)
    target = np.empty_like(values)
    return values.size / medians({"store": lambda: np.copyto(target, values)})["store"]


def main() -> None:
    """Print a row for each dtype."""
    with blas.single_threaded():
        for dtype in ("float32", "float64"):
            many, few = gemm(dtype, 256), gemm(dtype, 8)
            rates = {
                "elementwise": elementwise(dtype),
                "weighted": weighted(dtype),
                "gemm": many,
                "gemm_rows": 8 * (many / few - 1),
                "gather": gather(dtype),
                "call": call(),
                "fft": fft(dtype),
                "fma": fma(dtype),
                "load": load(dtype),
                "pack": pack(dtype),
                "store": store(dtype),
            }
            print(f'"{dtype}": Rates({", ".join(f"{name}={rate:.2g}" for name, rate in rates.items())})')


if __name__ == "__main__":
    main()
