"""``explainable-model methods``: list the methods; docs/methods.md has the same table."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explainable_model.cli.console import Console
from explainable_model.cli.outcome import Outcome, align_columns

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "methods.json"  # in a clone, not in a wheel
HEAD = ("method", "name", "paper", "passes besides one forward", "cost", "options", "formats")


def methods(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List every method with its paper, its passes, their cost, its options and its formats."""
    records = list_methods(_read_costs())
    text = to_markdown(records) if arguments.markdown else align_columns([HEAD, *map(_format_cells, records)])
    return Outcome(text, {"methods": records})


def list_methods(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make one record for each row of ``METHODS``.

    Args:
        measured: row by method, as ``python -m benchmarks run --suite methods`` writes it; a method that is missing
            gets the cost ``None``.
    """
    from explainable_model.exporters import FORMATS
    from explainable_model.methods import METHODS

    quick_formats = [fmt.name for fmt in FORMATS.values() if fmt.quick]
    return [
        {
            "method": name,
            "title": row.title,
            "paper": row.paper,
            "passes": row.passes,
            "cost": measured.get(name, {}).get("cost"),
            "options": row.options,
            "formats": list(quick_formats),  # every method is tested in these
        }
        for name, row in METHODS.items()
    ]


def to_markdown(records: list[dict[str, Any]]) -> str:
    """Format the table of docs/methods.md."""
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for record in records:
        name, *others = _format_cells(record)
        lines.append(f"| `{name}` | {' | '.join(others)} |")
    return "\n".join(lines)


def _format_cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    cost = record["cost"]
    return (
        record["method"],
        record["title"],
        record["paper"],
        record["passes"],
        "not measured" if cost is None else f"{cost:.2g}" if cost < 10 else f"{cost:.0f}",
        ", ".join(f"{option}={default}" for option, default in record["options"].items()),
        ", ".join(record["formats"]),
    )


def _read_costs() -> Mapping[str, Any]:
    if not MEASURED.is_file():
        return {}
    rows: Mapping[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    return rows
