"""The table of methods, as the command ``methods`` and the README show it."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explainable_model.cli.console import Console
from explainable_model.cli.outcome import Outcome, columns

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "methods.json"  # in a clone, not in a wheel
HEAD = ("method", "name", "paper", "passes besides one forward", "cost", "options", "formats")


def methods(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Every method, its paper, what it runs, what that costs, its options, and the formats it is exported to."""
    records = method_records(_measured())
    text = to_markdown(records) if arguments.markdown else columns([HEAD, *map(_cells, records)])
    return Outcome(text, {"methods": records})


def method_records(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One record for each row of ``METHODS``.

    Args:
        measured: by method, as ``python -m benchmarks run --suite methods`` writes it; a missing cost is ``None``.
    """
    from explainable_model.exporters import FORMATS
    from explainable_model.methods import METHODS

    quick_formats = [fmt.name for fmt in FORMATS.values() if fmt.quick]

    records = []
    for name, row in METHODS.items():
        records.append(
            {
                "method": name,
                "title": row.title,
                "paper": row.paper,
                "passes": row.passes,
                "cost": measured.get(name, {}).get("cost"),
                "options": row.options,
                "formats": list(quick_formats),  # every method is tested in these
            }
        )
    return records


def to_markdown(records: list[dict[str, Any]]) -> str:
    """The table of the README."""
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for record in records:
        name, *others = _cells(record)
        lines.append(f"| `{name}` | {' | '.join(others)} |")
    return "\n".join(lines)


def _cells(record: Mapping[str, Any]) -> tuple[str, ...]:
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


def _measured() -> Mapping[str, Any]:
    if not MEASURED.is_file():
        return {}
    rows: Mapping[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    return rows
