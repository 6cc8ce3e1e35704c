"""Tell the rows whose answer is wrong: they are failed rows, whatever they cost."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

LEAST_CORRELATION = 0.99
LARGEST_DIFFERENCE = {"cam": 0.1, "logits": 0.02, "overlay_levels_mean": 3.0}
COMPARISONS = ("parity", "agreement", "difference")


def find_wrong_answer(row: Mapping[str, Any]) -> str | None:
    """Say why the answer of a row is wrong; ``None`` where its comparisons are close enough.

    Args:
        row: of any suite; its comparisons stand under ``parity``, ``agreement`` or ``difference``.
    """
    for name, value in _walk({key: row[key] for key in COMPARISONS if key in row}):
        measure = name.rsplit(".", 1)[-1]
        if measure == "correlation" and not value >= LEAST_CORRELATION:
            return f"the map is wrong: {name} {value:.3f}"
        if measure in LARGEST_DIFFERENCE and not value <= LARGEST_DIFFERENCE[measure]:
            return f"the answer is wrong: {name} differs by {value:.3g}"
    return None


def _walk(record: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{path}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{path}{name}", float(value)
        elif value is None and name in (*LARGEST_DIFFERENCE, "correlation"):
            yield f"{path}{name}", math.nan


def judge(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as it is, or a failed row that keeps its names where its answer is wrong."""
    reason = None if "failed" in row else find_wrong_answer(row)
    if reason is None:
        return dict(row)
    return {**{name: value for name, value in row.items() if isinstance(value, str)}, "failed": reason}
