"""The YAML that a configuration may use: plain scalars, lists and mappings, read with the places of keys and values."""

import re
from typing import Any

import yaml

from lucid_cli.mistakes import Document, Mistake, Place, Where

DEEPEST = 20
KNOWN = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "null"))
"""What a word without quotes may be, beside a text."""
HINTS = {
    "'\\t'": "indent with spaces, not with tabs",
    "mapping values are not allowed": "indent keys of one section alike, and quote a text that holds ': '",
    "expected <block end>": "indent keys of one section, and entries of one list, alike",
    "could not find expected ':'": "write key: value, with a space behind the colon",
    "unexpected end of stream": "a quote is not closed",
    "expected ',' or": "a bracket is not closed, or a comma is missing",
}
"""What helps against mistakes that YAML names in its own words."""
SEEN_LATE = ("could not find expected ':'", "unexpected end of stream")
"""Mistakes that YAML sees only behind what is wrong."""
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,999})")


class PlainLoader(yaml.SafeLoader):
    """Refuses tags, anchors, aliases and deep nesting; a word is a text, unless it is a number, true, false or null."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name PyYAML looks for
        first: [(tag, pattern) for tag, pattern in pairs if tag in KNOWN]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node, checking what this loader refuses."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not allowed", problem_mark=event.start_mark)
        if getattr(event, "tag", None):
            raise yaml.MarkedYAMLError(problem=f"the tag {event.tag} is not allowed", problem_mark=event.start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read(text: str | bytes) -> Document:
    """Return what a YAML document holds; where it is no YAML, one mistake says so and nothing more is read."""
    document = Document()
    try:
        loader = PlainLoader(text)
        node = loader.get_single_node()  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        document.keys[()] = _place_of(error, text)
        document.mistakes.append(Mistake((), f"not plain YAML: {_words(error)}"))
        return document
    if node is not None:
        document.value = _Walk(document, loader).value(node, ())
    return document


class _Walk:
    """Makes plain values of nodes, noting where each stands, and what is wrong."""

    def __init__(self, document: Document, loader: PlainLoader) -> None:
        self._document = document
        self._loader = loader

    def value(self, node: Any, where: Where) -> Any:
        """Return what a node means."""
        self._document.values[where] = _place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(one, (*where, number)) for number, one in enumerate(node.value)]
        if node.tag.endswith(":int"):
            return self._integer(node, where)
        return self._loader.construct_object(node)  # type: ignore[no-untyped-call]

    def _item(self, node: Any, where: Where) -> Any:
        self._document.keys[where] = _place(node.start_mark)
        return self.value(node, where)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        """Return a mapping of names that differ."""
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, (*where, "?"))
            inner = (*where, str(key))
            self._document.keys[inner] = _place(key_node.start_mark)
            if not isinstance(key, str):
                self._wrong(inner, f"the key {key!r} is no name")
            elif key in made:
                self._wrong(inner, f"the key {key!r} stands twice; leave one")
            else:
                made[key] = self.value(value_node, inner)
        return made

    def _integer(self, node: yaml.ScalarNode, where: Where) -> int:
        """Return a decimal integer: 010 and 1:30 are not numbers here."""
        if _DECIMAL.fullmatch(node.value):
            return int(node.value)
        self._document.mistakes.append(Mistake(where, f"{node.value!r} is not a decimal number", of_value=True))
        return 0

    def _wrong(self, where: Where, text: str) -> None:
        self._document.mistakes.append(Mistake(where, text))


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _place_of(error: yaml.YAMLError, text: str | bytes) -> Place:
    """Return where YAML stopped: characters that it does not know are told by how many stand before them."""
    late = any(sign in str(getattr(error, "problem", "")) for sign in SEEN_LATE)
    mark = getattr(error, "context_mark" if late else "problem_mark", None)
    if mark is not None:
        return _place(mark)
    before = text[: getattr(error, "position", 0)]
    lines = (before if isinstance(before, str) else before.decode("latin1")).split("\n")
    return Place(len(lines), len(lines[-1]) + 1)


def _words(error: yaml.YAMLError) -> str:
    """Return what YAML says in one line, with what helps."""
    text = " ".join(str(getattr(error, "problem", None) or error).split())
    helps = [hint for sign, hint in HINTS.items() if sign in text]
    return "; ".join([text, *helps])
