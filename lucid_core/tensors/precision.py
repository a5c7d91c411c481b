"""The switches of torch that change results, held while the engine computes and put back after it.

They are the process's, so runs that want them alike share them, and one that wants them otherwise waits.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lucid_core import tensors

_state = threading.Condition()
_users = 0
_tf32 = False
_before: list[tuple[Any, str, Any]] = []
_threads = 1


@contextmanager
def held(*, tf32: bool) -> Iterator[None]:
    """Hold products of float32 at float32, or TF32 where that is asked for, and cuDNN at what gives the same each time.

    The threads of torch's own operations, which each worker sets to one, are put back too.
    """
    global _users, _tf32, _threads
    torch = tensors.library()
    with _state:
        _state.wait_for(lambda: not _users or _tf32 == tf32)
        if not _users:
            _tf32, _threads = tf32, torch.get_num_threads()
            _before[:] = [(owner, name, getattr(owner, name)) for owner, name, _ in _switches(torch, tf32)]
            _set(_switches(torch, tf32))
        _users += 1
    try:
        yield
    finally:
        torch.set_num_threads(_threads)
        with _state:
            _users -= 1
            if not _users:
                _set(_before)
                _clear_workspaces(torch)
                _state.notify_all()


def rounds() -> bool:
    """Say whether products of float32 are held at TF32."""
    return bool(_users) and _tf32


def _clear_workspaces(torch: Any) -> None:
    """Let go of what cuBLAS holds for every pair of a thread and a stream that met: with new threads it would grow."""
    clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
    if clear is not None and torch.cuda.is_initialized():
        clear()


def _set(switches: list[tuple[Any, str, Any]]) -> None:
    for owner, name, value in switches:
        setattr(owner, name, value)


class _Matmul:
    """The one switch of torch before 2.9 for all matrix products, as an attribute."""

    def __init__(self, torch: Any) -> None:
        self.__dict__["_torch"] = torch

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["_torch"].get_float32_matmul_precision()

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__["_torch"].set_float32_matmul_precision(value)


def _switches(torch: Any, tf32: bool) -> list[tuple[Any, str, Any]]:
    """Return each switch: where it is, its name, and the value to hold. Those of the CPU never round to less."""
    backends = torch.backends
    steady = [(backends.cudnn, "benchmark", False), (backends.cudnn, "deterministic", True)]
    if not hasattr(backends.cuda.matmul, "fp32_precision"):  # torch before 2.9
        precise = [(_Matmul(torch), "precision", "high" if tf32 else "highest")]
        return [*steady, *precise, (backends.cudnn, "allow_tf32", tf32)]
    gpu = "tf32" if tf32 else "ieee"
    return [
        *steady,
        (backends.cuda.matmul, "fp32_precision", gpu),
        (backends.cudnn.conv, "fp32_precision", gpu),
        (backends.mkldnn.matmul, "fp32_precision", "ieee"),
        (backends.mkldnn.conv, "fp32_precision", "ieee"),
    ]
