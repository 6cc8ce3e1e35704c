"""Files that are programs: they are opened with trust only, and their metadata is read without running them."""

import contextlib
import json
import struct
import zipfile
from pathlib import Path

import pytest

from explainable_model import load, read_metadata
from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.cli.main import main
from explainable_model.errors import ArtifactError, UntrustedArtifactError
from explainable_model.exporters import FORMATS
from explainable_model.exporters.guard.executorch_file import read_program_metadata
from tests.support.hostile import GOOD, metadata_text

LIBRARY = "hostile/data/aotinductor/model/code.so"


def write_package(path: Path) -> Path:
    """A package with the metadata of a good artifact, and a library that nobody may load."""
    with zipfile.ZipFile(path, "w") as archive:
        labels = {METADATA_KEY: metadata_text(GOOD / "before.ts")}
        archive.writestr(LIBRARY.replace(".so", ".wrapper_metadata.json"), json.dumps(labels))
        archive.writestr(LIBRARY, b"\x7fELF")
    return path


def test_the_table_names_the_formats_of_machine_code() -> None:
    assert {name for name, fmt in FORMATS.items() if fmt.machine_code} == {"aotinductor", "executorch"}


def test_a_package_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_package(tmp_path / "net.aoti.pt2")
    opened: list[str] = []
    monkeypatch.setattr("torch._inductor.aoti_load_package", lambda path: opened.append(path))
    with pytest.raises(UntrustedArtifactError, match=r"is a program for AOTInductor.*trusted=True"):
        load(path)
    assert main(["verify", str(path)]) == 2
    assert read_metadata(path).model == "Sequential"
    assert opened == []
    load(path, trusted=True)
    assert opened == [str(path)]


def test_a_package_by_another_name_is_no_graph(tmp_path: Path) -> None:
    path = write_package(tmp_path / "net.pt2")
    with pytest.raises(ArtifactError, match="was not exported by explainable_model"):
        load(path)


def make_program(text: bytes, kind: int = 6, output: int = 0) -> bytes:
    """An ExecuTorch program, as a flatbuffer, whose method returns the text."""
    buffer = bytearray(struct.pack("<I4s4sIQQQ", 0, b"ET12", b"eh00", 32, 0, 0, 0))

    def add_table(count: int, scalars: dict[int, int] | None = None) -> int:
        """Append a table of 4-byte fields, and return its position."""
        layout = len(buffer)
        buffer.extend(struct.pack(f"<{2 + count}H", 4 + 2 * count, 4 + 4 * count, *(4 + 4 * n for n in range(count))))
        buffer.extend(bytes(-len(buffer) % 4))
        start = len(buffer)
        buffer.extend(struct.pack("<i", start - layout) + bytes(4 * count))
        for number, value in (scalars or {}).items():
            struct.pack_into("<I", buffer, start + 4 + 4 * number, value)
        return start

    def add_bytes(content: bytes) -> int:
        start = len(buffer)
        buffer.extend(struct.pack("<I", len(content)) + content + b"\0")
        buffer.extend(bytes(-len(buffer) % 4))
        return start

    def add_vector(*items: int) -> int:
        start = len(buffer)
        buffer.extend(struct.pack(f"<{1 + len(items)}I", len(items), *items))
        return start

    program, plans, plan = add_table(2), add_vector(0), add_table(5)
    name = add_bytes(METADATA_KEY.encode())
    values, outputs, value = add_vector(0), add_vector(output), add_table(2, {0: kind})
    holder, returned = add_table(1), add_bytes(text)
    for position, target in (
        (0, program),
        (program + 8, plans),
        (plans + 4, plan),
        (plan + 4, name),
        (plan + 12, values),
        (plan + 20, outputs),
        (values + 4, value),
        (value + 8, holder),
        (holder + 4, returned),
    ):
        struct.pack_into("<I", buffer, position, target - position)
    struct.pack_into("<Q", buffer, 16, len(buffer))
    return bytes(buffer)


def test_a_program_needs_trust_and_says_what_it_is_without_being_run(tmp_path: Path) -> None:
    path = tmp_path / "net.pte"
    path.write_bytes(make_program(metadata_text(GOOD / "before.ts").encode()))
    with pytest.raises(UntrustedArtifactError, match=r"is a program for ExecuTorch.*trusted=True"):
        load(path)
    assert main(["verify", str(path)]) == 2
    assert read_metadata(path).model == "Sequential"


def test_a_broken_program(tmp_path: Path) -> None:
    path, whole = tmp_path / "net.pte", make_program(b"{}")
    for content in (b"", b"ET12", bytes(8), whole[:40], make_program(b"\xff"), make_program(b"{}", kind=2)):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="damaged or not an ExecuTorch program"):
            read_program_metadata(path)
    for position in range(0, len(whole), 2):
        for number in (0, 0x7FFF, 0x8000, 0xFFFF):
            changed = bytearray(whole)
            struct.pack_into("<H", changed, position, number)
            path.write_bytes(changed)
            with contextlib.suppress(ArtifactError):
                read_program_metadata(path)
