"""Checks that a run has exactly one row per photo, in the order of its list, whatever engine wrote it."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from explainable_model.batch.manifest import Manifest
from explainable_model.batch.run_folder import RunFolder
from explainable_model.batch.schema import METADATA_KEY, import_pyarrow, make_schema

CHECKED = ["id", "error", "sha256"]
DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class RowCheck:
    """What a run's files hold.

    Attributes:
        rows: how many.
        failed: how many have an error.
        unfinished: numbers of the parts without a whole file.
        with_errors: numbers of the parts with an error.
        errors: the first errors, by id.
        copies: how many photos have the content of an earlier one.
    """

    rows: int
    failed: int
    unfinished: tuple[int, ...]
    with_errors: tuple[int, ...]
    errors: dict[str, str]
    copies: int


MOST_ERRORS = 20


def check_rows(run: RunFolder, manifest: Manifest) -> RowCheck:
    """Compare the ids of each part's rows with the list of photos; a part with others is unfinished.

    The list names each photo once, so a run without unfinished parts has each photo once, in order.
    """
    rows = failed = 0
    unfinished, with_errors = list[int](), list[int]()
    errors = dict[str, str]()
    contents: Counter[int] = Counter()
    for number, ids in enumerate(manifest.iterate_ids()):
        table = _read(run, number)
        if table is None or table.column("id").to_pylist() != ids:
            unfinished.append(number)
            continue
        problems = [(name, text) for name, text in zip(ids, table.column("error").to_pylist(), strict=True) if text]
        rows, failed = rows + len(ids), failed + len(problems)
        errors.update(problems[: MOST_ERRORS - len(errors)])
        contents.update(int(digest[:16], 16) for digest in table.column("sha256").to_pylist() if digest)
        if problems:
            with_errors.append(number)
    copies = sum(count - 1 for count in contents.values())
    return RowCheck(rows, failed, tuple(unfinished), tuple(with_errors), errors, copies)


def _read(run: RunFolder, number: int) -> Any:
    """The checked columns of a part; ``None`` where its file is missing, damaged or of another run."""
    arrow = import_pyarrow()
    import pyarrow.parquet as parquet

    schema = arrow.schema([make_schema().field(name).with_nullable(True) for name in CHECKED])
    try:
        with parquet.ParquetFile(run.part(number)) as file:
            if METADATA_KEY not in (file.metadata.metadata or {}):
                return None
            table = file.read(CHECKED).select(CHECKED).cast(schema)
        table.validate(full=True)
    except (OSError, ValueError, KeyError, arrow.ArrowException):
        return None
    digests = table.column("sha256").to_pylist()
    return table if all(digest is None or DIGEST.fullmatch(digest) for digest in digests) else None
