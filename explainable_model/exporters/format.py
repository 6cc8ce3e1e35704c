"""What a format is, and what the formats share."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.artifact.runner import Runner
from explainable_model.errors import ArtifactError

if TYPE_CHECKING:
    from explainable_model.lowering.lowered import LoweredModel


@dataclass(frozen=True)
class Format:
    """One way to write a lowered model down, and the runtime that reads it.

    Attributes:
        name: key of ``FORMATS``.
        suffixes: file name endings; the first is the usual one.
        runtime: name of what runs it.
        write: writes the file (and, for external data, files beside it), with the metadata text.
        open: a runner for a file and the file's metadata text; the second argument is the number of
            threads, ``None`` for all.
        read_metadata: the metadata text of a file.
        fixed_size: its runtime plans memory ahead, for one batch size and one image size.
    """

    name: str
    suffixes: tuple[str, ...]
    runtime: str
    write: Callable[["LoweredModel", Path, str], None]
    open: Callable[[Path, int | None], tuple[Runner, str]]
    read_metadata: Callable[[Path], str]
    fixed_size: bool = False


def zip_metadata(path: Path) -> str:
    """The metadata text of an artifact that is a zip archive (TorchScript, torch.export).

    Raises:
        ArtifactError: not a zip archive, damaged, or not made by this library.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(f"extra/{METADATA_KEY}"):
                    return archive.read(name).decode("utf-8")
    except (zipfile.BadZipFile, OSError, EOFError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is damaged or not an archive ({error}); export it again.") from error
    raise foreign(path)


def foreign(path: Path) -> ArtifactError:
    """The error for a readable file that this library did not make."""
    return ArtifactError(
        f"{path} was not exported by explainable_model: it has no {METADATA_KEY}. "
        "Export the network with explainable_model.export(...)."
    )
