"""A short siege. ``python -m tests.siege --long`` is the long one."""

import random
from pathlib import Path
from typing import Any

import pytest

from explainable_model.errors import InputError
from tests.siege import api, artifacts, disks, exports, pictures, runs, sources, threads
from tests.siege.__main__ import find_harm
from tests.siege.cells import run_in_cells
from tests.siege.mutate import MUTATIONS, damaged
from tests.support.detectors import photos


def test_arguments_of_every_public_call(tmp_path: Path) -> None:
    found = api.run(tmp_path, 8)
    assert find_harm(found) == []
    assert all(result["outcomes"] for result in found.values())


def test_damaged_artifacts(tmp_path: Path) -> None:
    found = artifacts.run(tmp_path, 12, boxes=())
    assert find_harm(found) == []
    assert set(found) == set(artifacts.ENDINGS)
    assert all(result["outcomes"]["refused"] >= 6 for result in found.values())


def test_damaged_detectors(tmp_path: Path) -> None:
    found = artifacts.siege(artifacts.make_detector(tmp_path / "boxes.ts"), photos(1).numpy(), 12, 0)
    assert find_harm(found) == []
    assert found["outcomes"]["refused"] >= 6


def test_damaged_sources(tmp_path: Path) -> None:
    """Both the whole file and some damaged ones are read; each of those was equal to ONNX Runtime."""
    found = sources.run(tmp_path, 12)
    assert find_harm(found) == []
    assert set(found) == {"classifier", "sizes"}
    assert all(result["outcomes"]["answered"] >= 1 for result in found.values())


def test_damaged_runs(tmp_path: Path) -> None:
    found = runs.run(tmp_path, 8)
    assert find_harm(found) == []
    assert [sum(result["outcomes"].values()) for result in found.values()] == [9] * 6


def test_a_page_with_a_script_is_noticed() -> None:
    page = "<!doctype html><script>1</script><script>2</script>"
    assert runs.find_injection(page) is None
    for hostile in ("<script>3</script>", "<img src=x>", "<p onclick=alert(1)>"):
        assert runs.find_injection(page + hostile)


def test_damaged_pictures(tmp_path: Path) -> None:
    found = pictures.run(tmp_path, 6)
    assert find_harm(found) == []
    for result in found.values():
        assert result["outcomes"]["answered"] >= len(pictures.make_pictures())
        assert result["outcomes"]["refused"] > 0


def test_threads(tmp_path: Path) -> None:
    assert find_harm(threads.run(tmp_path, 10)) == []


def test_killed_exports(tmp_path: Path) -> None:
    assert find_harm(exports.run(tmp_path, 1, endings=(".onnx", ".xml"))) == []


@pytest.mark.skipif(not disks.can_mount(), reason="mounting a file system needs root")
def test_full_and_read_only_disks(tmp_path: Path) -> None:
    assert find_harm(disks.run(tmp_path, (".onnx",), disks.DISKS[1::3])) == []


def test_cells_see_crashes_hangs_memory_and_foreign_errors() -> None:
    items = [(name, name) for name in ("fine", "refused", "foreign", "crash", "hang", "memory", "wrong", "fine")]
    tally = run_in_cells(make_misbehaving, (), items, memory_mib=200, seconds=3)
    expected = dict.fromkeys(("refused", "foreign", "crash", "hang", "memory", "wrong"), 1)
    assert tally.outcomes == {"answered": 2, **expected}
    assert [line.split(":")[0] for line in tally.harm] == ["foreign", "crash", "hang", "memory", "wrong"]
    assert "(tests/siege/test_siege.py:" in tally.harm[0]


def make_misbehaving() -> Any:
    import os
    import time

    def misbehave(name: str) -> str | None:
        if name == "refused":
            raise InputError("no")
        if name == "foreign":
            raise KeyError("x")
        if name == "crash":
            os.abort()
        if name == "hang":
            time.sleep(60)
        if name == "memory":
            len(bytearray(os.urandom(1)) * (400 << 20))
        return "7 instead of 8" if name == "wrong" else None

    return misbehave


def test_damage_is_the_same_for_the_same_seed() -> None:
    data = random.Random(0).randbytes(500)
    first, again = (list(damaged(data, 40, seed=1)) for _ in range(2))
    assert first == again
    assert first != list(damaged(data, 40, seed=2))
    used = {name for what, _ in damaged(data, 200) for name in what.split("(")[1].rstrip(")").split(", ")}
    assert used == {mutation.__name__ for mutation in MUTATIONS}
    assert all(changed[100:] == data[100:] or len(changed) != 500 for _, changed in damaged(data, 40, part=(0, 100)))
