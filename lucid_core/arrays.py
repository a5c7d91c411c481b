"""Arrays that come in, of NumPy or any library that speaks `__array__` or DLPack, and memory for those that go out.

What comes in is viewed where its library lets it be, and never written to. (`__array__` is NumPy's protocol;
`__dlpack__` that of the Python array API standard.) Arrays of dask are told by their type, and dask is not imported.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from lucid_core.errors import ArgumentTypeError, LimitError
from lucid_core.pages import aligned

Array = npt.NDArray[Any]
HOST = (1, 3, 11, 13)
"""DLPack's numbers of the devices whose memory the CPU reads: kDLCPU, kDLCUDAHost, kDLROCMHost, kDLCUDAManaged."""


def as_array(name: str, values: Any) -> Array:
    """Return `values` as an array of NumPy; anything lazy is computed.

    Raises `ArgumentTypeError` for what is on another device, requires grad, is a masked array, or no array of numbers.
    """
    if isinstance(values, np.ndarray):
        _refuse_masked(name, values)
        return np.asarray(values)
    try:
        _check_exported(name, values)
        by_dlpack = hasattr(values, "__dlpack__") and not hasattr(values, "__array__")
        array = np.from_dlpack(values) if by_dlpack else np.asarray(values)
    except ArgumentTypeError:
        raise
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise ArgumentTypeError(f"{name} is no array of numbers: {error}") from error
    return array


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return memory for a result, or raise `LimitError`."""
    try:
        return aligned(shape, dtype)
    except (ValueError, MemoryError) as error:
        raise LimitError(f"the output of shape {shape} does not fit into memory: {error}") from error


def is_dask(values: Any) -> bool:
    """Say whether `values` is a `dask.array.Array`."""
    return _is(values, "dask.array", "Array")


def _is(values: Any, module: str, name: str) -> bool:
    """Say whether `values` is of a class whose module need not be loaded."""
    return isinstance(values, getattr(sys.modules.get(module), name, ()))


def _check_exported(name: str, values: Any) -> None:
    """Raise `ArgumentTypeError` for an array that its own library must change before NumPy can have it."""
    if hasattr(values, "__dlpack_device__") and values.__dlpack_device__()[0] not in HOST:
        where = getattr(values, "device", f"device {tuple(map(int, values.__dlpack_device__()))} of DLPack")
        raise ArgumentTypeError(
            f"{name} is on {where}, and is convolved on the CPU: copy it there, in PyTorch with .cpu(), in CuPy with "
            f".get()"
        )
    if getattr(values, "requires_grad", False) is True and hasattr(values, "detach"):
        raise ArgumentTypeError(
            f"{name} requires grad, and its own library does not see what is computed here: give {name}.detach()"
        )
    if "bfloat16" in str(getattr(values, "dtype", "")):
        raise ArgumentTypeError(
            f"{name} is bfloat16, which NumPy does not have: give it as float32, in PyTorch {name}.float()"
        )


def _refuse_masked(name: str, values: Array) -> None:
    if _is(values, "numpy.ma", "MaskedArray"):
        raise ArgumentTypeError(
            f"{name} is a masked array, and its mask would be lost: fill it, for example as {name}.filled(0), and give "
            f"the mask by itself"
        )
