"""The gradients beside those of torch, from a clone: `python -m tests.benchmarks.backward [options] [WORKLOAD...]`.

The workloads are those of `lucid-conv3d bench`, the arithmetic is float32. Each contestant computes the gradients for
input, weight and bias, nothing of the forward pass; they take turns, round after round, in one process with the same
number of threads, a pause before each, and the medians are shown in milliseconds; then the largest error of each in any
gradient, as a share of that gradient's largest number, from those computed in float64.
"""

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch

import lucid_core as lucid
from lucid_cli.bench.workloads import WORKLOADS, built_in

NAMES = ("x", "weight", "bias")
PAUSE = 0.1
"""Seconds after which the threads of one contestant no longer wait for work in the time of the next."""
BY_DEFAULT = tuple(load.name for load in WORKLOADS[:10])


def theirs(grad, x, weight, layer):
    """Return torch's three gradients, padding of zeros its own."""
    padding = [low for low, _ in layer.pads]
    tensors = [torch.from_numpy(one) for one in (grad, x, weight)]
    shape = [layer.out_channels]
    rest = (layer.stride, padding, layer.dilation, False, [0, 0, 0], layer.groups, [True] * 3)
    return torch.ops.aten.convolution_backward(*tensors, shape, *rest)


def ours(engine, threads, wanted, grad, x, weight, layer):
    """Return the gradients of one engine."""
    return lucid.conv3d_backward(
        grad,
        x,
        weight,
        layer.stride,
        [low for low, _ in layer.pads],
        layer.dilation,
        layer.groups,
        wanted=wanted,
        engine=engine,
        threads=threads,
    )


def contestants(options):
    """Return what is timed, by name."""
    found = {"torch": theirs}
    for engine in options.engine:
        found[engine] = partial(ours, engine, options.threads, NAMES)
        if options.parts:
            found |= {f"{engine} {name}": partial(ours, engine, options.threads, (name,)) for name in NAMES}
    return found


def timed(call):
    """Return the milliseconds of a call."""
    time.sleep(PAUSE)
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1000


def error(found, exact):
    """Return the largest error of any gradient, as a share of its largest number."""
    pairs = [(np.asarray(one), other) for one, other in zip(found, exact, strict=True)]
    return max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)


def measure(load, options):
    """Return the medians of every contestant on a workload, and the errors of torch and of each engine."""
    x, weight = load.arrays()
    grad = np.random.default_rng(1).standard_normal(load.problem.out_shape, np.float32)
    calls = {name: partial(one, grad, x, weight, load.layer) for name, one in contestants(options).items()}
    wide = (one.astype(np.float64) for one in (grad, x, weight))
    exact = ours("auto", options.threads, NAMES, *wide, load.layer)
    errors = {name: error(calls[name](), exact) for name in ("torch", *options.engine)}
    taken = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            taken[name].append(timed(call))
    return {name: statistics.median(times) for name, times in taken.items()}, errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("workloads", nargs="*", default=BY_DEFAULT)
    parser.add_argument("--engine", action="append", choices=("auto", "numba", "numpy"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", action="store_true", help="time each gradient by itself, too")
    options = parser.parse_args()
    options.engine = options.engine or ["numba", "numpy"]
    torch.set_num_threads(options.threads)
    names = list(contestants(options))
    heads = ["workload", *names, *(f"{one} / torch" for one in options.engine)]
    heads += [f"error of {one}" for one in ("torch", *options.engine)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for load in built_in(tuple(options.workloads)):
        medians, errors = measure(load, options)
        cells = [f"{medians[name]:.1f}" for name in names]
        cells += [f"{medians[one] / medians['torch']:.2f}" for one in options.engine]
        print(f"| {' | '.join([load.name, *cells, *(f'{one:.0e}' for one in errors.values())])} |", flush=True)


if __name__ == "__main__":
    main()
