"""``torch.export``'s own archive, for PyTorch programs and ahead-of-time compilation."""

import io
import re
from pathlib import Path
from typing import IO, TYPE_CHECKING

from explainable_model.artifact.metadata import METADATA_KEY, parse_metadata
from explainable_model.artifact.runner import Runner
from explainable_model.errors import ArtifactError, first_line
from explainable_model.exporters.format import Format
from explainable_model.exporters.guard.archive import Archive
from explainable_model.exporters.guard.program import check_payload, check_program
from explainable_model.exporters.guard.refusal import Refusal, not_shown_harmless, shorten

if TYPE_CHECKING:
    from explainable_model.lowering.lowered import LoweredModel

PROGRAM, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
CONFIGS = {
    "data/weights/model_weights_config.json": "weight",
    "data/constants/model_constants_config.json": "tensor",
}
"""The lists of weights and constants, and how the names of their entries begin."""
NUMBERS = re.compile(r"data/(weights/weight|constants/tensor)_\d{1,9}", re.ASCII)
MARKS = ("archive_format", "archive_version", ".data/version", "byteorder", ".data/serialization_id")
MAX_MARK = 1000


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Write a ``.pt2`` archive with the metadata among its extra files."""
    import torch

    from explainable_model.lowering.capture.export import quiet_export

    archive = io.BytesIO()  # on a full disk, torch's own file writer would end the whole process
    with quiet_export():
        torch.export.save(lowered.exported_program, archive, extra_files={METADATA_KEY: metadata})
    path.write_bytes(archive.getbuffer())


def open_(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with ``torch.export.load`` an archive that was written anew of checked entries."""
    with Archive(path) as archive:
        metadata = archive.read_metadata()
        try:
            contents, weights = _check_entries(archive)
        except Refusal as refusal:
            raise not_shown_harmless(path, refusal) from refusal
        with archive.rewrite(contents, weights) as checked:
            return _load(path, checked, metadata, threads, foreign=path)


def open_trusted(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with ``torch.export.load`` the file as it is."""
    metadata = read_metadata(path)
    with path.open("rb") as file:
        return _load(path, file, metadata, threads)


def read_metadata(path: Path) -> str:
    """The metadata text, read without PyTorch."""
    with Archive(path) as archive:
        return archive.read_metadata()


def _load(
    path: Path, file: IO[bytes], metadata: str, threads: int | None, foreign: Path | None = None
) -> tuple[Runner, str]:
    import torch

    from explainable_model.exporters.torch_runner import torch_runner
    from explainable_model.lowering.capture.export import quiet_export

    record = parse_metadata(metadata, path)
    try:
        with quiet_export():
            module = torch.export.load(file).module()
    except Exception as error:  # torch.export raises whatever its parts raise
        raise ArtifactError(f"{path} cannot be loaded: {first_line(error)}") from error
    return torch_runner(module, threads, metadata=record, foreign=foreign), metadata


def _check_entries(archive: Archive) -> tuple[dict[str, bytes], list[str]]:
    """The entries that PyTorch receives: checked texts, and the names of plain numbers.

    The example inputs, which are a pickle, are replaced by nothing.
    """
    contents = {name: archive.read(name, MAX_MARK) for name in MARKS if name in archive.entries}
    copied = []
    for name in archive.entries.keys() - contents.keys() - {SAMPLES, PROGRAM, f"extra/{METADATA_KEY}"}:
        if NUMBERS.fullmatch(name):
            copied.append(name)
        elif name not in CONFIGS:
            raise Refusal(f"it has the entry {shorten(name)}")
    for config, prefix in CONFIGS.items():
        folder = config.rpartition("/")[0]
        sizes = {name.rpartition("/")[2]: archive.entries[name].size for name in copied if name.startswith(folder)}
        contents[config] = check_payload(archive.read(config), sizes, prefix)
    contents[PROGRAM] = check_program(archive.read(PROGRAM))
    contents[SAMPLES] = b""
    return contents, sorted(copied)


PT2 = Format(
    name="pt2",
    suffixes=(".pt2",),
    runtime="torch.export",
    packages=("torch",),
    extra=None,
    write=write,
    open=open_,
    open_trusted=open_trusted,
    read_metadata=read_metadata,
    quick=True,
)
