"""How many processes and threads: by cores, quota, memory and a measurement."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from explainable_model.batch import BatchExplainer, layout
from explainable_model.batch.layout import Layout, choose_layout, count_cores, list_layouts, read_free_memory
from explainable_model.batch.parts import PartWorker
from explainable_model.batch.photos import Photo
from explainable_model.errors import ArtifactError

PHOTOS = [Photo(str(number), "") for number in range(100)]


@pytest.fixture
def worker(tmp_path: Path) -> PartWorker:
    return PartWorker(tmp_path, BatchExplainer(tmp_path / "net.onnx", class_idx=3, top=2, batch=4, device="cpu"))


def test_cores_are_those_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(layout, "QUOTA", tmp_path / "cpu.max")
    assert count_cores() == 16
    for text, cores in (("max 100000", 16), ("400000 100000", 4), ("50000 100000", 1), ("9900000 100000", 16)):
        (tmp_path / "cpu.max").write_text(text)
        assert count_cores() == cores


def test_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MEMORY", tmp_path / "meminfo")
    assert read_free_memory() is None
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert read_free_memory() == 2 << 20


def test_layouts() -> None:
    assert list_layouts(8) == [Layout(8, 1), Layout(4, 2), Layout(1, 8)]
    assert list_layouts(2) == [Layout(2, 1), Layout(1, 2)]
    assert list_layouts(1) == [Layout(1, 1)]


@pytest.mark.parametrize(
    ("processes", "threads", "chosen"),
    [(None, None, (8, 1)), (3, None, (3, 2)), (None, 4, (2, 4)), (5, 2, (5, 2)), (20, None, (20, 1))],
)
def test_what_the_user_says_is_done(
    worker: PartWorker, processes: int | None, threads: int | None, chosen: tuple[int, int], monkeypatch: Any
) -> None:
    monkeypatch.setattr(layout, "count_cores", lambda: 8)
    found = choose_layout(worker, PHOTOS, 100, processes, threads)
    assert (found.processes, found.threads, found.rate) == (*chosen, None)


class MeasuredPool:
    """A pool of a machine where two threads share a core well, and memory is short."""

    rates: dict[int, float]
    memory: int = 1 << 20

    def __init__(self, worker: PartWorker, processes: int) -> None:
        assert (worker.explainer.class_idx, worker.explainer.top, worker.explainer.batch) == ("3", 2, 4)
        assert worker.explainer.threads == worker.explainer.decoders
        assert worker.explainer.device == "cpu"
        self.threads = worker.explainer.threads or 0

    def __enter__(self) -> "MeasuredPool":
        return self

    def __exit__(self, *_: object) -> None: ...

    def measure(self, photos: Sequence[Photo], seconds: float) -> tuple[float, int]:
        assert len(photos) == 32
        if self.threads not in self.rates:
            raise ArtifactError("a process was ended by SIGKILL")
        return self.rates[self.threads], self.memory


@pytest.mark.parametrize(
    ("rates", "memory", "chosen"),
    [
        ({1: 80.0, 2: 90.0, 8: 30.0}, 1 << 20, Layout(4, 2, 90.0)),
        ({1: 80.0, 2: 70.0, 8: 30.0}, 1 << 20, Layout(8, 1, 80.0)),
        ({1: 80.0, 2: 70.0, 8: 30.0}, 4 << 20, Layout(2, 2, 35.0)),  # two processes fit, of eight 20 photos/s are left
        ({8: 30.0}, 1 << 20, Layout(1, 8, 30.0)),
        ({}, 1 << 20, Layout(8, 1)),
    ],
)
def test_the_fastest_that_fits_is_chosen(
    worker: PartWorker, rates: dict[int, float], memory: int, chosen: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "count_cores", lambda: 8)
    monkeypatch.setattr(layout, "read_free_memory", lambda: 10 << 20)
    monkeypatch.setattr(layout, "Pool", MeasuredPool)
    monkeypatch.setattr(MeasuredPool, "rates", rates, raising=False)
    monkeypatch.setattr(MeasuredPool, "memory", memory)
    assert choose_layout(worker, PHOTOS, 2000, None, None) == chosen
