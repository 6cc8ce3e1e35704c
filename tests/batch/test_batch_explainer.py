"""``BatchExplainer``: the rows are what ``explain`` says, and a bad photo costs its own row alone."""

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
from PIL import Image

from explainable_model import explain
from explainable_model.batch import BatchExplainer, decode_map, make_schema, opened
from explainable_model.batch.batch_explainer import Input
from explainable_model.batch.photos import Photo
from explainable_model.batch.schema import NAMES
from explainable_model.errors import InputError
from tests.support.cli_nets import CLASS_NAMES


def list_good(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.rglob("*.png")) if path.stem != "broken"]


def to_rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_rows_say_what_explain_says(artifact: Path, photos: Path) -> None:
    paths = list_good(photos)
    rows = to_rows(BatchExplainer(artifact, batch=3)({"uri": paths}))
    for path, row in zip(paths, rows, strict=True):
        (answer,) = explain([path], artifact)
        assert row["error"] is None
        assert (row["id"], row["uri"], row["width"], row["height"]) == (path, path, *answer.photo.size)
        assert (row["class"], row["name"]) == (answer.class_idx, answer.class_name)
        assert row["score"] == pytest.approx(answer.probability, rel=1e-4)
        assert row["score_kind"] == "probability"
        assert [best["name"] for best in row["top_k"]] == [best["class_name"] for best in answer.top()]
        assert row["crop"] == list(answer.box)
        assert (row["peak_x"], row["peak_y"]) == answer.hottest
        assert row["half_max_box"] == list(answer.find_bounding_box() or ())
        assert np.abs(decode_map(row) - answer.cam).max() <= 0.51 * row["cam_scale"]
        assert row["milliseconds"] > 0


def test_resized_maps_become_those_of_the_layer(artifact: Path, resized: Path, photos: Path) -> None:
    paths = list_good(photos)
    small, large = (to_rows(BatchExplainer(each)({"uri": paths})) for each in (artifact, resized))
    assert "bilinear resizing inverted: 4 x 4 from maps of 32 x 32" in BatchExplainer(resized).open().rows.cam_source
    for one, other in zip(small, large, strict=True):
        assert (one["cam_height"], one["cam_width"]) == (other["cam_height"], other["cam_width"]) == (4, 4)
        assert np.abs(decode_map(one) - decode_map(other)).max() <= 1.1 / 255
        assert one["peak_x"] == other["peak_x"]


def test_an_asked_class_is_explained(artifact: Path, photos: Path) -> None:
    path = list_good(photos)[0]
    rows = to_rows(
        BatchExplainer(artifact, class_idx="espresso")({"uri": [path] * 4, "class": [None, "1", "tabby", 9]})
    )
    assert [row["class"] for row in rows[:3]] == [4, 1, 0]
    assert [row["name"] for row in rows[:3]] == [CLASS_NAMES[4], CLASS_NAMES[1], CLASS_NAMES[0]]
    assert rows[3]["error"] == "The class is 9; expected 0 to 4."
    with pytest.raises(InputError, match="no class 'dog' among 5"):
        BatchExplainer(artifact, class_idx="dog").open()


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_bad_photo_costs_its_own_row(quick: Path, photos: Path, tmp_path: Path, batch: int) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    good = list_good(photos)[:3]
    bad = [tmp_path / "text.png", photos / "cats" / "broken.png", tmp_path / "none.png", tmp_path / "empty.jpg"]
    paths = [good[0], str(bad[0]), good[1], *map(str, bad[1:]), good[2]]
    rows = to_rows(BatchExplainer(quick, batch=batch)({"path": paths, "label": [*"abcdefg"]}))
    assert [row["uri"] for row in rows] == paths
    assert [row["label"] for row in rows] == [*"abcdefg"]
    assert [row["error"] is None for row in rows] == [True, False, True, False, False, False, True]
    messages = ("is not a picture", "truncated", "There is no file", "is not a picture")
    for row, message in zip((rows[1], *rows[3:6]), messages, strict=True):
        assert message in row["error"]
        assert row["cam"] is row["class"] is row["top_k"] is None
    alone = to_rows(BatchExplainer(quick)({"path": good}))
    for row, other in zip((rows[0], rows[2], rows[6]), alone, strict=True):
        same = set(NAMES) - {"label", "milliseconds", "score", "top_k"}
        assert {name: row[name] for name in same} == {name: other[name] for name in same}


def test_an_answer_that_is_not_finite_costs_its_own_row(
    quick: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explainer, paths = BatchExplainer(quick), list_good(photos)[:3]
    session = explainer.open().session
    whole = to_rows(explainer({"uri": paths}))
    runner = session.runner

    def poison(image: Any, *others: Any) -> Any:
        logits, classes, cam = runner(image, *others)
        hit = np.isclose(image.sum((1, 2, 3)), marked)
        logits[hit] = np.nan
        return logits, classes, cam

    marked = explainer.open().prepare(Path(paths[1]).read_bytes(), "photo").image.sum()
    monkeypatch.setattr(session, "runner", poison)
    rows = to_rows(explainer({"uri": paths}))
    assert [row["error"] for row in rows] == [None, "The network's answer to this photo is not finite.", None]
    assert rows[2]["cam"] == whole[2]["cam"]


@pytest.mark.parametrize("kind", ["lists", "arrays", "frame", "table", "batch", "paths", "samples"])
def test_columns_of_every_kind(quick: Path, photos: Path, kind: str) -> None:
    paths = [*list_good(photos)[:2], str(photos / "cats" / "broken.png")]
    columns = {"uri": paths, "id": ["a", "b", "c"], "label": [None, "x", None]}
    given: Any = {
        "lists": columns,
        "arrays": {name: np.asarray(values, object) for name, values in columns.items()},
        "frame": pandas.DataFrame(columns),
        "table": pyarrow.table(columns),
        "batch": pyarrow.RecordBatch.from_pydict(columns),
        "paths": [Path(path) for path in paths],
        "samples": to_rows(columns),
    }[kind]
    made = BatchExplainer(quick)(given)
    if kind in ("arrays", "table", "batch"):
        assert made.schema.equals(make_schema())
        made = made.to_pydict()
    if kind == "frame":
        assert str(made["class"].dtype) == "Int32"
        assert made["label"].isna().tolist() == [True, False, True]
    assert list(made["id"]) == (paths if kind == "paths" else ["a", "b", "c"])
    assert list(made["name"])[:2] == BatchExplainer(quick)({"uri": paths[:2]})["name"]
    assert "truncated" in list(made["error"])[2]


def test_photos_in_memory(quick: Path, photos: Path) -> None:
    path = list_good(photos)[0]
    content, pixels = Path(path).read_bytes(), np.asarray(Image.open(path))
    explainer = BatchExplainer(quick)
    of_path, of_bytes = explainer({"uri": [path]}), explainer({"bytes": [content]})
    of_array, of_dataset = explainer({"image": [pixels]}), explainer({"image": [{"bytes": content, "path": path}]})
    assert of_path["cam"] == of_bytes["cam"] == of_array["cam"] == of_dataset["cam"]
    assert of_path["sha256"] == of_bytes["sha256"] == of_bytes["id"]
    assert of_dataset["uri"] == [path]
    assert of_array["sha256"] == [None]


def test_what_is_no_batch(quick: Path) -> None:
    explainer = BatchExplainer(quick)
    with pytest.raises(InputError, match="has the columns pixels; expected one of photos: uri, path, bytes"):
        explainer({"pixels": [1]})
    with pytest.raises(InputError, match="The batch is int; expected a mapping"):
        explainer(3)
    for name, value in (("batch", 0), ("decoders", 0), ("top", -1)):
        with pytest.raises(InputError, match=f"{name} is {value}"):
            BatchExplainer(quick, **{name: value})


def test_the_artifact_is_opened_once_in_a_process(quick: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    load = opened.load
    monkeypatch.setattr(opened, "_OPENED", {})
    monkeypatch.setattr(opened, "load", lambda path, **options: loads.append(path) or load(path, **options))
    explainer = BatchExplainer(quick, batch=2)
    for copy in (explainer, *(pickle.loads(pickle.dumps(explainer)) for _ in range(2))):
        copy({"uri": list_good(photos)[:1]})
    assert len(loads) == 1
    assert len(pickle.dumps(explainer)) < 1000


def test_few_photos_are_read_ahead(quick: Path, photos: Path) -> None:
    read = [0]
    path = list_good(photos)[0]

    def stream() -> Iterator[Input]:
        for number in range(200):
            read[0] += 1
            yield Input(Photo(str(number), path))

    rows = BatchExplainer(quick, batch=4).explain(stream())
    assert next(rows)["id"] == "0"
    assert read[0] <= 13
    assert [row["id"] for row in rows] == [str(number) for number in range(1, 200)]


def test_no_torch_is_needed(artifact: Path, photos: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from explainable_model.batch import BatchExplainer\n"
        f"print(BatchExplainer({str(artifact)!r})({{'uri': [{list_good(photos)[0]!r}]}})['error'])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[None]\n"


def test_few_artifacts_stay_open(quick: Path, tmp_path: Path) -> None:
    """A process that explains by one artifact after the other does not keep all of them, nor their threads."""
    for number in range(opened.MOST_OPEN + 3):
        shutil.copy(quick, path := tmp_path / f"{number}.onnx")
        last = BatchExplainer(path).open()
    assert len(opened._OPENED) == opened.MOST_OPEN
    assert BatchExplainer(path).open() is last
