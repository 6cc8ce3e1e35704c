"""Processes: each takes parts, and what ends one costs the part in its hands alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from explainable_model.batch import explain_data_set, open_run
from explainable_model.batch import run as run_module
from tests.batch.conftest import save_photo
from tests.batch.dying import DyingExplainer
from tests.batch.test_run import HERE, read_rows


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "photos"
    for number in range(120):
        save_photo(folder / f"{number:03d}.png", number)
    return folder


@pytest.fixture(scope="module")
def expected(artifact: Path, many: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    run = tmp_path_factory.mktemp("expected") / "run"
    explain_data_set(artifact, many, run, **HERE)
    return read_rows(run)


def command(artifact: Path, many: Path, run: Path, *options: object) -> list[str]:
    words = ("batch", artifact, many, "-o", run, "--processes", 2, "--threads", 1, "--part", 4, *options)
    return [sys.executable, "-m", "explainable_model", *map(str, words)]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def count_parts(run: Path) -> int:
    return len(list((run / "rows").glob("part-*.parquet")))


def test_a_killed_process_and_a_killed_driver(
    artifact: Path, many: Path, tmp_path: Path, expected: list[dict[str, Any]]
) -> None:
    run = tmp_path / "run"
    driver = subprocess.Popen(command(artifact, many, run))
    wait_for(lambda: count_parts(run) >= 3)
    children = psutil.Process(driver.pid).children()
    assert len(children) == 2
    children[0].kill()
    wait_for(lambda: count_parts(run) >= 12)
    driver.kill()
    driver.wait()
    psutil.wait_procs(children, 20)
    assert not any(child.is_running() for child in children)
    made = count_parts(run)
    assert 12 <= made < 30
    done = subprocess.run([*command(artifact, many, run), "--json"], capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    assert record["photos"] == 120
    assert record["explained"] == 120 - 4 * made
    assert record["layout"] == {"processes": 2, "threads": 1, "rate": None}
    assert read_rows(run) == expected


def hear_ctrl_c() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and all that this starts in turn."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c(artifact: Path, many: Path, tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    run = tmp_path / "run"
    driver = subprocess.Popen(command(artifact, many, run), stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c)
    wait_for(lambda: count_parts(run) >= 5)
    children = psutil.Process(driver.pid).children()
    os.kill(driver.pid, signal.SIGINT)
    _, err = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert "stays; the same command goes on there" in err
    assert "Traceback" not in err
    assert not any(child.is_running() for child in children)
    explain_data_set(artifact, many, run, processes=0)
    assert read_rows(run) == expected


def test_a_photo_that_ends_processes_costs_its_own_row(
    artifact: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number}.png" for number in range(4)] + ["deadly1.png", "deadly2.png", "last.png"]
    for number, name in enumerate(names):
        save_photo(tmp_path / "photos" / name, number)
    monkeypatch.setattr(run_module, "BatchExplainer", DyingExplainer)
    monkeypatch.setattr("explainable_model.batch.layout.BatchExplainer", DyingExplainer)
    found = explain_data_set(artifact, tmp_path / "photos", tmp_path / "run", processes=1, part_rows=4)
    rows = read_rows(tmp_path / "run")
    assert found.failed == 2
    assert [row["error"] is None for row in rows] == [True] * 4 + [False, False, True]
    assert "deadly1.png was ended by SIGKILL, twice" in rows[4]["error"]
    assert [Path(row["id"]).name for row in rows] == names
    assert len(open_run(tmp_path / "run").parts) == 2
