"""AOTInductor packages: machine code compiled ahead of time, for libtorch and PyTorch programs.

A package runs on processors like the one it was compiled on, with the PyTorch version that compiled it. Opening a
package executes the code in it.
"""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from explainable_model.artifact.metadata import METADATA_KEY, parse_metadata
from explainable_model.artifact.runner import Runner
from explainable_model.errors import ArtifactError, LoweringError, MissingRuntimeError, first_line
from explainable_model.exporters.format import Format, foreign_file
from explainable_model.exporters.guard.archive import Archive

if TYPE_CHECKING:
    from explainable_model.lowering.lowered import LoweredModel

FOLDER = "data/aotinductor/"
MAX_LABELS = 4  # a package of this library has one


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Compile the graph with its weights frozen into the code, and add the metadata to AOTInductor's own."""
    import torch
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    from explainable_model.lowering.capture.export import quiet_export

    archive = io.BytesIO()  # on a full disk, torch's own file writer would end the whole process
    options = {"freezing": True, "aot_inductor.metadata": {METADATA_KEY: metadata}}
    with quiet_export(), torch.no_grad():  # freezing is ignored where gradients are enabled
        try:
            torch._inductor.aoti_compile_and_package(
                lowered.exported_program, package_path=archive, inductor_configs=options
            )
        except InductorError as error:
            if isinstance(error.inner_exception, InvalidCxxCompiler):
                raise MissingRuntimeError(
                    "Exporting to AOTInductor needs a C++ compiler, and none was found: apt-get install g++, or name "
                    "one in the environment variable CXX."
                ) from error
            raise LoweringError(
                f"{lowered.plan.model} cannot be compiled by AOTInductor: {first_line(error)}"
            ) from error
    path.write_bytes(archive.getbuffer())


def open_(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with ``torch._inductor.aoti_load_package``."""
    import torch

    from explainable_model.exporters.torch_runner import torch_runner

    metadata = read_metadata(path)
    record = parse_metadata(metadata, path)
    try:
        module = torch._inductor.aoti_load_package(str(path))
    except RuntimeError as error:
        raise ArtifactError(
            f"{path} cannot be loaded: {first_line(error)} A package runs on processors and with a PyTorch like those "
            "that compiled it; export it again here."
        ) from error
    return torch_runner(module, threads, metadata=record), metadata


def read_metadata(path: Path) -> str:
    """The metadata text, read without executing the package.

    Raises:
        ArtifactError: the file is no package, is damaged, or was not made by this library.
    """
    with Archive(path) as archive:
        labels_of = [name for name in archive.entries if name.startswith(FOLDER) and name.endswith("_metadata.json")]
        for name in labels_of[:MAX_LABELS]:
            try:
                labels = json.loads(archive.read(name))
            except (ValueError, RecursionError) as error:
                raise archive.damaged(f"its entry {name} is no JSON text") from error
            if isinstance(labels, dict) and METADATA_KEY in labels:
                return str(labels[METADATA_KEY])
    raise foreign_file(path)


AOTINDUCTOR = Format(
    name="aotinductor",
    suffixes=(".aoti.pt2",),
    runtime="AOTInductor",
    packages=("torch",),
    extra=None,
    write=write,
    open=open_,
    read_metadata=read_metadata,
    machine_code=True,
)
