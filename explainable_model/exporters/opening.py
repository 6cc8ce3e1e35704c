"""Opens an artifact: its files, its record and its answers must belong together."""

from collections.abc import Callable
from pathlib import Path

from explainable_model.artifact.checksum import find_difference
from explainable_model.artifact.metadata import Metadata, parse_metadata
from explainable_model.artifact.outputs import check_answers
from explainable_model.artifact.runner import Runner
from explainable_model.errors import ArtifactError, InputError
from explainable_model.exporters import FORMATS
from explainable_model.exporters.format import Format
from explainable_model.exporters.guard.refusal import holds_machine_code


def open_artifact(
    path: Path,
    fmt: Format,
    threads: int | None = None,
    device: str | None = None,
    *,
    check: bool = False,
    trusted: bool = False,
) -> tuple[Runner, Metadata]:
    """Open an artifact in its own runtime.

    An artifact of two files is always compared with its checksum, since an export may have replaced one of them.

    Args:
        path: the file.
        fmt: its format.
        threads: how many threads the runtime may use; ``None`` for all.
        device: where it runs; ``None`` for the CPU.
        check: compare the file with its checksum before the runtime reads it.
        trusted: whether the file may run code: it is opened as it is.

    Returns:
        The runner, each answer of which is compared with the record, and the record.

    Raises:
        ArtifactError: the file is damaged or foreign, its parts do not belong together, or there is no checksum to
            check.
        UntrustedArtifactError: the file could run code, and ``trusted`` is not given.
        InputError: a device for a format that runs on the CPU alone.
    """
    if fmt.machine_code and not trusted:
        parse_metadata(fmt.read_metadata(path), path)  # a damaged or foreign file is named as such
        raise holds_machine_code(path, fmt.runtime)
    if check or find_companion(path, fmt) is not None:
        problem = compare_checksum(path, fmt)
        if problem:
            raise ArtifactError(f"{problem}. Export it again.")
        if problem is None and check:
            raise ArtifactError(f"{path} has no checksum recorded; load it without check=True, or export it again.")
    runner, text = _open(path, fmt, threads, device, trusted=trusted)
    metadata = parse_metadata(text, path)
    return check_answers(runner, metadata, path.name), metadata


def compare_checksum(path: Path, fmt: Format) -> str | None:
    """Hash the files of an artifact, and compare with the checksum that they hold.

    Its record is read first, and with it the structure of the file is checked: an archive whose entries overlap would
    take hours to hash.

    Returns:
        An empty string where they agree, what is wrong where they do not, and ``None`` where no checksum is recorded.

    Raises:
        ArtifactError: a file cannot be read, or is damaged.
    """
    checksum = parse_metadata(fmt.read_metadata(path), path).checksum
    return None if checksum is None else find_difference(path, checksum, find_companion(path, fmt))


def find_companion(path: Path, fmt: Format) -> Path | None:
    """The file beside an artifact that holds its weights; ``None`` where the artifact is one file."""
    companion = fmt.companion(path) if fmt.companion is not None else None
    return companion if companion is not None and companion.is_file() else None


def _open(path: Path, fmt: Format, threads: int | None, device: str | None, *, trusted: bool) -> tuple[Runner, str]:
    if device is not None and fmt.open_on is None:
        able = ", ".join(name for name, row in FORMATS.items() if row.open_on is not None)
        raise InputError(
            f"device is {device!r}; {path.name} runs on the CPU alone. A device can be chosen for: {able}."
        )
    open_: Callable[..., tuple[Runner, str]] = fmt.open if device is None else fmt.open_on or fmt.open
    if trusted and fmt.open_trusted is not None:
        open_ = fmt.open_trusted
    return open_(path, threads) if device is None else open_(path, threads, device)
