"""Whole programs on files, side by side: `python -m tests.benchmarks.files [--large] [--folder DIR]`.

Ours, nibabel with SciPy, and `mrfilter` of MRtrix smooth the same scan, in turn, round by round. Then the parts of our
own time, how time and memory grow with the volume, and, with `--large`, a volume of 8 GB. Beside a figure stands
its goal. Run it on an idle machine: every program takes all cores. Ours alone flushes its output to the disk.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.openers import Opener

from lucid_cli.bench.timing import medians
from lucid_cli.compression import CHUNK_BYTES, codec_of, open_stream

OURS = str(Path(sysconfig.get_path("scripts"), "lucid-conv3d"))
SCIPY = """
import sys, nibabel, numpy, scipy.ndimage
image = nibabel.load(sys.argv[1])
data = scipy.ndimage.gaussian_filter(image.get_fdata(dtype=numpy.float32), 1.2, mode="nearest")
nibabel.save(nibabel.Nifti1Image(data, image.affine), sys.argv[2])
"""
LARGE = (1024, 1024, 4096)
LARGE_DISK = 4 * math.prod(LARGE) + 10**8
Run = dict[str, Any]
"""Of a program's run: `wall` and `cpu` seconds, `peak` bytes resident; of ours also what the report has."""


def ours(given: str, out: str, *options: str) -> list[str]:
    """Return our command."""
    fixed = "--kernel gaussian --sigma 1.2vox -q --overwrite --report report.json"
    return [OURS, "apply", given, "-o", out, *fixed.split(), *options]


def run(command: list[str], folder: Path) -> Run:
    """Run a program in a folder that holds no output of an earlier one, with nothing left to write to the disk."""
    for old in (*folder.glob("out.*"), *folder.glob("report.json")):
        old.unlink()
    os.sync()
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}\nended with {process.returncode}")
    done: Run = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}
    if (folder / "report.json").exists():
        item = json.loads((folder / "report.json").read_text())["items"][0]
        done |= item["seconds"] | item["plan"]
    return done


def in_turn(commands: Mapping[str, list[str]], folder: Path, rounds: int) -> dict[str, list[Run]]:
    """Run each program once in a round; the first round, which warms the cache, does not count."""
    runs = [{name: run(command, folder) for name, command in commands.items()} for _ in range(rounds)]
    return {name: [one[name] for one in runs[1:] or runs] for name in commands}


def apart(function: Callable[..., Any], *args: object) -> Any:
    """Call a function in a process of its own: Linux counts the peak of a program from that of its parent, this one."""
    with get_context("spawn").Pool(1, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        return pool.apply(function, args)


def write_scan(path: Path, shape: tuple[int, int, int], dtype: str) -> None:
    """Write what looks like a scan, plane by plane: waves and noise in an ellipsoid, zero outside."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_sform(np.eye(4), 1)
    rng = np.random.default_rng(0)
    x, y, z = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape)
    waves = np.sin(9 * x) * np.cos(7 * y[:, None])
    with Opener(str(path), "wb") as file:
        header.write_to(file)
        for depth in z:
            inside = (x / 0.8) ** 2 + (y[:, None] / 0.95) ** 2 + (depth / 0.9) ** 2 < 1
            noise = rng.standard_normal(waves.shape, np.float32)
            values = 600 + 250 * np.cos(6 * depth) * waves + 30 * noise
            file.write(np.where(inside, values, 0).astype(dtype).tobytes())


def write_npy(path: Path, given: Path) -> None:
    """Write the voxels of a NIfTI as .npy, in the same order."""
    np.save(path, np.asanyarray(nib.load(given).dataobj).T)


def chunks(path: Path) -> Iterator[bytes]:
    """Decompress a file."""
    with open_stream(path) as stream:
        yield from iter(lambda: stream.read(CHUNK_BYTES), b"")


def stages_alone(given: Path, out: Path) -> dict[str, float]:
    """Seconds to decompress the input, and to compress the output again, each in one thread."""
    blocks, codec = [memoryview(chunk) for chunk in chunks(out)], codec_of(".nii.gz", None)
    return medians({"read": lambda: sum(map(len, chunks(given))), "write": lambda: list(map(codec.block, blocks))})


def middle(runs: list[Run], figure: str) -> float:
    """Return the median of a figure over the rounds."""
    return float(median(one[figure] for one in runs))


def ratio(these: list[Run], those: list[Run], figure: str = "wall") -> float:
    """Return the median over the rounds of the ratio of a figure."""
    return float(median(a[figure] / b[figure] for a, b in zip(these, those, strict=True)))


def head(title: str) -> None:
    """Print the head of a table of programs; planned and total stand in our reports."""
    print(f"\n{title}\n{'':<30}   wall s    CPU s  peak MB  planned    ratio  total s", flush=True)


def show(name: str, runs: list[Run]) -> None:
    """Print a program's line of medians."""
    peak = middle(runs, "peak")
    line = f"{name:<30}{middle(runs, 'wall'):>9.2f}{middle(runs, 'cpu'):>9.2f}{peak / 1e6:>9.0f}"
    if "peak_bytes" in runs[0]:
        planned = middle(runs, "peak_bytes")
        line += f"{planned / 1e6:>9.0f}{peak / planned:>9.2f}{middle(runs, 'total'):>9.2f}"
    print(line, flush=True)


def goal(name: str, value: float, most: float, digits: int = 2) -> None:
    """Print a figure beside the most it should be."""
    missed = "" if value <= most else "  MISSED"
    print(f"{name:<46}{value:>9.{digits}f}   goal <= {most:.{digits}f}{missed}", flush=True)


def side_by_side(folder: Path, rounds: int) -> list[Run]:
    """Compare with the peers; return our runs from .nii.gz to .nii.gz."""
    apart(write_scan, folder / "scan.nii.gz", (256, 256, 256), "int16")
    peers = {"nibabel+scipy gz": [sys.executable, "-c", SCIPY, "scan.nii.gz", "out.nii.gz"]}
    smooth = ["mrfilter", "-quiet", "scan.nii.gz", "smooth", "-stdev", "1.2"]
    if shutil.which("mrfilter"):
        peers |= {"mrfilter gz": [*smooth, "out.nii.gz"], "mrfilter nii": [*smooth, "out.nii"]}
    else:
        print("mrfilter of MRtrix is not installed: left out")
    mine = {"ours gz": ours("scan.nii.gz", "out.nii.gz"), "ours nii": ours("scan.nii.gz", "out.nii")}
    runs = in_turn(mine | peers, folder, rounds)
    head("256^3 int16 .nii.gz, Gaussian of 1.2 voxels, to float32; medians")
    for name, one in runs.items():
        show(name, one)
    goals = (("gz", "nibabel+scipy gz", 0.30), ("gz", "mrfilter gz", 0.25), ("nii", "mrfilter nii", 0.7))
    for kind, peer, most in goals:
        if peer in runs:
            goal(f"ours {kind} / {peer}", ratio(runs[f"ours {kind}"], runs[peer]), most)
    for name in mine:
        goal(f"{name}, peak MB", middle(runs[name], "peak") / 1e6, 350, 0)
    return runs["ours gz"]


def overlap(folder: Path, runs: list[Run], rounds: int) -> None:
    """Compare our time with what no overlap of its stages can go below."""
    apart(write_npy, folder / "scan.npy", folder / "scan.nii.gz")
    commands = {"info": [OURS, "info", "scan.nii.gz"], "alone": ours("scan.npy", "out.npy", "--threads", "1")}
    others = in_turn(commands, folder, rounds)
    run(ours("scan.nii.gz", "out.nii.gz"), folder)
    stages = apart(stages_alone, folder / "scan.nii.gz", folder / "out.nii.gz")
    stages["compute"] = middle(others["alone"], "compute")
    start, cpu = middle(others["info"], "wall"), middle(runs, "cpu") - middle(others["info"], "cpu")
    head("Overlap, of the run from .nii.gz to .nii.gz")
    show("ours, 1 thread, .npy to .npy", others["alone"])
    print("plan: " + ", ".join(f"{key} {runs[0][key]}" for key in ("algorithm", "engine", "threads", "tiles", "tile")))
    print("stages alone, on one core: " + ", ".join(f"{name} {value:.3f} s" for name, value in stages.items()))
    print("their shares in the run:   " + ", ".join(f"{name} {middle(runs, name):.3f} s" for name in stages))
    print(f"start-up {start:.3f} s; half the CPU seconds after it {cpu / 2:.3f}")
    most = 1.25 * max(*stages.values(), cpu / 2)
    goal("seconds.total", middle(runs, "total"), most, 3)
    goal("wall less start-up", middle(runs, "wall") - start, most, 3)


def linear(folder: Path, rounds: int) -> None:
    """Compare 512^3 with 256^3 within the same memory."""
    head("Eight times the voxels, with --max-memory 400M")
    for suffix in (".nii.gz", ".nii"):
        commands = {}
        for size in (256, 512):
            name = f"{size}{suffix}"
            apart(write_scan, folder / name, (size, size, size), "int16")
            commands[f"{name} -> {suffix}"] = ours(name, f"out{suffix}", "--max-memory", "400M")
        runs = in_turn(commands, folder, rounds)
        for name, one in runs.items():
            show(name, one)
        small, big = runs.values()
        goal(f"512^3 / 256^3, {suffix}: total s", ratio(big, small, "total"), 8.5)
        print(f"{f'512^3 / 256^3, {suffix}: peak':<46}{ratio(big, small, 'peak'):>9.2f}   should be 1", flush=True)


def large(folder: Path) -> None:
    """Filter a volume of 8 GB within 500 MB."""
    free = shutil.disk_usage(folder).free
    if free < LARGE_DISK:
        print(f"\n--large left out: it needs {LARGE_DISK / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free")
        return
    apart(write_scan, folder / "large.nii", LARGE, "uint16")
    options = "--out-dtype int16 --cast clip --max-memory 500M"
    one = run(ours("large.nii", "out.nii", *options.split()), folder)
    head("8 GB: uint16 .nii of 1024 x 1024 x 4096 to int16 .nii, with --max-memory 500M")
    show("ours", [one])
    speed = math.prod(LARGE) / one["wall"] / 1e6
    print(f"{speed:.1f} Mvoxel/s; read {one['read']:.1f} s, compute {one['compute']:.1f} s, write {one['write']:.1f} s")
    goal("peak MB", one["peak"] / 1e6, one["limit_bytes"] / 1e6, 0)


def main() -> None:
    """Measure in a temporary folder, which goes whatever happens."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.files", description=__doc__)
    parser.add_argument("--large", action="store_true", help="also filter 8 GB, which takes 17 GB of disk")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made; default: the system's")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the first is not timed; default 5")
    args = parser.parse_args()
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="lucid-files-", dir=args.folder) as folder:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {args.rounds} rounds, in {folder}", flush=True)
        runs = side_by_side(Path(folder), args.rounds)
        overlap(Path(folder), runs, args.rounds)
        linear(Path(folder), args.rounds)
        if args.large:
            large(Path(folder))


if __name__ == "__main__":
    main()
