"""The outcome of a command: a text, a record, an exit code; and how its parts are written."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.errors import ExplainableModelWarning, InputError

if TYPE_CHECKING:
    from explainable_model.artifact.metadata import Metadata

FAILED = 1  # exit code of a verification that did not pass
USAGE = 2  # exit code of a mistake in what was asked for


@dataclass(frozen=True)
class Outcome:
    """The result of a command.

    Attributes:
        text: for people.
        record: for ``--json``.
        code: exit code.
        errors: one message for each part of the work that failed.
    """

    text: str
    record: dict[str, Any]
    code: int = 0
    errors: Sequence[str] = ()


@contextmanager
def show_warnings(console: Console) -> Iterator[None]:
    """Show the library's own warnings on the console; others are issued again as they are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ExplainableModelWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, ExplainableModelWarning):
            console.warn(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def describe_agreement(metadata: "Metadata") -> str:
    """Describe how an artifact of less precision agrees with the one in float32, by class."""
    from explainable_model.verify.agreement import is_number

    agreement = metadata.agreement or {}
    names = metadata.class_names

    def format_row(name: str, share: Mapping[str, Any]) -> tuple[str, str, str, str]:
        return name, str(share["images"]), f"{share['classes']:.0%}", f"{share['correlation']:.4f}"

    images = "photos" if agreement["photos"] else "made-up images"
    same = "nearly the same score" if is_number(metadata.output_kind, metadata.classes) else "same class"
    rows = [("predicted in float32", images, f"{same} in {metadata.precision}", "correlation of the maps")]
    for share in agreement["by_class"]:
        index = share["class_idx"]
        rows.append(format_row(names[index] if names else str(index), share))
    rows.append(format_row("all", agreement))
    return f"Smallest correlation of two maps: {agreement['min_correlation']:.4f}.\n{align_columns(rows)}"


def make_folder(out: Path) -> Path:
    """Make a folder and its parents, if missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {out} cannot be made ({error.strerror}); choose another.") from error
    return out


def describe_artifact(metadata: "Metadata") -> str:
    """Name an artifact's method, network, layer and format."""
    return f"{metadata.method} of {metadata.model} at {metadata.target_layer} as {metadata.format}"


def shorten_record(metadata: "Metadata") -> dict[str, Any]:
    """Make the metadata's record without its long parts: the class names and the reference answer."""
    return {key: value for key, value in metadata.to_dict().items() if key not in ("class_names", "reference")}


def format_bytes(size: int) -> str:
    """Format a file size: ``45.1 MB``."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def format_value(value: Any) -> str:
    """Format a value of a record for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {format_value(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join("any" if part is None else format_value(part) for part in value) + ")"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "unknown" if value is None else str(value)


def align_columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Format rows of cells as a table with aligned columns."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
