"""``torch.export``'s own archive, for PyTorch programs and ahead-of-time compilation."""

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.artifact.runner import Runner
from explainable_model.errors import ArtifactError, first_line
from explainable_model.exporters.format import Format, read_zip_metadata

if TYPE_CHECKING:
    from explainable_model.lowering.lowered import LoweredModel


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Write a ``.pt2`` archive with the metadata among its extra files."""
    import torch

    from explainable_model.lowering.capture.export import quiet_export

    archive = io.BytesIO()  # on a full disk, torch's own file writer would end the whole process
    with quiet_export():
        torch.export.save(lowered.exported_program, archive, extra_files={METADATA_KEY: metadata})
    path.write_bytes(archive.getbuffer())


def open_(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with ``torch.export.load``."""
    import torch

    from explainable_model.exporters.torch_runner import torch_runner
    from explainable_model.lowering.capture.export import quiet_export

    metadata = read_zip_metadata(path)
    try:
        _refuse_code(path)
        with quiet_export():
            program = torch.export.load(path)
    except ArtifactError:
        raise
    except Exception as error:  # torch.export raises whatever its parts raise
        raise ArtifactError(f"{path} cannot be loaded: {first_line(error)}") from error
    return torch_runner(program.module(), threads, metadata=metadata), metadata


def _refuse_code(path: Path) -> None:
    """Refuse an archive with a pickle that could execute something.

    ``torch.export.load`` reads pickles without ``weights_only``. The archives of this library hold one pickle, the
    sample inputs, which are plain tensors. Everything else in them is raw data and JSON.
    """
    import torch

    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        suspicious = len(set(names)) != len(names) or any("custom_obj" in name for name in names)
        for name in names:
            content = archive.read(name) if name.endswith((".pt", "_config.json")) else b""
            if name.endswith("_config.json"):
                payloads = json.loads(content).get("config", {}).values()
                suspicious |= any(payload.get("use_pickle", True) for payload in payloads)
            elif content:
                try:
                    torch.load(io.BytesIO(content), weights_only=True)
                except Exception:  # the restricted unpickler raises errors of many types
                    suspicious = True
    if suspicious:
        raise ArtifactError(
            f"{path} holds pickled objects that could run code when loaded; artifacts of explainable-model do not. "
            "Export the network again, and do not load this file."
        )


PT2 = Format(
    name="pt2",
    suffixes=(".pt2",),
    runtime="torch.export",
    packages=("torch",),
    extra=None,
    write=write,
    open=open_,
    read_metadata=read_zip_metadata,
    quick=True,
)
