"""The code of a TorchScript file: what it may hold, and the text that PyTorch receives instead of it.

The exporter writes a graph without branches, and one method that checks the shape of the image. TorchScript can do much
more: run methods while a file is loaded, repeat forever, read and write files.
"""

import ast
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from explainable_model.exporters.guard.operators import PRIM, SCRIPT, is_allowed
from explainable_model.exporters.guard.refusal import Refusal, shorten
from explainable_model.exporters.guard.structure import is_small_shape

Fields: TypeAlias = dict[str, str]
"""The types of a class's fields, by name."""

METHODS = {"forward", "ready", "__code_getter"}
MAX_METHOD_CALLS, MAX_CLASSES, MAX_DEPTH, MAX_BRACKETS = 4, 8, 40, 40
TYPES = {"Tensor", "int", "float", "bool", "str", "NoneType", "Device", "number", "None"}
GENERIC_TYPES = {"List", "Optional", "Tuple", "Dict"}
TYPED = {"annotate", "unchecked_cast", "uninitialized"}


def check_code(sources: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, Fields]]:
    """Check the source files, and write them anew from what was checked.

    Args:
        sources: the files by their names, ``code/__torch__/folder/file.py``.

    Returns:
        The new files, and the fields of each class, by the name of the class: types by name.

    Raises:
        Refusal: they hold something that the exporter does not write.
    """
    trees = {name: _parse(source) for name, source in sources.items()}
    checker = _Checker(
        f"{name.removeprefix('code/').removesuffix('.py').replace('/', '.')}.{statement.name}"
        for name, tree in trees.items()
        for statement in tree.body
        if isinstance(statement, ast.ClassDef)
    )
    for name, tree in trees.items():
        for statement in tree.body:
            checker.check_class(statement, name.removeprefix("code/").removesuffix(".py").replace("/", "."))
    if len(checker.classes) > MAX_CLASSES or checker.method_calls > MAX_METHOD_CALLS:
        raise Refusal("its methods call each other more often than the exporter's")
    return {name: f"{ast.unparse(tree)}\n".encode() for name, tree in trees.items()}, checker.classes


def _parse(source: bytes) -> ast.Module:
    """The syntax tree of TorchScript's code, which is Python's to the extent that the exporter needs."""
    try:
        text = source.decode("ascii")
        if max(map(_depth, text.splitlines()), default=0) > MAX_BRACKETS:
            raise Refusal("its code is nested too deep")
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refusal(f"its code cannot be read ({type(error).__name__})") from error


def _depth(line: str) -> int:
    """How deep a line may be nested, at most: its indentation, brackets and signs."""
    return max((len(line) - len(line.lstrip())) // 2, min(len(line), 1)) + (
        0 if len(line) < MAX_BRACKETS else _nested_brackets(line) + line.count("--")
    )


def _nested_brackets(line: str) -> int:
    deepest = depth = 0
    for character in line:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


class _Checker:
    """Walks through the syntax tree; every kind of node that is not named is refused."""

    def __init__(self, classes: Iterable[str]) -> None:
        self.classes: dict[str, Fields] = {name: {} for name in classes}
        self.method_calls = 0
        self.own_lists: set[str] = set()

    def check_class(self, node: ast.stmt, file: str) -> None:
        match node:
            case ast.ClassDef(name=name, bases=[ast.Name(id="Module")], keywords=[], decorator_list=[], body=body):
                for statement in body:
                    self.check_member(statement, self.classes[f"{file}.{name}"])
            case _:
                raise Refusal(f"its code has {_describe(node)} outside of a module")

    def check_member(self, node: ast.stmt, fields: Fields) -> None:
        match node:
            case ast.Assign(targets=[ast.Name(id="__parameters__" | "__buffers__")], value=ast.List(elts=names)):
                if not all(isinstance(name, ast.Constant) and _is_plain_text(name.value) for name in names):
                    raise Refusal("its code names its weights in an unknown way")
            case ast.Assign(targets=[ast.Name(id="__annotations__")], value=ast.List(elts=[])):
                pass
            case (
                ast.Assign(
                    targets=[ast.Subscript(value=ast.Name(id="__annotations__"), slice=ast.Constant(value=str(name)))],
                    value=kind,
                )
                | ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=None)
            ) if _is_plain(name):
                self.check_type(kind)
                fields[name] = ast.unparse(kind)
            case ast.FunctionDef(name=name) if name in METHODS:
                self.check_method(node)
            case ast.FunctionDef(name=name):
                raise Refusal(f"its code has the method {shorten(name)}")
            case _:
                raise Refusal(f"its code has {_describe(node)} in a module")

    def check_method(self, node: ast.FunctionDef) -> None:
        inputs = node.args
        if inputs.vararg or inputs.kwarg or inputs.kwonlyargs or inputs.posonlyargs or node.decorator_list:
            raise Refusal(f"its method {node.name} takes its inputs in an unknown way")
        for argument in inputs.args:
            if argument.annotation is not None:
                self.check_type(argument.annotation)
        for default in inputs.defaults:
            self.check_value(default)
        if node.returns is not None:
            self.check_type(node.returns)
        self.own_lists = _find_own_lists(node)
        self.check_block(node.body, depth=0, inside_loop=False)

    def check_block(self, body: list[ast.stmt], depth: int, *, inside_loop: bool) -> None:
        if depth > MAX_DEPTH:
            raise Refusal("its code is nested too deep")
        for node in body:
            match node:
                case ast.Assign(targets=[target], value=value):
                    self.check_target(target)
                    self.check_value(value)
                case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=ast.expr() as value):
                    self.check_type(annotation)
                    self.check_value(value)
                case ast.Expr(value=ast.Call() as value) | ast.Return(value=ast.expr() as value):
                    self.check_value(value)
                case ast.If(test=test, body=yes, orelse=no):
                    self.check_value(test)
                    self.check_block(yes, depth + 1, inside_loop=inside_loop)
                    self.check_block(no, depth + 1, inside_loop=inside_loop)
                case ast.For(target=ast.Name(), iter=values, body=inner, orelse=[]) if not inside_loop:
                    self.check_loop(values)
                    self.check_block(inner, depth + 1, inside_loop=True)
                case ast.Pass():
                    pass
                case _:
                    raise Refusal(f"its code has {_describe(node)}")

    def check_loop(self, values: ast.expr) -> None:
        """A loop runs over the dimensions of an image: over a list that the module itself holds."""
        match values:
            case ast.Call(func=ast.Name(id="range"), args=[ast.Call(func=function, args=[ast.Name(id=name)])]):
                if ast.unparse(function) == "torch.len" and name in self.own_lists:
                    return
        raise Refusal(f"its code repeats over {shorten(ast.unparse(values))}")

    def check_target(self, node: ast.expr) -> None:
        names = node.elts if isinstance(node, ast.Tuple | ast.List) else [node]
        if not all(isinstance(name, ast.Name) and _is_plain(name.id) for name in names):
            raise Refusal(f"its code assigns to {shorten(ast.unparse(node))}")

    def check_type(self, node: ast.expr) -> None:
        match node:
            case ast.Constant(value=None):
                return
            case ast.Name(id=name) if name in TYPES:
                return
            case ast.Attribute() if ast.unparse(node) in self.classes:
                return
            case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in GENERIC_TYPES:
                for part in inner.elts if isinstance(inner, ast.Tuple) else [inner]:
                    self.check_type(part)
                return
        raise Refusal(f"its code has the type {shorten(ast.unparse(node))}")

    def check_value(self, node: ast.expr) -> None:
        match node:
            case ast.Name(id=name) if _is_plain(name):
                return
            case ast.Constant(value=bool() | float() | None):
                return
            case ast.Constant(value=int() as number) if number < 2**63:
                return
            case ast.Constant(value=str() as text) if _is_plain_text(text):
                return
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float()) as number):
                self.check_value(number)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id="inf" | "nan")):
                return
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                _check_sizes(parts)
                self.check_all(parts)
            case ast.Subscript(value=value, slice=index):
                self.check_all([value, index])
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if _is_plain(name) and _is_plain(attribute):
                return
            case ast.Call(func=function, args=arguments, keywords=keywords):
                self.check_call(function, arguments, [word.value for word in keywords if word.arg])
            case _:
                raise Refusal(f"its code has {_describe(node)}")

    def check_all(self, nodes: Iterable[ast.expr]) -> None:
        for node in nodes:
            self.check_value(node)

    def check_call(self, function: ast.expr, arguments: list[ast.expr], options: list[ast.expr]) -> None:
        name = ast.unparse(function)
        match name.split("."):
            case [kind] if kind in TYPED and arguments:
                self.check_type(arguments[0])
                arguments = arguments[1:]
            case ["getattr"] if len(arguments) == 2 and isinstance(arguments[1], ast.Constant):
                pass
            case ["int" | "float" | "bool"] | ["ops", "prim", _] if name.split(".")[-1] in PRIM or "." not in name:
                pass
            case ["torch", operator] | ["ops", "aten", operator] if is_allowed(operator) or operator in SCRIPT:
                pass
            case [owner, "forward" | "ready"] if _is_plain(owner):
                self.method_calls += 1
            case _:
                raise Refusal(f"its code calls {shorten(name)}, which is not among the operators that it may call")
        self.check_all([*arguments, *options])


def _check_sizes(parts: list[ast.expr]) -> None:
    numbers = [part.value for part in parts if isinstance(part, ast.Constant) and type(part.value) is int]
    is_small_shape(numbers)


def _find_own_lists(method: ast.FunctionDef) -> set[str]:
    """The names that are assigned once, and hold a list of the module itself."""
    assigned = [
        (target.id, node.value)
        for node in ast.walk(method)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    counts = [name for name, _ in assigned]
    return {
        name
        for name, value in assigned
        if counts.count(name) == 1
        and isinstance(value, ast.Attribute)
        and isinstance(value.value, ast.Name)
        and value.value.id == "self"
    }


def _is_plain(name: str) -> bool:
    """Whether a name is no name of TorchScript's machinery."""
    return not (name.startswith("__") and name.endswith("__"))


def _is_plain_text(text: object) -> bool:
    return isinstance(text, str) and len(text) < 1000 and text.isprintable() and text.isascii() and "\\" not in text


def _describe(node: ast.AST) -> str:
    return f"{type(node).__name__} ({shorten(ast.unparse(node))})"
