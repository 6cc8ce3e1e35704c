"""The outcome of an evaluation: a table with intervals, a ranking, pictures and files."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explainable_model.errors import InputError
from explainable_model.evaluation.intervals import Interval, average
from explainable_model.evaluation.measures import MEASURES
from explainable_model.evaluation.mosaics import CELLS
from explainable_model.evaluation.page import draw_page
from explainable_model.writing import write_bytes

ENDINGS = (".json", ".csv", ".html")
ARROWS = {"larger": "↑", "smaller": "↓", "neither": " "}


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Values of measures by photo. Made by ``evaluate``; prints as a table of means and 95 % intervals.

    Attributes:
        rows: a dictionary for each photo and each candidate: ``photo``, ``candidate``, ``class_idx``, ``values``. Those
            of mosaics have no class.
        measures: keys of ``MEASURES``, in the order of the table.
        candidates: what was measured: methods at layers, then the random and the center map.
        errors: why a photo was left out, by its name.
        seed: of everything that was drawn.
    """

    rows: Sequence[Mapping[str, Any]]
    measures: Sequence[str]
    candidates: Sequence[str]
    errors: Mapping[str, str]
    seed: int = 0

    @property
    def summary(self) -> dict[str, dict[str, Interval | None]]:
        """Mean and interval by candidate and measure; ``None`` where no photo has a value."""
        return {name: {measure: self._average(name, measure) for measure in self.measures} for name in self.candidates}

    def _average(self, candidate: str, measure: str) -> Interval | None:
        rows = (row["values"] for row in self.rows if row["candidate"] == candidate)
        values = [row[measure] for row in rows if row.get(measure) is not None]
        return average(values, self.seed) if values else None

    def rank(self, measure: str) -> list[tuple[str, Interval]]:
        """Sort the candidates by one measure, the best first. Intervals that overlap leave the order open.

        Raises:
            InputError: a measure that was not measured, or that has no better direction.
        """
        if measure not in self.measures:
            raise InputError(f"{measure!r} was not measured; expected one of {', '.join(self.measures)}.")
        better = MEASURES[measure].better
        if better == "neither":
            raise InputError(f"{measure} only describes a map; no value of it is better than another.")
        found = [(name, value) for name, row in self.summary.items() if (value := row[measure]) is not None]
        return sorted(found, key=lambda pair: pair[1].mean, reverse=better == "larger")

    def to_dict(self) -> dict[str, Any]:
        """Describe the evaluation for JSON: the summary, the measures' directions, the rows, the errors."""
        summary = {
            name: {measure: None if value is None else value._asdict() for measure, value in row.items()}
            for name, row in self.summary.items()
        }
        measures = {
            name: {"better": MEASURES[name].better, "formula": MEASURES[name].formula} for name in self.measures
        }
        rows = [{key: value for key, value in row.items() if key not in ("key", "content")} for row in self.rows]
        return {"summary": summary, "measures": measures, "seed": self.seed, "rows": rows, "errors": dict(self.errors)}

    def to_csv(self) -> str:
        """Write a row for each photo and candidate, with a column for each measure."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["photo", "candidate", "class_idx", *self.measures])
        for row in self.rows:
            values = [row["values"].get(measure) for measure in self.measures]
            writer.writerow([row["photo"], row["candidate"], row.get("class_idx"), *values])
        return stream.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write a file; the ending chooses JSON, CSV, or a page of HTML with the table and its bars.

        Raises:
            InputError: another ending.
            ArtifactError: a file that cannot be written.
        """
        path = check_ending(Path(path))
        writers: dict[str, Callable[[], str]] = {
            ".json": lambda: json.dumps(self.to_dict(), indent=1),
            ".csv": self.to_csv,
            ".html": lambda: draw_page(self.summary, self.measures, self.errors, self._count_photos()),
        }
        write_bytes(path, writers[path.suffix]().encode("utf-8", "replace"))  # a name of a file need not be Unicode
        return path

    def _count_photos(self) -> int:
        return len({row["photo"] for row in self.rows if "class_idx" in row})

    def __str__(self) -> str:
        head = ["", *(f"{name} {ARROWS[MEASURES[name].better]}".strip() for name in self.measures)]
        body = [[name, *("-" if v is None else str(v) for v in row.values())] for name, row in self.summary.items()]
        table = list(zip(*[head, *body], strict=True))  # measures downwards: there are more of them
        widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([*lines, *self._list_remarks()])

    def _list_remarks(self) -> list[str]:
        left_out = f"; {len(self.errors)} left out" if self.errors else ""
        count = self._count_photos()
        means = f"Means of {count} photos with 95 % intervals" if count > 1 else "Values of one photo, no intervals"
        found = {measure for row in self.summary.values() for measure, value in row.items() if value is not None}
        empty = [name for name in self.measures if name not in found and MEASURES[name].needs == "mosaic"]
        remark = f"No value of {', '.join(empty)}: no {CELLS} photos of different classes to join." if empty else ""
        return [f"{means}{left_out}.", *([remark] if remark else [])]

    __repr__ = __str__


def check_ending(path: Path) -> Path:
    """Check that a file of this name can be written, before anything is measured.

    Raises:
        InputError: another ending than ``.json``, ``.csv`` or ``.html``.
    """
    if path.suffix not in ENDINGS:
        raise InputError(f"{path} ends in {path.suffix!r}; expected one of {', '.join(ENDINGS)}.")
    return path
