"""Makes mutants of a module: its source with one small fault each."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

Change: TypeAlias = tuple[str, Callable[[], ast.AST]]  # what is changed, and the changed node

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}  # fmt: skip
CALLS = {
    "max": "min", "min": "max", "amax": "amin", "amin": "amax", "sum": "mean", "mean": "sum", "argmax": "argmin",
    "argmin": "argmax", "any": "all", "all": "any", "abs": "neg", "floor": "ceil", "ceil": "floor", "cos": "sin",
    "sin": "cos", "sigmoid": "tanh", "tanh": "sigmoid", "exp": "expm1", "log": "log1p",
}  # fmt: skip
RECTIFIERS = ("relu", "clamp_min", "clamp", "clip", "clamp_max", "detach_", "abs", "square")


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        line: where, counted from 1.
        change: what, in words.
        source: the whole module with it.
        lines: where the changed value is read: in the body of the function whose default it is, or where the name of a
            table or constant stands; the line itself where it runs in a call.
        statement: the line of code that it changes, without the lines that it spans or holds.
    """

    line: int
    change: str
    source: str
    lines: tuple[int, ...]
    statement: str


def make_mutants(source: str) -> list[Mutant]:
    """Make every mutant of a module that still compiles and differs; messages and annotations are left alone."""
    tree = ast.parse(source)
    readers, places, statements = _readers(tree), _places(tree), _statements(tree)
    found = []
    for node in list(_walk(tree)):
        for kind, change in _changes(node):
            replacement = change()
            before, after = ast.unparse(node), ast.unparse(replacement)
            if before == after:
                continue
            _put(*places[id(node)], replacement)
            text = ast.unparse(tree)
            _put(*places[id(node)], node)
            line = getattr(node, "lineno", 0)
            described = f"{kind}: {_shorten(before)}  ->  {_shorten(after)}"
            lines = readers.get(id(node), tuple(_span(node)))
            found.append(Mutant(line, described, text, lines, statements.get(id(node), "")))
    return found


def _statements(tree: ast.AST) -> dict[int, str]:
    """By node, the first line of the innermost statement that it is in."""
    found: dict[int, str] = {}
    for statement in ast.walk(tree):  # outer statements come first
        if isinstance(statement, ast.stmt):
            text = ast.unparse(statement).splitlines()[0]
            found.update({id(node): text for node in ast.walk(statement)})
    return found


def _places(tree: ast.AST) -> dict[int, tuple[ast.AST, str, int | None]]:
    """By node, its parent, the field and the position in a list."""
    found: dict[int, tuple[ast.AST, str, int | None]] = {}
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if isinstance(value, list):
                found.update({id(each): (parent, field, position) for position, each in enumerate(value)})
            elif isinstance(value, ast.AST):
                found[id(value)] = (parent, field, None)
    return found


def _put(parent: ast.AST, field: str, position: int | None, node: ast.AST) -> None:
    if position is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[position] = node


def _readers(tree: ast.Module) -> dict[int, tuple[int, ...]]:
    """By node that runs at import, the lines that read its value."""
    found: dict[int, tuple[int, ...]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = tuple(line for statement in node.body for line in _span(statement))
            found.update({id(part): body for part in ast.walk(node.args)})
    for statement in tree.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        lines = tuple(
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names
        )
        found.update({id(part): lines for part in ast.walk(statement)})
    return found


def _span(node: ast.AST) -> range:
    """The lines of a node."""
    first = getattr(node, "lineno", 0)
    return range(first, (getattr(node, "end_lineno", None) or first) + 1)


def _shorten(code: str) -> str:
    first = code.splitlines()[0]
    return first if len(first) <= 90 else first[:89] + "…"


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the nodes whose value matters to a computation, in a fixed order."""
    yield node
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "exc", "cause", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_silent(child):
                yield from _walk(child)


def _is_silent(node: ast.AST) -> bool:
    """Docstrings, messages, assertions, and what only type checkers read."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    return isinstance(node, ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom | ast.Raise)


def _changes(node: ast.AST) -> list[Change]:
    """The changes of one node: a name and a function that makes the changed node from it."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        return [("comparison", lambda: ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators))]
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        return [("arithmetic", lambda: ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right))]
    if isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        return [("boolean", lambda: ast.BoolOp(other(), node.values))]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        return [("sign", lambda: node.operand)]
    if isinstance(node, ast.IfExp):
        return [("condition", lambda: ast.IfExp(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse))]
    if isinstance(node, ast.If):
        return [("condition", lambda: ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse))]
    if isinstance(node, ast.Constant):
        return _constant_changes(node)
    if isinstance(node, ast.Call):
        return _call_changes(node)
    return []


def _constant_changes(node: ast.Constant) -> list[Change]:
    value = node.value
    if isinstance(value, bool):
        return [("constant", lambda: ast.Constant(not value))]
    if isinstance(value, int):
        return [("constant", lambda: ast.Constant(value + 1))]
    if isinstance(value, float):
        return [("constant", lambda: ast.Constant(value * 2 if value else 1.0))]
    return []


def _call_changes(node: ast.Call) -> list[Change]:
    found: list[Change] = []
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in CALLS:
        found.append(("call", lambda: ast.Call(_renamed(node.func, CALLS[name]), node.args, node.keywords)))
    if name in RECTIFIERS and isinstance(node.func, ast.Attribute) and not _is_module(node.func.value):
        receiver = node.func.value
        found.append(("call left out", lambda: receiver))
    return found


def _renamed(function: ast.expr, name: str) -> ast.expr:
    if isinstance(function, ast.Attribute):
        return ast.Attribute(function.value, name, function.ctx)
    return ast.Name(name, ast.Load())


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("torch", "np", "F", "aten", "math")
