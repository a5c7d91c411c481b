"""The plan of a convolution: what was chosen, what it will take, and every candidate with its price or refusal."""

from dataclasses import dataclass

from lucid_core.problem import ConvProblem
from lucid_core.regions import Triple
from lucid_core.stack import Problem
from lucid_core.units import format_bytes

PROCESS_BYTES = 100 << 20
"""Resident memory of the interpreter with NumPy, nibabel and h5py."""
COMPILER_BYTES = 176 << 20
"""Resident memory of Numba after it compiled a kernel."""
TORCH_BYTES = 256 << 20
"""Resident memory of torch after it computed on the CPU."""


@dataclass(frozen=True)
class Candidate:
    """One algorithm that was weighed: its predicted seconds, or why it was refused."""

    algorithm: str
    engine: str
    seconds: float | None
    refused: str | None
    accuracy: str
    error_bound: float
    """Factor of sum |x||w| + |b| that the error stays under."""


@dataclass(frozen=True)
class Choice:
    """The algorithm chosen for a convolution, among those that were weighed."""

    problem: ConvProblem
    algorithm: str
    engine: str
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        return "\n".join(self._line(candidate) for candidate in self.candidates)

    def _line(self, candidate: Candidate) -> str:
        verdict = f"{candidate.seconds:.3g} s" if candidate.seconds is not None else f"refused: {candidate.refused}"
        chosen = (candidate.algorithm, candidate.engine) == (self.algorithm, self.engine)
        mark = "*" if chosen else " "
        return f"{mark} {candidate.algorithm} ({candidate.engine}): {verdict}"


@dataclass(frozen=True)
class Ends:
    """What the process and the two ends of a run, reading and writing, take beside the tiles in work, in bytes."""

    process: int = PROCESS_BYTES
    """The interpreter and its libraries."""
    compiler: int = COMPILER_BYTES
    """What compiled kernels add to it, where they run."""
    torch: int = TORCH_BYTES
    """What torch adds to it, where it computes."""
    reader: int = 0
    plane: int = 0
    """An input D plane, all channels, of a reader that holds planes from the first to the last a tile needs."""
    planes_at_once: int = 1
    """Planes such a reader reads together."""
    writer: int = 0
    copies: float = 0.0
    """What casting and encoding a tile's output takes, as a share of it."""
    grain: Triple = (1, 1, 1)
    """Output voxels along D, H, W that are stored together: tiles are multiples of this where they can be."""
    block: int = 1
    """Output planes that are encoded together."""
    waiting: int = 0
    """What waits for the rest of its block where tiles are no multiple of `block`."""
    workers: int | None = None
    """Processes that work at the same time, each with so much memory and so many threads; None for this one alone."""


@dataclass(frozen=True)
class Memory:
    """The memory of a run, each copy by itself, in bytes."""

    process: int
    """The interpreter and its libraries."""
    weights: int
    blocks: int
    """Padded input blocks of all tiles in work."""
    workspace: int
    """What the algorithm takes for all tiles in work."""
    outputs: int
    """Output blocks of all tiles in work."""
    reader: int
    writer: int

    @property
    def peak_bytes(self) -> int:
        """All of it at once."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class DeviceMemory:
    """The memory that a run takes on a device other than the CPU, part by part, in bytes."""

    weights: int
    blocks: int
    """Padded input blocks of all tiles in work."""
    workspace: int
    """What the algorithm, and the libraries it calls, take for all tiles in work."""
    outputs: int

    @property
    def peak_bytes(self) -> int:
        """All of it at once."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Plan:
    """A problem, the algorithm chosen for each of its convolutions, and how it is cut into tiles."""

    problem: Problem
    choices: tuple[Choice, ...]
    device: str
    threads: int
    tile: Triple
    """Output voxels of one tile along D, H, W."""
    tiles: int
    memory: Memory
    limit_bytes: int | None
    batch_size: int | None = None
    """Volumes of the batch in work at once, None for no bound."""
    device_memory: DeviceMemory | None = None
    """What is taken on the device, None where that is the CPU."""
    device_limit_bytes: int | None = None
    tf32: bool = False
    """Whether tensor cores may multiply float32 as TF32."""

    @property
    def in_work(self) -> int:
        """Tiles in work at once: one a thread."""
        return max(1, min(self.threads, self.tiles))

    @property
    def algorithm(self) -> str:
        """The algorithm; of a stack each that is used, once."""
        return "+".join(dict.fromkeys(choice.algorithm for choice in self.choices))

    @property
    def engine(self) -> str:
        """The engine; of a stack each that is used, once."""
        return "+".join(dict.fromkeys(choice.engine for choice in self.choices))

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What was weighed, convolution after convolution."""
        return tuple(candidate for choice in self.choices for candidate in choice.candidates)

    def __str__(self) -> str:
        lines = [
            f"algorithm {self.algorithm} ({self.engine}) on {self.threads} threads",
            f"{self.tiles} tiles of {'x'.join(map(str, self.tile))} output voxels (D, H, W)",
            f"peak memory {format_bytes(self.memory.peak_bytes)}",
        ]
        if self.device_memory is not None:
            lines.append(f"device {self.device}, of which {format_bytes(self.device_memory.peak_bytes)}")
        for number, choice in enumerate(self.choices, start=1):
            lines += [f"convolution {number}"] * (len(self.choices) > 1) + [str(choice)]
        return "\n".join(lines)
