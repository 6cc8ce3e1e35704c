"""Disks that are full or read-only, and folders of other users: one clear error, and nothing is lost or left behind.

The disks are mounts of the tests' own; the other user is a process without rights.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from explainable_model.errors import ArtifactError, ExplainableModelError
from explainable_model.imaging.sheets import save_picture
from explainable_model.writing import write_bytes
from tests.support.nets import TinyResNet, images, seeded

NOBODY = 65534


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """``mounted(options)``: a disk in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a mount is not permitted: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)


@pytest.mark.parametrize("options", ["size=64k", "size=10m,nr_inodes=6"])
def test_a_full_disk(options: str, mounted: Callable[..., Path]) -> None:
    disk = mounted(options)
    write_bytes(disk / "net.ts", b"the artifact of yesterday")
    (disk / "taken").touch()
    if "inodes" in options:
        (disk / "taken as well").touch()
    names = sorted(os.listdir(disk))
    with pytest.raises(ArtifactError, match=r"net\.ts (cannot|could not) be written \(No space left on device\)"):
        write_bytes(disk / "net.ts", bytes(100_000))
    assert (disk / "net.ts").read_bytes() == b"the artifact of yesterday"
    assert sorted(os.listdir(disk)) == names


def test_an_export_to_a_full_disk(mounted: Callable[..., Path]) -> None:
    from PIL import Image

    from explainable_model import ExplainableModel, export

    disk = mounted("size=16k")
    with pytest.raises(ArtifactError, match=r"net\.ts could not be written \(No space left on device\); nothing"):
        export(ExplainableModel(seeded(TinyResNet()), "layer2"), disk / "net.ts", images(1))
    assert os.listdir(disk) == []
    with pytest.raises(ArtifactError, match="No space left on device"):
        save_picture(Image.effect_noise((300, 300), 50), disk / "cat.png")
    assert os.listdir(disk) == []


def test_a_read_only_disk(mounted: Callable[..., Path]) -> None:
    disk = mounted("size=64k")
    (disk / "old.ts").write_bytes(b"old")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(ArtifactError, match=r"net\.ts cannot be written \(Read-only file system\); choose a file"):
        write_bytes(disk / "net.ts", b"new")
    with pytest.raises(ArtifactError, match=r"old\.ts cannot be written \(the file is read-only\)"):
        write_bytes(disk / "old.ts", b"new")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may write to: pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def _as_nobody(write: Callable[[], object]) -> str:
    """What the call raises in a process without rights; empty where it succeeds."""
    if not hasattr(os, "fork") or os.geteuid() != 0:
        pytest.skip("only root may become another user")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        message = ""
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            write()
        except ExplainableModelError as error:
            message = str(error)
        except BaseException as error:
            message = f"not ours: {error!r}"
        os.write(writer, message.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return answer.read()


def test_a_user_without_rights(shared: Path) -> None:
    assert _as_nobody(lambda: write_bytes(shared / "own.ts", b"one")) == ""
    assert _as_nobody(lambda: write_bytes(shared / "own.ts", b"two")) == ""
    assert (shared / "own.ts").read_bytes() == b"two"
    assert (shared / "own.ts").stat().st_uid == NOBODY
    (shared / "roots.ts").write_bytes(b"precious")
    (shared / "roots.ts").chmod(0o644)
    (shared / "anyones.ts").write_bytes(b"precious")
    (shared / "anyones.ts").chmod(0o666)
    assert "roots.ts cannot be written (the file is read-only)" in _as_nobody(
        lambda: write_bytes(shared / "roots.ts", b"")
    )
    refused = _as_nobody(lambda: write_bytes(shared / "anyones.ts", b""))
    assert "the file belongs to the user 0, and a new file would be yours: remove it first" in refused
    assert write_bytes(shared / "own.ts", b"three").stat().st_uid == NOBODY, "root keeps the owner"
    shared.chmod(0o755)
    refused = _as_nobody(lambda: write_bytes(shared / "new.ts", b""))
    assert "new.ts cannot be written (Permission denied); choose a file in an existing folder" in refused
    shared.chmod(0o700)
    refused = _as_nobody(lambda: write_bytes(shared / "new.ts", b""))
    assert "new.ts cannot be written (Permission denied)" in refused
    shared.chmod(0o733)  # may be written and not read
    assert _as_nobody(lambda: write_bytes(shared / "unseen.ts", b"new")) == ""
    assert sorted(os.listdir(shared)) == ["anyones.ts", "own.ts", "roots.ts", "unseen.ts"]
    assert (shared / "roots.ts").read_bytes() == (shared / "anyones.ts").read_bytes() == b"precious"


def test_a_file_system_in_another_encoding(tmp_path: Path) -> None:
    code = f"""
from explainable_model.errors import ArtifactError
from explainable_model.writing import write_bytes
write_bytes({str(tmp_path)!r} + "/ascii.ts", b"new")
try:
    write_bytes({str(tmp_path)!r} + "/caf\\xe9.ts", b"new")
except ArtifactError as error:
    assert "cannot be written" in str(error), error
    print("refused")
"""
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=plain, cwd=root)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "refused", "")
    assert os.listdir(tmp_path) == ["ascii.ts"]
