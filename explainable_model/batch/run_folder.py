"""Reads a run folder: its record, its rows in order, batch by batch."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explainable_model.batch.schema import (
    NAMES,
    SCHEMA_VERSION,
    add_new_columns,
    check_size,
    count_rows_at_once,
    import_pyarrow,
    read_file_metadata,
)
from explainable_model.errors import ArtifactError, InputError
from explainable_model.paths import as_path

RECORD = "run.json"
ROWS = "rows"
PART = "part-{:06d}.parquet"


@dataclass(frozen=True)
class RunFolder:
    """A folder that ``explainable-model batch`` wrote; its rows may not be complete yet.

    Attributes:
        path: the folder.
        record: what ``run.json`` holds: ``schema_version``, ``artifact`` (name, sha256, method, model, layers, output
            kind), ``options``, ``class_names``, ``photos`` (how many), ``part_rows`` and ``cam_source``.
    """

    path: Path
    record: dict[str, Any]

    @property
    def class_names(self) -> list[str] | None:
        """One per class, if known."""
        names: list[str] | None = self.record["class_names"]
        return names

    @property
    def parts(self) -> list[Path]:
        """The files of rows that are there, in the order of the photos."""
        return sorted((self.path / ROWS).glob("part-*.parquet"))

    def part(self, number: int) -> Path:
        """The file of rows number ``number``, there or not."""
        return self.path / ROWS / PART.format(number)

    def iterate(self, columns: Sequence[str] | None = None, batch_rows: int = 4096) -> Iterator[Any]:
        """Read the rows in the order of the photos, in batches: each a ``pyarrow.RecordBatch``.

        Args:
            columns: names of columns; ``None`` for all.
            batch_rows: the most rows of a batch, which bounds the memory.

        Raises:
            ArtifactError: a part cannot be read, or is of a newer schema.
            MissingRuntimeError: pyarrow is not installed.
        """
        import_pyarrow()
        import pyarrow.parquet as parquet

        for part in self.parts:
            try:
                with parquet.ParquetFile(part) as file:
                    version = read_file_metadata(file.metadata.metadata, part)["schema_version"]
                    for number in range(file.num_row_groups):
                        check_size(file.metadata, part, number)
                    rows = count_rows_at_once(file.metadata, batch_rows)
                    for batch in file.iter_batches(rows, columns=None if columns is None else list(columns)):
                        yield add_new_columns(batch, version, NAMES if columns is None else columns)
            except ArtifactError:
                raise
            except (OSError, ValueError, KeyError) as error:
                raise ArtifactError(f"{part} cannot be read ({error}); remove it, and run batch again.") from error

    def read_table(self, columns: Sequence[str] | None = None) -> Any:
        """Read all rows as one ``pyarrow.Table``; a million rows take about 300 MB."""
        from explainable_model.batch.schema import make_schema

        arrow = import_pyarrow()
        schema = make_schema()
        if columns is not None:
            schema = arrow.schema([schema.field(name) for name in columns])
        return arrow.Table.from_batches([batch.cast(schema) for batch in self.iterate(columns)], schema)


def open_run(folder: str | Path) -> RunFolder:
    """Open a run folder for reading.

    Raises:
        InputError: there is no run in it.
        ArtifactError: its record is damaged, or of a newer schema.
    """
    path = as_path(folder)
    try:
        record = json.loads((path / RECORD).read_text("utf-8"))
        version = record["schema_version"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} holds no run; expected a folder that explainable-model batch wrote.") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path / RECORD} cannot be read ({error}).") from error
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise ArtifactError(
            f"{path / RECORD} is of schema {version}; this version reads up to {SCHEMA_VERSION}. Upgrade "
            "explainable-model."
        )
    return RunFolder(path, record)
