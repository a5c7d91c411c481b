"""Where option values come from: flags > `--set` > `LUCID_CONV3D_*` environment > YAML > defaults.

A YAML file holds the options' long names (`-` or `_`) at its top or under `layer:`, `weights:`, `volume:` or
`run:`. It is read with a loader that knows plain scalars, lists and mappings only: no tags, no anchors, no
duplicate keys, decimal integers.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lucid_cli.mistakes import SECTIONS, Document, Mistake, find
from lucid_cli.talk import data
from lucid_cli.types import LISTS
from lucid_core.errors import ArgumentError
from lucid_core.registry import did_you_mean

PREFIX = "LUCID_CONV3D_"
MOST_BYTES = 1 << 16
"""A configuration longer than this is not one."""

_SET = "lucid_cli.config.set"


class ConfiguredOption(click.Option):
    """An option that also takes its value from the environment, `--set` and YAML, and belongs to a section."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        names = [name.removeprefix("--").replace("-", "_") for name in self.opts if name.startswith("--")]
        self.key, *self.aliases = names
        self.envvar = PREFIX + self.key.upper() if section or self.key == "config" else None

    @property
    def otherwise(self) -> Any:
        """The value that holds where nothing is said; None where that depends."""
        if self.is_flag:
            return None if self.default is None else self.default is True
        if isinstance(self.show_default, str):
            return int(self.show_default) if self.show_default.isdecimal() else self.show_default
        return self.default if isinstance(self.default, (int, float, str)) else None

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Put `--set` between the flags and the environment."""
        value, source = super().consume_value(ctx, opts)
        changed = ctx.meta.get(_SET, {})
        if source is not ParameterSource.COMMANDLINE and self.key in changed:
            return changed[self.key], ParameterSource.DEFAULT_MAP
        return value, source

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Say where a wrong value came from if it was the environment."""
        if self.multiple and isinstance(value, str):
            value = (value,)  # of YAML, where one of several may stand alone
        try:
            if isinstance(value, list) and not self.multiple and not isinstance(self.type, LISTS):
                raise click.BadParameter(f"{value!r} is a list where one value belongs.", ctx, self)
            if isinstance(self.type, click.types.BoolParamType):
                return self._truth(ctx, value)
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            if ctx.get_parameter_source(self.name or "") is not ParameterSource.ENVIRONMENT:
                raise
            origin = f"the environment variable {self.envvar}"
            raise click.BadParameter(f"{error.message} It stands in {origin}.", ctx, self) from error

    def _truth(self, ctx: click.Context, value: Any) -> Any:
        """Return true or false; None stays."""
        try:
            if value == "" or (isinstance(value, (int, float)) and not isinstance(value, bool)):
                raise click.BadParameter("")
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            raise click.BadParameter(f"{value!r} is neither true nor false.", ctx, self) from error


def read_config(ctx: click.Context, _param: click.Parameter, path: str | None) -> str | None:
    """Make the values of a YAML file the defaults of the command's options (callback of `--config`)."""
    if path is not None and not ctx.resilient_parsing:
        document = load(Path(path))
        found = find(document.value, options_of(ctx.command), ctx, known=document.mistakes)
        for mistake in sorted(found.mistakes, key=document.place)[:1]:
            raise refusal(mistake, f"{path}, line {document.place(mistake).line}")
        ctx.default_map = {
            option.name: found.given[option.key] for option in options_of(ctx.command) if option.key in found.given
        }
    return path


def read_set(ctx: click.Context, _param: click.Parameter, pairs: tuple[str, ...]) -> tuple[str, ...]:
    """Keep the values of `--set KEY=VALUE` for `ConfiguredOption` (callback of `--set`)."""
    if ctx.resilient_parsing:
        return pairs
    changed: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ArgumentError(f"--set {pair!r} is not KEY=VALUE; write it like --set layer.stride=2")
        section, _, name = key.rpartition(".")
        value, known = _set_value(text)
        tree = {section: {name: value}} if section else {name: value}
        found = find(tree, options_of(ctx.command), ctx, inside=" in --set", known=known)
        for mistake in found.mistakes:
            raise refusal(mistake, "--set")
        changed.update(found.given)
    ctx.meta[_SET] = changed
    return pairs


def _set_value(text: str) -> tuple[Any, list[Mistake]]:
    """Return a value of `--set`, a list as YAML has it, and what is wrong with that."""
    if not text.startswith("["):
        return text, []
    from lucid_cli.plain_yaml import read

    document = read(text)
    return document.value, document.mistakes


def refusal(mistake: Mistake, origin: str) -> Exception:
    """Return the error that tells a mistake of a configuration, with where it stands."""
    if mistake.error is None:
        return ArgumentError(f"{origin}: {mistake.text}")
    error = mistake.error
    return click.BadParameter(f"{error.message} It stands in {origin}.", error.ctx, error.param)


def settle(ctx: click.Context) -> bool:
    """Check the environment and, where `--print-config` asks, print the configuration; return whether that was all."""
    check_environment(options_of(ctx.command))
    if ctx.params["print_config"]:
        data(dump(ctx.params, options_of(ctx.command)))
        return True
    return False


def check_environment(options: Iterable[ConfiguredOption]) -> None:
    """Refuse a `LUCID_CONV3D_*` variable that names no option."""
    legal = {option.envvar for option in options if isinstance(option.envvar, str)}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in legal:
            raise ArgumentError(
                f"unknown environment variable {name}: no option has this name.{did_you_mean(name, legal)}"
            )


def options_of(command: click.Command) -> list[ConfiguredOption]:
    """Return the options of a command that a configuration may hold, and those that read one."""
    return [param for param in command.params if isinstance(param, ConfiguredOption)]


def load(path: Path) -> Document:
    """Return what a YAML file holds; raise `ArgumentError` where it cannot be read."""
    from lucid_cli.plain_yaml import read

    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ArgumentError(f"cannot read the configuration {path}: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise ArgumentError(f"{path} is no configuration: it is longer than {MOST_BYTES} bytes")
    return read(content)


def dump(params: Mapping[str, Any], options: Iterable[ConfiguredOption]) -> str:
    """Return the values of a command's options as YAML that `--config` reads back to the same values."""
    import yaml

    return yaml.safe_dump(tree(params, options), sort_keys=False, default_flow_style=None)


def tree(params: Mapping[str, Any], options: Iterable[ConfiguredOption]) -> dict[str, dict[str, Any]]:
    """Return the values of a command's options, those that are said, by section and key, as YAML and JSON hold them."""
    found: dict[str, dict[str, Any]] = {}
    for option in options:
        value = params.get(option.name or "")
        if value is not None and option.section in SECTIONS:
            found.setdefault(option.section, {})[option.key] = _plain(value)
    return {section: found[section] for section in SECTIONS if section in found}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (bool, int, float)) else str(value)
