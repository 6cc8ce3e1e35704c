"""The scripts write whole files where a file may be, and notice two halves that do not belong together."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from files import check_halves, write_file


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link.png").symlink_to("store/a.png")
    for content in (b"one", b"two"):
        write_file(tmp_path / "link.png", content)
        (tmp_path / "store" / "a.png").chmod(0o640)
    assert (tmp_path / "store" / "a.png").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "store" / "a.png").stat().st_mode) == 0o640
    assert (tmp_path / "link.png").is_symlink()
    assert os.listdir(tmp_path / "store") == ["a.png"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "precious").chmod(0o444)
    for path, reason in (
        (tmp_path, "it is a directory"),
        (tmp_path / "fifo", "a FIFO"),
        (tmp_path / "precious", "the file is read-only"),
    ):
        with pytest.raises(ValueError, match=f"cannot be written: .*{reason}"):
            write_file(path, b"new")
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "none" / "a.png", b"new")
    assert sorted(os.listdir(tmp_path)) == ["fifo", "precious"]
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_halves_of_two_exports(
    folder: Path, photos: list[Path], run: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    for suffix in (".xml", ".bin"):
        shutil.copy(folder / f"explained{suffix}", tmp_path)
    check_halves(tmp_path / "explained.xml")
    weights = bytearray((tmp_path / "explained.bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    (tmp_path / "explained.bin").write_bytes(weights)
    done = run(".xml", tmp_path / "explained.xml", photos[0])
    assert done.returncode == 1
    assert "explained.xml or the .bin file beside it is damaged or of another export" in done.stderr
    check_halves(folder / "plain.xml")  # a plain network has no checksum
