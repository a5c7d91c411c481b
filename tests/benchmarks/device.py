"""What a device takes for a layer against the copies to it and back: `python -m tests.benchmarks.device`.

First the rates for `lucid_core.machine.TENSOR_RATES`. Then for each layer: every algorithm of the engine torch on
tensors that are on the device already, F (`F.conv3d`, cuDNN on a GPU) beside it in both layouts, and
`lucid_core.conv3d` from array to array, the first time and later, beside the copies of the host alone. Last a line a
layer. Runs on the GPU where there is one, else on one core of the CPU, which shows that it runs.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

import lucid_core
from lucid_core import machine
from lucid_core.algorithms import algorithms
from lucid_core.arguments import layer_arguments
from lucid_core.compute import Filters
from lucid_core.planner import MOST_LANES
from lucid_core.problem import ConvProblem
from lucid_core.regions import Region
from lucid_core.tensors import precision
from lucid_core.tensors.algorithm import TensorAlgorithm
from lucid_core.tensors.devices import Device, find, named
from lucid_core.tensors.lane import worker

ROUNDS = 5
SLOWER = 20
"""An algorithm is left out whose predicted seconds are as many times those of the cheapest one."""
MOST_MACS = 2e11
"""Products of a layer beyond which F.conv3d is left out."""
LANES = (1, 2, 4)
STRICT = ("direct", "separable", "gemm")
"""Algorithms whose error is bounded componentwise."""
SLAB = 8
"""Planes that the host copies at a time."""


@dataclass(frozen=True)
class Load:
    """A layer, and the voxels along each axis of its input."""

    channels: int
    out_channels: int
    size: int
    kernel: int = 3
    groups: int = 1
    smooth: bool = False
    laned: bool = False
    """Whether fewer lanes compute it too."""

    def __str__(self) -> str:
        kind = "gaussian" if self.smooth else "depthwise" if self.groups > 1 else "dense"
        return f"{self.channels}->{self.out_channels} k{self.kernel} {self.size}^3 {kind}"

    def filters(self) -> Filters:
        """Return its weights."""
        rng = np.random.default_rng(0)
        if self.smooth:
            taps = np.exp(-0.5 * (np.arange(self.kernel) - self.kernel // 2) ** 2 / 9)
            bank = np.einsum("i,j,k->ijk", *[taps / taps.sum()] * 3)[None, None]
            return Filters(bank.astype(np.float32))
        shape = (self.out_channels, self.channels // self.groups, *[self.kernel] * 3)
        return Filters(rng.standard_normal(shape, np.float32) / 10)

    def problem(self, size: int) -> ConvProblem:
        """Return its problem, for a block that already has its pads."""
        layer = layer_arguments(self.channels, self.out_channels, self.kernel, groups=self.groups)
        return self.filters().problem((1, self.channels, size, size, size), layer)


LOADS = (
    Load(1, 1, 512, laned=True),
    Load(1, 1, 512, 19, smooth=True),
    Load(1, 1, 256, 7),
    Load(1, 16, 256),
    Load(16, 16, 192, laned=True),
    Load(32, 32, 128),
    Load(64, 64, 96),
    Load(32, 32, 128, groups=32),
)


@dataclass(frozen=True)
class Seconds:
    """What a call took the first time, when memory is taken and libraries choose, and later: the median."""

    first: float
    warm: float


def timed(call: Callable[[], object], device: Device) -> Seconds:
    """Return the seconds of a call."""
    seconds = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        call()
        if device.kind == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return Seconds(seconds[0], median(seconds[1:]))


def copies(device: Device) -> tuple[float, float, float]:
    """Return bytes a second to the device, back, and of each while both go on, from pinned memory."""
    count = 256 << 20
    up, down = (torch.empty(count, dtype=torch.uint8, pin_memory=True) for _ in range(2))
    there, here = (torch.empty(count, dtype=torch.uint8, device=device.for_torch) for _ in range(2))
    streams = torch.cuda.Stream(), torch.cuda.Stream()

    def both() -> None:
        for stream, target, source in zip(streams, (there, down), (up, here), strict=True):
            with torch.cuda.stream(stream):
                target.copy_(source, non_blocking=True)

    calls = (lambda: there.copy_(up, non_blocking=True), lambda: down.copy_(here, non_blocking=True), both)
    first, second, each = (count / timed(call, device).warm for call in calls)
    return first, second, each


def on_device(load: Load, device: Device) -> Iterator[tuple[str, Seconds]]:
    """Yield the seconds of every algorithm, and of torch, on a block that is on the device."""
    problem = load.problem(load.size)
    filters, region = load.filters(), Region((0, 0, 0), problem.out_size)
    block = torch.randn(problem.in_shape[1:], device=device.for_torch)
    weight = torch.from_numpy(filters.weight).to(device.for_torch)
    ways = [way for way in algorithms().values() if isinstance(way, TensorAlgorithm) and way.refuses(problem) is None]
    costs = {way.name: way.cost(problem, machine.rates("float32", device.kind)) for way in ways}
    ways = [way for way in ways if costs[way.name] < SLOWER * min(costs.values())]
    for tf32 in (False, True)[: 1 + (device.kind == "cuda")]:
        with precision.held(tf32=tf32), worker(device, {}, grows=False) as scratch:
            words = " tf32" if tf32 else ""
            for way in ways:
                if tf32 and not way.tensor_cores:
                    continue
                prepared = way.prepare(problem, filters.weight)
                target = torch.empty(problem.out_shape[1:], device=device.for_torch)
                given = problem, prepared, None, block, region, target, scratch.lane
                yield way.name + words, timed(lambda way=way, given=given: way.convolve(*given), device)
            if problem.macs <= MOST_MACS:
                for name, call in layouts(block[None], weight, load.groups):
                    yield name + words, timed(call, device)


def layouts(block: torch.Tensor, weight: torch.Tensor, groups: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield calls of torch: channels first, last, and put last and back at each call, as `native` does or not."""
    last = {"memory_format": torch.channels_last_3d}
    x, w = block.contiguous(**last), weight.contiguous(**last)
    yield "F", lambda: F.conv3d(block, weight, groups=groups)
    yield "F last", lambda: F.conv3d(x, w, groups=groups)
    yield "F last and back", lambda: F.conv3d(block.contiguous(**last), w, groups=groups).contiguous()


def whole(load: Load, device: Device) -> Iterator[tuple[str, Seconds]]:
    """Yield the seconds from array to array: ours, copies of the host alone, and torch's with plain copies."""
    filters = load.filters()
    x = np.random.default_rng(1).standard_normal((1, load.channels, *[load.size] * 3), np.float32)
    options = {"padding": load.kernel // 2, "groups": load.groups}
    call = partial(
        lucid_core.conv3d,
        x,
        filters.weight,
        engine="torch",
        device="cpu" if device.is_cpu else str(device),
        **options,
    )
    for accuracy in ("componentwise", "normwise"):
        yield accuracy, timed(partial(call, accuracy=accuracy), device)
        if load.laned:
            for lanes in LANES:
                yield f"{lanes} lanes", timed(partial(call, accuracy=accuracy, threads=lanes), device)
    out = np.zeros((load.out_channels, *[load.size] * 3), np.float32)
    yield "host copies alone", timed(partial(staged, x[0], out, pinned=device.kind == "cuda"), device)
    if load.problem(load.size).macs > MOST_MACS:
        return
    weight = torch.from_numpy(filters.weight).to(device.for_torch)
    with precision.held(tf32=False):
        yield (
            "F copied plainly",
            timed(lambda: F.conv3d(torch.from_numpy(x).to(device.for_torch), weight, **options).cpu().numpy(), device),
        )


def staged(x: npt.NDArray[np.float32], out: npt.NDArray[np.float32], *, pinned: bool) -> None:
    """Copy slabs of x into pinned memory, and slabs of pinned memory into out, by as many threads as lanes."""

    def work(first: int) -> None:
        below, above = (torch.empty((len(one), SLAB, *one.shape[2:]), pin_memory=pinned).numpy() for one in (x, out))
        for start in range(first * SLAB, x.shape[1], MOST_LANES * SLAB):
            count = min(SLAB, x.shape[1] - start)
            below[:, :count] = x[:, start : start + count]
            out[:, start : start + count] = above[:, :count]

    with ThreadPoolExecutor(MOST_LANES) as pool:
        list(pool.map(work, range(MOST_LANES)))


def rates(device: Device, dtype: torch.dtype) -> dict[str, float]:
    """Return rates of the device for a dtype, as `lucid_core.machine.TensorRates` has them."""
    where, found = {"dtype": dtype, "device": device.for_torch}, {}
    count = 1 << 22 if device.kind == "cuda" else 1 << 17
    a, b, one = torch.randn(count, **where), torch.randn(count, **where), torch.ones(1, **where)

    def many(call: Callable[[], object], times: int = 50) -> float:
        return timed(lambda: [call() for _ in range(times)], device).warm / times

    found["elementwise"] = count / many(lambda: a.add_(b, alpha=0.5))
    terms, columns = 432, 1 << 14
    panel, right = torch.randn(terms, columns, **where), torch.empty(256, columns, **where)
    times = {}
    for rows in (8, 256):
        left, made = torch.randn(rows, terms, **where), right[:rows]
        times[rows] = (
            2 * rows * terms * columns / many(lambda left=left, made=made: torch.mm(left, panel, out=made), 10)
        )
    found["gemm"], found["gemm_rows"] = times[256], 8 * (times[256] / times[8] - 1)
    source = torch.randn(16, 6, 130, 130, **where)
    taken = source.as_strided((16, 3, 3, 3, 1, 128, 128), (*source.stride(), *source.stride()[1:]))
    target = panel.view(16, 3, 3, 3, 1, 128, 128)
    found["gather"] = panel.numel() / many(lambda: target.copy_(taken), 10)
    x, w = torch.randn(1, 64, 64, 64, 64, **where), torch.randn(64, 64, 3, 3, 3, **where)
    flops = 2 * 64 * 64 * 27 * 62**3
    found["native"] = flops / many(lambda: F.conv3d(x, w), 2)
    found["call"] = many(lambda: one.add_(one), 1000)
    return found


def measured(load: Load, device: Device, limit: float | None) -> str:
    """Print what a layer takes in milliseconds, and return its line of the summary."""
    print(f"\n{load}", flush=True)
    there = {name: one.warm for name, one in on_device(load, device)}
    print("  on the device: " + ", ".join(f"{name} {seconds * 1e3:.2f}" for name, seconds in there.items()), flush=True)
    found = dict(whole(load, device))
    pairs = (f"{name} {one.first * 1e3:.0f}/{one.warm * 1e3:.1f}" for name, one in found.items())
    print("  array to array, first/warm: " + ", ".join(pairs), flush=True)
    voxels = max(load.channels, load.out_channels) * load.size**3

    def share(seconds: float) -> str:
        return f"{seconds * 1e3:.1f} ms" + ("" if limit is None else f" ({voxels / seconds / limit:.2f})")

    strict = min(there[name] for name in STRICT if name in there)
    parts = (("device", strict), *((name, found[name].warm) for name in ("componentwise", "normwise")))
    return f"{load}: " + ", ".join(f"{name} {share(seconds)}" for name, seconds in parts)


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, help="Divide the sizes by this; 1 on a GPU, 8 on the CPU.")
    scale = parser.parse_args().scale
    device, _ = find()
    torch.set_grad_enabled(False)
    print(f"torch {torch.__version__} on {named(device)}; milliseconds")
    limit = None
    if device.kind == "cuda":
        up, down, each = copies(device)
        limit = each / 4
        print(f"copies, GB/s: up {up / 1e9:.1f}, down {down / 1e9:.1f}, each of both at once {each / 1e9:.1f}")
    for dtype in (torch.float32, torch.float64):
        with precision.held(tf32=False):
            found = rates(device, dtype)
        copied = "" if limit is None else f", copy={limit * 4 / dtype.itemsize:.2g}"
        print(f"{dtype}: {', '.join(f'{name}={rate:.2g}' for name, rate in found.items())}{copied}")
    lines = []
    for load in LOADS:
        small = replace(load, size=max(load.size // (scale or (8 if device.is_cpu else 1)), 24))
        lines.append(measured(small, device, limit))
        if device.kind == "cuda":
            torch.cuda.empty_cache()
    print("\nwarm" + ("" if limit is None else f" (share of the copy limit, {limit / 1e9:.1f} Gvoxel/s)"))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
