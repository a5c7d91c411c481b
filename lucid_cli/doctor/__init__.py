"""What this installation is and can do, and what is wrong with it: `examine` returns findings, `words` prints them.

Each module of `SECTIONS` looks at one thing and has a `find`. The checks of `selftest` run in a process of their own
(`trials`), as what is broken may crash.
"""

import importlib

from lucid_cli.doctor.findings import FAILED, Finding
from lucid_cli.failures import message

SECTIONS = ("packages", "computer", "folders", "engines", "environment", "selftest")


def examine() -> dict[str, list[Finding]]:
    """Return what was found, by section, in less than ten seconds."""
    return {section: _found(section) for section in SECTIONS}


def _found(section: str) -> list[Finding]:
    """Look at a section; where a package that it needs is broken, that is what is found."""
    try:
        found: list[Finding] = importlib.import_module(f"{__name__}.{section}").find()
    except Exception as error:
        return [Finding(section, message(error), FAILED, "install the package named here again")]
    return found
