"""`config check`: what `apply -c FILE` would refuse, all of it at once, and with a volume whether the layer fits it.

First every key and value by itself (`mistakes`); then, of sections without such mistakes, what they say together; then
the plan. An error names the options that it is about: the first of them in the file is where it stands.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from lucid_cli.commands.apply import command as apply
from lucid_cli.compression import check_compression
from lucid_cli.config import load, options_of
from lucid_cli.failures import message
from lucid_cli.formats import PIPE, SUFFIXES, Spec, format_of, parse_spec
from lucid_cli.job import item, prepare
from lucid_cli.layer import Recipe, recipe
from lucid_cli.layers import any_recipe, list_mistakes, read_entries
from lucid_cli.listing import Listed
from lucid_cli.mistakes import SECTIONS, Document, Found, Mistake, Where, find
from lucid_cli.named import given_options
from lucid_cli.naming import output_specs
from lucid_cli.opening import check_input, open_info
from lucid_cli.report import Item
from lucid_cli.settings import Settings
from lucid_cli.sink import out_dtype
from lucid_core import __version__, compiled
from lucid_core.elementwise import Operation
from lucid_core.errors import ArgumentError, LimitError, LucidError, ShapeError
from lucid_core.kernels import check_option, named_kernel
from lucid_core.plan import Plan
from lucid_core.planner import where_to_compute
from lucid_core.units import Spacing, format_bytes

SCHEMA = "lucid-conv3d/config-check-1"
MEMORY_STEP = 16 << 20
FINEST: Spacing = (1e-6, 1e-6, 1e-6)
"""In a volume as fine as this, in mm, every kernel with a physical length is too large, whatever else it is."""


@dataclass(frozen=True)
class Checked:
    """A configuration that was checked: what is wrong, in the order of the file, and the plan where nothing is."""

    path: Path
    document: Document
    mistakes: list[Mistake]
    item: Item | None

    def lines(self) -> list[str]:
        """Return a line a mistake: file:line:column: message."""
        return [f"{self.path}:{line}:{column}: {text}" for line, column, text in self._told()]

    def _told(self) -> Iterator[tuple[int, int, str]]:
        for mistake in self.mistakes:
            yield *self.document.place(mistake), " ".join(mistake.text.split())

    def fine(self) -> str:
        """Return a line that says so."""
        return f"{self.path}: fine" + (f" for {self.item.input['path']}: {in_words(self.item)}" if self.item else "")

    def to_json(self) -> dict[str, Any]:
        """Return what was found; `item` is that of the shape report."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "file": str(self.path),
            "status": "failed" if self.mistakes else "ok",
            "problems": [
                {"line": line, "column": column, "message": text, "key": ".".join(map(str, mistake.where)) or None}
                for mistake, (line, column, text) in zip(self.mistakes, self._told(), strict=True)
            ],
            "item": self.item and self.item.to_json(),
        }


def in_words(planned: Item) -> str:
    """Return the shapes and the memory of a plan."""
    assert planned.plan is not None and planned.shapes is not None
    sizes = ["x".join(map(str, planned.shapes[name])) for name in ("input", "output")]
    peak = format_bytes(most_memory(planned.plan))
    return f"{' -> '.join(sizes)} voxels (N,C,D,H,W), {planned.plan.algorithm}, at most {peak} of memory"


def most_memory(planned: Plan) -> int:
    """Return the bytes of memory that a plan takes, rounded up, as what the process has already differs a little."""
    return math.ceil(planned.memory.peak_bytes / MEMORY_STEP) * MEMORY_STEP


def check(path: Path, scan: str | None) -> Checked:
    """Check a configuration, and with a scan its plan; raise `InputError` for a scan that cannot be read."""
    spec = None if scan is None else readable(scan)
    document = load(path)
    with click.Context(apply) as ctx:
        found = find(document.value, options_of(apply), ctx, known=document.mistakes)
    settings = replace(Settings(), **found.values)
    mistakes = [*found.mistakes, *_together(settings, found, spec or parse_spec("scan.nii.gz"))]
    planned = None
    if spec is not None and not mistakes:
        try:
            planned = plan(settings, spec)
        except LucidError as error:
            mistakes.append(_about(message(error), found.where, _of_what(found.where)))
    return Checked(path, document, sorted(mistakes, key=document.place), planned)


def readable(scan: str) -> Spec:
    """Return the file of a scan whose header can be read."""
    spec = parse_spec(scan)
    if spec.is_pipe:
        raise ArgumentError("SCAN cannot be stdin; name a file")
    open_info(spec)
    return spec


def plan(settings: Settings, spec: Spec) -> Item:
    """Plan a run from the header of its input."""
    with ExitStack() as stack:
        job = prepare(spec, _output(settings, spec), any_recipe(settings), stack)
        return item(job, "planned", None, None)


def _output(settings: Settings, spec: Spec) -> Spec | None:
    return output_specs([Listed(spec)], settings)[0] if settings.output or settings.out_dir else None


def _together(settings: Settings, found: Found, spec: Spec) -> Iterator[Mistake]:
    """Yield what values say together that `apply` refuses before it sees a volume."""
    wrong = _wrong_sections(found)
    if settings.layers is not None:
        yield from _of_list(settings, found)
    else:
        yield from _of_layer(settings, found.where, only_options=bool(wrong & {"layer", "weights"}))
    looks: tuple[tuple[str, set[str], Callable[[], None]], ...] = (
        ("mask", {"volume"}, lambda: _check_mask(settings)),
        ("output", {"volume", "run"}, lambda: _check_output(settings, spec)),
        ("engine", {"layer", "run"}, lambda: _check_engine(settings)),
    )
    for about, sections, look in looks:
        if not wrong & sections:
            yield from _caught(look, found.where, found.where.get(about, ()))


def _of_what(where: dict[str, Where]) -> Where:
    """Return where it is said what to convolve with."""
    return next((where[key] for key in ("layers", "kernel", "weights", "kernel_size") if key in where), ())


def _wrong_sections(found: Found) -> set[str]:
    """Return the sections of which something is not known, as it is written wrong."""
    sections = {option.key: option.section for option in options_of(apply)}
    wrong: set[str] = set()
    for mistake in found.mistakes:
        names = {str(part).replace("-", "_") for part in mistake.where}
        wrong |= {sections.get(name, name) for name in names & {*sections, *SECTIONS}} or set(SECTIONS)
    return wrong


def _of_list(settings: Settings, found: Found) -> Iterator[Mistake]:
    """Yield what is wrong with a list of layers, and with each that has no mistakes yet."""
    at = found.where["layers"]
    entries, mistakes = read_entries(settings.layers or ())
    known = {mistake.where[0] for mistake in mistakes}
    for text in list_mistakes(settings, entries):
        yield _about(text, found.where, at)
    for number, (entry, given) in enumerate(zip(entries, settings.layers or (), strict=True)):
        if isinstance(entry, Operation) or number in known:
            continue
        where = {str(key).replace("-", "_"): (*at, number, key) for key in given}
        for mistake in _of_layer(entry, where):
            yield replace(mistake, text=f"layer {number + 1}: {mistake.text}")


def _of_layer(settings: Settings, where: dict[str, Where], *, only_options: bool = False) -> Iterator[Mistake]:
    """Yield options that a named kernel does not take, and, unless `only_options`, what is wrong with the layer."""
    for name in given_options(settings) if settings.kernel else ():
        try:
            check_option(named_kernel(str(settings.kernel)), name)
        except ArgumentError as error:
            yield Mistake(where[name], str(error))
            without: dict[str, Any] = {name: None}
            settings = replace(settings, **without)
    if not only_options:
        yield from _caught(lambda: _check_layer(recipe(settings)), where, _of_what(where))


def _check_layer(made: Recipe) -> None:
    """Build a layer for a volume of the channels that it takes; what only the volume decides is let go."""
    settings = made.settings
    try:
        made.build(made.in_channels or settings.groups or 1, FINEST, np.dtype(settings.dtype or "float32"))
    except (ShapeError, LimitError):
        if settings.kernel is None:
            raise


def _check_mask(settings: Settings) -> None:
    if settings.mask is not None:
        spec = parse_spec(settings.mask)
        check_input(spec.path)
        format_of(spec)


def _check_output(settings: Settings, spec: Spec) -> None:
    """Check the output, where the file names it, with the type and the compression of its values."""
    out = _output(settings, spec)
    if out is not None:
        check_compression(PIPE if out.is_pipe else out.suffix, settings.compression)
        out_dtype(settings.out_dtype, settings.cast, SUFFIXES[out.suffix])
    elif settings.cast == "rescale":
        out_dtype(settings.out_dtype, settings.cast, "nifti")


def _check_engine(settings: Settings) -> None:
    where_to_compute(settings.engine, settings.device, tf32=settings.tf32)
    if settings.engine == "numba":
        compiled.require()


def _caught(look: Callable[[], Any], where: dict[str, Where], otherwise: Where = ()) -> Sequence[Mistake]:
    """Return the error that a look raises as a mistake, nothing where it raises none."""
    try:
        look()
    except LucidError as error:
        return [_about(message(error), where, otherwise)]
    return []


def _about(text: str, where: dict[str, Where], otherwise: Where = ()) -> Mistake:
    """Return a mistake at the first option of the file that its text names; many name a kernel beside what is wrong."""
    words = [word.lstrip("-").replace("-", "_") for word in re.findall(r"[\w-]+", text)]
    named = sorted((word for word in words if word in where), key="kernel".__eq__)
    return Mistake(where[named[0]] if named else otherwise, text)
