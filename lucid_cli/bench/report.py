"""A session as JSON, or as lines for people."""

import json
from typing import Any

from lucid_cli.bench.rows import Row
from lucid_cli.bench.session import Session
from lucid_cli.bench.workloads import WORKLOADS
from lucid_core import __version__

SCHEMA = "lucid-conv3d/bench-1"


def listing() -> str:
    """Return the built-in workloads, a line each."""
    width = max(len(load.name) for load in WORKLOADS)
    return "".join(f"{load.name:<{width}}  {load}\n" for load in WORKLOADS)


def dump(session: Session) -> str:
    """Return a session as JSON."""
    settings = session.terms.settings
    tree = {
        "schema": SCHEMA,
        "version": __version__,
        "machine": session.machine,
        "threads": session.terms.threads,
        "rounds": session.terms.rounds,
        "quick": session.quick,
        "accuracy": settings.accuracy,
        "values": "random",
        "workloads": [row.to_json() for row in session.rows],
        "geometric_mean": session.geometric_mean,
        "worst_ratio": session.worst_ratio,
        "worst_choice_ratio": session.worst_choice_ratio,
        "worst_error_ratio": session.worst_error_ratio,
    }
    return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def table(session: Session) -> str:
    """Return a line a workload, what they come to, and the machine."""
    members = _names(session, "members")
    peers = _names(session, "peers")
    head = ["workload", "volume", "chosen", "ours", *members, *peers, "GFLOP/s", "peer/ours", "choice"]
    lines = [head, *(_line(row, members, peers) for row in session.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = 3
    aligned = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*aligned, "", *_summary(session)]) + "\n"


def _times(row: Row, kind: str) -> dict[str, float]:
    """Return the seconds of the members or the peers of a row that were timed, by name."""
    times = [member.time for member in row.members] if kind == "members" else list(row.peers)
    return {one.name: one.seconds for one in times if one.seconds is not None}


def _names(session: Session, kind: str) -> list[str]:
    """Return who was timed in any row, in order."""
    return list(dict.fromkeys(name for row in session.rows for name in _times(row, kind)))


def _line(row: Row, members: list[str], peers: list[str]) -> list[str]:
    ours, others = _times(row, "members"), _times(row, "peers")
    cells = [row.load.name, row.load.sizes, f"{row.chosen.algorithm}/{row.chosen.engine}", _ms(row.seconds)]
    cells += [_ms(ours.get(name)) for name in members] + [_ms(others.get(name)) for name in peers]
    return [*cells, f"{row.gflop_s:.1f}", _ratio(row.peer_ratio), _ratio(row.choice_ratio)]


def _ms(seconds: float | None) -> str:
    """Return milliseconds to three digits, or so many as there are before the point."""
    if seconds is None:
        return "-"
    ms = 1000 * seconds
    return f"{ms:.{2 if ms < 9.995 else 1 if ms < 99.95 else 0}f}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _summary(session: Session) -> list[str]:
    about, terms = session.machine, session.terms
    packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items() if number)
    vectors = f"vectors of {about['vector_bits']} bits" if about["vector_bits"] else "no fused multiply-add"
    rows = [
        ("times", f"ms, the median of {_count(terms.rounds, 'round')} in turn; the voxels are random"),
        ("ratios", "peer/ours is the fastest peer's time over ours, choice is ours over the fastest algorithm's"),
        ("threads", f"{terms.threads} of {_count(about['cores'], 'core')}"),
        ("machine", f"{about['cpu']}, {vectors}"),
        ("", f"copies {about['copy_gb_s']:.1f} GB/s, multiplies matrices with {about['sgemm_gflop_s']:.0f} GFLOP/s"),
        ("packages", packages),
        *_left_out(session),
        ("peer/ours", _over_all(session)),
        ("choice", f"at worst {session.worst_choice_ratio:.2f}"),
        ("errors", f"at worst {session.worst_error_ratio:.2g} of what an algorithm states"),
    ]
    return [f"{name:>9}  {text}" for name, text in rows]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _over_all(session: Session) -> str:
    if session.geometric_mean is None:
        return "no peer was timed"
    return f"geometric mean {session.geometric_mean:.2f}, at worst {session.worst_ratio:.2f}"


def _left_out(session: Session) -> list[tuple[str, Any]]:
    """Return a line for every peer that no row has a time of."""
    timed = _names(session, "peers")
    reasons = {one.name: one.skipped for row in session.rows for one in row.peers if one.name not in timed}
    return [("no peer", f"{name}: {reason}") for name, reason in reasons.items()]
