"""Photos in stores: folders, patterns, tars and tables, through pyarrow's ``file://`` and fsspec's ``memory://``.

A server of S3 is a package of the extra ``engines``: ``pip install -e '.[test,engines]'``, then
``pytest -m '' tests/batch/test_stores.py``.
"""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pyarrow.fs
import pyarrow.parquet as parquet
import pytest

from explainable_model.batch import BatchExplainer, explain_data_set
from explainable_model.batch.sources import list_photos
from explainable_model.batch.stores import drop_options, locate
from explainable_model.errors import InputError, MissingRuntimeError
from tests.batch.test_run import read_rows
from tests.batch.test_sources import make_tar, read_all

NAMES = ("a/10.PNG", "a/9.jpg", "a/sub/what? 100%.webp", "b/2.jpg", "c.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*NAMES, "a/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_a_folder_is_listed_in_the_order_of_a_folder_here(folder: Path) -> None:
    found = read_all(f"file://{folder}")
    assert found == [(f"file://{folder}/{name}", None, name.encode()) for name in NAMES]
    assert [content for _, _, content in found] == [content for _, _, content in read_all(str(folder))]
    labeled = [photo.label for photo in list_photos([f"file://{folder}/"], folder_labels=True)]
    assert labeled == ["a", "a", "sub", "b", folder.name]


def test_files_and_patterns(folder: Path) -> None:
    assert [content for *_, content in read_all(f"file://{folder}/a/notes.txt")] == [b"a/notes.txt"]
    assert [content for *_, content in read_all(f"file://{folder}/*/*.jpg")] == [b"a/9.jpg", b"b/2.jpg"]
    with pytest.raises(InputError, match=r"has \*\*, which is for folders of this machine; name the folder before it"):
        read_all(f"file://{folder}/**/*.jpg")


def test_shards_and_tables(folder: Path) -> None:
    make_tar(folder / "0.tar", {"x/1.cls": b"7\n", "x/1.jpg": b"one", "2.jpg": b"two"})
    make_tar(folder / "1.tar", {"3.jpg": b"three"})
    root = f"file://{folder}"
    expected = [(f"{root}/0.tar#x/1.jpg", "7", b"one"), (f"{root}/0.tar#2.jpg", None, b"two")]
    assert read_all(f"{root}/*.tar") == [*expected, (f"{root}/1.tar#3.jpg", None, b"three")]
    parquet.write_table(pyarrow.table({"bytes": [b"one", b"two"], "label": ["x", None]}), folder / "t.parquet")
    assert read_all(f"{root}/t.parquet") == [
        (f"{root}/t.parquet#0", "x", b"one"),
        (f"{root}/t.parquet#1", None, b"two"),
    ]
    (folder / "b" / "t.csv").write_text(f"path,label\n2.jpg,two\n{root}/c.jpg,c\n")
    assert read_all(f"{root}/b/t.csv") == [("2.jpg", "two", b"b/2.jpg"), (f"{root}/c.jpg", "c", b"c.jpg")]


def test_names_with_the_signs_of_patterns(folder: Path) -> None:
    (folder / "[1]").mkdir()
    (folder / "[1]" / "a[b].jpg").write_bytes(b"brackets")
    (folder / "1").mkdir()
    for name in (f"file://{folder}/[1]", f"file://{folder}/[1]/a[b].jpg"):
        assert [content for *_, content in read_all(name)] == [b"brackets"]


def test_no_password_gets_into_rows(folder: Path) -> None:
    (folder / "t.csv").write_text("path\ns3://key:secret@bucket/x.jpg\n")
    with pytest.raises(InputError, match="holds a password") as caught:
        read_all(str(folder / "t.csv"))
    assert "secret" not in str(caught.value)


def test_a_store_of_fsspec(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/data/x 1.jpg": b"one", "/data/y/2.jpg": b"two"})
    try:
        found = read_all("memory://data")
        assert [(name.rpartition("data/")[2], content) for name, _, content in found] == [
            ("x 1.jpg", b"one"),
            ("y/2.jpg", b"two"),
        ]
    finally:
        memory.rm("/data", recursive=True)


def test_options_stay_out_of_rows() -> None:
    address = "s3://bucket/photos/a b.jpg?endpoint_override=http://127.0.0.1:9000&region=us-east-1"
    assert locate(address) == ("s3://bucket/photos/a b.jpg", "s3://bucket/photos/a b.jpg", address)
    assert locate("c.jpg", folder="s3://bucket/x?region=eu") == (
        "s3://bucket/x/c.jpg",
        "s3://bucket/x/c.jpg",
        "s3://bucket/x/c.jpg?region=eu",
    )
    for name in ("s3://bucket/what?.jpg", "s3://bucket/a?b/c=d.jpg", "https://host/photo?id=3"):
        assert drop_options(name) == name


@pytest.mark.parametrize(
    ("address", "problem", "message"),
    [
        ("s3://key:secret@bucket/x", InputError, r"s3://\.\.\.@bucket/x holds a password.*AWS_SECRET_ACCESS_KEY"),
        ("ftp://me:secret@host/x", InputError, r"ftp://\.\.\.@host/x holds a password"),
        ("nosuch://bucket/x", InputError, "nosuch:// is no store that pyarrow or fsspec knows; expected file, s3"),
        ("adl://container/x", MissingRuntimeError, "adl://container/x needs a package"),
        ("file:///no/such/folder", InputError, "cannot be listed"),
        ("s3://bucket/x?color=red", InputError, "cannot be opened: .*color"),
    ],
)
def test_what_cannot_be_opened(address: str, problem: type[Exception], message: str) -> None:
    with pytest.raises(problem, match=message) as caught:
        read_all(address)
    assert "secret" not in str(caught.value)


def test_rows_are_written_to_folders_alone(quick: Path, photos: Path) -> None:
    with pytest.raises(InputError, match="The path is s3://bucket/run, an address; expected a file or a folder of"):
        explain_data_set(quick, photos, "s3://bucket/run")
    with pytest.raises(InputError, match="The path is s3://bucket/net.onnx, an address"):
        explain_data_set("s3://bucket/net.onnx", photos, "run")


@pytest.fixture
def bucket(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with the photos, of a server on this machine."""
    pytest.importorskip("moto.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in (("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"), ("AWS_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)])
    try:
        place = f"127.0.0.1:{port}"
        store = pyarrow.fs.S3FileSystem(
            endpoint_override=place, scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        _wait_for_server(port)
        store.create_dir("bucket")
        pyarrow.fs.copy_files(str(photos), "bucket/photos", destination_filesystem=store)
        yield f"endpoint_override=http://{place}"
    finally:
        server.kill()
        server.wait()


def _wait_for_server(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_bucket_of_s3(
    engine: str, bucket: str, quick: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
        monkeypatch.setenv("RAY_worker_niceness", "0")
    run, here = tmp_path / "run", tmp_path / "here"
    words: list[Any] = ["batch", quick, f"s3://bucket/photos?{bucket}", "-o", run, "--engine", engine, "--processes", 2]
    done = subprocess.run([sys.executable, "-m", "explainable_model", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 1  # one photo is broken
    explain_data_set(quick, photos, here, processes=0)
    found = [{**row, "id": re.sub("^s3://bucket/", f"{photos.parent}/", row["id"])} for row in read_rows(run)]
    for row, expected in zip(found, read_rows(here), strict=True):
        assert row["uri"].startswith("s3://bucket/photos/")
        same = set(row) - {"uri", "error"}
        assert {name: row[name] for name in same} == {name: expected[name] for name in same}
    rows = BatchExplainer(quick)({"uri": [f"s3://bucket/photos/dogs/5.png?{bucket}"]})
    assert rows["error"] == [None]
