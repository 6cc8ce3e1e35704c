"""The kits: what ``kit`` copies, and the server that ``serve`` starts."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from explainable_model.cli import serve as serve_module
from explainable_model.cli.kit_files import IN_CLONE, KITS, LEFT_OUT, PAGES
from tests.support.cli_run import Run

ROOT = Path(__file__).parents[2]


def test_the_list_is_that_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    page = (IN_CLONE / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[`(\w+)/`\]", page, re.MULTILINE)) == set(KITS)
    assert [row["kit"] for row in Run(capsys, "kit", "--json").record["kits"]] == list(KITS)
    shared = {name for kit in KITS.values() for name in kit.shared}
    assert {path.name for path in IN_CLONE.iterdir() if (path / "README.md").exists()} == set(KITS) | shared


@pytest.mark.parametrize("name", KITS)
def test_a_copied_kit_is_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    folder = tmp_path / "my kit"
    run = Run(capsys, "kit", name, folder, "--json")
    assert run.code == 0, run.err
    files = [folder / file for file in run.record["files"]]
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(files)
    assert Path(run.record["page"]).is_file()
    for path in files:
        source = IN_CLONE / path.relative_to(folder)
        if path.suffix != ".md":
            assert path.read_bytes() == source.read_bytes()
            assert path.stat().st_mode == source.stat().st_mode
        assert not any(path.match(pattern) for pattern in LEFT_OUT)
    for page in folder.rglob("*.md"):
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if link.startswith(PAGES):
                assert (ROOT / link.removeprefix(PAGES)).exists(), link
            elif not re.match(r"[a-z]+:", link):
                assert (page.parent / link).exists(), f"{page}: {link}"


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep me")
    for arguments, message in (
        (["onnx", tmp_path / "new"], "There is no kit 'onnx'; the kits are edge, libtorch"),
        (["edge", taken], "is there already and not empty; name a new folder"),
        (["edge", taken / "mine.txt"], "is there already and not empty"),
        (["edge"], "Name a new folder: explainable-model kit edge my-edge"),
        (["edge", taken / "mine.txt" / "new"], "cannot be made"),
    ):
        run = Run(capsys, "kit", *arguments)
        assert (run.code, run.out) == (2, "")
        assert message in run.err
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "mine.txt"]
    (tmp_path / "empty").mkdir()
    assert Run(capsys, "kit", "edge", tmp_path / "empty").code == 0


def test_what_cannot_be_served(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    artifacts: dict[str, Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "text.onnx").write_text("no artifact")
    for arguments, message in (
        ([tmp_path / "missing.onnx"], "There is no artifact"),
        ([tmp_path / "text.onnx"], "damaged or not an ONNX model"),
        ([artifacts["pt2"]], "is pt2; expected .onnx or .ts"),
        ([artifacts["onnx"], "--port", "0"], "--port is 0; expected 1 to 65535"),
        ([artifacts["onnx"], "--workers", "0"], "'0' is no count"),
    ):
        run = Run(capsys, "serve", *arguments)
        assert (run.code, run.out) == (2, "")
        assert message in run.err
    monkeypatch.setattr(serve_module, "find_spec", lambda name: None)
    run = Run(capsys, "serve", artifacts["onnx"])
    assert (run.code, "pip install 'explainable-model[litserve]'" in run.err) == (2, True)


@pytest.fixture
def server(artifacts: dict[str, Path]) -> Iterator[int]:
    """A port of 127.0.0.1 where ``explainable-model serve`` answers, with the key ``a-key``."""
    pytest.importorskip("litserve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "explainable_model", "serve", str(artifacts["onnx"]), f"--port={port}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EXPLAIN_API_KEY": "a-key", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server has ended"
        try:
            if urllib.request.urlopen(url, timeout=5).status == 200:
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


def test_a_file_is_served(server: int, photos: list[Path]) -> None:
    url = f"http://127.0.0.1:{server}/predictions/named"
    request = urllib.request.Request(url, photos[0].read_bytes(), {"X-API-Key": "a-key", "Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.status == 200
        assert b'"heatmap"' in reply.read()
