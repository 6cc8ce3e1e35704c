"""The rows: their schema, their page, and maps in bytes."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from explainable_model.batch.run_folder import open_run
from explainable_model.batch.schema import (
    BOX_COLUMNS,
    COLUMNS,
    METADATA_KEY,
    NAMES,
    SCHEMA_VERSION,
    decode_map,
    describe_columns,
    describe_rows,
    encode_map,
    make_empty_row,
    make_schema,
    read_file_metadata,
)
from explainable_model.errors import ArtifactError, InputError

PAGE = Path(__file__).parents[2] / "docs" / "batch.md"
ALWAYS = {"id": "a", "artifact": "0", "version": "0"}


def test_the_page_has_the_columns() -> None:
    page = PAGE.read_text("utf-8")
    for name, columns in (("columns", COLUMNS), ("box columns", BOX_COLUMNS)):
        table = page.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]
        assert table == describe_columns(columns)


def test_rows_come_back_from_a_file() -> None:
    full = {**make_empty_row(), **ALWAYS, **encode_map(np.eye(3), signed=False), "crop": [0.0, 0.0, 9.0, 9.0]}
    full["top_k"] = [{"class": 1, "name": "cat", "score": 0.5}]
    rows = [{**make_empty_row(), **ALWAYS, "error": "no photo"}, full]
    stream = io.BytesIO()
    with parquet.ParquetWriter(stream, make_schema()) as writer:
        writer.write_table(pyarrow.Table.from_pylist(rows, make_schema()))
        writer.add_key_value_metadata(describe_rows({"schema_version": SCHEMA_VERSION}))
    read = parquet.read_table(io.BytesIO(stream.getvalue()))
    assert read.column_names == list(NAMES)
    stored = parquet.read_metadata(io.BytesIO(stream.getvalue())).metadata
    assert read_file_metadata(stored, "rows") == {"schema_version": SCHEMA_VERSION}
    first, second = read.to_pylist()
    assert first == rows[0]
    assert second["crop"] == full["crop"]
    assert second["top_k"] == full["top_k"]
    assert decode_map(second).tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("largest", [1e-30, 0.3, 1.0, 7e8])
@pytest.mark.parametrize("signed", [False, True])
def test_a_map_in_bytes_is_within_half_a_step(signed: bool, largest: float) -> None:
    values = np.random.default_rng(0).uniform(-1 if signed else 0, 1, (7, 9)) * largest
    row: dict[str, Any] = encode_map(values, signed=signed)
    assert (row["cam_height"], row["cam_width"], len(row["cam"])) == (7, 9, 63)
    step = row["cam_scale"]
    assert np.abs(decode_map(row) - values).max() <= 0.501 * step
    assert step == pytest.approx(np.abs(values).max() / (127 if signed else 255), rel=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_a_zero_map_stays_zero(signed: bool) -> None:
    assert not decode_map(encode_map(np.zeros((7, 7)), signed=signed)).any()


def test_what_is_no_row() -> None:
    with pytest.raises(ArtifactError, match="a has no map: truncated"):
        decode_map({**make_empty_row(), "id": "a", "error": "truncated"})
    with pytest.raises(ArtifactError, match="a map of 8 bytes; expected 3 x 3"):
        decode_map({"id": "a", "cam": bytes(8), "cam_height": 3, "cam_width": 3, "cam_zero": 0, "cam_scale": 1.0})
    with pytest.raises(ArtifactError, match="holds no rows of a batch"):
        read_file_metadata(None, "some.parquet")
    newer = {METADATA_KEY: b'{"schema_version": 99}'}
    with pytest.raises(ArtifactError, match="schema 99; this version reads up to 2"):
        read_file_metadata(newer, "some.parquet")


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"schema_version": 99}')
    with pytest.raises(ArtifactError, match="schema 99"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ArtifactError, match="cannot be read"):
        open_run(tmp_path)
