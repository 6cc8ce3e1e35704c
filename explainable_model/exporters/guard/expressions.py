"""The grammar of the sizes in a ``.pt2`` file, which PyTorch evaluates as Python.

A size is written as SymPy's ``srepr`` writes it: ``FloorDiv(Symbol('s38', integer=True), Integer(2))``. A guard
compares sizes of the inputs: ``L['image'].size()[2] % 32 == 0``. Both are small expressions of integers, symbols and a
few functions. Everything else is refused: other names, attributes, strings, and expressions that take long to simplify.
"""

import ast
import re

from explainable_model.exporters.guard.refusal import Refusal, shorten

MAX_LENGTH, MAX_NODES, MAX_SYMBOLS, MAX_EXPONENT, MAX_NUMBER = 10_000, 400, 6, 4, 2**63
MAX_DEGREE, MAX_DEPTH = 6, 24  # SymPy divides polynomials: its time grows with powers of their degree
SYMBOL = re.compile(r"(s|u|zuf|zf)\d{1,4}", re.ASCII)
ASSUMPTIONS = {"positive", "negative", "integer", "nonnegative", "real", "precision"}
NUMBERS = {"Integer", "Rational", "Float"}
FUNCTIONS = {
    "Symbol", "Add", "Mul", "Pow", "Max", "Min", "Abs", "Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilDiv",
    "ModularIndexing", "IntTrueDiv", "CeilToInt", "FloorToInt", "TruncToInt", "RoundToInt", "ToFloat", "Where",
    "Identity", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan",
    "StrictGreaterThan", "GreaterThan", "And", "Or", "Not", *NUMBERS,
}  # fmt: skip
OPERATORS = (
    ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.USub, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
    ast.And, ast.Or, ast.Not, ast.Load,
)  # fmt: skip


def check_size(text: object) -> str:
    """Check an expression of sizes.

    Raises:
        Refusal: it is longer or holds more than a size needs.
    """
    tree = _parse(text)
    _check(tree, guard=False)
    symbols = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    if len(symbols) > MAX_SYMBOLS or _degree(tree) > MAX_DEGREE:
        raise Refusal(f"the expression of sizes {shorten(text)} has too many symbols or factors")
    return str(text)


def _degree(node: ast.AST, depth: int = 0) -> int:
    """How many sizes are multiplied at most, where every operation is nested at most ``MAX_DEPTH`` times."""
    if depth > MAX_DEPTH:
        raise Refusal("an expression of sizes is nested too deep")
    name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
    if name == "Symbol" or isinstance(node, ast.Name):
        return 1
    parts = node.args if isinstance(node, ast.Call) else list(ast.iter_child_nodes(node))
    degrees = [_degree(part, depth + 1) for part in parts]
    if name == "Pow":
        return MAX_EXPONENT * degrees[0]
    multiplies = name == "Mul" or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult))
    return sum(degrees) if multiplies else max(degrees, default=0)


def check_guard(text: object) -> str:
    """Check a condition on the sizes of the inputs.

    Raises:
        Refusal: it is longer or holds more than a condition needs.
    """
    _check(_parse(text), guard=True)
    return str(text)


def _parse(text: object) -> ast.expr:
    if not isinstance(text, str) or len(text) > MAX_LENGTH or not text.isascii() or not text.isprintable():
        raise Refusal(f"{shorten(text)} is no expression of sizes")
    if text.count("(") > MAX_NODES or text.count("-") > MAX_NODES or text.count("not ") > MAX_NODES:
        raise Refusal(f"{shorten(text)} is longer than an expression of sizes")
    try:
        tree = ast.parse(text, mode="eval").body
        count = sum(1 for _ in ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refusal(f"{shorten(text)} is no expression of sizes") from error
    if count > 4 * MAX_NODES:
        raise Refusal(f"{shorten(text)} is longer than an expression of sizes")
    return tree


def _check(node: ast.AST, *, guard: bool) -> None:
    """Accept a node by its kind, and its parts in turn."""
    if guard and _is_input_size(node):
        return
    match node:
        case ast.Constant(value=bool()):
            return
        case ast.Constant(value=int() | float() as value) if abs(value) <= MAX_NUMBER:
            return
        case ast.Name(id=name) if not guard and (SYMBOL.fullmatch(name) or name in ("true", "false")):
            return
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords) if name in FUNCTIONS:
            _check_call(name, arguments, keywords, guard=guard)
            return
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="sym_max" | "sym_min"), args=arguments) if (
            guard
        ):
            for argument in arguments:
                _check(argument, guard=guard)
            return
        case ast.BinOp() | ast.UnaryOp() | ast.BoolOp() | ast.Compare():
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, OPERATORS):
                    _check(child, guard=guard)
            return
    raise Refusal(f"an expression of sizes holds {shorten(ast.unparse(node)) or type(node).__name__}")


def _check_call(name: str, arguments: list[ast.expr], keywords: list[ast.keyword], *, guard: bool) -> None:
    if any(word.arg not in ASSUMPTIONS or not isinstance(word.value, ast.Constant) for word in keywords):
        raise Refusal(f"an expression of sizes calls {name} with unknown options")
    if name == "Symbol":
        match arguments:
            case [ast.Constant(value=str(symbol))] if SYMBOL.fullmatch(symbol) and not guard:
                return
        raise Refusal(f"an expression of sizes has the symbol {', '.join(shorten(ast.unparse(a)) for a in arguments)}")
    if name == "Float":
        match arguments:
            case [ast.Constant(value=str(number))] if re.fullmatch(r"-?[0-9.]{1,40}(e[+-]?\d{1,3})?", number, re.ASCII):
                return
    if name == "Pow":
        _check_power(arguments)
    for argument in arguments:
        _check(argument, guard=guard)


def _check_power(arguments: list[ast.expr]) -> None:
    """Powers of sizes only: a tower of numbers would fill the memory."""
    exponents = [node.value for node in ast.walk(arguments[-1]) if isinstance(node, ast.Constant)] if arguments else []
    nested = any(
        isinstance(node, ast.Name) and node.id == "Pow" for argument in arguments for node in ast.walk(argument)
    )
    small = len(exponents) == 1 and isinstance(exponents[0], int) and abs(exponents[0]) <= MAX_EXPONENT
    if len(arguments) != 2 or nested or not small:
        raise Refusal("an expression of sizes has a large power")


def _is_input_size(node: ast.AST) -> bool:
    """Whether the node is ``L['image'].size()[2]`` or ``L['inputs'][0].size()[2]``."""
    match node:
        case ast.Subscript(
            value=ast.Call(func=ast.Attribute(attr="size", value=source), args=[], keywords=[]),
            slice=ast.Constant(value=int(axis)),
        ):
            return _is_input(source) and 0 <= axis < 16
    return False


def _is_input(node: ast.AST) -> bool:
    match node:
        case ast.Subscript(value=ast.Name(id="L"), slice=ast.Constant(value=str(name))):
            return name.isidentifier()
        case ast.Subscript(value=source, slice=ast.Constant(value=int(position))):
            return 0 <= position < 64 and _is_input(source)
    return False
