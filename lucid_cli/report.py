"""The shape report: one typed result, printed as JSON or as a table."""

import json
from dataclasses import dataclass
from typing import Any

from lucid_core import __version__
from lucid_core.plan import Choice, Plan
from lucid_core.units import format_bytes

SCHEMA = "lucid-conv3d/report-1"


@dataclass(frozen=True)
class Item:
    """One input: what it was, what came of it, and how. A failed one has its path and error, and null elsewhere."""

    input: dict[str, Any]
    output: dict[str, Any] | None
    layer: dict[str, Any] | None
    shapes: dict[str, list[int]] | None
    parameters: int | None
    macs: int | None
    plan: Plan | None
    seconds: dict[str, Any]
    peak_rss_bytes: int
    status: str
    error: str | None
    volume: dict[str, Any] | None = None
    """Mask, missing voxels and scaling of the input, where there is any."""
    provenance: dict[str, Any] | None = None
    """What the output was made from, where that is kept."""

    def to_json(self) -> dict[str, Any]:
        """Return the item as the report holds it."""
        plain = {name: value for name, value in vars(self).items() if name not in ("layer", "volume", "provenance")}
        plain |= {"volume": self.volume} if self.volume else {}
        plain |= {"provenance": self.provenance} if self.provenance else {}
        return plain | {"plan": None if self.plan is None else plan_json(self.plan)}


def bare_item(path: str, status: str, peak_rss_bytes: int, error: str | None = None) -> Item:
    """Return the item of an input that was skipped or failed."""
    seconds = dict.fromkeys(("read", "compute", "write", "total"))
    return Item({"path": path}, None, None, None, None, None, None, seconds, peak_rss_bytes, status, error)


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as the report holds it."""
    several = {"convolutions": [_choice_json(choice) for choice in plan.choices]} if len(plan.choices) > 1 else {}
    return several | {
        "algorithm": plan.algorithm,
        "engine": plan.engine,
        "device": plan.device,
        "threads": plan.threads,
        "tile": list(plan.tile),
        "tiles": plan.tiles,
        "halo": [list(pair) for pair in plan.problem.halo],
        "peak_bytes": plan.memory.peak_bytes,
        "limit_bytes": plan.limit_bytes,
        **_device_json(plan),
        "candidates": [dict(vars(one)) for one in plan.candidates],
    }


def _device_json(plan: Plan) -> dict[str, Any]:
    """Return what a plan takes on a device that has memory of its own, and whether TF32 is allowed; nothing else."""
    memory = plan.device_memory
    if memory is None:
        return {}
    return {
        "device_bytes": memory.peak_bytes,
        "device_limit_bytes": plan.device_limit_bytes,
        "tf32": plan.tf32,
    }


def _choice_json(choice: Choice) -> dict[str, Any]:
    """Return what was chosen for one convolution of several."""
    return {
        "algorithm": choice.algorithm,
        "engine": choice.engine,
        "candidates": [dict(vars(one)) for one in choice.candidates],
    }


def report_json(command: str, items: list[Item], shard: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the whole report, with the part of the inputs it is of where that is one."""
    return {
        "schema": SCHEMA,
        "version": __version__,
        "command": command,
        "status": overall({item.status for item in items}),
        **({} if shard is None else {"shard": shard}),
        "layer": next((item.layer for item in items if item.layer), None),
        "items": [item.to_json() for item in items],
    }


def overall(statuses: set[str]) -> str:
    """Return the status of a report: `failed` if any item failed, `planned` if nothing was run."""
    return "failed" if "failed" in statuses else "planned" if statuses == {"planned"} else "ok"


def dump(report: dict[str, Any]) -> str:
    """Return JSON, with no number that JSON does not know."""
    return json.dumps(report, indent=2, allow_nan=False) + "\n"


def table(item: Item) -> str:
    """Return an item as lines for people."""
    if not (found := rows(item)):
        return f"{item.input['path']}: {item.status}" + (f": {item.error}" if item.error else "")
    return "\n".join(f"{name:>10}  {text}" for name, text in found)


def rows(item: Item) -> list[tuple[str, str]]:
    """Return what is known of an item, named; nothing for one that was skipped or failed."""
    if item.plan is None or item.shapes is None or item.output is None or item.layer is None:
        return []
    found = [
        ("input", volume_line(item.input)),
        ("output", volume_line(item.output)),
        ("N,C,D,H,W", " -> ".join("x".join(map(str, item.shapes[name])) for name in ("input", "padded", "output"))),
        *[row for layer in item.layer.get("layers", [item.layer]) for row in layer_rows(layer)],
        *([("volume", _reading_line(item.volume))] if item.volume else []),
        ("work", f"{item.parameters} parameters, {item.macs / 1e9 if item.macs else 0:.3g} GMAC"),
        ("plan", _plan_line(item.plan)),
    ]
    if item.status == "ok":
        found.append(("values", _values_line(item.output)))
        found.append(("seconds", ", ".join(f"{name} {value:.2f}" for name, value in item.seconds.items())))
    return found


def volume_line(volume: dict[str, Any]) -> str:
    """Return what a header says of a volume, as `VolumeInfo.to_json` gives it, as one line."""
    return f"{volume['path'] or '(not named)'}  {volume['format']} {grid_line(volume)}"


def grid_line(volume: dict[str, Any]) -> str:
    """Return the sizes, type and spacing of a volume."""
    spacing = volume["spacing_mm"]
    where = "no spacing" if spacing is None else "x".join(f"{step:.4g}" for step in spacing) + " mm"
    return f"{'x'.join(map(str, volume['shape']))} ({volume['axes']}) {volume['dtype']}, {where}"


def layer_rows(layer: Any) -> list[tuple[str, str]]:
    """Return the rows of a layer, or of an elementwise operation between layers."""
    if isinstance(layer, str):
        return [("then", layer)]
    if "kernel_size" not in layer:
        return [("then", f"{name} {_short(numbers)}") for name, numbers in layer.items()]
    kernel = [("kernel", _kernel_line(layer["kernel"]))] if "kernel" in layer else []
    return [*kernel, ("layer", _layer_line(layer))]


def _reading_line(volume: dict[str, Any]) -> str:
    """Return what is done to the values on reading."""
    parts = [f"mask {volume['mask']['path']}"] if "mask" in volume else []
    parts += [f"{float(volume['outside']):g} outside it"] if "outside" in volume else []
    parts += ["NaN left out"] if "nan" in volume else []
    if "normalize" in volume:
        scaling = [one for channels in volume["scaling"] or [] for one in channels]
        one = f" (x - {scaling[0]['offset']:.6g}) / {scaling[0]['divisor']:.6g}" if len(scaling) == 1 else ""
        parts.append(f"normalize {volume['normalize']}{one}")
    return ", ".join(parts)


def _layer_line(layer: dict[str, Any]) -> str:
    sizes = {name: _short(layer[name]) for name in ("kernel_size", "stride", "padding", "dilation")}
    return f"{layer['in_channels']} -> {layer['out_channels']} channels, " + ", ".join(
        [f"{name} {value}" for name, value in sizes.items()]
        + [f"groups {layer['groups']}, bias {layer['bias']}, {layer['padding_mode']}, {layer['dtype']}"]
    )


def _kernel_line(kernel: dict[str, Any]) -> str:
    """Return what a named kernel is in voxels; sums and centres of a bank only where all are the same."""
    parts = [kernel["name"] + _direction(kernel["options"]), f"{'x'.join(map(str, kernel['size']))} voxels"]
    several = isinstance(kernel["sum"], list)
    parts += [f"{len(kernel['sum'])} filters"] if several else [f"sum {round(kernel['sum'], 9):.6g}"]
    if not several and any(kernel["centre"] or ()):
        parts.append(f"centre {','.join(f'{one:.4g}' for one in kernel['centre'])}")
    return ", ".join(parts)


def _direction(options: dict[str, Any]) -> str:
    """Return the axis or the orders of a derivative, nothing for other kernels."""
    if "axis" in options:
        names = [f"{letter} ({axis})" for letter, axis in zip("zyx", "DHW", strict=True)]
        return " along " + next((name for name in names if options["axis"] in name), "z, y and x")
    return f" of order {','.join(map(str, options['order']))}" if "order" in options else ""


def _short(value: Any) -> str:
    if isinstance(value, list):
        return str(value[0]) if len(set(value)) == 1 else ",".join(map(str, value))
    return str(value)


def _plan_line(plan: Plan) -> str:
    tile = "x".join(map(str, plan.tile))
    peak = format_bytes(plan.memory.peak_bytes)
    where = "" if plan.device_memory is None else f" on {plan.device}"
    return f"{plan.algorithm} ({plan.engine}{where}), {plan.threads} threads, {plan.tiles} tiles of {tile}, peak {peak}"


def _values_line(output: dict[str, Any]) -> str:
    known = output["min"] is not None
    line = f"{output['min']:.6g} to {output['max']:.6g}" if known else "none finite"
    line += f", mean {output['mean']:.6g}" if output["mean"] is not None else ""
    counts = [(output["nan_count"], "NaN"), (output["clipped_count"], "clipped")]
    return ", ".join([line, *(f"{count} {name}" for count, name in counts if count)])
