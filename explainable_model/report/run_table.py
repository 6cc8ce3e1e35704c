"""The rows of a run as arrays: what the report counts over all photos, in about 150 bytes a photo."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.batch.run_folder import RunFolder
from explainable_model.batch.schema import import_pyarrow, make_schema
from explainable_model.errors import ArtifactError, InputError
from explainable_model.report.box_columns import BoxColumns
from explainable_model.report.columns import cut, hash_text
from explainable_model.report.grids import Levels

BATCH_ROWS = 2048
MOST_ROWS = 20_000_000
RIGHT, WRONG, UNKNOWN = 1, 0, -1


@dataclass(eq=False)
class RunTable:
    """What is known of each photo of a run. Every array has one entry for each row, in the order of the run.

    Attributes:
        folder: the run.
        ids, contents: hashes of the id and of the photo's bytes; 0 where the content is unknown.
        explained, predicted: the class of the map, and the best class; -1 where the row failed or has no box.
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
        boxes: of a detector's run, whose rows have the class, the score and the map of their best box.
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
    boxes: BoxColumns | None = None

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
        for batch in iterate_rows(self.folder, make_schema().names):
            inside = wanted[(wanted >= start) & (wanted < start + batch.num_rows)]
            if len(inside):
                rows = batch.take(import_pyarrow().array(inside - start)).to_pylist()
                if [hash_text(row["id"]) for row in rows] != self.ids[inside].tolist():
                    raise ArtifactError(f"{self.folder.path} changed while it was read; let batch end first.")
                yield from zip(inside.tolist(), rows, strict=True)
            start += batch.num_rows


def iterate_rows(run: RunFolder, columns: Any) -> Iterator[Any]:
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


def count_photos(run: RunFolder) -> int:
    """How many photos the record of a run lists; 0 where it does not say."""
    listed = run.record.get("photos")
    return listed if isinstance(listed, int) else 0
