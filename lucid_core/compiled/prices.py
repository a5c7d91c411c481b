"""What compiled kernels cost: pure functions of shapes and the rates of the machine, in seconds on one core."""

import math

from lucid_core.compiled.blocking import Blocking
from lucid_core.compiled.strips import Strip
from lucid_core.machine import Rates
from lucid_core.problem import ConvProblem

SPREADS_PER_LOAD = 4
"""Weights spread over a vector in the time of one load: they come from the first cache, and many at once."""
CALL_SECONDS = 1.5e-8
"""One call of the micro-kernel besides its terms: addresses, first and last loads and stores."""
ROW_VALUES = 24
"""Values packed in the time that a row costs besides its values."""


def strips(problem: ConvProblem, one: Strip) -> int:
    """Return the planes of strips of a problem: over the batch, the groups, D, and the strips along H and W."""
    depth, height, width = problem.out_size
    return problem.batch * problem.groups * depth * -(-height // one.out[0]) * -(-width // one.out[1])


def sweeping(rates: Rates, blocks: Blocking, vectors: int, kernel: tuple[int, int, int]) -> float:
    """Return the seconds of `vectors` vectors for one block; `kernel` is terms, K_H, K_W.

    Multiplications and loads go on at the same time; the slower of them counts.
    """
    terms, height, width = kernel
    calls = -(-vectors // blocks.columns)
    made = blocks.channels * blocks.rows
    products = made * blocks.columns * terms
    if blocks.rows == 1:
        loads, spreads = blocks.columns * terms, blocks.channels * terms
    else:
        planes = terms // (height * width)
        loads = planes * width * (height + blocks.rows - 1) * blocks.columns
        spreads = blocks.rows * terms
    return calls * (max(products / rates.fma, (loads + spreads / SPREADS_PER_LOAD) / rates.load) + CALL_SECONDS)


def packing(rates: Rates, rows: int, width: int) -> float:
    """Return the seconds of packing `rows` rows."""
    return rows * (width + ROW_VALUES) / rates.pack


def storing(problem: ConvProblem, rates: Rates) -> float:
    """Return the seconds of storing the output."""
    return math.prod(problem.out_shape) / rates.store
