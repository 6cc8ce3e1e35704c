"""Pictures and pre-annotations of a run, read back by the packages of the tools that show them.

They are packages of the extra ``boards``: ``pip install -e '.[test,boards]'``, then ``pytest -m '' tests/report``.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from explainable_model.errors import ArtifactError, InputError, MissingRuntimeError
from explainable_model.report import (
    iterate_pictures,
    make_label_config,
    make_wandb_table,
    write_label_studio,
    write_tensorboard,
)
from tests.support.cli_run import Run
from tests.support.run_folders import blob, make_box, make_box_row, make_row, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four gray photos: a right one, a wrong one whose map is hot in a corner, a failed one, and one that is gone."""
    photos = [tmp_path / f"{name}.png" for name in ("right", "wrong", "gone")]
    for path in photos:
        Image.new("RGB", (200, 100), (128, 128, 128)).save(path)
    rows = [
        make_row("right.png", blob(3, 3), class_idx=2, score=0.75, label="owl", photo=photos[0]),
        make_row("wrong.png", blob(0, 0), class_idx=1, score=0.5, label="cat", photo=photos[1]),
        make_row("failed.png", error="truncated", label="cat"),
        make_row("gone.png", blob(0, 0), label="cat", photo=photos[2]),
    ]
    rows[1]["half_max_box"] = [0.0, 0.0, 50.0, 25.0]
    photos[2].unlink()
    return write_run(tmp_path / "run", rows, artifact="net.onnx")


def test_photos_under_their_maps(run: Path) -> None:
    wrong, right = iterate_pictures(run, side=100)
    assert (wrong.id, wrong.is_right, wrong.caption) == ("wrong.png", False, "dog 0.50, label: cat")
    assert (right.id, right.is_right, right.caption) == ("right.png", True, "owl 0.75, label: owl")
    assert wrong.overlay.size == (100, 50)
    red, _, blue = np.moveaxis(np.asarray(wrong.overlay).astype(int), 2, 0)
    assert red[2, 2] > blue[2, 2] + 40, "the corner is hot"
    assert red[40, 90] < blue[40, 90], "the opposite corner is cold"
    assert wrong.cam.shape == (7, 7)
    assert [photo.id for photo in iterate_pictures(run, limit=1)] == ["wrong.png"]
    with pytest.raises(InputError, match="limit is 0; expected"):
        list(iterate_pictures(run, limit=0))


def test_photos_that_changed_since_the_run(run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), (255, 0, 0)).save(tmp_path / "wrong.png")
    assert [photo.id for photo in iterate_pictures(run)] == ["right.png"]
    (tmp_path / "right.png").write_bytes(b"no picture")
    assert list(iterate_pictures(run)) == []


def test_a_photo_that_does_not_decode_does_not_end_the_others(tmp_path: Path) -> None:
    for name in ("first", "second"):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{name}.png")
    rows = [make_row(f"{name}.png", blob(3, 3), photo=tmp_path / f"{name}.png") for name in ("first", "second")]
    rows[0]["sha256"] = None
    (tmp_path / "first.png").write_bytes(b"no picture")
    assert [photo.id for photo in iterate_pictures(write_run(tmp_path / "run", rows))] == ["second.png"]


@pytest.mark.parametrize(("folder", "options"), [("run", {"limit": 0}), ("run", {"side": -1}), ("none", {})])
def test_a_mistake_leaves_no_log(
    run: Path, folder: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(folder: str) -> None:
        Path(folder).mkdir()

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=start))
    with pytest.raises((InputError, ArtifactError)):
        write_tensorboard(run.parent / folder, tmp_path / "events", **options)
    assert not (tmp_path / "events").exists()


def test_tensorboard_reads_the_pictures(run: Path, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert write_tensorboard(run, tmp_path / "events", step=3, side=100) == 2
    found = accumulator.EventAccumulator(str(tmp_path / "events"))
    found.Reload()
    assert sorted(found.Tags()["images"]) == ["dog/wrong.png", "owl/right.png"]
    (event,) = found.Images("dog/wrong.png")
    assert (event.step, event.width, event.height) == (3, 100, 50)


def test_weights_and_biases_takes_the_table(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(project="maps", dir=tmp_path, settings=wandb.Settings(console="off")) as session:
        table = make_wandb_table(iterate_pictures(run))
        session.log({"maps": table})
    assert [row[:1] + row[2:] for row in table.data] == [
        ["wrong.png", "dog", 0.5, "cat", False],
        ["right.png", "owl", 0.75, "owl", True],
    ]
    stored = list(tmp_path.rglob("maps_*.table.json"))
    assert len(stored) == 1
    assert len(json.loads(stored[0].read_text())["data"]) == 2
    assert [(type(row[1]), row[1].image.size) for row in table.data] == [(wandb.Image, (200, 100))] * 2


def test_label_studio_accepts_the_tasks(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface(make_label_config(run))
    path = tmp_path / "tasks.json"
    done = Run(capsys, "report", run, "-o", tmp_path / "r.html", "--no-thumbnails", "--label-studio", path)
    assert done.code == 0
    assert "(4 tasks)" in done.out
    tasks = json.loads(path.read_text("utf-8"))
    assert [task["data"]["image"] for task in tasks] == ["right.png", "wrong.png", "failed.png", "gone.png"]
    assert "predictions" not in tasks[2]
    interface.validate()  # raises an error where the interface is wrong
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        for prediction in task.get("predictions", []):
            assert interface.validate_prediction(prediction, return_errors=True) == []
    (prediction,) = tasks[1]["predictions"]
    choice, place = prediction["result"]
    assert (prediction["score"], choice["value"], place["value"]["rectanglelabels"]) == (
        0.5,
        {"choices": ["dog"]},
        ["dog"],
    )
    assert [place["value"][edge] for edge in ("x", "y", "width", "height")] == [0, 0, 25, 25]
    assert write_label_studio(run, path, root="/data/local-files/?d=") == 4
    assert json.loads(path.read_text())[0]["data"]["image"] == "/data/local-files/?d=right.png"


def test_label_studio_accepts_the_boxes_of_a_detector(tmp_path: Path) -> None:
    interface_of = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    boxes = [make_box([0, 0, 32, 24], label=1, score=0.75), make_box([8, 8, 64, 48], label=2, score=0.5)]
    run = write_run(tmp_path / "run", [make_box_row("two.png", boxes), make_box_row("none.png")])
    interface = interface_of(make_label_config(run))
    interface.validate()
    assert write_label_studio(run, tmp_path / "tasks.json") == 2
    for task, scores in zip(json.loads((tmp_path / "tasks.json").read_text()), ([0.75, 0.5], []), strict=True):
        (prediction,) = task["predictions"]
        assert interface.validate_prediction(prediction, return_errors=True) == []
        assert [result["score"] for result in prediction["result"]] == scores


def test_tools_that_are_not_installed(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingRuntimeError, match="pip install wandb"):
        make_wandb_table(iterate_pictures(run))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(MissingRuntimeError, match="pip install tensorboard torch"):
        write_tensorboard(run, tmp_path / "events")
