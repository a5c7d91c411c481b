"""Settings of the whole suite: property tests take the same examples on every run and are never timed."""

import importlib.util
import re
import signal
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

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # as in the background of a shell; what tests start inherits it
        signal.signal(number, handler)

TORCH = r"\[.*_torch\b"
"""Names of tests that compute with torch, by their parameters; they are marked `torch`."""
PACKAGES = {
    "onnx": "onnx",
    "zst": "compression" if sys.version_info >= (3, 14) else "backports",
    "safetensors": "safetensors",
    "isal": "isal",
    r"\[.*numba": "numba",
    TORCH: "torch",
    r"\[lucid-conv3d preview": "matplotlib",
    r"\btif|Tiff": "tifffile",
    r"\.mrc": "mrcfile",
    r"zarr|ozx": "zarr",
    r"\[dcm": "pydicom",
    "python_example": "dask",
}
"""Packages of extras that a test needs whose name, that of its parameters included, matches."""
SMOKE = (
    "core/test_units",
    "core/test_problem",
    "core/test_boundary",
    "core/test_weighted",
    "core/test_functional",
    "contracts/test_kernels",
    "cli/test_sample",
    "cli/test_skip_existing",
    "cli/test_progress",
)
"""Files whose tests are marked `smoke`: seconds, and a bit of everything."""


def pytest_collection_modifyitems(items):
    """Mark the tests of `SMOKE`, and skip what needs a package that is not installed."""
    missing = {pattern: name for pattern, name in PACKAGES.items() if importlib.util.find_spec(name) is None}
    for item in items:
        if item.nodeid.split("::")[0].removeprefix("tests/").removesuffix(".py") in SMOKE:
            item.add_marker(pytest.mark.smoke)
        if re.search(TORCH, item.name):
            item.add_marker(pytest.mark.torch)
        for pattern, name in missing.items():
            if re.search(pattern, item.name):
                item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))
