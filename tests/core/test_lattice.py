"""Phases of a strided problem: what is laid out, and the memory it is said to take."""

import numpy as np
import pytest

from lucid_core.arguments import layer_arguments
from lucid_core.lattice import flat_phases, lattice, phase_bytes, taps
from lucid_core.problem import conv_problem
from lucid_core.scratch import Scratch


def problem_of(stride, kernel_size=(3, 2, 4), dilation=(1, 2, 3), channels=2):
    size = tuple(step * (taps - 1) + 1 + 5 for step, taps in zip(dilation, kernel_size, strict=True))
    return conv_problem((1, channels, *size), layer_arguments(channels, 3, kernel_size, stride, 0, dilation))


def test_with_stride_1_the_one_phase_is_the_block_itself():
    problem = problem_of(1)
    grid, block = lattice(problem, problem.out_size), np.zeros(problem.in_shape[1:], np.float32)
    phases, _ = taps(problem, grid)
    assert phases == ((0, 0, 0),)
    flat = flat_phases(block, grid, phases, (1, 1, 1), Scratch())
    assert flat.shape == (1, 2, block[0].size)
    assert np.shares_memory(flat, block)
    assert phase_bytes(problem, problem.out_size) == 0


@pytest.mark.parametrize("stride", ((2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 3, 2)))
def test_other_strides_take_the_memory_that_is_said(stride):
    problem = problem_of(stride)
    grid, block = lattice(problem, problem.out_size), np.arange(np.prod(problem.in_shape), dtype=np.float32)
    block = block.reshape(problem.in_shape[1:])
    phases, offsets = taps(problem, grid)
    flat = flat_phases(block, grid, phases, stride, Scratch())
    assert flat.nbytes == phase_bytes(problem, problem.out_size)
    for (phase, offset), tap in zip(offsets, np.ndindex(*problem.kernel_size), strict=True):
        first = [at * step for at, step in zip(tap, problem.dilation, strict=True)]
        read = [
            slice(at, at + hop * (n - 1) + 1, hop) for at, hop, n in zip(first, stride, problem.out_size, strict=True)
        ]
        seen = grid.outputs(np.pad(flat[phase, 1, offset:], (0, offset)))
        np.testing.assert_array_equal(seen, block[1][tuple(read)])
    assert max(offset for _, offset in offsets) + grid.length <= flat.shape[-1]
