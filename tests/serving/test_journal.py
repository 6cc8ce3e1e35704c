"""The journal of the LitServe kit: ids, lines and counts, also where the server fails or the client leaves."""

import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

KIT = Path(__file__).parents[2] / "export" / "litserve"


@pytest.fixture(scope="module")
def journal() -> ModuleType:
    spec = importlib.util.spec_from_file_location("litserve_kit_journal", KIT / "journal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its data classes look themselves up
    spec.loader.exec_module(module)
    return module


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"fine"})


async def fail(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("a secret")


async def leave(scope: Any, receive: Any, send: Any) -> None:
    return


def call(module: ModuleType, app: Any, path: str, given: bytes | None = None) -> tuple[list[Any], Any]:
    """The messages that an application sends behind the journal, and the counts."""
    metrics, sent = module.Metrics(), []

    async def keep(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody reads the body")

    headers = [] if given is None else [(b"X-Request-Id", given)]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    asyncio.run(module.Journal(app, metrics)(scope, receive, keep))
    return sent, metrics


def test_a_request_keeps_its_id(journal: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    sent, metrics = call(journal, answer, "/predictions/a", b"order-66")
    line = json.loads(capsys.readouterr().out)
    assert (line["request_id"], line["status"], line["path"]) == ("order-66", 200, "/predictions/a")
    assert dict(sent[0]["headers"]) == {b"a": b"b", b"x-request-id": b"order-66"}
    assert metrics.statuses == {("predictions", 200): 1}
    assert metrics.running == 0


@pytest.mark.parametrize("given", [None, b"", b"x" * 65, b"a b", b'a"}\n{"', b"\xff"])
def test_other_ids_are_replaced(journal: ModuleType, given: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    sent, _ = call(journal, answer, "/predictions/a", given)
    name = dict(sent[0]["headers"])[b"x-request-id"]
    assert len(name) == 32
    assert name != given
    assert json.loads(capsys.readouterr().out)["request_id"] == name.decode()


def test_an_error_is_a_500_without_its_text(
    journal: ModuleType, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    sent, metrics = call(journal, fail, "/explanations/a", b"seven")
    assert (sent[0]["status"], json.loads(sent[1]["body"])["code"]) == (500, 500)
    assert dict(sent[0]["headers"])[b"x-request-id"] == b"seven"
    assert b"secret" not in sent[1]["body"]
    assert "secret" in caplog.text
    assert "seven" in caplog.text
    assert json.loads(capsys.readouterr().out)["status"] == 500
    assert metrics.statuses == {("explanations", 500): 1}
    assert metrics.running == 0


def test_a_client_that_left_is_counted(journal: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    sent, metrics = call(journal, leave, "/predictions/a")
    assert sent == []
    assert metrics.statuses == {("predictions", 499): 1}
    assert json.loads(capsys.readouterr().out)["status"] == 499


def test_a_path_makes_neither_lines_nor_names(journal: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    _, metrics = call(journal, answer, '/a"}\n{"' + "b" * 1000)
    (line,) = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["path"]) == 200
    assert metrics.statuses == {("other", 200): 1}
    call(journal, answer, "/health")
    assert capsys.readouterr().out == ""


def test_the_histogram_adds_up(journal: ModuleType) -> None:
    metrics = journal.Metrics()
    for seconds in (0.001, 0.01, 0.3, 99.0):
        metrics.add("predictions", 200, seconds)
    lines = metrics.write().splitlines()
    counts = [int(line.rsplit(" ", 1)[1]) for line in lines if "_bucket{" in line]
    assert counts == [2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4]  # 0.01 belongs below its own bound
    assert 'explain_request_duration_seconds_bucket{route="predictions",le="+Inf"} 4' in lines
    assert 'explain_request_duration_seconds_sum{route="predictions"} 99.311000' in lines
