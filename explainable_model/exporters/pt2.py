"""``torch.export``'s own archive, for PyTorch programs and ahead-of-time compilation."""

from pathlib import Path
from typing import TYPE_CHECKING

from explainable_model.errors import ArtifactError
from explainable_model.exporters.format import Format, Runner, zip_metadata
from explainable_model.metadata import METADATA_KEY

if TYPE_CHECKING:
    from explainable_model.lowering import LoweredModel


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Write a ``.pt2`` archive with the metadata among its extra files."""
    import torch

    from explainable_model.lowering.capture import quiet_export

    with quiet_export():
        torch.export.save(lowered.exported_program, path, extra_files={METADATA_KEY: metadata})


def open_(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with ``torch.export.load``."""
    import torch

    from explainable_model.exporters.torch_runner import torch_runner
    from explainable_model.lowering.capture import quiet_export

    metadata = zip_metadata(path)
    try:
        with quiet_export():
            program = torch.export.load(path)
    except Exception as error:  # torch.export raises whatever its parts raise
        raise ArtifactError(f"{path} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    return torch_runner(program.module(), threads), metadata


PT2 = Format(
    name="pt2",
    suffixes=(".pt2",),
    runtime="torch.export",
    write=write,
    open=open_,
    read_metadata=zip_metadata,
)
