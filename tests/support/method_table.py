"""The table of methods for the command line, which reads it without torch: ``python -m tests.support.method_table``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from explainable_model.cli.methods import TABLE
from explainable_model.methods import METHODS

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "methods.json"


def make_rows(measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Make one record for each row of ``METHODS``.

    Args:
        measured: row by method, as ``python -m benchmarks run --suite methods`` writes it; a method that is missing
            gets the cost ``None``.
    """
    return [
        {
            "method": name,
            "title": row.title,
            "paper": row.paper,
            "passes": row.passes,
            "cost": measured.get(name, {}).get("cost"),
            "options": row.options,
        }
        for name, row in METHODS.items()
    ]


def render() -> str:
    """The text of the file."""
    rows = make_rows(json.loads(MEASURED.read_text(encoding="utf-8"))["rows"])
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    TABLE.write_text(render(), encoding="utf-8")
