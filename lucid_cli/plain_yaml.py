"""The YAML that a configuration may use: plain scalars, lists and mappings."""

from typing import Any

import yaml

DEEPEST = 20


class PlainLoader(yaml.SafeLoader):
    """Refuses tags, anchors, aliases, duplicate keys and deep nesting; integers are decimal."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name PyYAML looks for
        first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
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

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys differ."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        seen: set[str] = set()
        for (key, _), value in zip(node.value, keys, strict=True):
            if not isinstance(value, str):
                raise yaml.MarkedYAMLError(problem=f"the key {value!r} is no name", problem_mark=key.start_mark)
            if value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {value!r} stands twice", problem_mark=key.start_mark)
            seen.add(value)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Build a decimal integer: 010 and 1:30 are not numbers here."""
        text = str(self.construct_scalar(node))
        if not text.lstrip("+-").isdecimal() or (text.lstrip("+-").startswith("0") and text.lstrip("+-") != "0"):
            raise yaml.MarkedYAMLError(problem=f"{text!r} is not a decimal number", problem_mark=node.start_mark)
        return int(text)


PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.construct_integer)
