"""Each promise of SECURITY.md has tests, and they exist."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISES = tomllib.loads(Path(__file__).with_name("promises.toml").read_text())["promise"]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise["text"][:60])
def test_the_tests_of_a_promise_exist(promise: dict[str, list[str]]) -> None:
    missing = [name for name in promise["tests"] if not _exists(name)]
    missing += [name for name in promise.get("scripts", ()) if not (ROOT / name).is_file()]
    assert missing == []
    assert promise["tests"]


def _exists(name: str) -> bool:
    file, _, function = name.partition("::")
    path = ROOT / file
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


def test_every_test_of_an_attack_holds_a_promise() -> None:
    """A file of attacks that no promise names would be forgotten."""
    named = {test.partition("::")[0] for promise in PROMISES for test in promise["tests"]}
    files = {f"tests/attacks/{path.name}" for path in Path(__file__).parent.glob("test_*.py")}
    assert files - named <= {"tests/attacks/test_promises.py", "tests/attacks/test_trust.py"}
