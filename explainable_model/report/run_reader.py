"""Reads the rows of a run into arrays, and finds damaged ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.batch.run_folder import RunFolder, open_run
from explainable_model.errors import InputError
from explainable_model.explainer.detection_defaults import DETECTION
from explainable_model.explanation import Progress
from explainable_model.report.box_columns import BoxColumns, BoxReader
from explainable_model.report.columns import (
    cut,
    find_first_class,
    find_problem,
    hash_text,
    read_crops,
    read_numbers,
)
from explainable_model.report.grids import Levels, choose_grid, fit_map
from explainable_model.report.run_table import UNKNOWN, RunTable, count_photos, iterate_rows

READ = (
    *("id", "sha256", "label", "class", "name", "score", "score_kind", "top_k", "error", "boxes"),
    *("cam", "cam_height", "cam_width", "cam_scale", "cam_zero", "width", "height", "crop"),
)


def read_run(folder: str | Path, tell: Progress | None = None) -> RunTable:
    """Read the rows of a run.

    Args:
        folder: as ``explainable-model batch`` wrote it.
        tell: called with the step, how many rows are read, and how many photos the run has.

    Raises:
        InputError: no run, or a run without rows.
        ArtifactError: a damaged run, or one of a newer schema.
        MissingRuntimeError: pyarrow is not installed.
    """
    run = open_run(folder)
    reader = _Reader(run)
    for batch in iterate_rows(run, READ):
        reader.add(batch)
        if tell:
            tell("rows", reader.rows, max(count_photos(run), reader.rows))
    if not reader.rows:
        raise InputError(f"The run {run.path} has no rows yet; let explainable-model batch write some first.")
    return reader.finish()


class _Reader:
    """Collects the arrays batch by batch."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.rows = run, 0
        self.grid: tuple[int, int] | None = None
        self.columns: dict[str, list[NDArray[Any]]] = {}
        self.maps: list[Levels | None] = []  # of each batch; none where no row so far has a map
        self.labels: dict[str, int] = {}
        known = run.record.get("class_names")
        self.names = {index: cut(str(name)) for index, name in enumerate(known if isinstance(known, list) else [])}
        self.damaged: dict[int, str] = {}
        self.signed, self.kinds = False, set[str]()
        self.boxes = BoxReader()

    def add(self, batch: Any) -> None:
        """Take the rows of a batch."""
        explained = read_numbers(batch, "class", -1)
        found = {
            "ids": np.array([hash_text(text) for text in batch.column("id").to_pylist()], np.uint64),
            "contents": np.array([hash_text(text) for text in batch.column("sha256").to_pylist()], np.uint64),
            "explained": explained,
            "predicted": find_first_class(batch.column("top_k"), explained),
            "score": read_numbers(batch, "score", np.nan),
            "failed": ~np.asarray(batch.column("error").is_null()),
            "label": self._number_labels(batch.column("label")),
            "crop": read_crops(batch),
        }
        self._learn_names(batch, explained)
        self.kinds.update(filter(None, batch.column("score_kind").unique().to_pylist()))
        problems, listed = self.boxes.add(batch, self.rows)
        self.damaged |= {row: text for row, text in problems.items() if not found["failed"][row - self.rows]}
        found["failed"] |= np.isin(self.rows + np.arange(batch.num_rows), [*problems])
        found["strength"] = self._add_maps(batch, found["failed"], found, listed)
        for name, values in found.items():
            self.columns.setdefault(name, []).append(values)
        self.rows += batch.num_rows

    def _number_labels(self, column: Any) -> NDArray[np.int32]:
        texts = [None if text is None else cut(text) for text in column.to_pylist()]
        return np.array([-1 if t is None else self.labels.setdefault(t, len(self.labels)) for t in texts], np.int32)

    def _learn_names(self, batch: Any, explained: NDArray[np.int32]) -> None:
        for class_idx, first in zip(*np.unique(explained, return_index=True), strict=True):
            name = batch.column("name")[int(first)].as_py()
            if class_idx >= 0 and name and int(class_idx) not in self.names:
                self.names[int(class_idx)] = cut(name)

    def _add_maps(
        self, batch: Any, failed: NDArray[np.bool_], found: Mapping[str, Any], listed: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Check the maps of the rows that have an answer of one class, and bring them onto the grid."""
        sizes = np.stack([read_numbers(batch, name, 0) for name in ("cam_height", "cam_width")], 1)
        zeros, scales = read_numbers(batch, "cam_zero", 0), read_numbers(batch, "cam_scale", np.nan)
        strength = np.zeros(batch.num_rows, np.float32)
        maps: Levels | None = None
        for n, cam in enumerate(batch.column("cam")):
            if listed[n]:
                continue
            content = None if failed[n] else cam.as_py()
            problem = "" if failed[n] else find_problem(content, sizes[n], scales[n], found["score"][n])
            if not failed[n] and found["explained"][n] < 0:
                problem = "it has no class"
            if problem:
                self.damaged[self.rows + n] = f"The row is damaged: {problem}."
                failed[n] = True
            if failed[n] or content is None:
                continue
            levels = np.frombuffer(content, np.uint8).reshape(sizes[n])
            self.grid = self.grid or choose_grid(*levels.shape)
            maps = np.zeros((batch.num_rows, *self.grid), np.uint8) if maps is None else maps
            self.signed |= bool(zeros[n])
            strength[n] = np.abs(levels.astype(np.float32) - zeros[n]).max() * scales[n]
            maps[n] = fit_map(levels, int(zeros[n]), self.grid)
        self.maps.append(maps)
        return strength

    def finish(self) -> RunTable:
        """Join the batches."""
        grid = self.grid or (1, 1)
        columns: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        maps = np.zeros((self.rows, *grid), np.uint8)
        start = 0
        for part, failed in zip(self.maps, self.columns["failed"], strict=True):
            if part is not None:
                maps[start : start + len(part)] = part
            start += len(failed)
        labels = list(self.labels)
        boxes = self._finish_boxes(columns)
        table = RunTable(
            self.run, **columns, labels=labels, names=self.names, signed=self.signed, damaged=self.damaged,
            verdict=np.full(self.rows, UNKNOWN, np.int8), maps=maps, is_probability=self.kinds <= {"probability"},
            boxes=boxes,
        )  # fmt: skip
        if boxes is None:
            _judge(table)
        _note_rows(table)
        return table

    def _finish_boxes(self, columns: dict[str, Any]) -> BoxColumns | None:
        """Join the boxes of a detector's run, and give each row the class and the score of its best box."""
        artifact = self.run.record.get("artifact")
        detects = isinstance(artifact, dict) and artifact.get("task") == DETECTION
        boxes = self.boxes.finish(columns["failed"], detects=detects)
        if boxes is None:
            return None
        missing = np.concatenate(self.boxes.missing)
        for row in missing[~columns["failed"][missing]].tolist():
            self.damaged[row] = "The row is damaged: it has neither boxes nor an error."
            columns["failed"][row] = True
        best = boxes.find_best(self.rows)
        there = best >= 0
        for name, values in (("explained", boxes.label), ("score", boxes.score), ("strength", boxes.strength)):
            columns[name] = np.full(self.rows, -1 if name == "explained" else np.nan, values.dtype)
            columns[name][there] = values[best[there]]
        columns["predicted"] = columns["explained"]
        self.names = {**self.boxes.names, **self.names}
        self.signed = self.boxes.signed
        return boxes


def _judge(table: RunTable) -> None:
    """Compare labels with predictions, where both are of one list."""
    known = {name: index for index, name in table.names.items()}
    indices = [int(x) for x in np.unique(table.predicted) if x >= 0]
    meant = np.array([known.get(t, int(t) if t.isdecimal() and len(t) < 9 else -2) for t in table.labels] or [-2])
    if table.labels and not np.isin(meant, [*known.values(), *indices]).any():
        table.notes.append(
            f"No label is the name or the index of a class: the labels are {_list(table.labels)}, the classes "
            f"{_list([table.name(index) for index in indices])}. Right and wrong are not told apart."
        )
        return
    judged = ~table.failed & (table.label >= 0)
    table.verdict[judged] = (meant[table.label[judged]] == table.predicted[judged]).astype(np.int8)


def _note_rows(table: RunTable) -> None:
    """Note photos without a row, with two, and with a damaged one."""
    listed = count_photos(table.folder)
    if listed > len(table):
        table.notes.append(f"The run has rows for {len(table):,} of its {listed:,} photos: batch has not ended.")
    doubles = len(table) - len(np.unique(table.ids))
    if doubles:
        rows = "row has" if doubles == 1 else "rows have"
        table.notes.append(f"{doubles:,} {rows} the id of another row: a run should have one row for each photo.")
    if table.damaged:
        rows = "row is" if len(table.damaged) == 1 else "rows are"
        table.notes.append(f"{len(table.damaged):,} {rows} damaged, and shown among the failed ones.")


def _list(texts: list[str], most: int = 3) -> str:
    shown = ", ".join(repr(text) for text in texts[:most])
    return f"{shown} and {len(texts) - most:,} more" if len(texts) > most else shown
