"""Folders of runs and rows of evaluations that a stranger wrote: data, and never more than that."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest

from explainable_model.batch import explain_data_set, open_run
from explainable_model.batch.run_folder import RECORD, ROWS
from explainable_model.errors import ArtifactError, ExplainableModelError, InputError, ModelError
from explainable_model.evaluation.rows import RowFile
from explainable_model.networks.onnx.named import list_names
from explainable_model.networks.transformers import PROCESSOR, read_preprocess
from explainable_model.report import write_report
from tests.siege.records import HOSTILE
from tests.siege.runs import find_injection
from tests.support.run_folders import blob, make_row, write_run

BEFORE = Path(__file__).parents[1] / "data" / "before.onnx"
DEEP = "[" * 200_000


def part_of(run: Path) -> Path:
    return next((run / ROWS).iterdir())


def test_names_that_are_html_stay_text(tmp_path: Path) -> None:
    """Names of photos, classes, labels, artifact and folder, and the texts of errors."""
    rows = [make_row(f"{HOSTILE}{n}", blob(0, n), label=HOSTILE, names=[HOSTILE] * 3) for n in range(3)]
    rows.append(make_row("failed", error=HOSTILE, label=HOSTILE))
    run = write_run(tmp_path / "<img src=x onerror=alert(1)>", rows, class_names=[HOSTILE] * 3, artifact=HOSTILE)
    other = write_run(tmp_path / "other", rows, class_names=[HOSTILE] * 3, artifact=HOSTILE)
    report = write_report(run, tmp_path / "report.html", against=other, title=HOSTILE)
    assert find_injection(report.path.read_text("utf-8")) is None


def test_a_row_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    """A list of a hundred million nulls takes some hundred bytes of Parquet."""
    run = write_run(tmp_path / "run", [make_row("a"), make_row("b")])
    part = part_of(run)
    table = parquet.read_table(part)
    notes = table.schema.metadata
    long = pyarrow.nulls(100_000_000, table.schema.field("top_k").type.value_type)
    lists = pyarrow.ListArray.from_arrays([0, len(long), len(long)], long)
    table = table.set_column(table.schema.get_field_index("top_k"), "top_k", lists).replace_schema_metadata(notes)
    parquet.write_table(table, part, compression="zstd")
    assert part.stat().st_size < 100_000
    with pytest.raises(ArtifactError, match="100000001 values for 2 rows"):
        write_report(run, tmp_path / "report.html")


def test_texts_that_repeat(tmp_path: Path) -> None:
    """A dictionary holds a text of a megabyte once, and each of a thousand rows names it: few are read at a time."""
    run = write_run(tmp_path / "run", [make_row(str(n)) for n in range(1000)])
    part = part_of(run)
    table = parquet.read_table(part)
    texts = pyarrow.array(["x" * 2**20] * 1000)
    changed = table.set_column(table.schema.get_field_index("label"), "label", texts)
    changed = changed.replace_schema_metadata(table.schema.metadata)
    parquet.write_table(changed, part, use_dictionary=["label"], dictionary_pagesize_limit=2**22)
    assert part.stat().st_size < 2**19
    assert max(batch.num_rows for batch in open_run(run).iterate(["id", "label"])) < 300
    report = write_report(run, tmp_path / "report.html", thumbnails=False)
    assert (report.photos, report.path.stat().st_size < 2**20) == (1000, True)


RECORDS: dict[str, str] = {
    "deep": DEEP,
    "a list": "[1]",
    "no version": "{}",
    "a version of text": '{"schema_version": "1"}',
    "not a number": '{"schema_version": NaN}',
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_batch_does_not_write(name: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [make_row("a")])
    (run / RECORD).write_text(RECORDS[name])
    for use in (open_run, lambda folder: write_report(folder, tmp_path / "report.html")):
        with pytest.raises(ArtifactError):
            use(run)
    with pytest.raises(ExplainableModelError):
        explain_data_set(BEFORE, tmp_path, run, processes=0)


def change_record(**changes: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        record = json.loads((run / RECORD).read_text())
        (run / RECORD).write_text(json.dumps({**record, **changes}))

    return change


def test_a_run_of_strange_options_is_not_continued(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for changes in (
        {"artifact": 7},
        {"options": []},
        {"artifact": {"sha256": ["x"]}},
        {"options": {"top": "x" * 9000}},
    ):
        run = write_run(tmp_path / f"run{len(list(tmp_path.iterdir()))}", [make_row("a")], options={})
        change_record(**changes)(run)
        with pytest.raises(InputError) as caught:
            explain_data_set(BEFORE, photos, run, processes=0)
        assert len(str(caught.value)) < 600
        shutil.rmtree(run)


FINGERPRINT = {"model": {"sha256": "0"}, "measures": ["sparseness"]}
GOOD = {"key": "k", "content": "d", "photo": "p", "candidate": "c", "class_idx": 1, "values": {"sparseness": 0.5}}
LINES: dict[str, str] = {
    "deep": DEEP,
    "not JSON": "{",
    "a list": "[]",
    "no key": json.dumps({name: value for name, value in GOOD.items() if name != "key"}),
    "more": json.dumps({**GOOD, "more": 1}),
    "a number for a name": json.dumps({**GOOD, "photo": 7}),
    "text for a class": json.dumps({**GOOD, "class_idx": "1"}),
    "text for a value": json.dumps({**GOOD, "values": {"sparseness": HOSTILE}}),
    "a list of values": json.dumps({**GOOD, "values": [0.5]}),
    "a number of 400 digits": json.dumps({**GOOD, "values": {"sparseness": 10**400}}),
}


@pytest.mark.parametrize("name", LINES)
def test_a_row_that_evaluate_does_not_write(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    header = json.dumps({"evaluation": FINGERPRINT}, sort_keys=True)
    path.write_text(f"{header}\n{json.dumps(GOOD)}\n{LINES[name]}\n")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"Line 3 of .*rows\.jsonl is damaged.*measured again"):
        RowFile(path, FINGERPRINT)
    assert path.read_bytes() == before
    path.write_bytes(b"\xff" + before)
    with pytest.raises(InputError, match="is damaged: it is not text"):
        RowFile(path, FINGERPRINT)


SQUARE = '{"size": {"height": 8, "width": 8}, '


@pytest.mark.parametrize(
    "content",
    [
        DEEP,
        "[]",
        "7",
        '{"size": {"height": "x", "width": []}}',
        SQUARE + '"resample": 1e400}',
        SQUARE + '"image_std": 7}',
    ],
)
def test_a_processor_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / PROCESSOR).write_text(content)
    with pytest.raises(ModelError, match="is not JSON|does not describe"):
        read_preprocess(tmp_path)


@pytest.mark.parametrize("text", ["(" * 9000, "[" * 9000, "{None: 'x'}", "{1e999: 'x'}", "-" * 9000 + "1"])
def test_names_of_classes_that_are_none(text: str) -> None:
    assert all(isinstance(name, str) for names in list_names({"names": text}) for name in names)
