"""The devices that torch computes on: how they are spelled, which are there, and their memory.

Presence is asked of the driver without starting CUDA: a process that started it cannot be forked into workers that
compute on a GPU.
"""

import re
from dataclasses import dataclass

from lucid_core import tensors
from lucid_core.errors import ArgumentError, ArgumentTypeError
from lucid_core.registry import did_you_mean

DEVICES = ("cpu", "cuda", "metal")
"""The kinds of devices; `cuda:1` is the second GPU."""
MARGIN = 0.1
"""Share of a device's free memory that is left: libraries, and other programs on it."""
_SPELLED = re.compile(r"(cpu|metal|cuda)(?::(\d{1,3}))?")


@dataclass(frozen=True)
class Device:
    """Where arithmetic runs."""

    kind: str = "cpu"
    index: int = 0

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind

    @property
    def for_torch(self) -> str:
        """The name that torch has for it."""
        return "mps" if self.kind == "metal" else str(self)

    @property
    def is_cpu(self) -> bool:
        """Whether it is the processor itself, whose memory is that of the process."""
        return self.kind == "cpu"


CPU = Device()


def spelled(text: str) -> Device:
    """Return the device that a text names, whether it is there or not; raise `ArgumentError` for no name of one."""
    if not isinstance(text, str):
        raise ArgumentTypeError(f"device must be a name, not {text!r}; legal: auto, {', '.join(DEVICES)}, cuda:1")
    found = _SPELLED.fullmatch(text)
    if found is None or (found[2] is not None and found[1] != "cuda"):
        raise ArgumentError(
            f"unknown device {text!r}; legal: auto, {', '.join(DEVICES)}, or cuda:N for one of several GPUs."
            f"{did_you_mean(text, DEVICES)}"
        )
    return Device(found[1], int(found[2] or 0))


def resolve(text: str) -> Device:
    """Return the device of a name, `auto` the one that `find` finds; raise `ArgumentError` where it is not there."""
    if text == "auto":
        return find()[0]
    device = spelled(text)
    if not device.is_cpu and (reason := missing(device)):
        raise ArgumentError(f"device {text!r} is not there: {reason}; use 'cpu', or 'auto' for what there is")
    return device


def find() -> tuple[Device, str | None]:
    """Return the first accelerator there is, CUDA before Metal; else the CPU, and why."""
    if reason := tensors.refusal():
        return CPU, reason
    try:
        tensors.library()
    except ArgumentError as error:
        return CPU, str(error)
    for device in (Device("cuda"), Device("metal")):
        if missing(device) is None:
            return device, None
    return CPU, "no accelerator was found"


def missing(device: Device) -> str | None:
    """Return why an accelerator cannot be used, or None; raise `ExtraError` without torch."""
    torch = tensors.library()
    if device.kind == "metal":
        return None if torch.backends.mps.is_available() else "torch finds no Metal device"
    count = torch.cuda.device_count()
    if device.index < count:
        return None
    if count:
        return f"torch finds {count} GPU{'s' * (count > 1)}, {', '.join(f'cuda:{one}' for one in range(count))}"
    built = torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None
    return "torch finds no GPU" if built else f"this torch ({torch.__version__}) was built without CUDA"


def free_bytes(device: Device) -> int | None:
    """Return the memory that can still be taken on a device, with what torch keeps unused; None for the CPU's."""
    if device.is_cpu:
        return None
    torch = tensors.library()
    if device.kind == "metal":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        kept = torch.cuda.memory_reserved(device.index) - torch.cuda.memory_allocated(device.index)
        free = torch.cuda.mem_get_info(device.index)[0] + kept
    return max(0, int((1 - MARGIN) * free))


def named(device: Device) -> str:
    """Return what a device is called, with its memory; starts CUDA."""
    torch = tensors.library()
    if device.kind != "cuda":
        return str(device)
    about = torch.cuda.get_device_properties(device.index)
    return f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
