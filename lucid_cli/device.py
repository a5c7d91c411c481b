"""Where a command computes: said once, before any input is opened."""

from collections.abc import Callable
from dataclasses import replace

from lucid_cli.settings import Settings
from lucid_core.errors import ExtraError


def settled(settings: Settings, tell: Callable[[str], None]) -> Settings:
    """Return settings with `auto` as the device that it comes to; where that is the CPU, tell why.

    Raises `ArgumentError` for a device that is not there, or an engine that does not compute on it.
    """
    if settings.device == "cpu" and settings.engine != "torch" and not settings.tf32:
        return settings
    from lucid_core.planner import CPU_ENGINES, where_to_compute
    from lucid_core.tensors.devices import CPU, find

    if settings.device == "auto":
        asked = settings.engine in CPU_ENGINES
        device, reason = (CPU, f"engine {settings.engine!r} was asked for") if asked else find()
        if reason is not None:
            tell(f"--device auto: {reason}; the CPU computes")
        settings = replace(settings, device=device.kind)
    try:
        where_to_compute(settings.engine, settings.device, tf32=settings.tf32)
    except ExtraError as error:
        what = "--engine torch" if settings.device == "cpu" else f"--device {settings.device}"
        raise ExtraError(f"{what}: {error}") from error
    return settings
