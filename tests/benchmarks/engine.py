"""The engine beside its peers: `python -m tests.benchmarks.engine`.

Every workload runs here, in torch and (one channel) in scipy.ndimage in turn, float32, with the threads given; the
output is compared with torch in float64 first. Prints medians in ms and the ratios to the peers; needs torch and scipy.
"""

import argparse
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import lucid_core
from lucid_core.planner import plan
from lucid_core.problem import conv_problem, layer_arguments
from tests.benchmarks.timing import medians


@dataclass(frozen=True)
class Workload:
    """A layer on one volume."""

    in_channels: int
    out_channels: int
    kernel: int | tuple[int, int, int]
    size: tuple[int, int, int]
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    def __str__(self) -> str:
        extras = [f"{name} {getattr(self, name)}" for name in ("stride", "dilation", "groups")]
        shown = [one for one in extras if not one.endswith(" 1")]
        sizes = "x".join(map(str, self.size))
        return ", ".join([f"{self.in_channels}->{self.out_channels}, k{self.kernel}", sizes, *shown])

    @property
    def padding(self) -> tuple[int, ...]:
        """The pads of "same" at stride 1."""
        return tuple(self.dilation * (k - 1) // 2 for k in np.broadcast_to(self.kernel, 3).tolist())


WORKLOADS = (
    Workload(1, 1, 3, (256, 256, 256)),
    Workload(1, 1, 9, (96, 96, 96)),
    Workload(1, 16, 3, (128, 128, 128)),
    Workload(16, 32, 3, (96, 96, 96), stride=2),
    Workload(32, 32, 3, (64, 64, 64)),
    Workload(64, 64, 3, (32, 32, 32)),
    Workload(32, 32, 3, (96, 96, 96), groups=32),
    Workload(16, 16, 3, (96, 96, 96), dilation=2),
    Workload(32, 64, 1, (96, 96, 96)),
    Workload(16, 16, (1, 3, 3), (32, 112, 112)),
)


def contestants(load: Workload, threads: int) -> dict[str, Any]:
    """Return a function for each peer, and check ours against float64 within its bound."""
    import torch
    from scipy import ndimage

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    kernel = tuple(np.broadcast_to(load.kernel, 3).tolist())
    x = rng.standard_normal((1, load.in_channels, *load.size), np.float32)
    w = rng.standard_normal((load.out_channels, load.in_channels // load.groups, *kernel), np.float32)
    arguments = (None, load.stride, load.padding, load.dilation, load.groups)
    tx, tw = torch.from_numpy(x), torch.from_numpy(w)

    def ours() -> Any:
        return lucid_core.conv3d(x, w, *arguments, threads=threads)

    def theirs(a: Any = tx, b: Any = tw) -> Any:
        with torch.no_grad():
            return torch.nn.functional.conv3d(a, b, *arguments)

    exact = theirs(tx.double(), tw.double()).numpy()
    size = theirs(tx.double().abs(), tw.double().abs()).numpy()
    terms = math.prod(w.shape[1:])
    worst = float((np.abs(ours() - exact) / size).max() * 2**24)
    if worst > terms + 2:
        raise AssertionError(f"{load}: the error is {worst:.1f} u sum |x||w|, the bound {terms + 2}")
    found: dict[str, Any] = {"ours": ours, "torch": theirs}
    if load.in_channels == load.out_channels == 1:
        found["scipy"] = lambda: ndimage.correlate(x[0, 0], w[0, 0], mode="constant")
    return found


def algorithm(load: Workload) -> str:
    """Return what the planner chooses."""
    layer = layer_arguments(
        load.in_channels, load.out_channels, load.kernel, load.stride, load.padding, load.dilation, load.groups
    )
    return plan(conv_problem((1, load.in_channels, *load.size), layer)).algorithm


def main() -> None:
    """Print a table, a line a workload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"| workload, {options.threads} threads | algorithm | ours ms | torch ms | scipy ms | ours / torch |")
    print("|---|---|---|---|---|---|")
    for load in WORKLOADS:
        times = medians(contestants(load, options.threads), options.rounds)
        ms = {name: f"{1000 * seconds:.0f}" for name, seconds in times.items()}
        ratio = times["ours"] / times["torch"]
        print(f"| {load} | {algorithm(load)} | {ms['ours']} | {ms['torch']} | {ms.get('scipy', '')} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
