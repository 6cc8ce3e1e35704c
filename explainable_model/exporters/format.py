"""One row of the table of formats, and the helpers that several formats share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from explainable_model.artifact.metadata import METADATA_KEY, Precision
from explainable_model.artifact.runner import Runner
from explainable_model.errors import ArtifactError, MissingRuntimeError


@dataclass(frozen=True)
class Format:
    """A file format of artifacts, and the runtime that reads it.

    Attributes:
        name: key of ``FORMATS``.
        suffixes: file name endings; the first is the usual one.
        runtime: name of the program that runs the files.
        packages: importable packages that writing and reading need; the first is the runtime.
        extra: the optional dependency of this library that installs them; ``None`` where torch is enough.
        write: writes the file, and files beside it where the format has some, with the metadata text; with the opset
            too, where the format has ``opsets``.
        open: opens a file with a number of threads, ``None`` for all; returns a runner and the metadata text. It checks
            the file first, so that nothing of the file runs as code, unless ``machine_code`` says that it cannot.
        read_metadata: returns the metadata text of a file, and runs nothing of it.
        companion: names the file beside a file that holds its weights, for a format of two files.
        open_on: the same with the name of a device, such as ``cuda:0``, where the runtime can choose one.
        open_trusted: opens a file as it is, for files of one's own that hold more than the check accepts.
        machine_code: whether opening a file runs machine code or a program of its own, which nothing can check.
        precisions: the values of ``export(..., precision=...)`` that the format can be written in.
        opsets: the values of ``export(..., opset=...)``, for a format of ONNX's operators.
        fixed_size: whether the runtime plans its memory for one batch size and one image size.
        quick: whether a file is written in seconds, without a compiler; every method is tested in these formats.
    """

    name: str
    suffixes: tuple[str, ...]
    runtime: str
    packages: tuple[str, ...]
    extra: str | None
    write: Callable[..., None]
    open: Callable[[Path, int | None], tuple[Runner, str]]
    read_metadata: Callable[[Path], str]
    open_on: Callable[[Path, int | None, str], tuple[Runner, str]] | None = None
    open_trusted: Callable[..., tuple[Runner, str]] | None = None
    machine_code: bool = False
    companion: Callable[[Path], Path] | None = None
    precisions: tuple[Precision, ...] = ()
    opsets: Callable[[], range] | None = None
    fixed_size: bool = False
    quick: bool = False

    def missing_runtime(self, purpose: str) -> MissingRuntimeError:
        """The error for a package of the format that is not installed; ``purpose`` begins the message."""
        return MissingRuntimeError(f"{purpose} needs {self.runtime}: pip install 'explainable-model[{self.extra}]'.")


def foreign_file(path: Path) -> ArtifactError:
    """The error for a readable file that this library did not make."""
    return ArtifactError(
        f"{path} was not exported by explainable_model: it has no {METADATA_KEY}. "
        "Export the network with explainable_model.export(...)."
    )
