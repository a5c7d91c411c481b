"""PyTorch: `torch.nn.functional.conv3d`."""

from collections.abc import Callable

from lucid_cli.peers import Array, Peer
from lucid_core.padding import PADDING_MODES
from lucid_core.problem import ConvProblem


class Torch(Peer):
    """Pads by itself with zeros, and with `pad` before all else, as `torch.nn.Conv3d` does."""

    name = "torch"
    packages = ("torch",)

    def refuses(self, problem: ConvProblem) -> str | None:
        """Refuse padding modes that PyTorch does not have."""
        return None if PADDING_MODES[problem.padding_mode].torch else f"it has no padding mode {problem.padding_mode!r}"

    def prepare(
        self, problem: ConvProblem, x: Array, weight: Array, bias: Array | None, threads: int
    ) -> Callable[[], Array]:
        """Share the arrays; the number of threads is one for the whole process."""
        torch = self.load()
        functional = self.load("torch.nn.functional")
        torch.set_num_threads(threads)
        volume, filters = torch.from_numpy(x), torch.from_numpy(weight)
        offsets = None if bias is None else torch.from_numpy(bias)
        pads = [pad for low_high in reversed(problem.pads) for pad in low_high]
        mode = PADDING_MODES[problem.padding_mode].torch
        itself = mode == "constant" and all(low == high for low, high in problem.pads)
        padding = tuple(low for low, _ in problem.pads) if itself else 0

        def run() -> Array:
            with torch.inference_mode():
                padded = volume if itself else functional.pad(volume, pads, mode)
                out = functional.conv3d(
                    padded, filters, offsets, problem.stride, padding, problem.dilation, problem.groups
                )
            result: Array = out.numpy()
            return result

        return run


PEER = Torch()
