"""What fitting takes, from a clone: `python -m tests.benchmarks.fit [--rounds N] [--threads N]`.

The exact solution on a volume of 128^3 in memory, its normal equations by tiles as `lucid-conv3d fit` has them, beside
those that NumPy makes of planes of windows (`sliding_window_view`, a matrix product each); then a step of Adam for
a stack of layers on one tile beside that of torch. They take turns, and the medians are shown. Last the whole program.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

import lucid_core as lucid
from lucid_core import losses, nn
from lucid_core.blas import controls
from lucid_core.boundary import Window
from lucid_core.fitting.examples import cut
from lucid_core.fitting.normal import NormalEquations
from lucid_core.fitting.solve import solve
from lucid_core.fitting.tiles import tile_equations
from lucid_core.functional import layer_of
from lucid_core.problem import conv_problem
from lucid_core.regions import Region
from lucid_core.turns import in_turn

SIZE, TILE = 128, (32, 64, 64)
FILE_SIZE, PROGRAM_KERNELS = 256, (3, 5, 9)
KERNELS = (3, 5, 7)
STACKS = ((1, 8, 1), (1, 16, 16, 1), (1, 32, 32, 1))
STEP_TILE = 34
"""Voxels along each axis of the input of a step."""


def volumes(kernel):
    """Return a volume, and what a kernel and noise make of its inside."""
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(1, SIZE, SIZE, SIZE)).astype(np.float32)
    weight = drawn.normal(size=(1, 1, kernel, kernel, kernel)).astype(np.float32)
    return x, lucid.conv3d(x, weight), weight


def ours(x, y, kernel, threads):
    """Return the weight by normal equations of tiles."""
    problem = conv_problem((1, *x.shape), layer_of(np.empty((1, 1, *[kernel] * 3)), None, 1, 0, 1, 1, "zeros"))

    def of(region, scratch):
        source = problem.input_region(region)
        block = x[:, *source.slices]
        window = Window(block, Region((0, 0, 0), source.shape), "zeros")
        return tile_equations(problem, window, y[:, *region.slices], scratch=scratch)

    total = NormalEquations.of_none(problem)
    for found in in_turn(cut(Region((0, 0, 0), problem.out_size), TILE), of, threads):
        total += found
    return solve(total).weight


def plainly(x, y, kernel, threads):
    """Return the weight by NumPy's windows, a plane at a time."""
    controls()[1](threads)
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (kernel,) * 3)
    taps = kernel**3
    gram, moments = np.zeros((taps + 1, taps + 1)), np.zeros(taps + 1)
    for plane, target in zip(windows, y[0], strict=True):
        rows = np.ones((plane.shape[0] * plane.shape[1], taps + 1))
        rows[:, :taps] = plane.reshape(-1, taps)
        gram += rows.T @ rows
        moments += rows.T @ target.ravel()
    return np.linalg.solve(gram, moments)[:taps].reshape(1, 1, kernel, kernel, kernel)


def timed(calls, rounds):
    """Return the median milliseconds of each call, in turn."""
    found = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            time.sleep(0.05)
            start = time.perf_counter()
            call()
            found[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(times[1:]) for name, times in found.items()}


def steps(channels):
    """Return a step of ours and one of torch, for a stack of 3^3 convolutions with ReLU between them."""
    lucid.manual_seed(0)
    pairs = list(itertools.pairwise(channels))
    net = nn.Sequential(*[layer for pair in pairs for layer in (nn.Conv3d(*pair, 3), nn.ReLU())][:-1])
    theirs = torch.nn.Sequential(
        *[layer for pair in pairs for layer in (torch.nn.Conv3d(*pair, 3), torch.nn.ReLU())][:-1]
    )
    x = np.random.default_rng(0).normal(size=(1, 1, *[STEP_TILE] * 3)).astype(np.float32)
    target = np.zeros(net(x).shape, np.float32)
    adam = lucid.optim.Adam(net.parameters())
    their_adam = torch.optim.Adam(theirs.parameters())
    their_x, their_target = torch.from_numpy(x), torch.from_numpy(target)

    def step():
        values = net.values(x)
        adam.zero_grad()
        net.add_gradients(x, losses.mse(values[-1], target).gradient, values)
        adam.step()

    def their_step():
        their_adam.zero_grad()
        torch.nn.functional.mse_loss(theirs(their_x), their_target).backward()
        their_adam.step()

    return {"ours": step, "torch": their_step}


def programs(folder):
    """Print the seconds and the peak of memory of the program, for two `.nii.gz` of 256^3."""
    drawn = np.random.default_rng(0)
    scan = (1000 + 100 * ndimage.gaussian_filter(drawn.normal(size=(FILE_SIZE,) * 3), 1)).astype(np.int16)
    for name, volume in (("x", scan), ("y", ndimage.gaussian_filter(scan.astype(np.float32), 1.2))):
        nib.save(nib.Nifti1Image(volume, np.eye(4)), f"{folder}/{name}.nii.gz")
    print(f"\n| program, {FILE_SIZE}^3 .nii.gz | seconds | peak, MiB |\n|---|---|---|")
    for kernel in PROGRAM_KERNELS:
        words = f"fit x.nii.gz --target y.nii.gz -o w.npz --overwrite -q --report - --kernel-size {kernel}"
        command = [sys.executable, "-m", "lucid_cli", *words.split()]
        environment = os.environ | {"PYTHONPATH": os.getcwd()}  # noqa: PTH109 - the clone
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
        seconds, peak = time.perf_counter() - start, json.loads(done.stdout)["peak_rss_bytes"]
        print(f"| {kernel}^3 weights | {seconds:.1f} | {peak >> 20} |", flush=True)


def main():
    """Measure and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"| exact, {SIZE}^3, 1 channel | ours, ms | NumPy, ms | ours / NumPy | our error |\n|---|---|---|---|---|")
    for kernel in KERNELS:
        x, y, weight = volumes(kernel)
        rounds = options.rounds if kernel < KERNELS[-1] else 1
        contestants = {
            "ours": lambda x=x, y=y, kernel=kernel: ours(x, y, kernel, options.threads),
            "NumPy": lambda x=x, y=y, kernel=kernel: plainly(x, y, kernel, options.threads),
        }
        error = np.abs(contestants["ours"]() - weight).max()
        found = timed(contestants, rounds)
        ratio = found["ours"] / found["NumPy"]
        print(f"| k{kernel} | {found['ours']:.0f} | {found['NumPy']:.0f} | {ratio:.2f} | {error:.0e} |", flush=True)
    print(f"\n| step of Adam, tile of {STEP_TILE}^3 | ours, ms | torch, ms | ours / torch |\n|---|---|---|---|")
    for channels in STACKS:
        found = timed(steps(channels), 4 * options.rounds)
        name = "-".join(map(str, channels))
        print(
            f"| {name} | {found['ours']:.1f} | {found['torch']:.1f} | {found['ours'] / found['torch']:.2f} |",
            flush=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        programs(folder)


if __name__ == "__main__":
    main()
