"""Cells of the generated tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def make_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines) + "\n"


def format_ratio(measured: Mapping[str, Any] | None, clock: str = "ratio") -> str:
    """Median and quartiles of a ratio: ``1.02 (1.01 to 1.04)``."""
    if measured is None:
        return ""
    found = measured[clock]
    if measured.get("pairs", 2) < 2:
        return f"{found['p50']:.2f}"
    return f"{found['p50']:.2f} ({found['p25']:.2f} to {found['p75']:.2f})"


def format_milliseconds(measured: Mapping[str, Any] | None, which: str, clock: str = "cpu_ms") -> str:
    """A median in milliseconds."""
    return "" if measured is None else f"{measured[which][clock]['p50']:.3g}"


def format_scientific(value: float | None) -> str:
    """An error: ``3e-06``."""
    return "" if value is None else f"{value:.0e}"


def format_correlation(value: float | None) -> str:
    """A correlation with four digits."""
    return "" if value is None else f"{value:.4f}"


def list_failed(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A list of the rows that could not be measured, and why."""
    lines = [f"- {key}: {row['failed']}" for key, row in rows.items() if "failed" in row]
    return "\nFailed rows:\n\n" + "\n".join(lines) + "\n" if lines else ""


def select_measured(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The rows that were measured."""
    return {key: row for key, row in rows.items() if "failed" not in row}
