"""One worker's way to its device and back.

On the CPU tensors are views of the arrays, and nothing is copied. On another device a lane has a stream of its own, and
host buffers in pinned memory: its copies run while other lanes compute. What a lane was given to copy is copied when
`download` returns, so that the caller may use its arrays again.

Lanes begin what a tile computes in turn: an operation of a device takes microseconds to begin, and threads that begin
some at the same time wait for the interpreter and the driver at each of them.
"""

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core import tensors
from lucid_core.boundary import Window
from lucid_core.errors import LimitError
from lucid_core.scratch import Scratch, Shape
from lucid_core.tensors import Tensor
from lucid_core.tensors.devices import CPU, Device

Array = npt.NDArray[Any]
CHUNK_BYTES = {"cpu": 1 << 20, "cuda": 16 << 20, "metal": 16 << 20}
"""What the elementwise operations of a tile work on at a time, so that it stays in a cache."""
_lock = threading.Lock()
_turns: dict[str, threading.Lock] = {}
"""The lock that the lanes of a device begin operations under, by device."""
_idle: dict[str, list[Any]] = {}
"""Streams that no lane has, by device: torch keeps freed memory for the stream that had it."""


class Lane:
    """A lane to the CPU, whose tensors are views of the arrays of a scratch."""

    device = CPU

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch

    @property
    def chunk_bytes(self) -> int:
        """Bytes that operations work on at a time."""
        return CHUNK_BYTES[self.device.kind]

    def turn(self) -> AbstractContextManager[object]:
        """Return what is held while operations are begun: nothing, as each lane of the CPU carries out its own."""
        return nullcontext()

    def release(self) -> None:
        """Let go of the buffers on the device."""

    def tensor(self, name: str, shape: Shape, dtype: npt.DTypeLike) -> Tensor:
        """Return a contiguous tensor over the buffer `name` on the device; what it holds is left from the last use."""
        return viewed(self._scratch.array(name, shape, dtype))

    def constant(self, array: Array) -> Tensor:
        """Return an array on the device, to be read only."""
        return viewed(array)

    def upload(self, window: Window) -> Tensor:
        """Return the padded block (C, d, h, w) of a window on the device."""
        return viewed(_forward(window.block(self._scratch)))

    def target(self, out: Array) -> Tensor:
        """Return what to compute the result for `out` into."""
        return viewed(_forward(out))

    def download(self, target: Tensor, out: Array) -> None:
        """Put what `target` gave into `out`."""
        if target.data_ptr() != out.ctypes.data or target.stride() != tuple(
            step // out.itemsize for step in out.strides
        ):
            np.copyto(out, target.numpy())


class DeviceLane(Lane):
    """A lane to a device with memory of its own. `sizes` are the bytes that buffers have from the beginning."""

    def __init__(self, scratch: Scratch, device: Device, stream: Any, sizes: Mapping[str, int]) -> None:
        super().__init__(scratch)
        self.device = device
        self._torch = tensors.library()
        self._stream = stream
        self._sizes = sizes
        self._buffers: dict[str, Tensor] = {}
        self._constants: dict[int, tuple[Array, Tensor]] = {}

    def turn(self) -> AbstractContextManager[object]:
        """Return the lock of the device."""
        with _lock:
            return _turns.setdefault(str(self.device), threading.Lock())

    def release(self) -> None:
        """Let go of the buffers on the device."""
        self._buffers.clear()
        self._constants.clear()

    def tensor(self, name: str, shape: Shape, dtype: npt.DTypeLike) -> Tensor:
        """Return a contiguous tensor over a buffer in the device's memory."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = self._buffers.pop(name, None)
        if buffer is None or buffer.numel() < size:
            del buffer
            room = max(size, self._sizes.get(name, 0))
            buffer = self._torch.empty(room, dtype=self._torch.uint8, device=self.device.for_torch)
        self._buffers[name] = buffer
        return buffer[:size].view(_dtype(self._torch, dtype)).view(shape)

    def constant(self, array: Array) -> Tensor:
        """Copy an array to the device, once; it is there for every stream when this returns."""
        if id(array) not in self._constants:
            self._constants[id(array)] = array, viewed(array).to(self.device.for_torch)
            self._wait()
        return self._constants[id(array)][1]

    def upload(self, window: Window) -> Tensor:
        """Copy the padded block of a window from pinned memory, without waiting for it."""
        block = window.block(self._scratch)
        if not self._is_pinned(block):
            staged = self._scratch.array("block", block.shape, block.dtype)
            np.copyto(staged, block)
            block = staged
        target = self.tensor("block on the device", block.shape, block.dtype)
        target.copy_(viewed(block), non_blocking=True)
        return target

    def target(self, out: Array) -> Tensor:
        """Return memory on the device for a result."""
        return self.tensor("out on the device", out.shape, out.dtype)

    def download(self, target: Tensor, out: Array) -> None:
        """Copy a result into `out`, over pinned memory where it is none; wait for it."""
        direct = self._is_pinned(out)
        pinned = out if direct else self._scratch.array("result", out.shape, out.dtype)
        viewed(pinned).copy_(target, non_blocking=self._stream is not None)
        self._wait()
        if not direct:
            np.copyto(out, pinned)

    def _is_pinned(self, array: Array) -> bool:
        """Say whether an array can be copied as it is: pinned where the device has streams, and in one piece."""
        if not array.flags.c_contiguous:
            return False
        return self._stream is None or bool(viewed(array).is_pinned())

    def _wait(self) -> None:
        """Wait for what was begun in this lane."""
        if self._stream is not None:
            self._stream.synchronize()


class LaneScratch(Scratch):
    """A scratch with a lane to a device; its buffers are in pinned memory where the device copies from that."""

    def __init__(self, device: Device, stream: Any, sizes: Mapping[str, int], *, grows: bool) -> None:
        super().__init__(grows=grows)
        if stream is not None:
            self._new = pinned
        self.lane = Lane(self) if device.is_cpu else DeviceLane(self, device, stream, sizes)

    def release(self) -> None:
        """Let go of every buffer, those on the device too: this and its lane refer to each other, and would live on."""
        super().release()
        self.lane.release()


def lane_of(scratch: Scratch) -> Lane:
    """Return the lane of a scratch, to the CPU where it has none."""
    return scratch.lane if isinstance(scratch, LaneScratch) else Lane(scratch)


@contextmanager
def worker(device: Device, sizes: Mapping[str, int], *, grows: bool) -> Iterator[Scratch]:
    """Make this thread a worker of a device, and yield its scratch.

    Operations on the CPU run in this thread alone: workers share the tiles, and the order of sums may follow from the
    number of threads. Neither gradients nor automatic casts that the caller uses hold in here.

    Raises `LimitError` where the device has too little memory.
    """
    torch = tensors.library()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast("cuda" if device.kind == "cuda" else "cpu", enabled=False))
        stream = stack.enter_context(_streaming(device)) if device.kind == "cuda" else None
        scratch = LaneScratch(device, stream, sizes, grows=grows)
        stack.callback(scratch.release)
        try:
            yield scratch
        except torch.cuda.OutOfMemoryError as error:
            raise LimitError(f"device {device} has too little free memory: {str(error).splitlines()[0]}") from error


@contextmanager
def _streaming(device: Device) -> Iterator[Any]:
    """Yield a stream of a GPU that no other lane has, and make it this thread's; all is done when it is left."""
    torch, name = tensors.library(), str(device)
    with _lock:
        idle = _idle.setdefault(name, [])
        stream = idle.pop() if idle else torch.cuda.Stream(device=name)
    try:
        with torch.cuda.stream(stream):
            try:
                yield stream
            finally:
                stream.synchronize()
    finally:
        with _lock:
            idle.append(stream)


class Constant:
    """An array that every lane of a run reads: it is copied to the device once."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self._lock = threading.Lock()
        self._there: dict[str, Tensor] = {}

    def on(self, lane: Lane) -> Tensor:
        """Return it on the device of a lane."""
        with self._lock:
            name = str(lane.device)
            if name not in self._there:
                self._there[name] = lane.constant(self.array)
            return self._there[name]


class _Writable:
    """The memory of an array that is not to be written, as torch takes no other; it is only read."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}


def viewed(array: Array) -> Tensor:
    """Return a tensor over the memory of an array."""
    torch = tensors.library()
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))


def pinned(size: int) -> npt.NDArray[np.uint8]:
    """Return `size` bytes of pinned memory, which torch keeps after use for the next one that asks for it."""
    torch = tensors.library()
    memory: npt.NDArray[np.uint8] = torch.empty(max(size, 1), dtype=torch.uint8, device="cpu", pin_memory=True).numpy()
    return memory[:size]


def pinned_bytes(size: int) -> int:
    """Return what `pinned` takes: torch rounds it up to a power of two."""
    return 1 << max(size - 1, 0).bit_length()


def _forward(array: Array) -> Array:
    """Return an array that torch can view: no axis is reversed."""
    return array if all(step >= 0 for step in array.strides) else array.copy()


def _dtype(torch: Any, dtype: npt.DTypeLike) -> Any:
    return getattr(torch, np.dtype(dtype).name)
