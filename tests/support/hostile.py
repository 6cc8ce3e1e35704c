"""Makes hostile files out of good ones, for the tests that try to open them."""

import contextlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from explainable_model import load, read_metadata
from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import ArtifactError

GOOD = Path(__file__).parents[1] / "data"
PROGRAM = "models/model.json"


class Payload:
    """Unpickling this makes the marker, a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def rewrite(
    source: Path,
    target: Path,
    changes: Mapping[str, bytes | Callable[[bytes], bytes] | None] | None = None,
    more: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Copy an archive with some of its entries changed or left out, and with more entries."""
    left = dict(changes or {})
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            short = name.partition("/")[2]
            change = left.pop(short, old.read(name))
            content = change(old.read(name)) if callable(change) else change
            if content is not None:
                new.writestr(name, content)
        for name, content in (more or {}).items():
            new.writestr(f"{root}/{name}", content)
    assert not left, f"no entries to change: {list(left)}"
    return target


def edit_json(edit: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """A change of an entry that holds JSON."""

    def change(content: bytes) -> bytes:
        value = json.loads(content)
        edit(value)
        return json.dumps(value).encode()

    return change


def metadata_text(path: Path) -> str:
    """The metadata of a good artifact, for a hostile file to carry."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith(METADATA_KEY))).decode()


def assert_refused(path: Path, marker: Path | None = None, match: str = "", *, both: bool = False) -> None:
    """The file is refused with an error of ours and leaves no marker; ``both``: its metadata cannot be read either."""
    for open_ in (load, read_metadata) if both else (load,):
        with pytest.raises(ArtifactError, match=match):
            open_(path)
    with contextlib.suppress(ArtifactError):
        read_metadata(path)  # whatever it says, it runs nothing
    assert marker is None or not marker.exists(), "the file ran its code"
