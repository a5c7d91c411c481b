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

from lucid_cli.talk import data
from lucid_cli.types import LISTS
from lucid_core.errors import ArgumentError
from lucid_core.registry import did_you_mean

PREFIX = "LUCID_CONV3D_"
SECTIONS = ("layer", "weights", "volume", "run")
MOST_BYTES = 1 << 16
"""A configuration longer than this is not one."""

_ORIGINS = "lucid_cli.config.origins"
_SET = "lucid_cli.config.set"


class ConfiguredOption(click.Option):
    """An option that also takes its value from the environment, `--set` and YAML, and belongs to a section."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        names = [name.removeprefix("--").replace("-", "_") for name in self.opts if name.startswith("--")]
        self.key, *self.aliases = names
        self.envvar = PREFIX + self.key.upper() if section or self.key == "config" else None

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Put `--set` between the flags and the environment."""
        value, source = super().consume_value(ctx, opts)
        changed = ctx.meta.get(_SET, {})
        if source is not ParameterSource.COMMANDLINE and self.key in changed:
            value, source = changed[self.key], ParameterSource.DEFAULT_MAP
        if source is ParameterSource.ENVIRONMENT:
            ctx.meta.setdefault(_ORIGINS, {})[self.key] = f"the environment variable {self.envvar}"
        return value, source

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Say where a wrong value came from if it was not a flag."""
        try:
            if isinstance(value, list) and not self.multiple and not isinstance(self.type, LISTS):
                raise click.BadParameter(f"{value!r} is a list where one value belongs.", ctx, self)
            if isinstance(self.type, click.types.BoolParamType) and not isinstance(value, (bool, str, type(None))):
                raise click.BadParameter(f"{value!r} is neither true nor false.", ctx, self)
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            origin = ctx.meta.get(_ORIGINS, {}).get(self.key)
            if origin and ctx.get_parameter_source(self.name or "") is not ParameterSource.COMMANDLINE:
                raise click.BadParameter(f"{error.message} It stands in {origin}.", ctx, self) from error
            raise


def read_config(ctx: click.Context, _param: click.Parameter, path: str | None) -> str | None:
    """Make the values of a YAML file the defaults of the command's options (callback of `--config`)."""
    if path is not None and not ctx.resilient_parsing:
        values = flatten(load_yaml(Path(path)), configured(ctx), path)
        ctx.default_map = {option.name: values[option.key] for option in configured(ctx) if option.key in values}
        ctx.meta.setdefault(_ORIGINS, {}).update(dict.fromkeys(values, path))
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
        value = parse_yaml(text, "--set") if text.startswith("[") else text
        tree = {section: {name: value}} if section else {name: value}
        changed.update(flatten(tree, configured(ctx), "--set"))
    ctx.meta[_SET] = changed
    ctx.meta.setdefault(_ORIGINS, {}).update(dict.fromkeys(changed, "--set"))
    return pairs


def settle(ctx: click.Context) -> bool:
    """Check the environment and, where `--print-config` asks, print the configuration; return whether that was all."""
    check_environment(configured(ctx))
    if ctx.params["print_config"]:
        data(dump(ctx.params, configured(ctx)))
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


def flatten(tree: Any, options: Iterable[ConfiguredOption], origin: str) -> dict[str, Any]:
    """Return the values of a configuration by option key, or raise `ArgumentError` for a key that is not legal."""
    if tree is None:
        raise ArgumentError(f"{origin} is empty; write keys such as 'kernel: gaussian'")
    if not isinstance(tree, dict):
        raise ArgumentError(f"{origin} must hold keys and values, such as 'stride: 2', not {type(tree).__name__}")
    legal = {option.key: option for option in options if option.section in SECTIONS}
    legal |= {alias: option for option in legal.values() for alias in option.aliases}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key in SECTIONS and isinstance(value, dict):
            for name, inner in value.items():
                _place(values, name, inner, key, legal, origin)
        elif key in SECTIONS and value is None:
            continue
        else:
            _place(values, key, value, None, legal, origin)
    return values


def _place(
    values: dict[str, Any],
    key: Any,
    value: Any,
    section: str | None,
    legal: dict[str, ConfiguredOption],
    origin: str,
) -> None:
    """Put a value under its key, or raise `ArgumentError` where the key, its section or its kind of value is wrong."""
    name = str(key).replace("-", "_")
    where = f"{section}.{key}" if section else str(key)
    if name not in legal:
        near = did_you_mean(name, [*legal, *SECTIONS])
        raise ArgumentError(f"unknown key {where!r} in {origin}.{near or ' See --help for the options.'}")
    if section and legal[name].section != section:
        right = f"{legal[name].section}.{name}"
        raise ArgumentError(f"{where!r} in {origin} stands under the wrong section; legal: {right}")
    if legal[name].key in values:
        raise ArgumentError(f"{where!r} stands twice in {origin}; leave one")
    if value is None or isinstance(value, dict):
        near = did_you_mean(name, SECTIONS) if isinstance(value, dict) else ""
        raise ArgumentError(f"{where!r} in {origin} has no value that the option could take: {value!r}.{near}")
    values[legal[name].key] = value


def configured(ctx: click.Context) -> list[ConfiguredOption]:
    """Return the options of a command that a configuration holds, and those that read it."""
    return [param for param in ctx.command.params if isinstance(param, ConfiguredOption)]


def load_yaml(path: Path) -> Any:
    """Return what a YAML file holds."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ArgumentError(f"cannot read the configuration {path}: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise ArgumentError(f"{path} is no configuration: it is longer than {MOST_BYTES} bytes")
    return parse_yaml(content, str(path))


def parse_yaml(text: str | bytes, origin: str) -> Any:
    """Return what a YAML document holds: scalars, lists and mappings, nothing more."""
    import yaml

    from lucid_cli.plain_yaml import PlainLoader

    try:
        return yaml.load(text, PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or "nested too deeply"
        raise ArgumentError(f"{origin}{line} is not plain YAML: {problem}") from error


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
