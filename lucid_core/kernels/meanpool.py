"""Mean pooling: the mean of blocks of `size` that lie side by side (stride `size`, padding valid, unless said)."""

from lucid_core.errors import ArgumentError
from lucid_core.kernels import NamedKernel, Taps
from lucid_core.kernels.box import make as box


def make(size: tuple[int, int, int] | None = None) -> Taps:
    """Return the mean of a block of `size` voxels along D, H, W."""
    if size is None:
        raise ArgumentError("the kernel 'meanpool' needs its size, such as --size 2vox")
    return box(size)


KERNEL = NamedKernel("meanpool", ("size",), make, pools=True)
