"""Explains one part of a run and writes its rows at once: what each process does, in every engine."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from explainable_model.batch.batch_explainer import BatchExplainer, Input, Row, find_version
from explainable_model.batch.manifest import open_manifest
from explainable_model.batch.photos import Photo
from explainable_model.batch.run_folder import RunFolder, open_run
from explainable_model.batch.schema import describe_rows, import_pyarrow, make_empty_row, make_schema
from explainable_model.errors import ArtifactError, LeftoverWarning
from explainable_model.writing import write_bytes

TELL_EVERY = 8  # photos
DESCRIBED = ("schema_version", "artifact", "options", "class_names", "cam_source")


@dataclass(frozen=True)
class PartTask:
    """One part to explain.

    Attributes:
        number: of the part.
        careful: one photo at a time, because a process ended in this part.
        deadly: ids of photos that ended a process, with the reason; they are not read again.
        retry: whether only the rows with an error are made again.
    """

    number: int
    careful: bool = False
    deadly: tuple[tuple[str, str], ...] = ()
    retry: bool = False


@dataclass(frozen=True)
class MeasureTask:
    """Explain these photos again and again for some seconds, and say how fast."""

    photos: tuple[Photo, ...]
    seconds: float


@dataclass(frozen=True)
class PartResult:
    """What became of a part.

    Attributes:
        number: of the part.
        made: how many of its rows are new.
        failed: how many of them have an error.
    """

    number: int
    made: int
    failed: int


class Tell(Protocol):
    """Is told which photo comes next, where asked for, and how many of a part are done."""

    def __call__(self, kind: str, value: str | int) -> None:
        """``photo`` and an id, or ``done`` and a number."""


class PartWorker:
    """Explains parts of one run. It can be pickled, as ``BatchExplainer``."""

    def __init__(self, folder: Path, explainer: BatchExplainer) -> None:
        self.folder, self.explainer = folder, explainer

    def explain(self, task: PartTask, tell: Tell) -> PartResult:
        """Explain a part and write its file, all of it or nothing.

        Raises:
            ArtifactError: the file cannot be written, for example because the disk is full.
        """
        run, manifest = open_run(self.folder), open_manifest(self.folder)
        if manifest is None:
            raise ArtifactError(f"{self.folder} has no list of photos; run explainable-model batch again.")
        photos = manifest.read_part(task.number)
        kept = {row["id"]: row for row in read_part(run, task.number) if row["error"] is None} if task.retry else {}
        rows = self._explain([photo for photo in photos if photo.id not in kept], task, tell)
        ordered = [kept.get(photo.id) or rows[photo.id] for photo in photos]
        write_part(run, task.number, ordered)
        return PartResult(task.number, len(rows), sum(row["error"] is not None for row in ordered))

    def _explain(self, photos: list[Photo], task: PartTask, tell: Tell) -> dict[str, Row]:
        deadly = dict(task.deadly)
        wanted = [Input(photo) for photo in photos if photo.id not in deadly]
        announce: Callable[[str], None] | None = (lambda name: tell("photo", name)) if task.careful else None
        rows = {photo.id: self._make_deadly(photo, deadly[photo.id]) for photo in photos if photo.id in deadly}
        for number, row in enumerate(self.explainer.explain(wanted, careful=task.careful, tell=announce), 1):
            rows[row["id"]] = row
            if number % TELL_EVERY == 0:
                tell("done", number)
        return rows

    def _make_deadly(self, photo: Photo, reason: str) -> Row:
        known = {"id": photo.id, "uri": photo.uri, "label": photo.label, "version": find_version()}
        error = f"The process that explained {photo.uri} {reason}, twice. Is the photo or the memory at fault?"
        return {**make_empty_row(), **known, "artifact": self.explainer.open().sha256, "error": error}


def read_part(run: RunFolder, number: int) -> list[Row]:
    """Read the rows of a part; none where its file is missing or damaged."""
    arrow = import_pyarrow()
    import pyarrow.parquet as parquet

    try:
        rows: list[Row] = parquet.read_table(run.part(number), partitioning=None).to_pylist()
    except (OSError, ValueError, KeyError, arrow.ArrowException):
        return []
    return rows if all({"id", "error"} <= row.keys() for row in rows) else []


def write_part(run: RunFolder, number: int, rows: list[Row]) -> None:
    """Write the rows of a part.

    Raises:
        ArtifactError: the file cannot be written.
    """
    arrow = import_pyarrow()
    import pyarrow.parquet as parquet

    described = {name: run.record[name] for name in DESCRIBED}
    table: Any = arrow.Table.from_pylist(rows, make_schema())
    stream = io.BytesIO()
    with parquet.ParquetWriter(stream, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(describe_rows(described))  # in the schema it would be stored twice
    with warnings.catch_warnings():  # a killed process that was writing this part has lost nothing that is not here
        warnings.simplefilter("ignore", LeftoverWarning)
        write_bytes(run.part(number), stream.getvalue())
