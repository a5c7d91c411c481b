"""The engines that can compute here: NumPy always, Numba and torch where they are installed, torch on its devices."""

from lucid_cli.doctor.findings import NOTE, PROBLEM, Finding
from lucid_core import blas, compiled, tensors
from lucid_core.errors import ExtraError
from lucid_core.tensors.devices import Device, named
from lucid_core.tensors.devices import find as accelerator


def find() -> list[Finding]:
    """Look at each engine, and at what it depends on."""
    return [_numpy(), _numba(), _torch()]


def _numpy() -> Finding:
    if blas.controls() is None:
        words = "ready, but its BLAS cannot be held at one thread, so that the same run may give other last digits"
        return Finding("numpy", words, PROBLEM, "export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1")
    return Finding("numpy", "ready, its BLAS held at one thread a tile")


def _numba() -> Finding:
    if compiled.refusal() is None:
        compiled.importable()
    refusal = compiled.refusal()
    if refusal is not None:
        broken = compiled.installed()
        advice = (
            "put that right, or do without: --engine numpy computes the same"
            if broken
            else "it is several times as fast"
        )
        return Finding("numba", refusal, PROBLEM if broken else NOTE, advice)
    from lucid_core.compiled import jit

    folder, count = jit.kept()
    if folder is None:
        advice = "name a folder where they can be kept: export NUMBA_CACHE_DIR=/FOLDER"
        return Finding("numba", "ready, but every process compiles its kernels anew, for seconds", PROBLEM, advice)
    if not count:
        advice = "the first run with a kind of layer takes some seconds more, and the next ones do not"
        return Finding("numba", f"ready; no kernel is compiled yet, they will be kept in {folder}", NOTE, advice)
    return Finding("numba", f"ready; {count} compiled kernels are kept in {folder}")


def _torch() -> Finding:
    if not tensors.installed():
        advice = "it computes on a GPU: --device cuda or metal"
        return Finding("torch", tensors.refusal() or "", NOTE, advice)
    try:
        torch = tensors.library()
    except ExtraError as error:
        return Finding("torch", str(error), PROBLEM, "put that right, or do without: it computes nothing unless asked")
    first, reason = accelerator()
    if reason is not None:
        return Finding("torch", f"{torch.__version__}, ready on the CPU with --engine torch; {reason}")
    count = torch.cuda.device_count() if first.kind == "cuda" else 1
    found = [Device(first.kind, index) for index in range(count)]
    return Finding(
        "torch", f"{torch.__version__}, ready on {', '.join(f'{device} ({named(device)})' for device in found)}"
    )
