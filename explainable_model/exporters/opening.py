"""Opens an artifact: its files, its record and its answers must belong together."""

from pathlib import Path

from explainable_model.artifact.checksum import find_difference, read_checksum
from explainable_model.artifact.metadata import Metadata, parse_metadata
from explainable_model.artifact.outputs import check_answers
from explainable_model.artifact.runner import Runner
from explainable_model.errors import ArtifactError, InputError
from explainable_model.exporters import FORMATS
from explainable_model.exporters.format import Format


def open_artifact(
    path: Path, fmt: Format, threads: int | None = None, device: str | None = None, *, check: bool = False
) -> tuple[Runner, Metadata]:
    """Open an artifact in its own runtime.

    An artifact of two files is always compared with its checksum, since an export may have replaced one of them.

    Args:
        path: the file.
        fmt: its format.
        threads: how many threads the runtime may use; ``None`` for all.
        device: where it runs; ``None`` for the CPU.
        check: compare the file with its checksum before the runtime reads it.

    Returns:
        The runner, each answer of which is compared with the record, and the record.

    Raises:
        ArtifactError: the file is damaged or foreign, its parts do not belong together, or there is no checksum to
            check.
        InputError: a device for a format that runs on the CPU alone.
    """
    if check or find_companion(path, fmt) is not None:
        problem = compare_checksum(path, fmt)
        if problem:
            raise ArtifactError(f"{problem}. Export it again.")
        if problem is None and check:
            raise ArtifactError(f"{path} has no checksum recorded; load it without check=True, or export it again.")
    runner, text = _open(path, fmt, threads, device)
    metadata = parse_metadata(text, path)
    return check_answers(runner, metadata, path.name), metadata


def compare_checksum(path: Path, fmt: Format) -> str | None:
    """Hash the files of an artifact, and compare with the checksum that they hold.

    Returns:
        An empty string where they agree, what is wrong where they do not, and ``None`` where no checksum is recorded.

    Raises:
        ArtifactError: a file cannot be read.
    """
    checksum = read_checksum(path)
    return None if checksum is None else find_difference(path, checksum, find_companion(path, fmt))


def find_companion(path: Path, fmt: Format) -> Path | None:
    """The file beside an artifact that holds its weights; ``None`` where the artifact is one file."""
    companion = fmt.companion(path) if fmt.companion is not None else None
    return companion if companion is not None and companion.is_file() else None


def _open(path: Path, fmt: Format, threads: int | None, device: str | None) -> tuple[Runner, str]:
    if device is None:
        return fmt.open(path, threads)
    if fmt.open_on is not None:
        return fmt.open_on(path, threads, device)
    able = ", ".join(name for name, row in FORMATS.items() if row.open_on is not None)
    raise InputError(f"device is {device!r}; {path.name} runs on the CPU alone. A device can be chosen for: {able}.")
