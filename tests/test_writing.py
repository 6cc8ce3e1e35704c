"""Every file is written whole or not at all, and only where a file of the user's may be."""

import os
import socket
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

import explainable_model.writing
from explainable_model import ExplainableModel, export
from explainable_model.errors import ArtifactError, InputError, LeftoverWarning
from explainable_model.imaging.sheets import save_picture
from explainable_model.writing import OWNER, StagedOutput, write_bytes
from tests.support.nets import TinyResNet, images, seeded


@contextmanager
def _socket(path: Path) -> Iterator[None]:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
        os.chdir(here)
        yield


def _make_device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make a device")


@pytest.mark.parametrize("kind", ["directory", "FIFO", "socket", "device"])
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_refused(kind: str, linked: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    make: dict[str, Callable[[Path], None]] = {"directory": Path.mkdir, "FIFO": os.mkfifo, "device": _make_device}
    with _socket(path) if kind == "socket" else warnings.catch_warnings():
        if kind != "socket":
            make[kind](path)
        before = path.lstat()
        asked = tmp_path / "link.onnx" if linked else path
        if linked:
            asked.symlink_to(path)
        explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
        for write in (
            lambda: export(explainable, asked, images(1)),
            lambda: save_picture(Image.new("RGB", (2, 2)), asked),
            lambda: write_bytes(asked, b"new"),
        ):
            with pytest.raises(ArtifactError, match=rf"cannot be written \(.*is a {kind}\)"):
                write()
        assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert len(list(tmp_path.iterdir())) == 1 + linked


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    real = tmp_path / "store" / "v1.ts"
    (tmp_path / "again.ts").symlink_to("store/v1.ts")  # leads to no file yet
    (tmp_path / "net.ts").symlink_to(tmp_path / "again.ts")
    for content in (b"one", b"two"):
        assert write_bytes(tmp_path / "net.ts", content) == tmp_path / "net.ts"
        assert real.read_bytes() == content
        assert (tmp_path / "net.ts").is_symlink()
        assert (tmp_path / "again.ts").is_symlink()
    assert [file.name for file in (tmp_path / "store").iterdir()] == ["v1.ts"]
    (tmp_path / "loop.ts").symlink_to("loop.ts")
    with pytest.raises(ArtifactError, match="Too many levels of symbolic links"):
        write_bytes(tmp_path / "loop.ts", b"")
    (tmp_path / "other.onnx").symlink_to(real)
    with pytest.raises(ArtifactError, match=r"link to .*v1\.ts, whose suffix is not that of onnx"):
        export(ExplainableModel(seeded(TinyResNet()), "layer2"), tmp_path / "other.onnx", images(1))


def test_mode_and_owner_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "net.ts"
    write_bytes(path, b"one")
    umask = os.umask(0o077)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before = path.stat()
    write_bytes(path, b"two")
    after = path.stat()
    assert path.read_bytes() == b"two"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_read_only_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "net.ts"
    path.write_bytes(b"precious")
    path.chmod(0o444)
    for write in (lambda: write_bytes(path, b""), lambda: save_picture(Image.new("RGB", (2, 2)), path)):
        with pytest.raises(ArtifactError, match=r"net\.ts cannot be written \(the file is read-only\)"):
            write()
    assert path.read_bytes() == b"precious"
    with StagedOutput(tmp_path / "net.xml") as staged:  # nor the file beside it
        staged.file.write_bytes(b"graph")
        (staged.folder / "net.ts").write_bytes(b"weights")
        with pytest.raises(ArtifactError, match="read-only"):
            staged.commit()
    assert [file.name for file in tmp_path.iterdir()] == ["net.ts"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("net\0.ts", "NUL character"),
        ("n" * 300 + ".ts", "File name too long"),
        (os.fsdecode(b"caf\xe9.ts"), "not valid Unicode"),
        ("missing/net.ts", "No such file or directory"),
        ("file/net.ts", "Not a directory"),
    ],
)
def test_names_that_are_none(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for write in (
        lambda path: export(ExplainableModel(seeded(TinyResNet()), "layer2"), path, images(1)),
        lambda path: write_bytes(path, b""),
    ):
        with pytest.raises(ArtifactError, match=rf"cannot be written \(.*{reason}.*\); choose a file in an existing"):
            write(f"{tmp_path}/{name}")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_names_that_are_unusual(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"which is bytes; expected str or Path, such as os\.fsdecode"):
        write_bytes(os.fsencode(tmp_path / "net.ts"), b"")  # type: ignore[arg-type]
    for name in ("n" * 252 + ".ts", "é" * 126 + ".t", " ", "-o", "a\nb", ".ts", "網.ts", "*[a].ts"):
        assert write_bytes(tmp_path / name, b"new").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 8


def _leave_behind(path: Path) -> Path:
    """A process that is killed while it writes."""
    code = f"""
import os, signal
from explainable_model.writing import StagedOutput
with StagedOutput({str(path)!r}) as staged:
    staged.file.write_bytes(b"half")
    print(staged.folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[1]
    return Path(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root).stdout.strip())


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    path, another = tmp_path / "net.ts", tmp_path / "net.ts.data"
    left, others = _leave_behind(path), _leave_behind(another)
    assert (left / "net.ts").read_bytes() == b"half"
    users = tmp_path / ".net.ts.archived"
    users.mkdir()
    (users / "net.ts").write_bytes(b"precious")
    with pytest.warns(LeftoverWarning, match=r"Removed .*a process that was writing net\.ts was ended"):
        alive = StagedOutput(path).__enter__()
    assert not left.exists()
    write_bytes(path, b"new")
    assert alive.folder.exists(), "its process lives"
    alive.__exit__(None, None, None)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([".net.ts.archived", others.name, "net.ts"])
    with pytest.raises(LeftoverWarning, match=r"a process that was writing net\.ts\.data was ended"):
        write_bytes(another, b"new")  # the warning is an error here, and leaves nothing either
    write_bytes(another, b"new")
    assert len(list(tmp_path.iterdir())) == 3
    assert (users / "net.ts").read_bytes() == b"precious"


def test_a_folder_of_another_machine_is_removed_after_a_day(tmp_path: Path) -> None:
    left = _leave_behind(tmp_path / "net.ts")
    (left / OWNER).write_text("another-machine 1\n")
    write_bytes(tmp_path / "net.ts", b"new")
    assert left.exists()
    os.utime(left / OWNER, (0, 0))
    with pytest.warns(LeftoverWarning):
        write_bytes(tmp_path / "net.ts", b"new")
    assert not left.exists()


def _write_pair(path: Path, content: bytes) -> None:
    with StagedOutput(path) as staged:
        staged.file.write_bytes(content)
        staged.file.with_suffix(".bin").write_bytes(content)
        staged.commit()


def test_two_writers_leave_the_files_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, half_way, replace = tmp_path / "net.xml", threading.Event(), os.replace

    def replace_slowly(old: Path, new: Path) -> None:
        replace(old, new)
        if Path(new).name == "net.bin" and not half_way.is_set():
            half_way.set()
            second.join(0.5)

    second = threading.Thread(target=lambda: (half_way.wait(), _write_pair(path, b"second")))
    monkeypatch.setattr(explainable_model.writing.os, "replace", replace_slowly)
    second.start()
    _write_pair(path, b"first")
    second.join()
    assert path.read_bytes() == path.with_suffix(".bin").read_bytes() == b"second"


@pytest.mark.parametrize("linkable", [True, False])
def test_a_failure_between_two_files_restores_the_first(
    linkable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "net.xml", os.replace

    def fail(old: Path, new: Path) -> None:
        if Path(new).name == "net.xml":
            raise OSError(5, "Input/output error")
        replace(old, new)

    def refuse_link(old: Path, new: Path) -> None:
        raise OSError(1, "Operation not permitted") if Path(old).exists() else FileNotFoundError(2, "No such file")

    monkeypatch.setattr(explainable_model.writing.os, "replace", fail)
    if not linkable:
        monkeypatch.setattr(explainable_model.writing.os, "link", refuse_link)
    with pytest.raises(ArtifactError, match="Input/output error"):
        _write_pair(path, b"new")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(explainable_model.writing.os, "replace", replace)
    _write_pair(path, b"old")
    monkeypatch.setattr(explainable_model.writing.os, "replace", fail)
    with pytest.raises(ArtifactError, match="Input/output error"):
        _write_pair(path, b"new")
    assert path.read_bytes() == path.with_suffix(".bin").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
