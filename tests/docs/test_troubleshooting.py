"""The page of errors: each message that it quotes is in the code, and each error class has its place."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from explainable_model import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
GAP = "\0"  # a value in a message
QUOTES = re.findall(r"\*\*`(.+?)`\*\*", PAGE)
CLASSES = [name for name, value in vars(errors).items() if isinstance(value, type)]


@cache
def messages() -> tuple[str, ...]:
    """Every text in the package, with a gap for each value."""
    found: set[str] = set()
    for path in (ROOT / "explainable_model").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found |= {text for node in ast.walk(tree) if id(node) not in docstrings and (text := text_of(node))}
    return tuple(found)


def text_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else GAP for part in node.values)
    return ""


def is_in_the_code(quote: str) -> bool:
    """Whether one message has the parts of a quote in their order."""
    wanted = re.compile(".*".join(re.escape(part.strip()) for part in quote.split("…")), re.DOTALL)
    return any(wanted.search(message) for message in messages())


@pytest.mark.parametrize("quote", QUOTES)
def test_a_quoted_message_is_in_the_code(quote: str) -> None:
    assert len(quote.replace("…", "").strip()) > 8, "too short to be told from other messages"
    assert is_in_the_code(quote)


def test_the_page_quotes_what_users_meet() -> None:
    assert len(QUOTES) >= 50
    assert len(set(QUOTES)) == len(QUOTES)


def test_a_changed_message_is_noticed() -> None:
    assert is_in_the_code("… is in training mode: batch norm would use the batch")
    assert not is_in_the_code("… is in training mode; batch norm would use the batch")
    assert not is_in_the_code("is zero everywhere … The map of class")


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_has_a_place(name: str) -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    named = {word for heading in headings for word in re.findall(r"\w+", heading)}
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    bases = {"ExplainableModelError", "ExplainableModelWarning"}
    assert name in named | rows | bases
    assert f"`{name}`" in PAGE or name in named or f"errors.{name}`" in PAGE
