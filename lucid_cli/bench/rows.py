"""What the measurement of one workload is: the planner's choice, and the time of everybody who can compute it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lucid_cli.bench.workloads import Workload
from lucid_core.plan import Candidate, Plan

SHOWN = ("kernel_size", "stride", "pads", "dilation", "groups", "padding_mode", "bias", "dtype", "separable")


@dataclass(frozen=True)
class Time:
    """Somebody's median seconds, or why there are none."""

    name: str
    seconds: float | None
    skipped: str | None


@dataclass(frozen=True)
class Member:
    """An algorithm of an engine, its time, and its worst error among the voxels looked at, None where it did not run.

    The error is a share of sum |x||w| + |b|, of the largest in the volume where the algorithm is bounded normwise.
    """

    candidate: Candidate
    time: Time
    worst_error: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the member as the report holds it."""
        one = self.candidate
        return {
            "algorithm": one.algorithm,
            "engine": one.engine,
            "accuracy": one.accuracy,
            "error_bound": one.error_bound,
            "worst_error": self.worst_error,
            "predicted_seconds": one.seconds,
            "seconds": self.time.seconds,
            "skipped": self.time.skipped,
        }


@dataclass(frozen=True)
class Row:
    """A workload and all its times."""

    load: Workload
    chosen: Plan
    seconds: float
    """What the planner's choice takes, planning included."""
    members: tuple[Member, ...]
    peers: tuple[Time, ...]

    @property
    def gflop_s(self) -> float:
        """Effective rate: the operations of the definition over the time, however many were done."""
        return 2 * self.chosen.problem.macs / self.seconds / 1e9

    @property
    def peer_ratio(self) -> float | None:
        """Time of the fastest peer over ours: above 1 where ours is faster. None without peers."""
        fastest = _fastest(self.peers)
        return None if fastest is None else fastest / self.seconds

    @property
    def error_ratio(self) -> float:
        """The worst error of a member over what its algorithm states."""
        errors = [(one.worst_error, one.candidate.error_bound) for one in self.members]
        return max((worst / stated for worst, stated in errors if worst is not None), default=0.0)

    @property
    def choice_ratio(self) -> float:
        """Time of the planner's choice over that of the fastest member."""
        return self.seconds / (_fastest(member.time for member in self.members) or self.seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the row as the report holds it."""
        problem = self.chosen.problem
        return {
            "name": self.load.name,
            "shapes": {"input": list(problem.in_shape), "output": list(problem.out_shape)},
            "layer": {name: getattr(problem, name) for name in SHOWN},
            "macs": problem.macs,
            "algorithm": self.chosen.algorithm,
            "engine": self.chosen.engine,
            "seconds": self.seconds,
            "gflop_s": self.gflop_s,
            "members": [member.to_json() for member in self.members],
            "peers": [dict(vars(one)) for one in self.peers],
            "peer_ratio": self.peer_ratio,
            "choice_ratio": self.choice_ratio,
        }


def _fastest(times: Iterable[Time]) -> float | None:
    return min((one.seconds for one in times if one.seconds is not None), default=None)
