"""``explainable-model methods``: list the methods; docs/methods.md has the same table. Imports no torch."""

import argparse
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from explainable_model.cli.console import Console
from explainable_model.cli.outcome import Outcome, align_columns
from explainable_model.spelling import simplify, suggest

TABLE = Path(__file__).with_name("methods.json")
"""What ``METHODS`` says, and what each method costs. Written by ``python -m tests.support.method_table``."""
HEAD = ("method", "name", "paper", "passes besides one forward", "cost", "options", "formats")


def methods(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List every method with its paper, its passes, their cost, its options and its formats."""
    records = add_formats(read_table())
    if arguments.markdown:
        return Outcome(to_markdown(records), {"methods": records})
    head, *rows = align_columns([HEAD, *map(_format_cells, records)]).splitlines()
    return Outcome("\n".join([console.bold(head), *rows]), {"methods": records})


@cache
def read_table() -> tuple[dict[str, Any], ...]:
    """Read the rows: method, title, paper, passes, cost and options."""
    return tuple(json.loads(TABLE.read_text(encoding="utf-8")))


def parse_method(text: str) -> str:
    """Find the key of a method by its name or title: ``Grad-CAM`` is ``gradcam``.

    Raises:
        argparse.ArgumentTypeError: no such method.
    """
    rows = read_table()
    names = {simplify(spelling): row["method"] for row in rows for spelling in (row["title"], row["method"])}
    names |= {row["method"]: row["method"] for row in rows}
    found: str | None = names.get(text, names.get(simplify(text)))
    if found is None:
        hint = suggest(text, [row["method"] for row in rows])
        raise argparse.ArgumentTypeError(f"Unknown method {text!r}.{hint} List them with: explainable-model methods")
    return found


def add_formats(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add the formats in which every method is tested."""
    from explainable_model.exporters import FORMATS

    quick = [fmt.name for fmt in FORMATS.values() if fmt.quick]
    return [{**row, "formats": list(quick)} for row in rows]


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
