"""SciPy: `scipy.ndimage.correlate`, and `correlate1d` along each axis where the kernel is a product."""

from collections.abc import Callable

from lucid_cli.peers import Array, Peer
from lucid_core.factors import factors
from lucid_core.padding import PADDING_MODES
from lucid_core.problem import ConvProblem


class SciPy(Peer):
    """One volume, one channel, on one thread, the output as large as the input."""

    name = "scipy"
    packages = ("scipy",)

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse what a filter of images is not."""
        if (problem.batch, problem.in_channels, problem.out_channels) != (1, 1, 1):
            return "it filters one volume of one channel"
        if problem.stride != (1, 1, 1) or problem.dilation != (1, 1, 1):
            return "it has no stride and no dilation"
        ends = zip(problem.pads, problem.kernel_size, strict=True)
        centred = all(low == high == (size - 1) / 2 for (low, high), size in ends)
        return None if centred else "its kernel is centred on each voxel"

    def prepare(
        self,
        problem: ConvProblem,
        x: Array,
        weight: Array,
        bias: Array | None,
        threads: int,  # noqa: ARG002 - it has one
    ) -> Callable[[], Array]:
        """Find the factors of a kernel once."""
        ndimage = self.load("scipy.ndimage")
        named = PADDING_MODES[problem.padding_mode]
        mode = named.scipy_grid or named.scipy
        split = factors(weight)
        offset = 0 if bias is None else bias[0]
        depth, height, _ = problem.kernel_size
        ends = (0, depth, depth + height, None)

        def whole() -> Array:
            return _offset(ndimage.correlate(x[0, 0], weight[0, 0], mode=mode), offset)

        def by_axes() -> Array:
            out = x[0, 0]
            assert split is not None
            for axis in range(3):
                out = ndimage.correlate1d(out, split[0, ends[axis] : ends[axis + 1]], axis, mode=mode)
            return _offset(out, offset)

        return by_axes if split is not None else whole


def _offset(volume: Array, offset: float) -> Array:
    """Add the bias, where there is one, and return (1, 1, D, H, W)."""
    if offset:
        volume += offset
    return volume[None, None]


PEER = SciPy()
