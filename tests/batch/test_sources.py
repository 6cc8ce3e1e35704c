"""The photos that a user names: in order, with their labels, and without reading them."""

import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet as parquet
import pytest

from explainable_model.batch.labels import read_labels
from explainable_model.batch.photos import Photo, PhotoReader
from explainable_model.batch.sources import list_photos
from explainable_model.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that need no pixels, since listing reads none of them."""
    for name in ("b/2.jpg", "a/10.PNG", "a/9.jpg", "a/sub/1.webp", "c.jpg", "a/notes.txt"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_all(*sources: str) -> list[tuple[str, str | None, bytes]]:
    reader = PhotoReader()
    return [(photo.id, photo.label, reader.read(photo)) for photo in list_photos(sources)]


def test_a_folder(folder: Path) -> None:
    names = ["a/10.PNG", "a/9.jpg", "a/sub/1.webp", "b/2.jpg", "c.jpg"]
    assert read_all("data") == [(f"data/{name}", None, name.encode()) for name in names]
    assert read_all("./data/") == read_all("data")
    assert [photo.uri for photo in list_photos(["data"])] == [str(folder / "data" / name) for name in names]
    labeled = [photo.label for photo in list_photos(["data"], folder_labels=True)]
    assert labeled == ["a", "a", "sub", "b", "data"]


def test_links_are_followed_and_lose_nothing(folder: Path) -> None:
    (folder / "elsewhere" / "deep").mkdir(parents=True)
    (folder / "elsewhere" / "deep" / "5.jpg").write_bytes(b"five")
    (folder / "data" / "link").symlink_to(folder / "elsewhere")
    (folder / "elsewhere" / "deep" / "up").symlink_to(folder / "data")  # a circle
    (folder / "data" / "b" / "3.jpg").symlink_to(folder / "data" / "c.jpg")
    (folder / "data" / "b" / "4.jpg").symlink_to(folder / "gone.jpg")
    names = [photo.id for photo in list_photos(["data"])]
    assert names == [f"data/{name}" for name in (
        "a/10.PNG", "a/9.jpg", "a/sub/1.webp", "b/2.jpg", "b/3.jpg", "b/4.jpg", "c.jpg", "link/deep/5.jpg",
    )]  # fmt: skip
    with pytest.raises(InputError, match="There is no file .*4.jpg"):
        read_all("data")


def test_patterns_and_files(folder: Path) -> None:
    assert [name for name, *_ in read_all("data/**/*.jpg")] == ["data/a/9.jpg", "data/b/2.jpg", "data/c.jpg"]
    assert [name for name, *_ in read_all("data/c.jpg", "data/a/notes.txt")] == ["data/c.jpg", "data/a/notes.txt"]


def test_a_table_of_paths(folder: Path) -> None:
    table = folder / "data" / "photos.csv"
    table.write_text("\ufeffid,Path,label,class\n,c.jpg,cat,3\nsecond,a/9.jpg,,\n", "utf-8")
    first, second = list_photos([table])
    assert (first.id, first.uri, first.label, first.asked) == ("c.jpg", str(folder / "data" / "c.jpg"), "cat", "3")
    assert (second.id, second.label, second.asked) == ("second", None, None)
    assert PhotoReader().read(second) == b"a/9.jpg"


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_a_tar_of_web_dataset(folder: Path) -> None:
    members = {
        "x/1.cls": b"7\n",
        "x/1.jpg": b"one",
        "2.seg.png": b"two",
        "2.json": b"{}",
        "3.jpg": b"three",
        "3.cls": b"cat",
    }
    make_tar(folder / "shard.tar", members)
    assert read_all("shard.tar") == [
        ("shard.tar#x/1.jpg", "7", b"one"),
        ("shard.tar#2.seg.png", None, b"two"),
        ("shard.tar#3.jpg", "cat", b"three"),
    ]
    make_tar(folder / "zipped.tar", members, "w:gz")
    with pytest.raises(InputError, match=r"zipped.tar is no tar, or a compressed .* gunzip"):
        read_all("zipped.tar")
    os.truncate(folder / "shard.tar", 700)
    with pytest.raises(InputError, match=r"shard.tar is no tar, or a compressed or damaged"):
        read_all("shard.tar")


def test_a_parquet_file_of_bytes(folder: Path) -> None:
    photos = [f"photo {number}".encode() for number in range(50)]
    parquet.write_table(pyarrow.table({"bytes": photos, "label": [1] * 50}), "plain.parquet", row_group_size=20)
    found = read_all("plain.parquet")
    assert found == [(f"plain.parquet#{number}", "1", content) for number, content in enumerate(photos)]
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    images = [{"bytes": content, "path": "x.jpg"} for content in photos[:3]]
    table = pyarrow.table({"image": images, "label": [0, 1, None], "id": ["a", "b", "c"]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), "hub.parquet")
    assert read_all("hub.parquet") == [("a", "cat", photos[0]), ("b", "dog", photos[1]), ("c", None, photos[2])]


def test_rows_of_a_parquet_file_in_any_order(folder: Path) -> None:
    parquet.write_table(pyarrow.table({"bytes": [bytes([n]) for n in range(90)]}), "many.parquet", row_group_size=40)
    photos, reader = list(list_photos(["many.parquet"])), PhotoReader()
    for number in (0, 3, 70, 41, 41, 39, 89, 5):
        assert reader.read(photos[number]) == bytes([number])
    gone = Photo("x", "many.parquet#99", kind="parquet", container="many.parquet", first=2, second=50, column="bytes")
    with pytest.raises(InputError, match="has fewer rows"):
        reader.read(gone)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "There is no file nowhere"),
        ("empty", "The folder empty holds no photo; expected files ending in .avif"),
        ("shards", r"holds no photo, but .tar files; give them as 'shards/\*.tar'"),
        ("*.gif", r"No file matches \*.gif"),
        ("header.csv", "header.csv holds no photo"),
        ("columns.csv", "has the columns name, label; expected one named path or uri"),
        ("long.csv", "long.csv, line 2: more cells than columns"),
        ("blank.csv", "blank.csv, line 2: no path in column 'path'"),
        ("numbers.parquet", "has the columns n; expected one of bytes"),
        ("text.parquet", "text.parquet cannot be read as Parquet"),
    ],
)
def test_what_holds_no_photos(source: str, message: str, folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "shards").mkdir()
    make_tar(folder / "shards" / "0.tar", {"1.jpg": b"one"})
    (folder / "header.csv").write_text("path,label\n")
    (folder / "columns.csv").write_text("name,label\n1,2\n")
    (folder / "long.csv").write_text("path\na.jpg,b\n")
    (folder / "blank.csv").write_text("path,label\n,cat\n")
    (folder / "text.parquet").write_text("no table")
    parquet.write_table(pyarrow.table({"n": [1]}), "numbers.parquet")
    with pytest.raises(InputError, match=message):
        read_all(source)


def test_labels_find_their_photos(folder: Path) -> None:
    (folder / "labels.csv").write_text("path,label\ndata/a/9.jpg,nine\n2.jpg,two\nlost.jpg,none\n")
    labels = read_labels("labels.csv")
    assert [labels.label(photo).label for photo in list_photos(["data"])] == [None, "nine", None, "two", None]
    assert labels.unused == ["lost.jpg"]
    assert labels.unlabeled == 3
    (folder / "labels.csv").write_text("path,label\na.jpg,x\na.jpg,y\n")
    with pytest.raises(InputError, match="labels a.jpg as 'x' and as 'y'"):
        read_labels("labels.csv")
    (folder / "labels.csv").write_text("path,label\n")
    with pytest.raises(InputError, match="holds no label"):
        read_labels("labels.csv")
