"""TorchScript, for libtorch, TorchServe and ``torch.jit.load``."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from explainable_model.artifact.metadata import METADATA_KEY, parse_metadata
from explainable_model.artifact.runner import Runner
from explainable_model.errors import ArtifactError, first_line
from explainable_model.explanation import OUTPUT_NAMES, input_names
from explainable_model.exporters.format import Format
from explainable_model.exporters.guard.archive import Archive, file_path
from explainable_model.exporters.guard.refusal import Refusal, not_shown_harmless
from explainable_model.exporters.guard.script_graph import check_lists
from explainable_model.exporters.guard.torchscript_file import check_entries

if TYPE_CHECKING:
    from explainable_model.lowering.lowered import LoweredModel


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Silence torch.jit's warning, at every call, that TorchScript is deprecated."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, message=r".*torch\.jit\..*")
        yield


def script(lowered: "LoweredModel") -> Any:
    """The lowered model as a ``torch.jit.ScriptModule``."""
    import torch

    from explainable_model.lowering.scriptable import scriptable, scripted_parts
    from explainable_model.lowering.scripted import FORWARD, ScriptedParts

    with quiet_torchscript():
        outputs = len(lowered.outputs)
        if not lowered.example_inputs and outputs == len(OUTPUT_NAMES):
            return torch.jit.script(scriptable(lowered))
        names = input_names(len(lowered.example_inputs))[2:]
        default = "" if names else " = None"
        scripted = torch.jit.script(ScriptedParts(*scripted_parts(lowered)).eval())
        scripted.define(
            FORWARD.format(
                typed="".join(f", {name}: Tensor" for name in names),
                names="".join(f", {name}" for name in names),
                default=default,
                outputs=", ".join(["Tensor"] * outputs),
            )
        )
        return scripted


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Write a ``.ts`` archive with the metadata among its extra files."""
    import torch

    module = script(lowered)
    archive = io.BytesIO()  # on a full disk, torch's own file writer would end the whole process
    with quiet_torchscript():
        torch.jit.save(module, archive, _extra_files={METADATA_KEY: metadata})
    path.write_bytes(archive.getbuffer())


def read_metadata(path: Path) -> str:
    """The metadata text, read without PyTorch."""
    with Archive(path) as archive:
        return archive.read_metadata()


def open_(path: Path, threads: int | None, device: str = "cpu") -> tuple[Runner, str]:
    """Run with ``torch.jit.load`` an archive that was written anew of checked entries, on the CPU or another device."""
    with Archive(path) as archive:
        metadata = archive.read_metadata()
        try:
            contents, numbers = check_entries(archive)
        except Refusal as refusal:
            raise not_shown_harmless(path, refusal) from refusal
        with archive.rewrite(contents, numbers) as checked:
            return _load(path, checked, metadata, threads, device, foreign=path)


def open_trusted(path: Path, threads: int | None, device: str = "cpu") -> tuple[Runner, str]:
    """Run with ``torch.jit.load`` the file as it is."""
    metadata = read_metadata(path)
    with path.open("rb") as file:
        return _load(path, file, metadata, threads, device)


def _load(
    path: Path, file: IO[bytes], metadata: str, threads: int | None, device: str, foreign: Path | None = None
) -> tuple[Runner, str]:
    import torch

    from explainable_model.exporters.torch_runner import torch_runner

    record = parse_metadata(metadata, path)
    try:
        with quiet_torchscript():
            module = torch.jit.load(file_path(file), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be loaded: {first_line(error)}") from error
    if foreign is not None:
        try:
            check_lists(module)
        except Refusal as refusal:
            raise not_shown_harmless(path, refusal) from refusal
    return torch_runner(module, threads, device, record, foreign), metadata


TORCHSCRIPT = Format(
    name="torchscript",
    suffixes=(".ts", ".pt"),
    runtime="libtorch",
    packages=("torch",),
    extra=None,
    write=write,
    open=open_,
    open_on=open_,
    open_trusted=open_trusted,
    read_metadata=read_metadata,
    quick=True,
)
