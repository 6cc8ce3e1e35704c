"""What a command answers: a record, a text, an exit code."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.errors import AgreementWarning, InputError, StaticBatchWarning

if TYPE_CHECKING:
    from explainable_model.artifact.metadata import Metadata


OWN_WARNINGS = (StaticBatchWarning, AgreementWarning)

FAILED = 1  # exit code of a verification that did not pass


USAGE = 2  # exit code of a mistake in what was asked for


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        text: for people.
        record: for ``--json``.
        code: exit code.
        errors: what went wrong with a part of the work.
    """

    text: str
    record: dict[str, Any]
    code: int = 0
    errors: Sequence[str] = ()


@contextmanager
def _said_in_one_line(console: Console) -> Iterator[None]:
    """Our own warnings as the console says them; others stay as they are."""
    with warnings.catch_warnings(record=True) as caught:
        for category in OWN_WARNINGS:
            warnings.simplefilter("always", category)
        yield
    for warning in caught:
        if issubclass(warning.category, OWN_WARNINGS):
            console.warn(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _agreement(metadata: "Metadata") -> str:
    """How an artifact of less precision agrees with the one in float32, by class."""
    found = metadata.agreement or {}
    names = metadata.class_names

    def row(name: str, each: Mapping[str, Any]) -> tuple[str, str, str, str]:
        return name, str(each["images"]), f"{each['classes']:.0%}", f"{each['correlation']:.4f}"

    shown = "photos" if found["photos"] else "made-up images"
    rows = [("predicted in float32", shown, f"same class in {metadata.precision}", "correlation of the maps")]
    for each in found["by_class"]:
        index = each["class_idx"]
        rows.append(row(names[index] if names else str(index), each))
    rows.append(row("all", found))
    return f"Smallest correlation of two maps: {found['min_correlation']:.4f}.\n{columns(rows)}"


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {out} cannot be made ({error.strerror}); choose another with --out.") from error
    return out


def _headline(metadata: "Metadata") -> str:
    return f"{metadata.method} of {metadata.model} at {metadata.target_layer} as {metadata.format}"


def _without_names(metadata: "Metadata") -> dict[str, Any]:
    return {key: value for key, value in metadata.to_dict().items() if key not in ("class_names", "reference")}


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join("any" if part is None else _plain(part) for part in value) + ")"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "unknown" if value is None else str(value)


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """A table for people, its cells aligned."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
