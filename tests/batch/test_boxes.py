"""Rows of a detector: one for each photo, with its boxes and their maps inside."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from explainable_model import ExplainableModel, explain, export, load
from explainable_model.batch import (
    BatchExplainer,
    box_rows,
    decode_map,
    explain_data_set,
    make_schema,
    open_run,
    small_maps,
)
from explainable_model.batch.schema import BOX_COLUMNS
from explainable_model.errors import ArtifactError, InputError
from tests.batch.box_photos import THREE, draw_squares, export_cells, make_preprocess
from tests.batch.test_batch_explainer import to_rows
from tests.support.detectors import ColoredCells, colored_candidates

CLASS_ALONE = ("class", "name", "score", "score_kind", "top_k", "cam", "peak_x", "half_max_box")


def list_paths(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.png"))]


def average(cam: Any, grid: tuple[int, int]) -> Any:
    """The mean of each cell of a grid, by repeating every value until cells are whole."""
    fine = np.repeat(np.repeat(np.asarray(cam, np.float64), grid[0], 0), grid[1], 1)
    return fine.reshape(grid[0], cam.shape[0], grid[1], cam.shape[1]).mean((1, 3))


def test_rows_hold_what_the_artifact_finds(detector: Path, squares: Path) -> None:
    rows = to_rows(BatchExplainer(detector, batch=2)({"uri": list_paths(squares)}))
    assert [len(row["boxes"] or ()) for row in rows] == [3, 0, 1, 0, 3]
    for path, row in zip(list_paths(squares), rows, strict=True):
        assert [row[name] for name in CLASS_ALONE] == [None] * len(CLASS_ALONE)
        if row["error"] is not None:
            assert row["boxes"] is None
            continue
        (answer,) = explain([path], detector)
        assert (row["width"], row["height"], row["crop"]) == (*answer.photo.size, list(answer.box))
        assert [box["box"] for box in row["boxes"]] == answer.boxes.tolist()
        assert [box["score"] for box in row["boxes"]] == answer.scores.tolist()
        assert [(box["class"], box["name"]) for box in row["boxes"]] == [
            (label, ("red", "green")[label]) for label in answer.labels.tolist()
        ]
        for box, cam in zip(row["boxes"], answer.cam, strict=True):
            assert box.keys() == {column.name for column in BOX_COLUMNS}
            small = decode_map(box)
            assert np.abs(small - average(cam, small.shape)).max() <= 0.51 * box["cam_scale"]
    assert "cannot be read" in rows[3]["error"]
    assert rows[0]["sha256"] == rows[4]["sha256"]
    assert rows[0]["boxes"] == rows[4]["boxes"]


def test_few_maps_are_in_memory(detector: Path, squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explainer, paths = BatchExplainer(detector), {"uri": list_paths(squares)}
    together = explainer(paths)
    monkeypatch.setattr(box_rows, "MOST_VALUES", 1)
    assert explainer(paths)["boxes"] == together["boxes"]


def test_boxes_lie_in_the_photo_and_are_those_of_the_session(detector: Path, squares: Path) -> None:
    """By hand: in the letterbox, a pixel of the image is two of the photo, and eight rows are border."""
    (row,) = to_rows(BatchExplainer(detector)({"uri": [list_paths(squares)[0]]}))
    found = {tuple(box["box"]): box for box in row["boxes"]}
    assert found.keys() == {(x, y, x + 32, y + 32) for (x, y), _ in THREE}
    with Image.open(list_paths(squares)[0]) as photo:
        detections, cam = load(detector)(make_preprocess()(photo))
    for rank, box in enumerate(row["boxes"]):
        left, top, right, bottom = detections.boxes[0, rank].tolist()
        assert box["box"] == [2 * left, 2 * (top - 8), 2 * right, 2 * (bottom - 8)]
        assert box["score"] == pytest.approx(float(detections.scores[0, rank]))
        inner = cam[0, rank, int(top) : int(bottom), int(left) : int(right)]
        assert box["inside"] == pytest.approx(inner.sum() / cam[0, rank, 8:56].sum(), rel=1e-5)
        assert box["inside"] > 0.5
        assert left * 2 < box["peak_x"] < right * 2


def test_engines_keep_the_nested_column(detector: Path, squares: Path) -> None:
    explainer, paths = BatchExplainer(detector, batch=2), list_paths(squares)
    rows = to_rows(explainer({"uri": paths}))
    table = explainer(pyarrow.table({"uri": paths}))
    assert table.schema == make_schema()
    (frame,) = explainer.explain_frames([pandas.DataFrame({"uri": paths})])
    again = pyarrow.Table.from_pandas(frame, make_schema(), preserve_index=False)
    assert again.column("boxes") == table.column("boxes")
    for row, stored in zip(rows, table.to_pylist(), strict=True):
        assert (stored["boxes"] is None) == (row["boxes"] is None)
        for one, other in zip(row["boxes"] or (), stored["boxes"] or (), strict=True):
            assert (one["box"], one["name"], one["cam"]) == (other["box"], other["name"], other["cam"])
            assert np.array_equal(decode_map(one), decode_map(other))


def test_a_run_goes_on_and_has_each_photo_once(detector: Path, squares: Path, tmp_path: Path) -> None:
    def run(**options: Any) -> Any:
        return explain_data_set(detector, squares, tmp_path / "run", part_rows=2, processes=0, **options)

    first = run()
    assert (first.photos, first.explained, first.failed, first.copies) == (5, 5, 1, 1)
    assert first.cam_source == "means over cells of 16 pixels of the network's image"
    before = open_run(tmp_path / "run").read_table().drop_columns("milliseconds")
    (tmp_path / "run" / "rows" / "part-000000.parquet").unlink()
    whole = (tmp_path / "run" / "rows" / "part-000001.parquet").read_bytes()
    (tmp_path / "run" / "rows" / "part-000001.parquet").write_bytes(whole[: len(whole) // 2])
    assert run().explained == 4
    assert open_run(tmp_path / "run").read_table().drop_columns("milliseconds") == before
    assert run(retry_failed=True).explained == 1
    assert open_run(tmp_path / "run").read_table().drop_columns("milliseconds") == before
    assert before.column("id").to_pylist() == list_paths(squares)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["schema_version"], record["artifact"]["task"]) == (2, "detection")


def test_a_run_of_the_first_schema(detector: Path, squares: Path, tmp_path: Path) -> None:
    """Its files lack the column of boxes, which reads as null."""
    explain_data_set(detector, squares, tmp_path / "run", part_rows=3, processes=0)
    part = tmp_path / "run" / "rows" / "part-000000.parquet"
    table = parquet.read_table(part).drop_columns("boxes")
    stored = {**parquet.read_metadata(part).metadata}
    stored[b"explainable_model.batch"] = stored[b"explainable_model.batch"].replace(b'version": 2', b'version": 1')
    parquet.write_table(table.replace_schema_metadata(stored), part)
    run = open_run(tmp_path / "run")
    assert [len(boxes or ()) for boxes in run.read_table().column("boxes").to_pylist()] == [0, 0, 0, 0, 3]
    assert run.read_table().column("boxes").null_count == 4
    assert [batch.num_rows for batch in run.iterate(["boxes"])] == [3, 2]
    assert run.read_table(["id", "boxes"]).column_names == ["id", "boxes"]
    (tmp_path / "run" / "rows" / "part-000001.parquet").unlink()
    assert explain_data_set(detector, squares, tmp_path / "run", part_rows=3, processes=0).explained == 2
    assert open_run(tmp_path / "run").read_table().column("boxes").null_count == 4


def test_a_class_is_refused(detector: Path, squares: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The class red was asked for; a detector explains the boxes that it finds"):
        explain_data_set(detector, squares, tmp_path / "run", class_idx="red")
    assert not (tmp_path / "run").exists()
    rows = to_rows(BatchExplainer(detector)({"uri": list_paths(squares)[:2], "class": ["1", None]}))
    assert "the column 'class' of the photos" in rows[0]["error"]
    assert (rows[1]["error"], rows[1]["boxes"]) == (None, [])
    with pytest.raises(ArtifactError, match="has no map: there is no box"):
        decode_map(rows[1])
    (row,) = to_rows(BatchExplainer(detector)({"uri": list_paths(squares)[:1]}))
    with pytest.raises(ArtifactError, match=r"its boxes have one each: decode_map\(row\['boxes'\]\[0\]\)"):
        decode_map(row)


def test_an_artifact_of_one_batch_size(detector: Path, squares: Path, tmp_path: Path) -> None:
    paths = [path for path in list_paths(squares) if "broken" not in path]
    expected = to_rows(BatchExplainer(detector)({"uri": paths}))
    three = export_cells(tmp_path / "three.onnx", images=3, dynamic_batch=False)
    for row, other in zip(to_rows(BatchExplainer(three)({"uri": paths})), expected, strict=True):
        assert (row["error"], row["crop"], len(row["boxes"])) == (None, other["crop"], len(other["boxes"]))
        for one, two in zip(row["boxes"], other["boxes"], strict=True):
            assert (one["box"], one["name"]) == (two["box"], two["name"])
            assert np.abs(decode_map(one) - decode_map(two)).max() <= 1.1 / 255


def test_maps_that_were_not_resized(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = export_cells(tmp_path / "whole.onnx", pad=None, upsample="none")
    path = list_paths(squares)[0]
    (answer,) = explain([path], made)
    (row,) = to_rows(BatchExplainer(made)({"uri": [path]}))
    monkeypatch.setattr(small_maps, "MOST_CELLS", 3)
    (few,) = to_rows(BatchExplainer(made)({"uri": [path]}))
    assert len(row["boxes"]) == len(few["boxes"]) == len(answer.cam) > 0
    for box, coarse, cam in zip(row["boxes"], few["boxes"], answer.cam, strict=True):
        assert decode_map(box).shape == cam.shape == (4, 6)
        assert np.abs(decode_map(box) - cam).max() <= 0.51 * box["cam_scale"]
        assert np.abs(decode_map(coarse) - average(cam, (2, 3))).max() <= 0.51 * coarse["cam_scale"]
    bordered = export_cells(tmp_path / "bordered.onnx", upsample="none")
    with pytest.raises(InputError, match="an image with a border has maps of its own size"):
        BatchExplainer(bordered).open()


def test_an_artifact_that_takes_photos(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its maps have the photo's size; a cell is 16 pixels of the network's image, and few large maps are in memory."""
    made = export_cells(tmp_path / "photos.onnx", pixels="NHWC")
    large = draw_squares(tmp_path / "large.png", [((64, 64), THREE[0][1])], (1536, 1024))
    paths = [list_paths(squares)[0], str(large)]
    most: list[int | None] = []
    split = box_rows.split_into_batches
    monkeypatch.setattr(
        box_rows,
        "split_into_batches",
        lambda *args, **options: [most.append(options["most"]), split(*args, **options)][1],
    )
    small, other = to_rows(BatchExplainer(made)({"uri": paths}))
    assert most == [2**25 // (3 * 96 * 192), 2**25 // (3 * 1024 * 1536)]
    assert (small["error"], other["error"], small["crop"]) == (None, None, [0, 0, 192, 96])
    assert [decode_map(box).shape for box in small["boxes"]] == [(7, 7)] * 3
    (answer,) = explain([paths[0]], made)
    for box, cam in zip(small["boxes"], answer.cam, strict=True):
        assert cam.shape == (96, 192)
        assert np.abs(decode_map(box) - average(cam, (7, 7))).max() <= 0.51 * box["cam_scale"]
    assert BatchExplainer(made).open().rows.cam_source.endswith("network's image, of maps of the photo's size")


def test_a_detector_of_given_boxes_is_refused(tmp_path: Path) -> None:
    explainable: Any = ExplainableModel(
        ColoredCells().eval(), "colors", task="detection", candidates=colored_candidates, method="hirescam", by_box=True
    )
    with Image.open(draw_squares(tmp_path / "three.png")) as photo:
        image = torch.from_numpy(make_preprocess()(photo))
    box = torch.tensor([[16.0, 16.0, 32.0, 32.0]])
    made = export(explainable, tmp_path / "given.ts", image, box, preprocess=make_preprocess())
    with pytest.raises(InputError, match="does not have; export it again, and leave out by_box"):
        BatchExplainer(made).open()
