"""Packages that are not always there: imported where needed, and named with their pip line where missing."""

import importlib
from types import ModuleType

from lucid_core.errors import ExtraError


def require(package: str, extra: str) -> ModuleType:
    """Import `package`, or raise `ExtraError` naming the extra of this distribution that brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ExtraError(
            f"this needs the package {package!r}, which is not installed; "
            f"install it with: pip install 'lucid-conv3d[{extra}]'"
        ) from error
