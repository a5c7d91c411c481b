"""A wide Gaussian, a masked one and a stack of layers, beside their peers: `python -m tests.benchmarks.kernels`.

Whole programs on a 256^3 scan (ours, nibabel with SciPy, MRtrix), then the same in memory (`conv3d`, SciPy), then three
layers 1 -> 8 -> 8 -> 1 in memory (`Sequential`, PyTorch), each in a process of its own. Every round runs all in turn;
beside a figure stands its goal. Run it on an idle machine, with SciPy, torch and MRtrix installed; what is not is left
out.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

from tests.benchmarks.files import OURS, Run, apart, goal, head, in_turn, ratio, show, write_scan

SIGMA = 3
SHAPE = (256, 256, 256)
SCIPY = f"""
import sys, nibabel, numpy, scipy.ndimage
image = nibabel.load(sys.argv[1])
data = scipy.ndimage.gaussian_filter(image.get_fdata(dtype=numpy.float32), {SIGMA}, mode="nearest")
nibabel.save(nibabel.Nifti1Image(data, image.affine), sys.argv[2])
"""
IN_MEMORY = f"""
import json, sys, time
import numpy as np
name, engine = sys.argv[1:]
x = np.random.default_rng(0).normal(size={SHAPE}).astype(np.float32) + 5
mask = x > 4.5
if name == "scipy":
    from scipy import ndimage
    call = lambda: ndimage.gaussian_filter(x, {SIGMA}, mode="nearest")
else:
    import lucid_core
    from lucid_core.kernels import taps
    weight = taps("gaussian", sigma=({SIGMA},) * 3).astype(np.float32)[None, None]
    more = {{"plain": {{}}, "masked": {{"mask": mask}}, "renormalize": {{"padding_mode": "renormalize"}}}}[name]
    options = {{"padding": "same", "padding_mode": "replicate", "engine": engine}} | more
    call = lambda: lucid_core.conv3d(x[None], weight, **options)
"""
STACK = f"""
import json, sys, time
import numpy as np
name, engine = sys.argv[1:]
x = np.random.default_rng(0).normal(size=(1, 1, *{SHAPE})).astype(np.float32)
if name == "torch":
    import torch
    from torch import nn
    torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
    torch.set_grad_enabled(False)
    given = torch.from_numpy(x)
else:
    from lucid_core import nn
    given = x
net = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 8, 3, padding=1), nn.ReLU(),
                    nn.Conv3d(8, 1, 3, padding=1))
call = lambda: net(given)
"""
TIMED = """
call()
seconds = []
for _ in range(3):
    began = time.perf_counter()
    call()
    seconds.append(time.perf_counter() - began)
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
print(json.dumps({"wall": sorted(seconds)[1], "cpu": 0.0, "peak": peak}))
"""


def smooth(name: str, *options: str) -> list[str]:
    """Return our command to smooth the scan."""
    fixed = f"--kernel gaussian --sigma {SIGMA}mm -q --overwrite --report report.json"
    return [OURS, "apply", "scan.nii", "-o", name, *fixed.split(), *options]


def write_mask(given: Path, path: Path) -> None:
    """Write a mask of a scan."""
    scan = nib.load(given)
    inside = np.asanyarray(scan.dataobj) > 500
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), scan.affine), path)


def programs(folder: Path, rounds: int) -> None:
    """Compare whole programs."""
    apart(write_scan, folder / "scan.nii", SHAPE, "int16")
    apart(write_mask, folder / "scan.nii", folder / "mask.nii.gz")
    commands = {
        "ours": smooth("out.nii"),
        "ours, masked": smooth("out.nii", "--mask", "mask.nii.gz"),
        "ours, renormalize": smooth("out.nii", "--padding-mode", "renormalize"),
    }
    if importlib.util.find_spec("scipy"):
        commands["nibabel+scipy"] = [sys.executable, "-c", SCIPY, "scan.nii", "out.nii"]
    if shutil.which("mrfilter"):
        commands["mrfilter"] = ["mrfilter", "-quiet", "scan.nii", "smooth", "-stdev", str(SIGMA), "out.nii"]
    runs = in_turn(commands, folder, rounds + 1)
    head(f"Gaussian of {SIGMA} mm, 256^3 int16 .nii to float32 .nii, whole programs")
    for name, ones in runs.items():
        show(name, ones)
    if "mrfilter" in runs:
        goal("ours / mrfilter", ratio(runs["ours"], runs["mrfilter"]), 1)
    goal("ours, masked / ours", ratio(runs["ours, masked"], runs["ours"]), 2.2)


def alone(code: str, name: str, engine: str) -> Run:
    """Time a call in a process of its own: the median of three behind a first one, and its peak of memory."""
    done = subprocess.run(
        [sys.executable, "-c", code + TIMED, name, engine], check=True, capture_output=True, text=True
    )
    found: Run = json.loads(done.stdout)
    return found


def in_memory(title: str, code: str, names: dict[str, tuple[str, str]], rounds: int) -> dict[str, list[Run]]:
    """Time calls in turn and print them."""
    runs = [{shown: alone(code, *one) for shown, one in names.items()} for _ in range(rounds)]
    found = {name: [one[name] for one in runs] for name in names}
    print(f"\n{title}\n{'':<30}   wall s  peak MB", flush=True)
    for name, ones in found.items():
        print(f"{name:<30}{median(one['wall'] for one in ones):>9.3f}{median(one['peak'] for one in ones) / 1e6:>9.0f}")
    return found


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        programs(Path(folder), rounds)
    engines = ["numpy", *(["numba"] if importlib.util.find_spec("numba") else [])]
    ways = {f"{name}, {engine}": (name, engine) for engine in engines for name in ("plain", "masked", "renormalize")}
    if importlib.util.find_spec("scipy"):
        ways["scipy"] = ("scipy", "")
    found = in_memory(f"Gaussian of {SIGMA} voxels (25^3 taps), 256^3 float32, in memory", IN_MEMORY, ways, rounds)
    for engine in engines:
        if "scipy" in found:
            goal(f"plain, {engine} / scipy", ratio(found[f"plain, {engine}"], found["scipy"]), 1 / 3)
        goal(f"masked / plain, {engine}", ratio(found[f"masked, {engine}"], found[f"plain, {engine}"]), 2.2)
    nets = {"ours": ("ours", "")} | ({"torch": ("torch", "")} if importlib.util.find_spec("torch") else {})
    found = in_memory("Three layers 1 -> 8 -> 8 -> 1, k3, ReLU, 256^3 float32, in memory", STACK, nets, rounds)
    if "torch" in found:
        goal("ours / torch", ratio(found["ours"], found["torch"]), 1)
        goal("ours / torch, peak memory", ratio(found["ours"], found["torch"], "peak"), 0.2)


if __name__ == "__main__":
    main()
