"""Damaged files: whatever a file breaks inside of a reader, the error is ours."""

import json
import os
import random
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from explainable_model import load, read_metadata
from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.cli.main import main
from explainable_model.errors import ArtifactError
from tests.support.hostile import GOOD, assert_refused, metadata_text, rewrite

ARCHIVES = ["before.ts", "before.pt2"]
METADATA = f"extra/{METADATA_KEY}"


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "metadata that cannot be read"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "metadata that cannot be read"),
        (b'{"a":' * 100_000, "metadata that cannot be read"),
        (b"9" * 10_000, "metadata that cannot be read"),
        (b"{}", "metadata that cannot be read"),
        (b"[]", "metadata that cannot be read"),
        (b"null", "metadata that cannot be read"),
        (b'"schema_version"', "metadata that cannot be read"),
        (b'{"schema_version": 1}', "incomplete metadata"),
        (b'{"schema_version": 1e9}', "metadata of schema"),
        (b'{"schema_version": NaN}', "metadata of schema"),
    ],
)
def test_broken_metadata(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    assert_refused(rewrite(GOOD / name, tmp_path / name, {METADATA: content}), match=message, both=True)


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize(
    ("said", "message"), [(1 << 30, "its entries unpack to 107"), (100, f"{METADATA} .* recorded length")]
)
def test_metadata_that_unpacks_to_a_gigabyte(tmp_path: Path, name: str, said: int, message: str) -> None:
    resource = pytest.importorskip("resource")
    bomb = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    start, more = bomb.compress(bytes(1 << 20)), bomb.compress(bytes(1 << 20))
    packed = start + 1023 * more  # every further mebibyte of zeros is packed to the same bytes
    path = rewrite(GOOD / name, tmp_path / name, {METADATA: packed})
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo(f"archive/{METADATA}").header_offset
        directory = archive.start_dir
    central = content.index(f"archive/{METADATA}".encode(), directory) - 46
    for start, method, size in ((offset, 8, 22), (central, 10, 24)):
        struct.pack_into("<H", content, start + method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<L", content, start + size, said)
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(path, match=message, both=True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_packed_entry_that_is_longer_than_it_says(tmp_path: Path, name: str) -> None:
    path = rewrite(GOOD / name, tmp_path / name, compression=zipfile.ZIP_DEFLATED)
    assert load(path).metadata.model == "Sequential"
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"archive/{METADATA}")
        directory = archive.start_dir
    central = content.index(f"archive/{METADATA}".encode(), directory) - 46
    for position in (info.header_offset + 22, central + 24):
        struct.pack_into("<L", content, position, info.file_size - 1)
    path.write_bytes(content)
    assert_refused(path, match="does not have the recorded length", both=True)


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_packing(tmp_path: Path, name: str, method: int) -> None:
    path = rewrite(GOOD / name, tmp_path / name, compression=method)
    assert_refused(path, match=f"packed by method {method}", both=True)


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_encrypted_or_empty_archive(tmp_path: Path, name: str) -> None:
    path = rewrite(GOOD / name, tmp_path / name)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        struct.pack_into("<H", content, archive.start_dir + 8, 1)
    path.write_bytes(content)
    assert_refused(path, match="packed by method 0 with flags 0x1", both=True)
    zipfile.ZipFile(path, "w").close()
    assert_refused(path, match="damaged", both=True)


@pytest.mark.parametrize("entry", ["/absolute", "../outside", "a\\b", "a//b", "", "ä", "a\nb"])
def test_names_of_entries(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "net.ts"
    rewrite(GOOD / "before.ts", path, more={entry: b""})
    assert_refused(path, match="damaged", both=True)


def test_an_archive_without_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "net.ts"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(METADATA_KEY, metadata_text(GOOD / "before.ts"))
    assert_refused(path, match="damaged", both=True)


def test_a_program_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    for content in (b"", b"{", b"[" * 100_000, b"\xff", b"null", json.dumps({"graph_module": []}).encode()):
        rewrite(GOOD / "before.pt2", path, {"models/model.json": content})
        assert_refused(path, match="cannot be shown to be harmless")


@pytest.mark.parametrize("name", [*ARCHIVES, "before.onnx"])
def test_every_mutation_is_refused_or_loads(tmp_path: Path, name: str) -> None:
    """Cuts, joints and changed bytes: an error of ours, or an artifact; never another error."""
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    whole, path, dice = (GOOD / name).read_bytes(), tmp_path / name, random.Random(0)
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        kind = dice.randrange(3)
        if kind == 0:
            del content[dice.randrange(len(content)) :]
        elif kind == 1:
            start = dice.randrange(len(content))
            content[start : start + dice.randrange(64)] = dice.randbytes(dice.randrange(64))
        else:
            for _ in range(8):
                content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(content)
        for open_ in (read_metadata, load):
            try:
                open_(path)
            except ArtifactError:
                refused += 1
    assert refused > 40


@pytest.mark.parametrize(("name", "entry"), [("before.ts", "data/99"), ("before.pt2", "data/weights/weight_99")])
def test_an_entry_that_no_weight_uses(tmp_path: Path, name: str, entry: str) -> None:
    """It would only fill the memory."""
    path = rewrite(GOOD / name, tmp_path / name, more={entry: bytes(1 << 20)})
    assert_refused(path, match="no weight lies in its entry")


@pytest.mark.parametrize("suffix", [".onnx", ".pte", ".ts", ".pt2", ".xml"])
def test_a_file_of_a_terabyte(tmp_path: Path, suffix: str) -> None:
    """A file with a hole is as long as it says, and takes no room on the disk."""
    path = tmp_path / f"net{suffix}"
    for suffixes in (".bin", suffix):
        with path.with_suffix(suffixes).open("wb") as file:
            file.write(b"\0\0\0\0ET12")
            file.truncate(1 << 40)
    assert_refused(path, match="damaged|harmless", both=True)


@pytest.mark.parametrize("name", ARCHIVES)
def test_weights_that_are_a_hole(tmp_path: Path, name: str) -> None:
    """An archive whose last entry is four gigabytes of hole would make whoever reads it fill the memory with zeros."""
    path = tmp_path / name
    with zipfile.ZipFile(GOOD / name) as old, path.open("wb") as file, zipfile.ZipFile(file, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry))
        info = zipfile.ZipInfo("archive/data/99")
        with new.open(info, "w", force_zip64=True) as hole:
            hole.write(b"")
        new.fp.seek(4 << 30, os.SEEK_CUR)  # type: ignore[union-attr]
        new.start_dir = new.fp.tell()  # type: ignore[union-attr]
    assert_refused(path, match="bytes long and holds", both=True)


def test_the_structure_is_checked_before_the_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that overlap would be hashed again and again."""
    path = rewrite(GOOD / "before.ts", tmp_path / "net.ts")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        directory, first = archive.start_dir, archive.infolist()[0]
    second = content.index(b"PK\x01\x02", directory + 4)
    struct.pack_into("<L", content, second + 42, first.header_offset)  # two entries lie in one place
    path.write_bytes(content)
    monkeypatch.setattr("explainable_model.exporters.opening.find_difference", lambda *_: pytest.fail("it was hashed"))
    with pytest.raises(ArtifactError, match="damaged"):
        load(path, check=True)
    assert main(["verify", str(path)]) == 2


def test_a_checksum_that_stands_everywhere(tmp_path: Path) -> None:
    """Each place of it is compared with each entry of the archive."""
    text = json.loads(metadata_text(GOOD / "before.ts"))
    checksum = text["checksum"] = "sha256:" + 64 * "1"
    text["model"] = checksum * 100
    path = rewrite(GOOD / "before.ts", tmp_path / "net.ts", {METADATA: json.dumps(text).encode()})
    with pytest.raises(ArtifactError, match="its checksum stands in more than 16 places"):
        load(path, check=True)
    text["checksum"] = "a"
    rewrite(GOOD / "before.ts", path, {METADATA: json.dumps(text).encode()})
    assert_refused(path, match="checksum is 'a'", both=True)


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_record_of_a_million_lists(tmp_path: Path, name: str) -> None:
    """Parsed, it would take twenty times the memory of the file."""
    record = b'{"schema_version": 1, "x": [' + b"[]," * (6 << 20) + b"0]}"
    path = rewrite(GOOD / name, tmp_path / name, {METADATA: record})
    assert_refused(path, match="metadata of 18874398 characters|metadata of 1887", both=True)
