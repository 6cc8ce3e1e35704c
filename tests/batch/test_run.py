"""A run: one row per photo in order, whatever stopped it before; and what it refuses."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from explainable_model.batch import BatchExplainer, explain_data_set, open_run
from explainable_model.batch import run as run_module
from explainable_model.batch.run import BatchSummary
from explainable_model.batch.schema import METADATA_KEY, NAMES
from explainable_model.batch.sources import list_photos
from explainable_model.errors import ArtifactError, InputError, MissingRuntimeError
from tests.batch.conftest import PHOTOS, save_photo
from tests.test_writing_disks import mounted  # noqa: F401

HERE: dict[str, Any] = {"processes": 0, "part_rows": 3}
TIMED = ("milliseconds",)


@pytest.fixture
def data(photos: Path, tmp_path: Path) -> Path:
    """A copy of the photos, which a test may change."""
    return Path(shutil.copytree(photos, tmp_path / "photos"))


def read_rows(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = open_run(folder).read_table().to_pylist()
    return [{name: value for name, value in row.items() if name not in TIMED} for row in rows]


def touched(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in open_run(folder).parts}


def test_each_photo_has_one_row_in_order(quick: Path, data: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    found = explain_data_set(
        quick, data, tmp_path / "run", folder_labels=True, progress=lambda *step: told.append(step), **HERE
    )
    rows = read_rows(tmp_path / "run")
    assert [row["uri"] for row in rows] == [str(path) for path in sorted(data.rglob("*.png"))]
    assert [row["label"] for row in rows] == ["cats"] * 5 + ["dogs"] * 3
    assert isinstance(found, BatchSummary)
    assert (found.photos, found.explained, found.failed, found.copies) == (PHOTOS + 1, PHOTOS + 1, 1, 0)
    assert list(found.errors) == [row["id"] for row in rows if row["error"]] == [str(data / "cats" / "broken.png")]
    assert told[0] == ("listing", 8, -1)
    assert told[1] == ("photos", 0, 8)
    assert told[-1] == ("photos", 8, 8)
    assert [done for _, done, _ in told[1:]] == sorted(done for _, done, _ in told[1:])
    parts = open_run(tmp_path / "run").parts
    assert [part.name for part in parts] == [f"part-00000{n}.parquet" for n in range(3)]
    stored = json.loads(parquet.read_metadata(parts[0]).metadata[METADATA_KEY])
    record = open_run(tmp_path / "run").record
    assert stored["class_names"] == record["class_names"] == open_run(tmp_path / "run").class_names
    assert record["artifact"]["sha256"] == rows[0]["artifact"]
    assert record["photos"] == 8


def test_a_rerun_makes_only_what_is_missing(quick: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    explain_data_set(quick, data, run, **HERE)
    whole, before = read_rows(run), touched(run)
    again = explain_data_set(quick, data, run, **HERE)
    assert (again.explained, again.layout) == (0, None)
    assert touched(run) == before
    first, second, third = open_run(run).parts
    first.unlink()
    second.write_bytes(second.read_bytes()[:100])
    assert explain_data_set(quick, data, run, **HERE).explained == 6
    assert read_rows(run) == whole
    assert touched(run)[third.name] == before[third.name]


def test_a_run_that_stops_goes_on(quick: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(step: str, done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_data_set(quick, data, tmp_path / "run", progress=stop, **HERE)
    assert len(open_run(tmp_path / "run").parts) == 2
    assert explain_data_set(quick, data, tmp_path / "run", **HERE).explained == 2
    explain_data_set(quick, data, tmp_path / "other", **HERE)
    assert read_rows(tmp_path / "run") == read_rows(tmp_path / "other")


def test_failed_photos_are_tried_again_on_request(quick: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    explain_data_set(quick, data, run, **HERE)
    before, rows = touched(run), read_rows(run)
    save_photo(data / "cats" / "broken.png", 9)
    assert explain_data_set(quick, data, run, **HERE).failed == 1
    found = explain_data_set(quick, data, run, retry_failed=True, **HERE)
    assert (found.explained, found.failed) == (1, 0)
    mended = read_rows(run)
    changed = [number for number, (old, new) in enumerate(zip(rows, mended, strict=True)) if old != new]
    assert changed == [4]
    assert mended[4]["name"] is not None
    assert [name for name, when in touched(run).items() if before[name] != when] == ["part-000001.parquet"]


def test_new_photos_come_last_and_old_ones_stay(quick: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    explain_data_set(quick, data, run, **HERE)
    old = read_rows(run)
    save_photo(data / "ants" / "new.png", 3)
    (data / "dogs" / "6.png").unlink()
    found = explain_data_set(quick, data, run, **HERE)
    assert (found.photos, found.explained, found.added, found.gone) == (9, 1, 1, 1)
    rows = read_rows(run)
    assert rows[:-1] == old
    assert rows[-1]["uri"].endswith("ants/new.png")
    assert explain_data_set(quick, data, run, **HERE).explained == 0


def test_photos_named_twice_have_one_row(quick: Path, data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "cats" / "0.png", data / "dogs" / "copy.png")
    found = explain_data_set(quick, [data, data / "cats" / "0.png", f"{data}/dogs/*.png"], tmp_path / "run", **HERE)
    assert (found.photos, found.repeated, found.copies) == (9, 5, 1)
    assert len({row["id"] for row in read_rows(tmp_path / "run")}) == 9


def test_labels_in_a_file(quick: Path, data: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\nphotos/cats/0.png,tabby\n5.png,crane\nlost.png,espresso\n")
    found = explain_data_set(quick, data, tmp_path / "run", labels=labels, **HERE)
    assert found.labels is not None
    assert (found.labels.unused, found.labels.unlabeled) == (["lost.png"], 6)
    assert [row["label"] for row in read_rows(tmp_path / "run") if row["label"]] == ["tabby", "crane"]
    labels.write_text("path,label\n5.png,crane\n")
    with pytest.raises(InputError, match="rows that were made with labels"):
        explain_data_set(quick, data, tmp_path / "run", labels=labels, **HERE)


def test_another_artifact_and_other_options_are_refused(
    artifact: Path, quick: Path, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    explain_data_set(artifact, data, run, **HERE)
    before = read_rows(run)
    with pytest.raises(InputError, match=r"holds rows of another artifact, small.onnx .*; this is before.onnx"):
        explain_data_set(quick, data, run, **HERE)
    with pytest.raises(InputError, match=r"made with class None \(now 1\), top 5 \(now 2\)"):
        explain_data_set(artifact, data, run, class_idx=1, top=2, **HERE)
    named = tmp_path / "named"
    explain_data_set(artifact, data, named, class_idx="espresso", **HERE)
    assert explain_data_set(artifact, data, named, class_idx=4, **HERE).explained == 0
    table = tmp_path / "table.csv"
    table.write_text(f"path,id,label\nphotos/cats/1.png,{data}/cats/0.png,x\n")
    with pytest.raises(InputError, match=r"1 photo\(s\) have another label, another class or another place"):
        explain_data_set(artifact, table, run, **HERE)
    assert read_rows(run) == before


def test_folders_that_are_no_run(quick: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds cats and no run"):
        explain_data_set(quick, data, data, **HERE)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be written"):
        explain_data_set(quick, data, tmp_path / "file", **HERE)
    with pytest.raises(InputError, match="There is no file"):
        explain_data_set(quick, tmp_path / "nowhere", tmp_path / "run", **HERE)
    with pytest.raises(InputError, match="engine is 'spark'; expected local or ray"):
        explain_data_set(quick, data, tmp_path / "run", engine="spark")
    with pytest.raises(InputError, match="threads is 0"):
        explain_data_set(quick, data, tmp_path / "run", threads=0)
    assert explain_data_set(quick, data, tmp_path / "run", **HERE).failed == 1  # what was refused left it usable


def test_without_ray(quick: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingRuntimeError, match=r"--engine ray needs Ray: pip install 'explainable-model\[ray\]'"):
        explain_data_set(quick, data, tmp_path / "run", engine="ray")


def test_without_pyarrow(quick: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingRuntimeError, match=r"Rows are Parquet, which needs pyarrow: pip install 'explainable-mo"
    ):
        explain_data_set(quick, data, tmp_path / "run", **HERE)
    (tmp_path / "photos.parquet").touch()
    with pytest.raises(MissingRuntimeError, match=r"photos.parquet is Parquet, which needs pyarrow"):
        list(list_photos([tmp_path / "photos.parquet"]))
    rows = BatchExplainer(quick)({"uri": [str(data / "dogs" / "5.png")]})  # lists need none
    assert rows["error"] == [None]


def test_one_writer_at_a_time(quick: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def start_another(step: str, done: int, total: int) -> None:
        if done == 3:
            with pytest.raises(InputError, match="Another process writes"):
                explain_data_set(quick, data, run, **HERE)

    explain_data_set(quick, data, run, progress=start_another, **HERE)


def test_rows_that_an_engine_lost_are_noticed(
    quick: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_module._run

    def lose(worker: Any, listed: Any, tasks: list[Any], *others: Any) -> Any:
        return run(worker, listed, tasks[:-1], *others)

    monkeypatch.setattr(run_module, "_run", lose)
    with pytest.raises(ArtifactError, match=r"lacks rows of 2 photos \(parts 2\)"):
        explain_data_set(quick, data, tmp_path / "run", **HERE)


def test_a_full_disk(quick: Path, data: Path, mounted: Callable[..., Path]) -> None:  # noqa: F811
    disk = mounted("size=44k")
    with pytest.raises(ArtifactError, match=r"could not be written \(No space left on device\); nothing was left"):
        explain_data_set(quick, data, disk / "run", processes=0, part_rows=3)
    made = [path.name for path in (disk / "run").rglob("*") if path.is_file() and path.stat().st_size]
    assert not [name for name in made if name.startswith(".part")]
    os.system(f"mount -o remount,size=10m {disk}")
    assert explain_data_set(quick, data, disk / "run", **HERE).photos == 8
    assert [row["id"] for row in read_rows(disk / "run")] == [str(path) for path in sorted(data.rglob("*.png"))]


def test_a_read_only_disk(quick: Path, data: Path, mounted: Callable[..., Path]) -> None:  # noqa: F811
    disk = mounted("size=1m,ro")
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        explain_data_set(quick, data, disk / "run", **HERE)


def test_thousands_of_files_that_are_no_photos(quick: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    for number in range(3000):
        (tmp_path / "tiny" / f"{number:04d}.jpg").write_bytes(bytes(number % 5))
    save_photo(tmp_path / "tiny" / "1500b.png", 1)
    found = explain_data_set(quick, tmp_path / "tiny", tmp_path / "run", processes=0, top=1)
    assert (found.photos, found.failed, found.copies) == (3001, 3000, 2995)
    assert len(found.errors) == 20, "the first ones are told, and the others are in the rows"
    rows = read_rows(tmp_path / "run")
    assert [Path(row["id"]).name for row in rows] == sorted(path.name for path in (tmp_path / "tiny").iterdir())
    assert [Path(row["id"]).name for row in rows if row["error"] is None] == ["1500b.png"]


def test_a_name_that_is_not_unicode(quick: Path, data: Path, tmp_path: Path) -> None:
    os.rename(os.fsencode(data / "dogs" / "4.png"), os.fsencode(data / "dogs") + b"/\xff.png")
    with pytest.raises(InputError, match="is not valid Unicode, which rows need; rename the file"):
        explain_data_set(quick, data, tmp_path / "run", **HERE)


@pytest.fixture
def shards(data: Path, tmp_path: Path) -> dict[str, str]:
    """The same photos in a tar, a Parquet file and a table."""
    import tarfile

    import pyarrow

    good = [path for path in sorted(data.rglob("*.png")) if path.stem != "broken"]
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for path in good:
            archive.add(path, path.name)
    parquet.write_table(pyarrow.table({"bytes": [path.read_bytes() for path in good]}), tmp_path / "photos.parquet")
    (tmp_path / "photos.csv").write_text("path\n" + "".join(f"{path}\n" for path in good))
    return {kind: str(tmp_path / f"photos.{kind}") for kind in ("tar", "parquet", "csv")}


def test_rows_are_the_same_from_every_source(quick: Path, shards: dict[str, str], tmp_path: Path) -> None:
    found = []
    for kind, source in shards.items():
        explain_data_set(quick, source, tmp_path / kind, **HERE)
        found.append([{k: v for k, v in row.items() if k not in ("id", "uri")} for row in read_rows(tmp_path / kind)])
    assert len(found[0]) == PHOTOS
    assert found[0] == found[1] == found[2]
    assert set(found[0][0]) == set(NAMES) - {"id", "uri", *TIMED}
