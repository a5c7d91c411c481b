"""Settings of the whole suite: property tests take the same examples on every run and are never timed."""

import importlib.util
import sys

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("suite")

PACKAGES = {
    "zst": "compression" if sys.version_info >= (3, 14) else "backports",
    "safetensors": "safetensors",
    "isal": "isal",
}
"""Packages of extras that a test needs which has their word in its name or in that of one of its parameters."""


def pytest_collection_modifyitems(items):
    """Skip what needs a package that is not installed."""
    missing = {word: name for word, name in PACKAGES.items() if importlib.util.find_spec(name) is None}
    for item in items:
        for word, name in missing.items():
            if word in item.name:
                item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))
