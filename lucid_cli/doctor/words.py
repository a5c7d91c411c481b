"""Findings printed: for people, or as JSON."""

import json

from lucid_cli.doctor.findings import FAILED, PROBLEM, Finding
from lucid_core import __version__

SCHEMA = "lucid-conv3d/doctor-1"
Sections = dict[str, list[Finding]]


def passed(sections: Sections) -> bool:
    """Say whether nothing failed."""
    return not any(one.status == FAILED for findings in sections.values() for one in findings)


def table(sections: Sections) -> str:
    """Return a line a finding, with what to do under it, and the sum of all."""
    width = max(len(one.name) for findings in sections.values() for one in findings)
    lines = []
    for section, findings in sections.items():
        lines += [section, *(line for one in findings for line in _lines(one, width)), ""]
    return "\n".join([*lines, _sum(sections), ""])


def _lines(one: Finding, width: int) -> list[str]:
    shown = [f"{one.status:>9}  {one.name:<{width}}  {one.text}"]
    return shown + ([f"{'':>9}  {'':<{width}}  -> {one.advice}"] if one.advice else [])


def _sum(sections: Sections) -> str:
    statuses = [one.status for findings in sections.values() for one in findings]
    failed, problems = statuses.count(FAILED), statuses.count(PROBLEM)
    if not failed and not problems:
        return "all is well"
    return f"{failed} failed, {problems} problems: what to do stands behind ->"


def dump(sections: Sections) -> str:
    """Return JSON: every finding with its section and status."""
    findings = [{"section": section, **vars(one)} for section, several in sections.items() for one in several]
    whole = {"schema": SCHEMA, "version": __version__, "ok": passed(sections), "findings": findings}
    return json.dumps(whole, indent=2, allow_nan=False) + "\n"
