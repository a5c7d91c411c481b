"""Measure the rates of `lucid_core.machine` on one core: `python -m tests.benchmarks.rates`.

The planner multiplies an algorithm's work by these rates. Run it on an idle machine, and put what it prints, rounded,
into the table of `lucid_core/machine.py` with the machine and the date.
"""

import numpy as np

from lucid_core import blas
from lucid_core.machine import CACHE_BYTES
from tests.benchmarks.timing import medians


def elementwise(dtype: str) -> float:
    """Additions a second of two arrays that stay in the L2 cache."""
    count = CACHE_BYTES // 8 // np.dtype(dtype).itemsize
    a, b = np.ones(count, dtype), np.ones(count, dtype)
    return 200 * count / medians({"add": lambda: [np.add(a, b, out=a) for _ in range(200)]})["add"]


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


def main() -> None:
    """Print a row for each dtype."""
    with blas.single_threaded():
        for dtype in ("float32", "float64"):
            many, few = gemm(dtype, 256), gemm(dtype, 8)
            print(
                f'"{dtype}": Rates(elementwise={elementwise(dtype):.2g}, gemm={many:.2g}, '
                f"gemm_rows={8 * (many / few - 1):.2g}, gather={gather(dtype):.2g}, call={call():.2g})"
            )


if __name__ == "__main__":
    main()
