"""The worst error of every algorithm over many random layers: `python -m tests.benchmarks.errors [--layers N]`.

Errors are relative to sum |x||w| + |b| at the voxel, or to a bound of it over the volume where an algorithm states a
normwise one. The truth is that of `lucid-conv3d bench`: float64 products, summed by `math.fsum`, at 200 voxels a layer.
"""

import argparse
import statistics
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lucid_cli.bench.verify import truth
from lucid_core.algorithms import Algorithm, algorithms
from lucid_core.arguments import layer_arguments
from lucid_core.compute import Filters
from lucid_core.errors import LucidError
from lucid_core.execute import execute
from lucid_core.factors import factors
from lucid_core.planner import plan
from lucid_core.problem import ConvProblem, conv_problem
from lucid_core.volume import ArrayReader, ArrayWriter

MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")


@dataclass
class Layer:
    """A layer, a volume for it, and the true values of some voxels."""

    problem: ConvProblem
    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    truth: Any = field(init=False)

    def __post_init__(self) -> None:
        self.truth = truth(self.problem, self.x, self.weight, self.bias)

    def error(self, way: Algorithm) -> tuple[float, float]:
        """Return the worst error of an algorithm and what it states; raise `RunError` where it is beyond."""
        bound = way.error_bound(self.problem)
        stated = bound.gamma(self.problem.dtype)
        chosen = plan(self.problem, algorithm=way.name, engine=way.engine, accuracy="normwise", threads=1)
        out = np.empty(self.problem.out_shape, self.problem.dtype)
        execute(chosen, [Filters(self.weight, self.bias)], ArrayReader(self.x), ArrayWriter(out))
        return self.truth.check(way.name, out, stated, normwise=bound.accuracy == "normwise"), stated


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Draw values of one of the kinds that are hard on sums: of all sizes, all positive, or nearly cancelling."""
    normal = rng.normal(size=shape)
    kinds = (
        normal,
        np.abs(normal),
        normal * 10.0 ** rng.uniform(-6, 6, shape),
        1000 + normal,
        np.where(rng.random(shape) < 0.5, -1, 1) * (1 + normal * 2.0**-20),
    )
    return (kinds[rng.integers(len(kinds))] * 10.0 ** rng.integers(-8, 9)).astype(dtype)


def layer(rng: np.random.Generator, dtype: str) -> Layer | None:
    """Draw a layer of up to 32 channels and 9 taps an axis; None where there is no such layer."""
    groups = int(rng.choice((1, 1, 1, 2, 3)))
    share, filters = (int(2 ** rng.uniform(0, 5)) for _ in range(2))
    kernel = (3, 3, 3) if rng.random() < 0.4 else tuple(int(n) for n in rng.integers(1, 10, 3))
    factored = rng.random() < 0.3
    groups, share, filters = (1, 1, filters) if factored else (groups, share, filters)
    unit = factored or rng.random() < 0.6
    stride = 1 if unit else tuple(int(n) for n in rng.integers(1, 4, 3))
    dilation = 1 if rng.random() < 0.7 else tuple(int(n) for n in rng.integers(1, 4, 3))
    try:
        arguments = layer_arguments(
            groups * share,
            groups * filters,
            kernel,
            stride,
            int(rng.integers(0, 4)),
            dilation,
            groups,
            str(rng.choice(MODES)),
        )
        size = tuple(int(n) for n in rng.integers(4, 33, 3))
        if factored:
            weight = np.einsum("oi,oj,ok->oijk", *(values(rng, (filters, taps), dtype) for taps in kernel))[:, None]
        else:
            weight = values(rng, (groups * filters, share, *kernel), dtype)
        separable = factors(weight) is not None
        problem = conv_problem((1, groups * share, *size), arguments, bias=True, dtype=dtype, separable=separable)
    except LucidError:
        return None
    with np.errstate(over="ignore"):
        drawn = Layer(problem, values(rng, problem.in_shape, dtype), weight, values(rng, (groups * filters,), dtype))
    return drawn if np.isfinite(drawn.truth.sizes).all() and drawn.truth.largest < 1e38 else None


def row(name: str, dtype: str, errors: list[tuple[float, float]]) -> str:
    """Return a row: the worst error of all, and how near to what is stated the worst of each layer comes."""
    ratios = [error / stated for error, stated in errors]
    worst = max(error for error, _ in errors)
    return f"| {name} | {dtype} | {len(errors)} | {worst:.1e} | {max(ratios):.2g} | {statistics.median(ratios):.2g} |"


def main() -> None:
    """Search, and print a row for every algorithm and type."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.errors", description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=2000, help="layers of each type (2000)")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print("| algorithm | type | layers | worst error | over its bound: at worst | median |\n|---|---|---|---|---|---|")
    for dtype in ("float32", "float64"):
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in algorithms()}
        rng, drawn = np.random.default_rng(asked.seed), 0
        while drawn < asked.layers:
            one = layer(rng, dtype)
            drawn += one is not None
            for name, way in algorithms().items() if one else ():
                if way.refuses(one.problem) is None:
                    found[name].append(one.error(way))
        for name, errors in found.items():
            print(row(name, dtype, errors))


if __name__ == "__main__":
    main()
