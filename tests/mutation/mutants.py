"""Every small change to a module that should make some test fail."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

OTHERS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.USub: ast.UAdd,
    ast.Break: ast.Continue,
    ast.Continue: ast.Break,
}
"""What stands for an operator in a mutant."""
OTHER_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change: the line it stands in, what it is, and the whole module with it."""

    line: int
    what: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module.

    Left alone are annotations, decorators, documentation, `strict=` of what has the same length, and the words of
    messages: f-strings, strings with a space, and all that is raised.
    """
    tree = ast.parse(source)
    for node in list(_nodes(tree)):
        for what, change, restore in _changes(node):
            change()
            yield Mutant(node.lineno, what, ast.unparse(tree))  # type: ignore[attr-defined]
            restore()


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through what is mutated."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            documentation = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            strict = isinstance(child, ast.keyword) and child.arg == "strict"
            if isinstance(child, ast.AST) and not documentation and not strict and not isinstance(child, ast.JoinedStr):
                yield child
                if not isinstance(child, ast.Raise):
                    yield from _nodes(child)


Change = tuple[str, Callable[[], None], Callable[[], None]]


def _set(node: ast.AST, name: str, value: object, what: str = "") -> Change:
    old = getattr(node, name)
    before = ast.unparse(node)
    setattr(node, name, value)
    after = ast.unparse(node)
    setattr(node, name, old)
    described = what or f"{_short(before)} -> {_short(after)}"
    return described, partial(setattr, node, name, value), partial(setattr, node, name, old)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) < 90 else f"{line[:87]}..."


def _changes(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare(ops=ops):
            for number, one in enumerate(ops):
                changed = [*ops[:number], OTHERS[type(one)](), *ops[number + 1 :]]
                yield _set(node, "ops", changed)
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) | ast.UnaryOp(op=op) if type(op) in OTHERS:
            yield _set(node, "op", OTHERS[type(op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield _set(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
        case ast.Constant(value=value) if _other(value) is not None:
            yield _set(node, "value", _other(value))
        case ast.If() | ast.While() | ast.IfExp():
            yield _set(node, "test", ast.UnaryOp(ast.Not(), node.test), f"if not ({_short(ast.unparse(node.test))})")
        case ast.Return(value=ast.expr()) if ast.unparse(node.value) != "None":
            yield _set(node, "value", ast.Constant(None), f"{_short(ast.unparse(node))} -> return None")
        case ast.Expr(value=ast.Call()):
            yield _set(node, "value", ast.Constant(None), f"without {_short(ast.unparse(node))}")
        case ast.Raise() | ast.Break() | ast.Continue():
            kind = OTHERS.get(type(node), ast.Pass)
            yield _set(node, "__class__", kind, f"{_short(ast.unparse(node))} -> {kind.__name__.lower()}")
        case ast.Call(func=ast.Name(id=name)) if name in OTHER_CALLS:
            yield _set(node.func, "id", OTHER_CALLS[name])


def _other(value: object) -> object:
    """Return another constant in a constant's place, or None where it stays."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 2 or 1.0
        case str() if value and " " not in value:
            return f"{value}X"
        case bytes() if value:
            return value + b"X"
    return None
