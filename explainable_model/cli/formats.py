"""``explainable-model formats``: list the formats of artifacts. Imports no torch."""

import argparse
from importlib.util import find_spec
from typing import Any

from explainable_model.cli.console import Console
from explainable_model.cli.outcome import Outcome, align_columns
from explainable_model.exporters import FORMATS
from explainable_model.exporters.format import Format

HEAD = ("format", "suffix", "runtime", "precisions", "may run code", "installed")


def formats(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List every format with its suffixes, its runtime, its precisions, and whether its packages are installed."""
    records = [_describe(fmt) for fmt in FORMATS.values()]
    head, *rows = align_columns([HEAD, *map(_format_cells, records)]).splitlines()
    note = "A format that may run code opens with --trusted. The column installed says what to install."
    return Outcome("\n".join([console.bold(head), *rows, note]), {"formats": records})


def _describe(fmt: Format) -> dict[str, Any]:
    return {
        "format": fmt.name,
        "suffixes": list(fmt.suffixes),
        "runtime": fmt.runtime,
        "precisions": list(fmt.precisions),
        "machine_code": fmt.machine_code,
        "installed": all(_is_installed(package) for package in fmt.packages),
        "extra": fmt.extra,
    }


def _is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return find_spec(package.partition(".")[0]) is not None


def _format_cells(record: dict[str, Any]) -> tuple[str, ...]:
    missing = f"pip install 'explainable-model[{record['extra']}]'" if record["extra"] else "pip install torch"
    return (
        record["format"],
        " ".join(record["suffixes"]),
        record["runtime"],
        ", ".join(record["precisions"]),
        "yes" if record["machine_code"] else "",
        "yes" if record["installed"] else missing,
    )
