"""``BatchExplainer`` in other engines: the loader of PyTorch, datasets of Hugging Face, Spark.

datasets is a package of the extra ``engines``; Spark needs Java: ``pip install -e '.[test,engines]' pyspark``, then
``pytest -m '' tests/batch/test_adapters.py``.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from explainable_model.batch import BatchExplainer, make_schema, make_spark_schema
from explainable_model.batch.schema import COLUMNS, NAMES
from tests.batch.conftest import PHOTOS
from tests.batch.test_batch_explainer import to_rows


@pytest.fixture
def explainer(artifact: Path) -> BatchExplainer:
    return BatchExplainer(artifact, batch=2)


@pytest.fixture
def expected(explainer: BatchExplainer, photos: Path) -> dict[str, list[Any]]:
    """Of every photo, also the broken one; called in this process first, so that forked ones must open it anew."""
    columns: dict[str, list[Any]] = explainer({"uri": list_paths(photos)})
    return columns


def list_paths(photos: Path) -> list[str]:
    return [str(path) for path in sorted(photos.rglob("*.png"))]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_of_pytorch(
    explainer: BatchExplainer, photos: Path, expected: dict[str, list[Any]], workers: int
) -> None:
    context = "fork" if workers else None
    loader: Any = DataLoader(
        list_paths(photos), batch_size=3, num_workers=workers, collate_fn=explainer, multiprocessing_context=context
    )
    batches = list(loader)
    assert [len(batch["id"]) for batch in batches] == [3, 3, 2]
    for name in ("id", "name", "cam", "error"):
        assert [value for batch in batches for value in batch[name]] == expected[name]
    assert not torch.is_tensor(batches[0]["cam"])


def check_boxes(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The nested column of a row, whatever sequences an engine makes of it."""
    assert (found["boxes"] is None) == (expected["boxes"] is None)
    boxes, wanted = found["boxes"] or [], expected["boxes"] or []
    assert len(boxes) == len(wanted)
    for box, other in zip(boxes, wanted, strict=True):
        assert (list(box["box"]), box["class"], box["name"]) == (other["box"], other["class"], other["name"])
        assert (bytes(box["cam"]), box["cam_height"], box["cam_width"]) == (
            other["cam"], other["cam_height"], other["cam_width"],
        )  # fmt: skip
        assert box["inside"] == pytest.approx(other["inside"])


def test_datasets_of_hugging_face(
    explainer: BatchExplainer,
    photos: Path,
    expected: dict[str, list[Any]],
    detector: Path,
    squares: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    contents = [{"bytes": Path(path).read_bytes(), "path": path} for path in list_paths(photos)]
    given = datasets.Dataset.from_dict({"image": contents, "label": ["x"] * len(contents)})
    given = given.cast_column("image", datasets.Image(decode=False))
    features = datasets.Features.from_arrow_schema(make_schema())
    options = {"batched": True, "batch_size": 3, "remove_columns": given.column_names, "features": features}
    for processes in (None, 2):
        rows = given.map(explainer, num_proc=processes, **options)
        assert rows.column_names == list(NAMES)
        assert rows["label"][:] == ["x"] * (PHOTOS + 1)
        for name in ("name", "cam", "error", "top_k"):
            assert len(rows[name][:]) == PHOTOS + 1
        assert rows["cam"][:] == expected["cam"]
        assert rows["error"][:] == expected["error"]
    found = datasets.Dataset.from_dict({"uri": list_paths(squares)}).map(
        BatchExplainer(detector), **{**options, "remove_columns": ["uri"]}
    )
    wanted = to_rows(BatchExplainer(detector)({"uri": list_paths(squares)}))
    assert [len(row["boxes"] or ()) for row in wanted] == [3, 0, 1, 0, 3]
    for row, other in zip(found, wanted, strict=True):
        check_boxes(row, other)


@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
def test_spark(
    explainer: BatchExplainer,
    photos: Path,
    expected: dict[str, list[Any]],
    detector: Path,
    squares: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)  # else the first python3 of the path
    sql = pytest.importorskip("pyspark.sql")
    session = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        paths = [(path,) for path in list_paths(photos)]
        frame = session.createDataFrame(paths, "uri string").repartition(2)
        rows = frame.mapInPandas(explainer.explain_frames, schema=make_spark_schema()).collect()
        frame = session.createDataFrame([(path,) for path in list_paths(squares)], "uri string")
        boxes = frame.mapInPandas(BatchExplainer(detector).explain_frames, schema=make_spark_schema()).collect()
    finally:
        session.stop()
    found = {row["id"]: row for row in rows}
    assert len(rows) == len(found) == PHOTOS + 1
    for place, name in enumerate(expected["id"]):
        row = found[name]
        assert (row["name"], row["error"]) == (expected["name"][place], expected["error"][place])
        assert (None if row["cam"] is None else bytes(row["cam"])) == expected["cam"][place]
        assert row["class"] == expected["class"][place]
        if row["error"] is None:
            best = [(each["class"], each["name"]) for each in row["top_k"]]
            assert best == [(each["class"], each["name"]) for each in expected["top_k"][place]]
    by_id = {row["id"]: row.asDict(recursive=True) for row in boxes}
    for wanted in to_rows(BatchExplainer(detector)({"uri": list_paths(squares)})):
        check_boxes(by_id[wanted["id"]], wanted)


def test_the_schema_of_spark_has_every_column() -> None:
    written = make_spark_schema()
    assert [column.name for column in COLUMNS if f"`{column.name}` " not in written] == []
    assert "`half_max_box` array<float>" in written
    assert "`class` int" in written
