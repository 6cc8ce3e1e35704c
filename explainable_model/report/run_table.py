"""The rows of a run as arrays: what the report counts over all photos, in about 150 bytes a photo."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.batch.run_folder import RunFolder, open_run
from explainable_model.batch.schema import import_pyarrow, make_schema
from explainable_model.errors import ArtifactError, InputError
from explainable_model.explanation import Progress
from explainable_model.report.columns import (
    cut,
    find_first_class,
    find_problem,
    hash_text,
    read_crops,
    read_numbers,
)
from explainable_model.report.grids import Levels, choose_grid, fit_map

READ = (
    *("id", "sha256", "label", "class", "name", "score", "score_kind", "top_k", "error"),
    *("cam", "cam_height", "cam_width", "cam_scale", "cam_zero", "width", "height", "crop"),
)
BATCH_ROWS = 2048
MOST_ROWS = 20_000_000
RIGHT, WRONG, UNKNOWN = 1, 0, -1


@dataclass(eq=False)
class RunTable:
    """What is known of each photo of a run. Every array has one entry for each row, in the order of the run.

    Attributes:
        folder: the run.
        ids, contents: hashes of the id and of the photo's bytes; 0 where the content is unknown.
        explained, predicted: the class of the map, and the best class; -1 where the row failed.
        label: index in ``labels``, -1 without one.
        labels: texts.
        names: of the classes that occur.
        score: of the explained class.
        strength: the largest value of the map.
        signed: whether maps hold evidence against the class, too.
        failed: rows without an answer.
        damaged: why a row cannot be read, by its number; those rows are ``failed``, too.
        verdict: ``RIGHT``, ``WRONG``, or ``UNKNOWN`` without a label.
        maps: ``(n, h, w)`` on one grid; zeros where there is none.
        crop: ``(n, 4)``: left, top, right and bottom of what the map covers, in shares of the photo.
        is_probability: whether scores are probabilities.
        notes: what a reader of the report should know.
    """

    folder: RunFolder
    ids: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    explained: NDArray[np.int32]
    predicted: NDArray[np.int32]
    label: NDArray[np.int32]
    labels: list[str]
    names: dict[int, str]
    score: NDArray[np.float32]
    strength: NDArray[np.float32]
    signed: bool
    failed: NDArray[np.bool_]
    damaged: dict[int, str]
    verdict: NDArray[np.int8]
    maps: Levels
    crop: NDArray[np.float32]
    is_probability: bool
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def artifact(self) -> dict[str, str]:
        """What the run says of its artifact: name, method, model, sha256."""
        found = self.folder.record.get("artifact")
        wanted = ("name", "method", "model", "sha256")
        return {key: cut(str(found[key])) for key in wanted if found.get(key)} if isinstance(found, dict) else {}

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of ``maps``."""
        return self.maps.shape[1], self.maps.shape[2]

    def name(self, class_idx: int) -> str:
        """The name of a class, or ``class 3`` where names are not known."""
        return self.names.get(class_idx) or f"class {class_idx}"

    def has_map(self) -> NDArray[np.bool_]:
        """Which rows have a map that is not zero everywhere."""
        found: NDArray[np.bool_] = ~self.failed & self.maps.any((1, 2))
        return found

    def read_rows(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read whole rows: pairs of the number and the row, in the order of the run."""
        wanted = np.unique(numbers)
        start = 0
        for batch in _iterate(self.folder, make_schema().names):
            inside = wanted[(wanted >= start) & (wanted < start + batch.num_rows)]
            if len(inside):
                rows = batch.take(import_pyarrow().array(inside - start)).to_pylist()
                if [hash_text(row["id"]) for row in rows] != self.ids[inside].tolist():
                    raise ArtifactError(f"{self.folder.path} changed while it was read; let batch end first.")
                yield from zip(inside.tolist(), rows, strict=True)
            start += batch.num_rows


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
    for batch in _iterate(run, READ):
        reader.add(batch)
        if tell:
            tell("rows", reader.rows, max(count_photos(run), reader.rows))
    if not reader.rows:
        raise InputError(f"The run {run.path} has no rows yet; let explainable-model batch write some first.")
    return reader.finish()


def _iterate(run: RunFolder, columns: Any) -> Iterator[Any]:
    """Read batches of rows, of exactly the types of the schema."""
    arrow = import_pyarrow()
    schema = make_schema()
    wanted = arrow.schema([schema.field(name).with_nullable(True) for name in columns])
    count = 0
    for batch in run.iterate(columns, BATCH_ROWS):
        missing = [name for name in columns if name not in batch.schema.names]
        if missing:
            raise ArtifactError(
                f"The rows of {run.path} have no column {missing[0]!r}; expected those of docs/batch.md. Run batch "
                "again."
            )
        try:
            batch = batch.select(list(columns)).cast(wanted)
            batch.validate(full=True)
        except (arrow.ArrowException, ValueError, KeyError) as error:
            raise ArtifactError(f"The rows of {run.path} are damaged ({error}); run batch again.") from error
        count += batch.num_rows
        if count > MOST_ROWS:
            raise InputError(f"{run.path} has more than {MOST_ROWS:,} rows; report on parts of it.")
        yield batch


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
        found["strength"] = self._add_maps(batch, found["failed"], found)
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

    def _add_maps(self, batch: Any, failed: NDArray[np.bool_], found: Mapping[str, Any]) -> NDArray[np.float32]:
        """Check the maps of the rows that have an answer, and bring them onto the grid."""
        sizes = np.stack([read_numbers(batch, name, 0) for name in ("cam_height", "cam_width")], 1)
        zeros, scales = read_numbers(batch, "cam_zero", 0), read_numbers(batch, "cam_scale", np.nan)
        strength = np.zeros(batch.num_rows, np.float32)
        maps: Levels | None = None
        for n, cam in enumerate(batch.column("cam")):
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
        table = RunTable(
            self.run, **columns, labels=labels, names=self.names, signed=self.signed, damaged=self.damaged,
            verdict=np.full(self.rows, UNKNOWN, np.int8), maps=maps, is_probability=self.kinds <= {"probability"},
        )  # fmt: skip
        _judge(table)
        _note_rows(table)
        return table


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


def count_photos(run: RunFolder) -> int:
    """How many photos the record of a run lists; 0 where it does not say."""
    listed = run.record.get("photos")
    return listed if isinstance(listed, int) else 0


def _list(texts: list[str], most: int = 3) -> str:
    shown = ", ".join(repr(text) for text in texts[:most])
    return f"{shown} and {len(texts) - most:,} more" if len(texts) > most else shown
